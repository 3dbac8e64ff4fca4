//! The ids under which we create things at Keycloak. They derive from whose a thing is, so that a second creation after
//! a lost answer is a conflict instead of a second thing, and a restored object finds its own again.

use uuid::Uuid;

use crate::provider::Mark;

/// The namespace of all our ids (RFC 9562 section 5.5). Never changes.
const OURS: Uuid = Uuid::from_u128(0x6f0e_3d5c_4f1b_4b8e_9a57_2b1f_d0c7_8e11);

/// The id of the client that stands for the object, an McpClient or the resource of an McpServer.
pub(super) fn client(mark: &Mark) -> Uuid {
    derived(mark, "client", "")
}

/// The id of one of the object's scopes.
pub(super) fn scope(mark: &Mark, name: &str) -> Uuid {
    derived(mark, "scope", name)
}

/// Kubernetes names hold no slash, so the parts cannot run into one another; the scope's name comes last.
fn derived(mark: &Mark, what: &str, name: &str) -> Uuid {
    let Mark {
        installation,
        kind,
        namespace,
        name: object,
        uid: _,
    } = mark;
    let path = format!("{installation}/{kind}/{namespace}/{object}/{what}/{name}");
    Uuid::new_v5(&OURS, path.as_bytes())
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
        let mark = mark("prod", "McpServer", "team-a", "orders", "1");
        assert_eq!(client(&mark).to_string(), "0c0a3fa6-0e62-55ef-b841-1ccaeba4646a");
        assert_eq!(
            scope(&mark, "orders:read").to_string(),
            "a2e8245e-02c6-5010-b847-7b0daf430953"
        );
    }

    #[test]
    fn ids_depend_on_everything_but_the_uid() {
        let ids: BTreeSet<_> = [
            mark("a", "McpServer", "n", "x", "1"),
            mark("b", "McpServer", "n", "x", "1"),
            mark("a", "McpClient", "n", "x", "1"),
            mark("a", "McpServer", "m", "x", "1"),
            mark("a", "McpServer", "n", "y", "1"),
        ]
        .iter()
        .flat_map(|mark| [client(mark), scope(mark, "s"), scope(mark, "t"), scope(mark, "")])
        .collect();
        assert_eq!(ids.len(), 20);
        let (one, two) = (mark("a", "K", "n", "x", "1"), mark("a", "K", "n", "x", "2"));
        assert_eq!((client(&one), scope(&one, "s")), (client(&two), scope(&two, "s")));
    }
}
