//! `/api/v2/connections`: where users come from.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{
    clock::rfc3339,
    errors::Refusal,
    limits::Entity,
    pages::{LISTING, Listing, projected},
    schema::{Field, Kind, check, need},
    tenant::{Call, Outcome, Tenant, random_id},
    wire::{Answer, Body, Object, is_true, object, text},
};

/// A connection.
pub(super) struct Connection {
    pub(super) fields: Object,
    /// Ids of the clients that it is enabled for.
    pub(super) clients: BTreeSet<String>,
    /// When it will be gone, once it was deleted.
    gone: Option<Duration>,
}

/// What can be changed. `enabled_clients` is no longer among it: clients have an endpoint of their own, and a list sent
/// here would put out everybody else's.
const FIELDS: &[Field] = &[
    Field("display_name", Kind::Text(1, 128)),
    Field("options", Kind::Nullable(&Kind::Any)),
    Field("is_domain_connection", Kind::Bool),
    Field("show_as_button", Kind::Bool),
    Field("realms", Kind::List(&Kind::Text(1, 128), 10)),
    Field("metadata", Kind::Texts(10, 255)),
    Field("authentication", Kind::Object(&[Field("active", Kind::Bool)])),
    Field(
        "connected_accounts",
        Kind::Object(&[Field("active", Kind::Bool), Field("cross_app_access", Kind::Bool)]),
    ),
];
const IDENTITY: &[Field] = &[
    Field("name", Kind::Text(1, 128)),
    Field("strategy", Kind::Choice(&STRATEGIES)),
];
const STRATEGIES: [&str; 10] = [
    "auth0",
    "okta",
    "oidc",
    "waad",
    "pingfederate",
    "samlp",
    "google-apps",
    "google-oauth2",
    "windowslive",
    "oauth2",
];
const LINKS: &[Field] = &[
    Field("client_id", Kind::Text(1, 255)),
    Field("status", Kind::Bool),
];

impl Connection {
    /// One that is there from the beginning.
    pub(super) fn new(name: &str, strategy: &str, is_domain_connection: bool) -> Self {
        let fields = object(json!({
            "id": random_id("con_", 16), "name": name, "strategy": strategy, "display_name": name,
            "is_domain_connection": is_domain_connection, "show_as_button": false, "realms": [name],
            "authentication": {"active": true}, "connected_accounts": {"active": false}, "options": {},
        }));
        Self {
            fields,
            clients: BTreeSet::new(),
            gone: None,
        }
    }

    pub(super) fn id(&self) -> &str {
        text(&self.fields, "id")
    }

    /// Whether this client's users can come from here. Strict clients are never enabled for a single connection, so it has
    /// to be the whole domain's for them.
    pub(super) fn serves(&self, client: &super::clients::Client) -> bool {
        let login = self.fields.get("authentication");
        let active = login.is_none_or(|login| login["active"] != false) && self.gone.is_none();
        let domain = is_true(&self.fields, "is_domain_connection");
        active && (domain || self.clients.contains(client.id()))
    }

    /// Options, which hold secrets, only for those who may read them.
    fn shown(&self, call: &Call<'_>) -> Object {
        let mut shown = self.fields.clone();
        if !call.has("read:connections_options") {
            shown.remove("options");
        }
        shown.insert("enabled_clients".to_owned(), json!(self.clients));
        shown
    }
}

/// Those whose removal is over are gone.
fn settle(tenant: &mut Tenant, now: Duration) {
    tenant
        .connections
        .retain(|connection| connection.gone.is_none_or(|gone| now < gone));
}

pub(super) fn list(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    settle(tenant, call.now);
    let query = &call.request.query;
    let strategies: Vec<&str> = query
        .iter()
        .filter(|(name, _)| name == "strategy")
        .map(|(_, value)| value.as_str())
        .collect();
    let name = call.request.query("name");
    let rows = tenant.connections.iter().filter(|(_, connection)| {
        connection.gone.is_none()
            && name.is_none_or(|name| name == text(&connection.fields, "name"))
            && (strategies.is_empty() || strategies.contains(&text(&connection.fields, "strategy")))
    });
    let listing = Listing {
        name: "connections",
        checkpoint: true,
        offset: true,
        filters: &["strategy", "name", "fields", "include_fields"],
        deepest: 1000,
        ..LISTING
    };
    listing.answer(
        call.request,
        rows.map(|(number, connection)| (number, connection.shown(call))),
    )
}

