//! Calls as data: what a provider wants to write, before anything is written.

use std::fmt;

use serde_json::Value;

use super::Holder;

/// HTTP methods of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Creates.
    Post,
    /// Replaces.
    Put,
    /// Changes the fields that it names, and no other.
    Patch,
    /// Removes.
    Delete,
    /// Changes some entries of a document that others write to as well, and leaves theirs alone. The provider reads it
    /// anew for that, and writes it whole.
    Merge,
}

/// What a call does, in words that a log line or an Event can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something that was not there is made.
    Create,
    /// Something that differs is set right.
    Update,
    /// Permission is taken away, or a client switched off. Never delayed.
    Revoke,
    /// Something of ours is deleted.
    Delete,
}

/// One write at the authorization server.
#[derive(Clone, PartialEq)]
pub struct Call {
    /// The operation, as metrics count it.
    pub operation: &'static str,
    /// What it does.
    pub change: Change,
    /// What it is about, such as `scope orders:read` or the names of the fields that differ. No secrets.
    pub subject: String,
    /// HTTP method.
    pub verb: Verb,
    /// Path below the administration address, escaped.
    pub path: String,
    /// Body. May hold a secret: never printed.
    pub body: Option<Value>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {} ({:?} {})",
            self.change, self.subject, self.verb, self.path
        )
    }
}

/// Something that is wanted and belongs to somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `client <id>`, `resource <uri>` or `scope <name>`.
    pub subject: String,
    /// Who holds it.
    pub holder: Holder,
}

/// What is to be written at the authorization server, in this order. With conflicts there are only calls that take
/// permission away, and only from what is ours: a conflict, which anybody can provoke, must not preserve anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The writes.
    pub calls: Vec<Call>,
    /// What stands in the way.
    pub conflicts: Vec<Conflict>,
}

impl Plan {
    /// Nothing is to be done and nothing stands in the way.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.conflicts.is_empty()
    }

    /// Whether something that was not there is made.
    pub fn creates(&self) -> bool {
        self.calls.iter().any(|call| call.change == Change::Create)
    }

    /// Whether all that it does is to make things. Who makes what is there already is refused by the server, so such a plan
    /// may rest on what was read a while ago.
    pub fn only_creates(&self) -> bool {
        self.calls.iter().all(|call| call.change == Change::Create)
    }

    /// Only the calls that take permission away.
    #[must_use]
    pub fn revocations(&self) -> Self {
        Self {
            calls: self
                .calls
                .iter()
                .filter(|call| call.change == Change::Revoke)
                .cloned()
                .collect(),
            conflicts: self.conflicts.clone(),
        }
    }

    /// The changes in words, for a log line.
    pub fn summary(&self) -> String {
        self.calls
            .iter()
            .map(|call| format!("{:?} {}", call.change, call.subject))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(change: Change) -> Call {
        Call {
            operation: "update_client",
            change,
            subject: "secret".into(),
            verb: Verb::Put,
            path: "/clients/1".into(),
            body: Some(serde_json::json!({"secret": "hunter2"})),
        }
    }

    #[test]
    fn a_plan_prints_what_it_does_without_the_bodies() {
        let plan = Plan {
            calls: vec![call(Change::Update)],
            conflicts: vec![],
        };
        assert_eq!(plan.summary(), "Update secret");
        assert!(!format!("{plan:?}").contains("hunter2"));
    }

    #[test]
    fn revocations_leave_the_rest_out() {
        let plan = Plan {
            calls: vec![call(Change::Create), call(Change::Revoke)],
            conflicts: vec![],
        };
        assert_eq!(plan.revocations().calls, [call(Change::Revoke)]);
        assert!(plan.creates() && !plan.revocations().creates());
    }
}
