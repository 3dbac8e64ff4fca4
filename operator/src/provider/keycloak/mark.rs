//! Whose a client or a client scope is, as its attributes say.

use std::collections::BTreeMap;

use mcp_auth_crds::v1alpha1::BUILT_IN_SCOPES;
use serde_json::Value;
use uuid::Uuid;

use crate::provider::{Holder, Mark, Presence};

/// `true` on everything of ours.
pub(super) const MANAGED: &str = "mcpauth.managed";
/// The installation.
pub(super) const INSTALLATION: &str = "mcpauth.installation";
/// The kind of the Kubernetes object.
const KIND: &str = "mcpauth.kind";
/// The Kubernetes object as `<namespace>/<name>`.
const OBJECT: &str = "mcpauth.object";
/// The UID of the Kubernetes object.
const UID: &str = "mcpauth.uid";
/// On what is not ours: who may take it over, as `<kind>/<namespace>/<name>`.
pub(super) const ADOPT: &str = "mcpauth.adopt";

/// Clients that every realm has.
const BUILT_IN_CLIENTS: [&str; 6] = [
    "account",
    "account-console",
    "admin-cli",
    "broker",
    "realm-management",
    "security-admin-console",
];

/// Scopes of SAML, and those that only some versions or features bring.
const MORE_BUILT_IN_SCOPES: [&str; 2] = ["saml_organization", "AuthnContextClassRef"];

/// The mark as attributes.
pub(super) fn attributes(mark: &Mark) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (MANAGED, "true".to_owned()),
        (INSTALLATION, mark.installation.clone()),
        (KIND, mark.kind.clone()),
        (OBJECT, format!("{}/{}", mark.namespace, mark.name)),
        (UID, mark.uid.clone()),
    ])
}

/// An attribute of a representation; empty counts as absent, because Keycloak treats it so.
pub(super) fn attribute<'a>(raw: &'a Value, name: &str) -> Option<&'a str> {
    raw.get("attributes")?
        .get(name)?
        .as_str()
        .filter(|value| !value.is_empty())
}

/// A text field of a representation.
pub(super) fn text<'a>(raw: &'a Value, field: &str) -> Option<&'a str> {
    raw.get(field)?.as_str()
}

/// The mark of a representation, if it has a whole one. The UID alone may be missing: it does not say whose a thing is.
fn read(raw: &Value) -> Option<Mark> {
    attribute(raw, MANAGED).filter(|managed| *managed == "true")?;
    let (namespace, name) = attribute(raw, OBJECT)?.split_once('/')?;
    Some(Mark {
        installation: attribute(raw, INSTALLATION)?.to_owned(),
        kind: attribute(raw, KIND)?.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: attribute(raw, UID).unwrap_or_default().to_owned(),
    })
}

fn marked_or_not(raw: &Value) -> Holder {
    match read(raw) {
        Some(mark) => Holder::Marked(mark),
        None => Holder::Unmarked {
            adopter: attribute(raw, ADOPT).map(str::to_owned),
        },
    }
}

/// Who holds a client. `is_operator` tells the client ids by which the operator signs in.
pub(super) fn client_holder(raw: &Value, is_operator: impl Fn(&str) -> bool) -> Holder {
    let id = text(raw, "clientId").unwrap_or_default();
    // Keycloak itself marks the clients that stand for the administration of a realm, as `master` has for each.
    let administration = attribute(raw, "realm_client") == Some("true");
    if is_operator(id) || BUILT_IN_CLIENTS.contains(&id) || administration {
        return Holder::BuiltIn;
    }
    marked_or_not(raw)
}

/// Who holds a client scope.
pub(super) fn scope_holder(raw: &Value) -> Holder {
    let name = text(raw, "name").unwrap_or_default();
    if BUILT_IN_SCOPES.contains(&name) || MORE_BUILT_IN_SCOPES.contains(&name) {
        return Holder::BuiltIn;
    }
    marked_or_not(raw)
}

/// Whether the thing with this id and holder is the marked object's, or may become so.
///
/// An id that derives from the object is as good as a mark: only we make such ids. So an object whose attributes
/// somebody cleared is found again instead of being in its own way.
pub(super) fn claimable(
    mark: &Mark,
    presence: &Presence,
    id: Option<&str>,
    derived: Uuid,
    consent: bool,
) -> bool {
    presence.claimable(mark, consent) || is_derived(presence, id, derived)
}

