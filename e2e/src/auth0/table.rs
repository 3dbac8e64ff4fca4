//! Objects of one kind in the order of their creation, which is the order of lists.

use std::collections::BTreeMap;

pub(super) struct Table<T> {
    rows: BTreeMap<u64, T>,
    next: u64,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            next: 1,
        }
    }
}

impl<T> Table<T> {
    pub(super) fn insert(&mut self, row: T) {
        self.rows.insert(self.next, row);
        self.next += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// With the number of each, which only grows.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.rows.iter().map(|(number, row)| (*number, row))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.rows.values()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.rows.values_mut()
    }

    pub(super) fn find(&self, is: impl Fn(&T) -> bool) -> Option<&T> {
        self.rows.values().find(|row| is(row))
    }

    pub(super) fn find_mut(&mut self, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.rows.values_mut().find(|row| is(row))
    }

    pub(super) fn remove(&mut self, is: impl Fn(&T) -> bool) -> Option<T> {
        let number = self
            .rows
            .iter()
            .find(|(_, row)| is(row))
            .map(|(number, _)| *number)?;
        self.rows.remove(&number)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.rows.retain(|_, row| keep(row));
    }
}
