//! What was last found in force, at an authorization server and in the cluster: by it drift is told from a change of mind.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{metrics::Kind, policy::names};

/// Between the key of an object and the name of a part of it, such as a ConfigMap. No name holds it.
pub const PART: char = '#';

/// What was last found in force, by object: a difference from *this* is drift, any other is a change of mind.
#[derive(Debug, Default)]
pub struct Applied(Mutex<HashMap<(Kind, String), String>>);

impl Applied {
    /// Notes that `version` is in force. Returns whether it was so before.
    pub fn note(&self, kind: Kind, object: &str, version: &str) -> bool {
        let version = names::hash(version.as_bytes(), 16);
        let mut applied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        applied.insert((kind, object.to_owned()), version.clone()) == Some(version)
    }

    /// Whether `version` was found in force last.
    pub fn is(&self, kind: Kind, object: &str, version: &str) -> bool {
        let applied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        applied.get(&(kind, object.to_owned())) == Some(&names::hash(version.as_bytes(), 16))
    }

    /// Forgets the object, and the parts of it that are noted apart.
    pub fn forget(&self, kind: Kind, object: &str) {
        self.retain(|noted, name| noted != kind || name != object);
    }

    /// Forgets the objects for which `exists` says no.
    pub fn retain(&self, exists: impl Fn(Kind, &str) -> bool) {
        let mut applied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        applied.retain(|(kind, noted), _| exists(*kind, noted.split(PART).next().unwrap_or(noted)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_version_again_is_drift_and_another_is_not() {
        let applied = Applied::default();
        assert!(!applied.note(Kind::McpClient, "a/b", "1"), "never seen");
        assert!(applied.is(Kind::McpClient, "a/b", "1") && !applied.is(Kind::McpClient, "a/b", "2"));
        assert!(applied.note(Kind::McpClient, "a/b", "1"));
        assert!(!applied.note(Kind::McpClient, "a/b", "2"), "a change of mind");
        applied.forget(Kind::McpClient, "a/b");
        assert!(!applied.note(Kind::McpClient, "a/b", "2"));
    }

    #[test]
    fn what_is_gone_is_forgotten_with_its_parts_and_nothing_else() {
        let applied = Applied::default();
        let all = ["a/b", "a/b#map", "a/bc", "a/bc#map"];
        for object in all {
            applied.note(Kind::McpServer, object, "1");
        }
        applied.note(Kind::McpClient, "a/b", "1");
        applied.forget(Kind::McpServer, "a/b");
        let known = all.map(|object| applied.note(Kind::McpServer, object, "1"));
        assert_eq!(known, [false, false, true, true]);
        assert!(applied.note(Kind::McpClient, "a/b", "1"), "another kind");
        applied.retain(|kind, object| kind == Kind::McpServer && object == "a/bc");
        let known = all.map(|object| applied.note(Kind::McpServer, object, "1"));
        assert_eq!(known, [false, false, true, true]);
    }
}