/// Whether the thing is the object's already. The id that the object's own would have is asked for only where it decides:
/// it is a digest, and a realm has thousands of scopes.
pub(super) fn is_ours(
    mark: &Mark,
    holder: &Holder,
    id: Option<&str>,
    derived: impl FnOnce() -> Uuid,
) -> bool {
    match holder {
        Holder::Marked(holder) => holder.same_object(mark),
        Holder::Unmarked { .. } => id == Some(derived().to_string().as_str()),
        Holder::BuiltIn => false,
    }
}

fn is_derived(presence: &Presence, id: Option<&str>, derived: Uuid) -> bool {
    matches!(presence, Presence::Held(Holder::Unmarked { .. })) && id == Some(derived.to_string().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mark() -> Mark {
        Mark {
            installation: "prod".into(),
            kind: "McpClient".into(),
            namespace: "team-a".into(),
            name: "agent".into(),
            uid: "1".into(),
        }
    }

    fn own(id: &str) -> bool {
        id == "own"
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let raw = json!({"clientId": "prod.team-a.agent", "attributes": attributes(&mark())});
        assert_eq!(client_holder(&raw, own), Holder::Marked(mark()));
        assert_eq!(
            scope_holder(&json!({"name": "s", "attributes": attributes(&mark())})),
            Holder::Marked(mark())
        );
    }

    /// The holder of a client with this id and these attributes.
    fn holder(id: &str, attributes: &Value) -> Holder {
        client_holder(&json!({"clientId": id, "attributes": attributes}), own)
    }

    #[test]
    fn without_a_whole_mark_nobody_holds_it() {
        let unmarked = |adopter: Option<&str>| Holder::Unmarked {
            adopter: adopter.map(str::to_owned),
        };
        let damaged = |key: &str, value: &str| {
            let mut attributes = json!(attributes(&mark()));
            attributes[key] = json!(value);
            attributes
        };
        assert_eq!(client_holder(&json!({"clientId": "x"}), own), unmarked(None));
        for attributes in [
            json!({}),
            json!({"a": "b"}),
            json!({ADOPT: ""}),
            json!({"realm_client": "false"}),
            damaged(MANAGED, "false"),
            damaged(INSTALLATION, ""),
            damaged(KIND, ""),
            damaged(OBJECT, "agent"),
        ] {
            assert_eq!(holder("x", &attributes), unmarked(None), "{attributes}");
        }
        let consent = json!({ADOPT: "McpClient/a/b"});
        assert_eq!(holder("x", &consent), unmarked(Some("McpClient/a/b")));
        let no_uid = Mark {
            uid: String::new(),
            ..mark()
        };
        assert_eq!(holder("x", &damaged(UID, "")), Holder::Marked(no_uid));
    }

    #[test]
    fn what_belongs_to_the_server_stays_its_own_even_if_marked() {
        let marked = json!(attributes(&mark()));
        for id in ["own", "account", "admin-cli", "realm-management"] {
            assert_eq!(holder(id, &marked), Holder::BuiltIn, "{id}");
        }
        let administration = json!({"realm_client": "true"});
        assert_eq!(holder("t1-realm", &administration), Holder::BuiltIn);
        for name in ["offline_access", "basic", "saml_organization"] {
            let scope = json!({"name": name, "attributes": marked});
            assert_eq!(scope_holder(&scope), Holder::BuiltIn, "{name}");
        }
    }

    #[test]
    fn a_derived_id_is_as_good_as_a_mark_unless_another_mark_contradicts() {
        let derived = super::super::ids::Ids::of("r").client(&mark());
        let id = derived.to_string();
        let other = Mark {
            namespace: "team-b".into(),
            ..mark()
        };
        for (holder, id, ours) in [
            (Holder::Unmarked { adopter: None }, Some(id.as_str()), true),
            (Holder::Unmarked { adopter: None }, Some("other"), false),
            (Holder::Unmarked { adopter: None }, None, false),
            (Holder::Marked(mark()), Some("other"), true),
            (Holder::Marked(other), Some(id.as_str()), false),
            (Holder::BuiltIn, Some(id.as_str()), false),
        ] {
            assert_eq!(is_ours(&mark(), &holder, id, || derived), ours, "{holder:?}");
            assert_eq!(
                claimable(&mark(), &Presence::Held(holder.clone()), id, derived, false),
                ours,
                "{holder:?}"
            );
        }
    }
}
