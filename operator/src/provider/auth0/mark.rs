//! Whose a client or an API is. Clients carry marks in `client_metadata`; an API has no place for one, so the client that
//! is linked to it carries its.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    policy::names,
    provider::{Holder, Mark},
};

// Auth0 takes letters, digits and a few signs in these names, and no dot; ten of them for all who write there.
/// The installation.
const INSTALLATION: &str = "mcpauth_installation";
/// The Kubernetes object as `<kind>/<namespace>/<name>`.
const OBJECT: &str = "mcpauth_object";
/// The UID of the Kubernetes object.
const UID: &str = "mcpauth_uid";
/// On what is not ours: who may take it over, as `<kind>/<namespace>/<name>`.
const ADOPT: &str = "mcpauth_adopt";
/// On the client of an API: which of the API's scopes are ours, as [`digest`]s one after the other.
const SCOPES: [&str; 4] = [
    "mcpauth_scopes",
    "mcpauth_scopes_2",
    "mcpauth_scopes_3",
    "mcpauth_scopes_4",
];
/// On the client of an API: the grant for third-party clients, which has no place for a mark, is ours.
const DEFAULT_GRANT: &str = "mcpauth_default_grant";
/// On the client of an API: it has, or may have, token exchange profiles.
const PROFILES: &str = "mcpauth_profiles";
/// Hex digits by which a scope is told from the others of its API.
const DIGEST: usize = 8;
/// The longest value is 255 characters.
const PER_VALUE: usize = 255 / DIGEST;

/// The kind of those whose clients are found by a derived client id.
const CLIENT: &str = "McpClient";

/// What makes a client ours, or lets it become so.
#[derive(Clone, Debug, Default)]
pub(super) struct Ours {
    /// The installation whose marks count.
    pub(super) installation: String,
    /// Who may take over which client, by the id that Auth0 knows it by, as `<kind>/<namespace>/<name>`.
    pub(super) adoption: BTreeMap<String, String>,
}

impl Ours {
    /// Who may take over a client without a mark. What the AuthorizationServer says counts for more than what the client
    /// says.
    fn adopter<'a>(&'a self, raw: &'a Value) -> Option<&'a str> {
        let said = self.adoption.get(text(raw, "client_id")).map(String::as_str);
        said.or_else(|| entry(raw, ADOPT))
    }
}

/// A text field.
pub(super) fn text<'a>(raw: &'a Value, field: &str) -> &'a str {
    raw[field].as_str().unwrap_or_default()
}

fn entry<'a>(raw: &'a Value, name: &str) -> Option<&'a str> {
    raw["client_metadata"][name]
        .as_str()
        .filter(|value| !value.is_empty())
}

/// The mark as metadata of a client.
pub(super) fn metadata(mark: &Mark) -> Map<String, Value> {
    let object = format!("{}/{}/{}", mark.kind, mark.namespace, mark.name);
    [
        (INSTALLATION, mark.installation.clone()),
        (OBJECT, object),
        (UID, mark.uid.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), json!(value)))
    .into_iter()
    .collect()
}

/// The mark of a client, if it has a whole one. The UID alone may be missing: it does not say whose a thing is.
fn read(raw: &Value) -> Option<Mark> {
    let mut object = entry(raw, OBJECT)?.splitn(3, '/');
    Some(Mark {
        installation: entry(raw, INSTALLATION)?.to_owned(),
        kind: object.next()?.to_owned(),
        namespace: object.next()?.to_owned(),
        name: object.next()?.to_owned(),
        uid: entry(raw, UID).unwrap_or_default().to_owned(),
    })
}

/// Whether the client came by itself or by its document: what it says of itself is its own, and it is nobody's.
pub(super) fn came_by_itself(raw: &Value) -> bool {
    !text(raw, "external_metadata_type").is_empty() || !text(raw, "external_client_id").is_empty()
}

/// Who holds a client. `is_operator` tells the client ids by which the operator signs in.
pub(super) fn client_holder(raw: &Value, ours: &Ours, is_operator: impl Fn(&str) -> bool) -> Holder {
    if is_operator(text(raw, "client_id")) || raw["global"] == true {
        return Holder::BuiltIn;
    }
    if came_by_itself(raw) {
        return Holder::Unmarked { adopter: None };
    }
    match read(raw) {
        Some(mark) => Holder::Marked(mark),
        None => Holder::Unmarked {
            adopter: ours.adopter(raw).map(str::to_owned),
        },
    }
}

