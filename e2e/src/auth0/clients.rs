//! `/api/v2/clients`: applications, of our own (first-party) and of others (third-party).

pub(super) mod credentials;
mod fields;
mod rules;

use std::time::Duration;

use serde_json::{Value, json};

use self::credentials::Credential;
use super::{
    errors::Refusal,
    limits::Entity,
    pages::{LISTING, Listing, flag, projected},
    schema::{check, need},
    tenant::{Call, Outcome, Tenant, random_id},
    wire::{Answer, Object, is_true, text, texts},
};

/// A client.
pub(super) struct Client {
    /// What answers show, without secrets and without where its metadata come from.
    pub(super) fields: Object,
    pub(super) secret: Secret,
    pub(super) credentials: Vec<Credential>,
    /// Where its metadata come from, if it did not come from the Management API: `external_*` and `jwks_uri`.
    pub(super) external: Object,
}

/// Each client has one, also those that do not use it. Auth0 knows no two valid secrets.
pub(super) struct Secret {
    current: String,
    /// The one before, for as long as it takes to be forgotten everywhere.
    previous: Option<(String, Duration)>,
}

impl Secret {
    fn new() -> Self {
        Self {
            current: random_id("", 64),
            previous: None,
        }
    }

    pub(super) fn is(&self, sent: &str, now: Duration) -> bool {
        let previous = self.previous.as_ref();
        sent == self.current || previous.is_some_and(|(secret, until)| sent == secret && now < *until)
    }

    pub(super) fn current(&self) -> &str {
        &self.current
    }

    fn replace(&mut self, with: String, previous_until: Duration) {
        let previous = std::mem::replace(&mut self.current, with);
        self.previous = Some((previous, previous_until));
    }
}

impl Client {
    /// A client with these fields, and an id that shows whether it is strict.
    pub(super) fn new(mut fields: Object, external: Object) -> Self {
        let strict = text(&fields, "third_party_security_mode") == "strict";
        let id = if strict {
            random_id("tpc_", 22)
        } else {
            random_id("", 32)
        };
        fields.insert("client_id".to_owned(), json!(id));
        Self {
            fields,
            secret: Secret::new(),
            credentials: Vec::new(),
            external,
        }
    }

    pub(super) fn text(&self, field: &str) -> &str {
        text(&self.fields, field)
    }

    /// By which the Management API knows it.
    pub(super) fn id(&self) -> &str {
        self.text("client_id")
    }

    /// By which OAuth knows it: the address of its document, if it has one.
    pub(super) fn oauth_id(&self) -> &str {
        if self.is_document() {
            text(&self.external, "external_client_id")
        } else {
            self.id()
        }
    }

    /// Whether its metadata is a document of its own.
    pub(super) fn is_document(&self) -> bool {
        text(&self.external, "external_metadata_type") == "cimd"
    }

    pub(super) fn is_third_party(&self) -> bool {
        !is_true(&self.fields, "is_first_party")
    }

    pub(super) fn is_strict(&self) -> bool {
        self.text("third_party_security_mode") == "strict"
    }

    pub(super) fn is_public(&self) -> bool {
        self.text("token_endpoint_auth_method") == "none"
    }

    pub(super) fn has_grant_type(&self, grant_type: &str) -> bool {
        texts(&self.fields, "grant_types").contains(&grant_type)
    }

    /// Whether it may exchange tokens by profiles of this type.
    pub(super) fn exchanges(&self, profile_type: &str) -> bool {
        let exchange = self.fields.get("token_exchange").and_then(Value::as_object);
        exchange.is_some_and(|exchange| texts(exchange, "allow_any_profile_of_type").contains(&profile_type))
    }

    /// A setting of its refresh tokens.
    pub(super) fn refresh(&self, name: &str) -> Option<&Value> {
        self.fields.get("refresh_token")?.get(name)
    }

    /// Whether it authenticates with a key.
    pub(super) fn uses_keys(&self) -> bool {
        self.fields.contains_key("client_authentication_methods")
    }

