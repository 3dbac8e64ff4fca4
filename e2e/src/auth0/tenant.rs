//! What a tenant holds.

use std::{collections::BTreeSet, time::Duration};

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    actions::Rules,
    clients::Client,
    connections::Connection,
    errors::Refusal,
    limits::{Capacity, Entity},
    roles::Role,
    sessions::Sessions,
    settings,
    table::Table,
    wire::{Answer, Object, Request, object, text, texts},
};

/// Where the tenant is, and what follows from that.
#[derive(Clone)]
pub(super) struct Place {
    /// The canonical domain, which the Management API is named after.
    pub(super) domain: String,
    /// The domain that a caller came to, which may be the custom one. Tokens that it gets are from there.
    pub(super) host: String,
}

impl Place {
    /// It always ends in a slash.
    pub(super) fn issuer(&self) -> String {
        format!("https://{}/", self.host)
    }

    /// The audience of the Management API.
    pub(super) fn management(&self) -> String {
        format!("https://{}/api/v2/", self.domain)
    }

    /// The audience of the My Account API.
    pub(super) fn account(&self) -> String {
        format!("https://{}/me/", self.domain)
    }

    pub(super) fn userinfo(&self) -> String {
        format!("https://{}/userinfo", self.host)
    }
}

/// A call of the Management API that may be made.
pub(super) struct Call<'a> {
    pub(super) request: &'a Request,
    /// What stood for the placeholders of the route.
    pub(super) ids: Vec<&'a str>,
    /// What the caller's token allows.
    pub(super) scopes: &'a BTreeSet<String>,
    pub(super) place: &'a Place,
    pub(super) now: Duration,
}

impl Call<'_> {
    /// What stood for the first placeholder.
    pub(super) fn id(&self) -> &str {
        self.ids.first().copied().unwrap_or_default()
    }

    pub(super) fn has(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }

    /// Refuses unless the caller has one of these.
    pub(super) fn need(&self, any_of: &[&str]) -> Result<(), Refusal> {
        if any_of.iter().any(|scope| self.has(scope)) {
            return Ok(());
        }
        Err(Refusal::scope(any_of))
    }
}

/// How an endpoint ends.
pub(super) type Outcome = Result<Answer, Refusal>;

/// Somebody who can sign in.
pub(super) struct User {
    pub(super) id: String,
    pub(super) username: String,
    pub(super) password: SecretString,
    /// The id of the connection where the account is.
    pub(super) connection: String,
    /// Ids of roles.
    pub(super) roles: BTreeSet<String>,
}

pub(super) struct Tenant {
    pub(super) settings: Object,
    pub(super) resource_servers: Table<Object>,
    pub(super) clients: Table<Client>,
    pub(super) grants: Table<Object>,
    pub(super) exchange_profiles: Table<Object>,
    pub(super) actions: Table<Object>,
    pub(super) roles: Table<Role>,
    pub(super) connections: Table<Connection>,
    pub(super) users: Table<User>,
    pub(super) sessions: Sessions,
    pub(super) capacity: Capacity,
    pub(super) rules: Rules,
    /// Whether there were third-party clients before April 2026, so that permissive ones may be made.
    pub(super) legacy: bool,
    /// For how long the secret before the present one is still accepted.
    pub(super) secret_overlap: Duration,
    /// How long the removal of a connection takes.
    pub(super) connection_removal: Duration,
}

/// All scopes of the Management API that the stand-in has endpoints for: kind, and what can be done with it.
const MANAGEMENT: [(&str, &[&str]); 13] = [
    ("tenant_settings", &["read", "update"]),
    ("resource_servers", &["read", "create", "update", "delete"]),
    ("clients", &["read", "create", "update", "delete"]),
    ("client_keys", &["read", "update"]),
    ("client_credentials", &["read", "create", "update", "delete"]),
    ("client_grants", &["read", "create", "update", "delete"]),
    ("connections", &["read", "create", "update", "delete"]),
    ("connections_options", &["read", "update"]),
    ("token_exchange_profiles", &["read", "create", "update", "delete"]),
    ("actions", &["read", "create", "update", "delete"]),
    ("roles", &["read", "create", "update", "delete"]),
    ("users", &["read", "update"]),
    ("role_members", &["create"]),
];