/// Who holds a client with a metadata document of its own, where an administrator of the tenant registered it, as we do. A
/// document says nothing of `client_metadata`, so what is in there was written by an administrator as well. Nobody else asks
/// who holds such a client: to all others it came by itself.
pub(super) fn document_holder(raw: &Value, ours: &Ours, is_operator: impl Fn(&str) -> bool) -> Holder {
    let is_registered =
        text(raw, "external_metadata_type") == "cimd" && text(raw, "external_metadata_created_by") == "admin";
    if !is_registered {
        return Holder::Unmarked { adopter: None };
    }
    if is_operator(text(raw, "client_id")) {
        return Holder::BuiltIn;
    }
    let said = ours.adoption.get(text(raw, "external_client_id"));
    match read(raw) {
        Some(mark) => Holder::Marked(mark),
        None => Holder::Unmarked {
            adopter: said
                .map(String::as_str)
                .or_else(|| entry(raw, ADOPT))
                .map(str::to_owned),
        },
    }
}

/// Who holds an API, as the client that is linked to it says; `client` is null where there is none.
pub(super) fn api_holder(
    api: &Value,
    client: &Value,
    ours: &Ours,
    is_operator: impl Fn(&str) -> bool,
) -> Holder {
    if api["is_system"] == true {
        return Holder::BuiltIn;
    }
    if client.is_null() {
        return Holder::Unmarked { adopter: None };
    }
    client_holder(client, ours, is_operator)
}

/// Whether anything of this client matters to the operator: most of a tenant's clients are somebody else's.
pub(super) fn concerns_us(raw: &Value, ours: &Ours) -> bool {
    let marked = entry(raw, OBJECT).is_some() || ours.adopter(raw).is_some();
    !came_by_itself(raw) && (marked || text(raw, "app_type") == "resource_server")
}

/// How our client for a McpClient is found: by the client id that we would have chosen. Also for one that may become it.
pub(super) fn derived_client_id(raw: &Value, ours: &Ours) -> Option<String> {
    if came_by_itself(raw) {
        return None;
    }
    let object = match read(raw) {
        Some(mark) if mark.installation != ours.installation => return None,
        Some(_) => entry(raw, OBJECT)?,
        None => ours.adopter(raw)?,
    };
    let mut parts = object.split('/');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    (kind == CLIENT).then(|| names::client_id(&ours.installation, namespace, name))
}

/// Whether it carries a mark, and not only consent.
pub(super) fn is_marked(raw: &Value) -> bool {
    read(raw).is_some()
}

/// What the name of an API ends with until the client is there that carries its mark. Only who administers the tenant can
/// give such a name, and only we give it, so it is as good as a mark.
pub(super) fn birthmark(mark: &Mark) -> String {
    let Mark {
        installation,
        kind,
        namespace,
        name,
        ..
    } = mark;
    let object = format!("{installation}/{kind}/{namespace}/{name}");
    format!(" [mcp-auth {}]", names::hash(object.as_bytes(), 8))
}

/// The metadata that says on the client of an API whether its grant for third-party clients is ours.
pub(super) fn default_grant_metadata(is_ours: bool) -> Value {
    json!({ DEFAULT_GRANT: is_ours.then_some("true") })
}

/// Whether it says so.
pub(super) fn owns_default_grant(client: &Value) -> bool {
    entry(client, DEFAULT_GRANT).is_some()
}

/// The metadata that says whether there may be token exchange profiles. It is there before the first, and goes after the
/// last: profiles that are not wanted any more are found by it.
pub(super) fn profiles_metadata(has: bool) -> Map<String, Value> {
    let value = if has { json!("1") } else { Value::Null };
    [(PROFILES.to_owned(), value)].into_iter().collect()
}

/// Whether the metadata says that there may be some.
pub(super) fn may_have_profiles(client: &Value) -> bool {
    entry(client, PROFILES).is_some()
}

fn digest(scope: &str) -> String {
    names::hash(scope.as_bytes(), DIGEST / 2)
}

/// The metadata that says which scopes of an API are ours. What it does not need is null, which takes it away.
pub(super) fn scopes_metadata<'a>(scopes: impl Iterator<Item = &'a str>) -> Map<String, Value> {
    let digests: Vec<String> = scopes.map(digest).collect();
    let mut values = digests.chunks(PER_VALUE).map(<[String]>::concat);
    SCOPES
        .map(|name| (name.to_owned(), values.next().map_or(Value::Null, Value::from)))
        .into_iter()
        .collect()
}

/// Whether the metadata says that this scope of the API is ours.
pub(super) fn made_scope(client: &Value, scope: &str) -> bool {
    let digest = digest(scope);
    SCOPES.iter().filter_map(|name| entry(client, name)).any(|value| {
        value
            .as_bytes()
            .chunks(DIGEST)
            .any(|made| made == digest.as_bytes())
    })
}

#[cfg(test)]
mod tests {
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

    fn prod() -> Ours {
        Ours {
            installation: "prod".into(),
            ..Ours::default()
        }
    }