    /// Ids of the keys that it authenticates with.
    pub(super) fn keys_in_use(&self) -> Vec<&str> {
        let methods = self.fields.get("client_authentication_methods");
        let list = methods.and_then(|methods| methods["private_key_jwt"]["credentials"].as_array());
        let ids = list.into_iter().flatten();
        ids.filter_map(|credential| credential["id"].as_str()).collect()
    }

    pub(super) fn credential(&self, id: &str) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.id() == id)
    }

    /// Lets it authenticate with these keys only.
    pub(super) fn use_keys(&mut self, ids: &[String]) {
        let credentials: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
        let methods = json!({"private_key_jwt": {"credentials": credentials}});
        self.fields
            .insert("client_authentication_methods".to_owned(), methods);
    }

    /// What an answer shows. The secret is hidden once keys are used instead.
    fn shown(&self, secret: bool, external: bool) -> Object {
        let mut shown = self.fields.clone();
        if secret && !self.uses_keys() {
            shown.insert("client_secret".to_owned(), json!(self.secret.current));
        }
        if external {
            shown.extend(self.external.clone());
        }
        shown
    }
}

/// Whether the caller may read secrets.
fn reads_secrets(call: &Call<'_>) -> bool {
    call.has("read:client_keys") || call.has("read:client_credentials")
}

pub(super) fn list(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let (app_type, external) = (
        call.request.query("app_type"),
        call.request.query("external_client_id"),
    );
    let first_party = flag(call.request, "is_first_party")?;
    let global = flag(call.request, "is_global")?;
    let rows = tenant.clients.iter().filter(|(_, client)| {
        app_type.is_none_or(|types| types.split(',').any(|wanted| wanted == client.text("app_type")))
            && external.is_none_or(|wanted| wanted == text(&client.external, "external_client_id"))
            && first_party.is_none_or(|wanted| wanted != client.is_third_party())
            && global != Some(true)
    });
    let secrets = reads_secrets(call);
    let listing = Listing {
        name: "clients",
        checkpoint: true,
        offset: true,
        filters: &[
            "app_type",
            "is_first_party",
            "is_global",
            "external_client_id",
            "fields",
            "include_fields",
        ],
        ..LISTING
    };
    listing.answer(
        call.request,
        rows.map(|(number, client)| (number, client.shown(secrets, true))),
    )
}

pub(super) fn get(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let client = tenant.clients.find(|client| client.id() == call.id());
    let shown = client
        .ok_or_else(Refusal::no_client)?
        .shown(reads_secrets(call), true);
    Ok(Answer::ok(projected(call.request, shown)))
}

pub(super) fn create(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let mut body = call.request.object()?;
    check(&body, &[fields::FIELDS, fields::AT_CREATION])?;
    need(&body, &["name"])?;
    let third_party = body.get("is_first_party") == Some(&json!(false));
    let strict = third_party
        && match text(&body, "third_party_security_mode") {
            // Tenants with third-party clients before April 2026 kept the old behaviour for those who do not say.
            "" => !tenant.legacy,
            mode => mode == "strict",
        };
    if strict {
        rules::check_names(&body, false)?;
    }
    let keys = body.remove("client_authentication_methods");
    if keys.is_some() {
        call.need(&["create:client_credentials"])?;
    }
    let mut client = Client::new(fields::complete(body, strict), Object::new());
    for inline in keys.iter().flat_map(inline_credentials) {
        let inline = inline.as_object();
        let inline = inline.ok_or_else(|| Refusal::body("Expected an object on property credentials"))?;
        client.credentials.push(Credential::new(inline, call.now)?);
    }
    if keys.is_some() {
        let ids: Vec<String> = client.credentials.iter().map(|key| key.id().to_owned()).collect();
        client.use_keys(&ids);
    }
    rules::check(tenant, &client.fields)?;
    rules::check_link(tenant, &client.fields)?;
    let shown = client.shown(true, true);
    add(tenant, client)?;
    Ok(Answer::created(shown))
}