pub(super) fn get(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let shown = find(tenant, call)?.shown(call);
    Ok(Answer::ok(projected(call.request, shown)))
}

pub(super) fn create(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    settle(tenant, call.now);
    let body = call.request.object()?;
    check(&body, &[FIELDS, IDENTITY])?;
    need(&body, &["name", "strategy"])?;
    check_options(&body, call)?;
    let name = text(&body, "name");
    if !is_name(name) {
        return Err(Refusal::body("name does not match the pattern of names"));
    }
    // One that is being removed still holds its name.
    let same = |connection: &Connection| text(&connection.fields, "name") == name;
    if tenant.connections.find(same).is_some() {
        return Err(Refusal::conflict(
            "A connection with the same name already exists.",
        ));
    }
    tenant.room(Entity::Connections, tenant.connections.len())?;
    let mut connection = Connection::new(name, text(&body, "strategy"), false);
    connection.fields.extend(body);
    let shown = connection.shown(call);
    tenant.connections.insert(connection);
    Ok(Answer::created(shown))
}

/// Options are replaced whole, and a display name that is not sent becomes the name again.
pub(super) fn patch(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let mut body = call.request.object()?;
    check(&body, &[FIELDS])?;
    check_options(&body, call)?;
    let connection = find(tenant, call)?;
    let name = connection.fields.get("name").cloned().unwrap_or_default();
    body.entry("display_name").or_insert(name);
    connection.fields.extend(body);
    Ok(Answer::ok(connection.shown(call)))
}

/// 202: the connection goes later, with its users.
pub(super) fn delete(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let gone = call.now + tenant.connection_removal;
    let connection = find(tenant, call)?;
    connection.gone = Some(gone);
    let id = connection.id().to_owned();
    tenant.users.retain(|user| user.connection != id);
    let body = json!({"deleted_at": rfc3339(call.now)});
    Ok(Answer::new(http::StatusCode::ACCEPTED, Body::Json(body)))
}

pub(super) fn clients(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let enabled = find(tenant, call)?.clients.clone();
    let rows = tenant.clients.iter();
    let rows = rows.filter(|(_, client)| enabled.contains(client.id()));
    let rows = rows.map(|(number, client)| (number, object(json!({"client_id": client.id()}))));
    let listing = Listing {
        name: "clients",
        checkpoint: true,
        most: 1000,
        ..LISTING
    };
    listing.answer(call.request, rows)
}

/// A list of at most 50 clients to enable or disable; the others stay as they are.
pub(super) fn patch_clients(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let Value::Array(links) = call.request.json()? else {
        return Err(Refusal::body("Expected type array"));
    };
    if links.is_empty() || links.len() > 50 {
        return Err(Refusal::body("Expected 1 to 50 items"));
    }
    let mut changes = Vec::new();
    for link in links {
        let link = object(link);
        check(&link, &[LINKS])?;
        need(&link, &["client_id", "status"])?;
        let id = text(&link, "client_id").to_owned();
        let client = tenant.clients.find(|client| client.id() == id);
        let client = client.ok_or_else(Refusal::no_client)?;
        if client.is_strict() {
            return Err(Refusal::unsupported(
                "Third-party clients can only use domain-level connections",
            ));
        }
        changes.push((id, is_true(&link, "status")));
    }
    let connection = find(tenant, call)?;
    for (id, enabled) in changes {
        if enabled {
            connection.clients.insert(id);
        } else {
            connection.clients.remove(&id);
        }
    }
    Ok(Answer::nothing())
}

fn find<'a>(tenant: &'a mut Tenant, call: &Call<'_>) -> Result<&'a mut Connection, Refusal> {
    settle(tenant, call.now);
    let is = |connection: &Connection| connection.id() == call.id() && connection.gone.is_none();
    tenant.connections.find_mut(is).ok_or_else(Refusal::no_connection)
}

/// Whoever sets options needs a scope of its own.
fn check_options(body: &Object, call: &Call<'_>) -> Result<(), Refusal> {
    match body.get("options") {
        None => Ok(()),
        Some(Value::Object(_)) => call.need(&["update:connections_options"]),
        Some(_) => Err(Refusal::body("Expected type object on property options")),
    }
}

/// Letters, digits, and single hyphens between them.
fn is_name(name: &str) -> bool {
    let of_words = |word: &str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric());
    name.split('-').all(of_words)
}