    fn nobody(_: &str) -> bool {
        false
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_fits() {
        let longest = Mark {
            namespace: "n".repeat(63),
            name: "m".repeat(52),
            installation: "i".repeat(63),
            ..mark()
        };
        for mark in [mark(), longest] {
            let metadata = metadata(&mark);
            assert!(
                metadata
                    .values()
                    .all(|value| value.as_str().unwrap().len() <= 255)
            );
            let raw = json!({"client_id": "tpc_1", "client_metadata": metadata});
            assert_eq!(client_holder(&raw, &prod(), nobody), Holder::Marked(mark));
        }
    }

    /// A client that registers itself must not be able to pass for ours, whatever it managed to write.
    #[test]
    fn who_came_by_itself_is_never_ours() {
        for (name, value) in [
            ("external_metadata_type", "dcr"),
            ("external_metadata_type", "cimd"),
            ("external_client_id", "https://evil.example/client"),
        ] {
            let mut raw = json!({"client_id": "tpc_1", "client_metadata": metadata(&mark())});
            assert_eq!(
                derived_client_id(&raw, &prod()).as_deref(),
                Some("prod.team-a.agent")
            );
            raw[name] = json!(value);
            assert_eq!(
                client_holder(&raw, &prod(), nobody),
                Holder::Unmarked { adopter: None }
            );
            assert_eq!(derived_client_id(&raw, &prod()), None);
            assert!(!concerns_us(&raw, &prod()));
        }
    }

    #[test]
    fn what_belongs_to_the_tenant_stays_its_own_even_if_marked() {
        let marked = json!({"client_id": "own", "client_metadata": metadata(&mark())});
        assert_eq!(client_holder(&marked, &prod(), |id| id == "own"), Holder::BuiltIn);
        let system = json!({"is_system": true});
        assert_eq!(api_holder(&system, &marked, &prod(), nobody), Holder::BuiltIn);
    }

    #[test]
    fn consent_leads_to_the_client_but_is_no_mark() {
        let raw = json!({"client_id": "x", "client_metadata": {ADOPT: "McpClient/team-a/agent"}});
        assert_eq!(
            derived_client_id(&raw, &prod()).as_deref(),
            Some("prod.team-a.agent")
        );
        assert!(!is_marked(&raw));
        assert_eq!(
            client_holder(&raw, &prod(), nobody),
            Holder::Unmarked {
                adopter: Some("McpClient/team-a/agent".into())
            }
        );
        let elsewhere = Mark {
            installation: "other".into(),
            ..mark()
        };
        let raw = json!({"client_metadata": metadata(&elsewhere)});
        assert_eq!(derived_client_id(&raw, &prod()), None);
    }

    #[test]
    fn the_authorization_server_consents_by_the_id_that_auth0_knows() {
        let ours = Ours {
            adoption: [("x".to_owned(), "McpClient/team-a/agent".to_owned())].into(),
            ..prod()
        };
        let holder = |raw: &Value| client_holder(raw, &ours, nobody);
        // It counts for more than what is said there.
        let raw = json!({"client_id": "x", "client_metadata": {ADOPT: "McpClient/team-b/other"}});
        let adopter = Some("McpClient/team-a/agent".to_owned());
        assert_eq!(holder(&raw), Holder::Unmarked { adopter });
        assert_eq!(
            derived_client_id(&raw, &ours).as_deref(),
            Some("prod.team-a.agent")
        );
        assert!(concerns_us(&json!({"client_id": "x"}), &ours));
        assert!(!concerns_us(&json!({"client_id": "y"}), &ours));
        // But for nothing that has an owner, or that came by itself.
        let elsewhere = Mark {
            installation: "other".into(),
            ..mark()
        };
        let raw = json!({"client_id": "x", "client_metadata": metadata(&elsewhere)});
        assert_eq!(holder(&raw), Holder::Marked(elsewhere));
        assert_eq!(derived_client_id(&raw, &ours), None);
        let raw = json!({"client_id": "x", "external_metadata_type": "dcr"});
        assert_eq!(holder(&raw), Holder::Unmarked { adopter: None });
        assert_eq!(
            client_holder(&json!({"client_id": "x"}), &ours, |id| id == "x"),
            Holder::BuiltIn
        );
    }

    #[test]
    fn a_hundred_scopes_are_remembered_and_no_other() {
        let scopes: Vec<String> = (0..100).map(|number| format!("orders:{number}")).collect();
        let metadata = scopes_metadata(scopes.iter().map(String::as_str));
        assert!(
            metadata
                .values()
                .filter_map(Value::as_str)
                .all(|value| value.len() <= 255)
        );
        let client = json!({"client_metadata": metadata});
        assert!(scopes.iter().all(|scope| made_scope(&client, scope)));
        assert!(!made_scope(&client, "orders:100") && !made_scope(&json!({}), "orders:1"));
        let fewer = scopes_metadata(scopes[..3].iter().map(String::as_str));
        assert_eq!(fewer["mcpauth_scopes_2"], Value::Null);
    }
}