/// The names of those scopes.
pub(super) fn management_scopes() -> Vec<String> {
    let scopes = MANAGEMENT.iter().flat_map(|(kind, verbs)| {
        let named = move |verb: &&str| format!("{verb}:{kind}");
        verbs.iter().map(named)
    });
    scopes.collect()
}

impl Tenant {
    /// A new one, with the Management API in it.
    pub(super) fn new(place: &Place, legacy: bool) -> Self {
        let mut tenant = Self {
            settings: settings::defaults(),
            resource_servers: Table::default(),
            clients: Table::default(),
            grants: Table::default(),
            exchange_profiles: Table::default(),
            actions: Table::default(),
            roles: Table::default(),
            connections: Table::default(),
            users: Table::default(),
            sessions: Sessions::default(),
            capacity: Capacity::default(),
            rules: Rules::default(),
            legacy,
            secret_overlap: Duration::ZERO,
            connection_removal: Duration::from_secs(10),
        };
        let scopes = management_scopes();
        let scopes: Vec<Value> = scopes.iter().map(|scope| json!({"value": scope})).collect();
        tenant.resource_servers.insert(object(json!({
            "id": random_id("", 24),
            "name": "Auth0 Management API",
            "identifier": place.management(),
            "is_system": true,
            "allow_offline_access": false,
            "skip_consent_for_verifiable_first_party_clients": false,
            "subject_type_authorization": {
                "user": {"policy": "allow_all"}, "client": {"policy": "require_client_grant"},
            },
            "token_lifetime": 86_400,
            "token_lifetime_for_web": 7200,
            "signing_alg": "RS256",
            "scopes": scopes,
        })));
        tenant
    }

    /// Refuses one more than the plan allows.
    pub(super) fn room(&self, entity: Entity, present: usize) -> Result<(), Refusal> {
        if present >= self.capacity.of(entity) {
            return Err(Refusal::full());
        }
        Ok(())
    }

    /// A resource server by its identifier, byte for byte. Whether Auth0 tolerates another slash at the end is not
    /// known; that it does not is the stricter choice.
    pub(super) fn api(&self, identifier: &str) -> Option<&Object> {
        self.resource_servers
            .find(|server| text(server, "identifier") == identifier)
    }

    /// What a user's roles permit at an API.
    pub(super) fn permissions(&self, user: &User, audience: &str) -> BTreeSet<String> {
        let roles = self.roles.values();
        let roles = roles.filter(|role| user.roles.contains(text(&role.fields, "id")));
        let permissions = roles.flat_map(|role| &role.permissions);
        permissions
            .filter(|(api, _)| api == audience)
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// A flag of the tenant's settings.
    pub(super) fn flag(&self, name: &str) -> bool {
        let flags = self.settings.get("flags").and_then(Value::as_object);
        flags.is_some_and(|flags| flags.get(name) == Some(&Value::Bool(true)))
    }
}

/// The scopes that a resource server defines.
pub(super) fn scopes_of(server: &Object) -> BTreeSet<String> {
    let scopes = server.get("scopes").and_then(Value::as_array);
    let scopes = scopes.into_iter().flatten();
    scopes
        .filter_map(|scope| scope["value"].as_str().map(str::to_owned))
        .collect()
}

/// The scopes of a grant at its resource server: those that it names and that still exist there.
pub(super) fn granted(grant: &Object, server: &Object) -> BTreeSet<String> {
    let defined = scopes_of(server);
    if grant.get("allow_all_scopes") == Some(&Value::Bool(true)) {
        return defined;
    }
    let named = texts(grant, "scope").into_iter().map(str::to_owned);
    named.filter(|scope| defined.contains(scope)).collect()
}

/// A new id of so many letters and digits.
pub(super) fn random_id(prefix: &str, length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let letter = |_| char::from(LETTERS[usize::from(rand::random::<u8>()) % LETTERS.len()]);
    let id: String = (0..length).map(letter).collect();
    format!("{prefix}{id}")
}
