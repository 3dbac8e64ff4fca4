//! The ids under which we create things at Keycloak. They derive from whose a thing is, so that a second creation after
//! a lost answer is a conflict instead of a second thing, and a restored object finds its own again.

use uuid::Uuid;

use crate::provider::Mark;

/// The namespace of all our ids (RFC 9562 section 5.5). Never changes.
const OURS: Uuid = Uuid::from_u128(0x6f0e_3d5c_4f1b_4b8e_9a57_2b1f_d0c7_8e11);

/// Gives ids in one realm.
///
/// The realm is part of them, because Keycloak wants ids to be unique among all realms of the server: the same object
/// can have stood in another realm before, and two clusters may call their installations alike.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    realm: String,
}

impl Ids {
    /// For a realm.
    pub(super) fn of(realm: &str) -> Self {
        Self {
            realm: realm.to_owned(),
        }
    }

    /// The id of the client that stands for the object, an McpClient or the resource of an McpServer.
    pub(super) fn client(&self, mark: &Mark) -> Uuid {
        self.derived(mark, "client", "")
    }

    /// The id of one of the object's scopes.
    pub(super) fn scope(&self, mark: &Mark, name: &str) -> Uuid {
        self.derived(mark, "scope", name)
    }

    /// Names of realms and of Kubernetes objects hold no slash, so the parts cannot run into one another; the scope's
    /// name comes last.
    fn derived(&self, mark: &Mark, what: &str, name: &str) -> Uuid {
        let Mark {
            installation,
            kind,
            namespace,
            name: object,
            uid: _,
        } = mark;
        let realm = &self.realm;
        let path = format!("{realm}/{installation}/{kind}/{namespace}/{object}/{what}/{name}");
        Uuid::new_v5(&OURS, path.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn mark(installation: &str, kind: &str, namespace: &str, name: &str, uid: &str) -> Mark {
        Mark {
            installation: installation.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
        }
    }

    #[test]
    fn ids_never_change_between_versions() {
        let (ids, mark) = (Ids::of("r"), mark("prod", "McpServer", "team-a", "orders", "1"));
        assert_eq!(
            ids.client(&mark).to_string(),
            "51c7264a-dc77-5e55-9fb6-66610865d9ce"
        );
        assert_eq!(
            ids.scope(&mark, "orders:read").to_string(),
            "41812dd8-6eb2-5ed7-8229-fc0f880748af"
        );
    }

    #[test]
    fn ids_depend_on_everything_but_the_uid() {
        let (one, other) = (Ids::of("one"), Ids::of("other"));
        let base = mark("a", "McpServer", "n", "x", "1");
        let all: BTreeSet<_> = [
            (&one, base.clone()),
            (&other, base.clone()),
            (&one, mark("b", "McpServer", "n", "x", "1")),
            (&one, mark("a", "McpClient", "n", "x", "1")),
            (&one, mark("a", "McpServer", "m", "x", "1")),
            (&one, mark("a", "McpServer", "n", "y", "1")),
        ]
        .iter()
        .flat_map(|(ids, mark)| {
            [
                ids.client(mark),
                ids.scope(mark, "s"),
                ids.scope(mark, "t"),
                ids.scope(mark, ""),
            ]
        })
        .collect();
        assert_eq!(all.len(), 24);
        let again = mark("a", "McpServer", "n", "x", "2");
        assert_eq!(one.client(&base), one.client(&again));
        assert_eq!(one.scope(&base, "s"), one.scope(&again, "s"));
    }
}
