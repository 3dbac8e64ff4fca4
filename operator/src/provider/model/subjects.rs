//! Whose tokens a server may exchange.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

/// Whose tokens may be exchanged for a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subjects {
    /// Those of every client.
    Any,
    /// Those of the clients with these ids.
    Only(BTreeSet<String>),
}

impl Subjects {
    /// Those of either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(mut these), Self::Only(those)) => {
                these.extend(those);
                Self::Only(these)
            }
            _ => Self::Any,
        }
    }

    /// Those who are among both; `None` where nobody is.
    pub fn and(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, subjects) | (subjects, Self::Any) => Some(subjects.clone()),
            (Self::Only(these), Self::Only(those)) => {
                let both: BTreeSet<_> = these.intersection(those).cloned().collect();
                (!both.is_empty()).then_some(Self::Only(both))
            }
        }
    }

    /// Whether all of these are among `other`.
    pub fn within(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Any) => true,
            (Self::Only(these), Self::Only(those)) => these.is_subset(those),
            (Self::Any, Self::Only(_)) => false,
        }
    }

    /// The clients, where not every one is meant.
    pub const fn only(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::Any => None,
            Self::Only(clients) => Some(clients),
        }
    }
}

/// What is known of the limits by which a resource may exchange only some clients' tokens.
#[derive(Clone, Default)]
pub enum ObservedLimits {
    /// Nothing says that it has any, so nobody looked.
    #[default]
    Unmarked,
    /// It has some, or had, and the operator's credential may not change them.
    Locked,
    /// The server's own representation of all limits of the realm, for the provider that read it.
    Seen(Arc<Value>),
}

/// What of a realm lets two secrets of one client be valid.
#[derive(Clone, Debug, PartialEq)]
pub enum ObservedOverlap {
    /// It cannot do that, or the operator's credential may not set it up.
    Unsupported,
    /// The server's own representation, for the provider that read it.
    Seen(Arc<Value>),
}

/// What of a realm lets clients authenticate with tokens of ServiceAccounts: the server's own representation, for the
/// provider that read it.
pub type ObservedTrust = Arc<Value>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_either_are_all_of_them_and_every_client_is_more_than_any_list() {
        let only = |ids: &[&str]| Subjects::Only(ids.iter().map(|id| (*id).to_owned()).collect());
        let (a, b, ab) = (only(&["a"]), only(&["b"]), only(&["a", "b"]));
        assert_eq!(a.clone().or(b.clone()), ab);
        assert_eq!(a.clone().or(Subjects::Any), Subjects::Any);
        assert_eq!(Subjects::Any.or(a.clone()), Subjects::Any);
        assert_eq!(a.and(&ab), Some(a.clone()));
        assert_eq!(Subjects::Any.and(&a), Some(a.clone()));
        assert_eq!(a.and(&b), None);
        for (these, those, within) in [
            (&a, &ab, true),
            (&ab, &a, false),
            (&a, &b, false),
            (&ab, &Subjects::Any, true),
            (&Subjects::Any, &ab, false),
            (&Subjects::Any, &Subjects::Any, true),
        ] {
            assert_eq!(these.within(those), within, "{these:?} within {those:?}");
        }
    }
}