/// Puts a client into the tenant. With `enable_client_connections` a first-party one can use every connection at once.
pub(super) fn add(tenant: &mut Tenant, client: Client) -> Result<(), Refusal> {
    tenant.room(Entity::Applications, tenant.clients.len())?;
    if tenant.flag("enable_client_connections") && !client.is_strict() {
        for connection in tenant.connections.values_mut() {
            connection.clients.insert(client.id().to_owned());
        }
    }
    tenant.clients.insert(client);
    Ok(())
}

fn inline_credentials(methods: &Value) -> Vec<Value> {
    let list = methods["private_key_jwt"]["credentials"].as_array();
    list.cloned().unwrap_or_default()
}

pub(super) fn patch(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let mut body = call.request.object()?;
    check(&body, &[fields::FIELDS, fields::AFTER_CREATION])?;
    let client = tenant.clients.find(|client| client.id() == call.id());
    let client = client.ok_or_else(Refusal::no_client)?;
    if client.is_strict() {
        rules::check_names(&body, client.is_document())?;
    }
    for name in ["is_first_party", "third_party_security_mode"] {
        let other = body
            .get(name)
            .is_some_and(|value| client.fields.get(name) != Some(value));
        if other {
            return Err(Refusal::body(&format!("{name} cannot be changed")));
        }
    }
    let secret = body.remove("client_secret");
    if secret.is_some() {
        call.need(&["update:client_keys"])?;
    }
    if let Some(methods) = body.get("client_authentication_methods") {
        call.need(&["update:client_credentials"])?;
        let ids = inline_credentials(methods);
        if !ids
            .iter()
            .all(|key| client.credential(text_of(key, "id")).is_some())
        {
            return Err(Refusal::body("A credential does not exist"));
        }
    }
    let mut fields = client.fields.clone();
    fields::merge(&mut fields, body);
    // "Machine-to-machine": not for clients that came by themselves or by their document.
    if !client.external.is_empty() && texts(&fields, "grant_types").contains(&"client_credentials") {
        return Err(Refusal::body(
            "client_credentials is not available for registered clients",
        ));
    }
    rules::check(tenant, &fields)?;
    let until = call.now + tenant.secret_overlap;
    let client = tenant.clients.find_mut(|client| client.id() == call.id());
    let client = client.ok_or_else(Refusal::no_client)?;
    if secret.is_some() && fields.contains_key("client_authentication_methods") {
        return Err(Refusal::unsupported("The client authenticates with a key"));
    }
    client.fields = fields;
    if let Some(Value::String(secret)) = secret {
        client.secret.replace(secret, until);
    }
    // Recorded answers to a change do not say where the metadata come from.
    Ok(Answer::ok(client.shown(reads_secrets(call), false)))
}

fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Its grants stay; see [`super::resource_servers::delete`].
pub(super) fn delete(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    tenant
        .clients
        .remove(|client| client.id() == call.id())
        .ok_or_else(Refusal::no_client)?;
    tenant.sessions.forget_client(call.id());
    for connection in tenant.connections.values_mut() {
        connection.clients.remove(call.id());
    }
    Ok(Answer::nothing())
}

/// Answers with the new secret; if the answer is lost, so is the secret, unless it can be read.
pub(super) fn rotate_secret(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let until = call.now + tenant.secret_overlap;
    let client = tenant.clients.find_mut(|client| client.id() == call.id());
    let client = client.ok_or_else(Refusal::no_client)?;
    if client.uses_keys() {
        return Err(Refusal::unsupported("The client authenticates with a key"));
    }
    client.secret.replace(random_id("", 64), until);
    Ok(Answer::ok(client.shown(true, true)))
}

/// A third-party client that came by itself or by its document.
pub(super) fn registered(body: Object, external: Object, strict: bool) -> Client {
    Client::new(fields::complete(body, strict), external)
}

/// Whether all of a registered client goes together.
pub(super) fn check_registered(tenant: &Tenant, client: &Client) -> Result<(), Refusal> {
    rules::check(tenant, &client.fields)
}
