//! How many requests one caller has open at a time: nobody takes the places of all others.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcp_auth_gate_core::token::Claims;

/// Counts the requests of each caller: a subject with a client. It knows those that have a request open, and so no more
/// of them than there are requests at a time.
#[derive(Clone, Debug)]
pub struct Callers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    open: Mutex<HashMap<Caller, usize>>,
}

/// A subject and its client.
type Caller = (String, String);

/// One of a caller's requests, until this is dropped.
#[derive(Debug)]
pub(crate) struct CallerPlace {
    of: Arc<Shared>,
    caller: Caller,
}

impl Callers {
    /// At most so many for each.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared {
            most,
            open: Mutex::default(),
        }))
    }

    /// A place for one more request of the caller that these claims are about; `None` when it has all of its own.
    pub(crate) fn enter(&self, claims: &Claims) -> Option<CallerPlace> {
        let caller = (claims.subject.clone(), claims.client.clone());
        let mut open = self.0.open();
        let count = open.entry(caller.clone()).or_default();
        if *count >= self.0.most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(CallerPlace {
            of: Arc::clone(&self.0),
            caller,
        })
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<Caller, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallerPlace {
    fn drop(&mut self) {
        let mut open = self.of.open();
        if let Entry::Occupied(mut count) = open.entry(std::mem::take(&mut self.caller)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn claims(subject: &str, client: &str) -> Claims {
        Claims {
            issuer: String::new(),
            subject: subject.to_owned(),
            client: client.to_owned(),
            clients: BTreeSet::new(),
            audiences: Vec::new(),
            expires: 0,
            not_before: None,
            scopes: BTreeSet::new(),
            header_type: None,
            payload_type: None,
        }
    }

    #[test]
    fn each_caller_has_places_of_its_own_and_none_is_remembered_without_a_request() {
        let callers = Callers::new(2);
        let alice = claims("alice", "agent");
        let mut open = vec![callers.enter(&alice).unwrap(), callers.enter(&alice).unwrap()];
        assert!(callers.enter(&alice).is_none(), "both are taken");
        for (subject, client) in [
            ("bob", "agent"),
            ("alice", "other"),
            ("", "agent"),
            ("alic", "eagent"),
        ] {
            assert!(
                callers.enter(&claims(subject, client)).is_some(),
                "{subject} {client}"
            );
        }
        assert_eq!(callers.0.open().len(), 1, "the others left");
        open.pop();
        open.push(callers.enter(&alice).unwrap());
        assert!(callers.enter(&alice).is_none());
        drop(open);
        assert!(callers.0.open().is_empty());
    }
}
