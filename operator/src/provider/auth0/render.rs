//! What we want, in Auth0's words. Every flag is said: Auth0's own defaults would give a client the implicit grant, endless
//! refresh tokens, and an API that every application may call.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{diff::texts, mark, profiles::CUSTOM};
use crate::provider::{
    Authentication, ClientSpec, Credential, DocumentSpec, Grant, Mark, ResourceSpec,
    key::{ALGORITHM, PrivateKey},
};

/// Seconds for which an access token is good. It belongs to the API here, not to the client that asks.
const TOKEN_LIFETIME: u64 = 300;
/// Seconds for which a refresh token is good that is not used.
const IDLE: u64 = 1_296_000;
/// Seconds for which any refresh token is good.
const LONGEST: u64 = 2_592_000;
/// The most characters of a name.
const LONGEST_NAME: usize = 200;
/// The most characters of a description.
const LONGEST_DESCRIPTION: usize = 140;

/// By which keys a client authenticates.
pub(super) const METHODS: &str = "client_authentication_methods";
/// How a client shows its secret; absent for one that has keys.
pub(super) const AUTH_METHOD: &str = "token_endpoint_auth_method";

/// By what a client may exchange tokens; null where it may not.
pub(super) const EXCHANGE: &str = "token_exchange";
/// The list in it.
pub(super) const WAYS: &str = "allow_any_profile_of_type";
/// The profile that is Auth0's own: a token for one API for a token of the same user for another.
const ON_BEHALF: &str = "on_behalf_of_token_exchange";

/// A client as Auth0 is to have it.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    /// What can be changed. Null: it is not to be there.
    pub(super) fields: Map<String, Value>,
    /// What is said once and stays.
    pub(super) fixed: Map<String, Value>,
}

impl Desired {
    /// The body of a creation. A secret cannot be part of it.
    pub(super) fn creation(&self, keys: &[&Credential]) -> Value {
        let mut body = self.fixed.clone();
        body.extend(self.fields.clone());
        if !keys.is_empty() {
            let credentials: Vec<Value> = keys.iter().copied().filter_map(public_key).collect();
            body.insert(
                METHODS.to_owned(),
                json!({"private_key_jwt": {"credentials": credentials}}),
            );
        }
        without_nulls(Value::Object(body))
    }
}

/// The public half of a private key, as Auth0 takes it.
pub(super) fn public_key(credential: &Credential) -> Option<Value> {
    let key = PrivateKey::of(credential)?;
    Some(json!({
        "credential_type": "public_key", "name": "mcp-auth-operator", "alg": ALGORITHM,
        "kid": key.id(), "pem": key.public_pem(),
    }))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        other => other,
    }
}

/// The client of an McpClient. Who asks users for consent is a third party, and strict; who does not is one of the house.
pub(super) fn client(want: &ClientSpec) -> Desired {
    let signs_in = want.grants.contains(&Grant::AuthorizationCode);
    let public = want.authentication == Authentication::None;
    let grants: Vec<&str> = want.grants.iter().copied().map(grant_type).collect();
    let redirect_uris: Vec<&String> = want.redirect_uris.iter().collect();
    let mut fields = common(&want.mark, &want.display_name);
    fields.extend(fields_of(json!({
        "app_type": match (public, signs_in) {
            (true, _) => "native",
            (false, true) => "regular_web",
            (false, false) => "non_interactive",
        },
        // There is no switch that turns a client off; one without any way to tokens gets none.
        "grant_types": if want.enabled { grants } else { Vec::new() },
        "callbacks": if want.enabled { redirect_uris } else { Vec::new() },
        "allowed_origins": [],
        "web_origins": [],
        "refresh_token": refresh_tokens(public),
        "client_metadata": mark::metadata(&want.mark),
    })));
    if want.authentication != Authentication::PrivateKeyJwt {
        fields.insert(METHODS.to_owned(), Value::Null);
        let method = if public { "none" } else { "client_secret_post" };
        fields.insert(AUTH_METHOD.to_owned(), json!(method));
    }
    let fixed = if want.consent {
        // Its callbacks are those that its namespace was granted: errors may go there as well.
        fields.insert("redirection_policy".to_owned(), json!("allow_always"));
        json!({"is_first_party": false, "third_party_security_mode": "strict"})
    } else {
        fields.insert(EXCHANGE.to_owned(), Value::Null);
        json!({"is_first_party": true})
    };
    Desired {
        fields,
        fixed: fields_of(fixed),
    }
}

/// How refresh tokens end.
fn refresh_tokens(public: bool) -> Value {
    json!({
        "rotation_type": if public { "rotating" } else { "non-rotating" },
        "expiration_type": "expiring",
        "leeway": 0,
        "token_lifetime": LONGEST,
        "infinite_token_lifetime": false,
        "idle_token_lifetime": IDLE,
        "infinite_idle_token_lifetime": false,
    })
}

/// What is ours to say of a client with a metadata document of its own, given what was read of both. Of a document that
/// cannot be read it keeps at most the grant types that it has.
pub(super) fn client_of_document(want: &DocumentSpec, raw: &Value) -> Map<String, Value> {
    let (client, document) = (&raw["client"], &raw["document"]);
    let said = if document.is_null() { client } else { document };
    let said: Vec<Grant> = texts(&said["grant_types"])
        .into_iter()
        .filter_map(grant_named)
        .collect();
    let grants = want.grants.iter().copied();
    let grants: Vec<&str> = grants
        .filter(|grant| want.enabled && said.contains(grant))
        .map(grant_type)
        .collect();
    let mut fields = common(&want.mark, "");
    // That is the document's to say.
    fields.remove("name");
    fields.extend(fields_of(json!({
        "grant_types": grants,
        "allowed_origins": [],
        "web_origins": [],
        "refresh_token": refresh_tokens(client[AUTH_METHOD] == "none"),
        "client_metadata": mark::metadata(&want.mark),
        // Its callbacks are those that its namespace was granted: errors may go there as well.
        "redirection_policy": "allow_always",
    })));
    fields
}

/// The client that is linked to an McpServer's API: it carries the mark of both.
///
/// `has_profiles`: there are token exchange profiles of it, wanted or not.
pub(super) fn linked_client(want: &ResourceSpec, has_profiles: bool) -> Desired {
    let mut metadata = mark::metadata(&want.mark);
    metadata.extend(mark::profiles_metadata(
        has_profiles || !want.exchange_actions.names.is_empty(),
    ));
    metadata.extend(mark::scopes_metadata(want.scopes.keys().map(String::as_str)));
    let mut fields = common(&want.mark, &want.display_name);
    fields.extend(fields_of(json!({
        "grant_types": [],
        "callbacks": [],
        AUTH_METHOD: "client_secret_post",
        METHODS: null,
        EXCHANGE: exchange(want),
        "client_metadata": metadata,
    })));
    Desired {
        fields,
        fixed: fields_of(json!({
            "app_type": "resource_server",
            "is_first_party": true,
            "resource_server_identifier": want.resource,
        })),
    }
}

/// By what a server exchanges tokens for this API (RFC 8693).
fn exchange(want: &ResourceSpec) -> Value {
    let actions = &want.exchange_actions;
    let on_behalf = !want.exchange_scopes.is_empty() && !actions.only;
    let ways = [(on_behalf, ON_BEHALF), (!actions.names.is_empty(), CUSTOM)];
    let ways: Vec<&str> = ways
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, way)| way)
        .collect();
    if ways.is_empty() {
        Value::Null
    } else {
        json!({ WAYS: ways })
    }
}

/// What is the same for all our clients.
fn common(mark: &Mark, name: &str) -> Map<String, Value> {
    let description = format!(
        "{} {}/{}, managed by mcp-auth-operator",
        mark.kind, mark.namespace, mark.name
    );
    fields_of(json!({
        "name": plain(name, LONGEST_NAME),
        "description": cut(&description, LONGEST_DESCRIPTION),
        "oidc_conformant": true,
        "jwt_configuration": {"alg": ALGORITHM},
    }))
}

fn grant_type(grant: Grant) -> &'static str {
    match grant {
        Grant::AuthorizationCode => "authorization_code",
        Grant::RefreshToken => "refresh_token",
        Grant::ClientCredentials => "client_credentials",
    }
}

/// The grant of this name, if a document can name it.
pub(super) fn grant_named(name: &str) -> Option<Grant> {
    [Grant::AuthorizationCode, Grant::RefreshToken]
        .into_iter()
        .find(|grant| grant_type(*grant) == name)
}

/// The API of an McpServer, without its scopes.
pub(super) fn api(want: &ResourceSpec) -> Map<String, Value> {
    fields_of(json!({
        "name": plain(&want.display_name, LONGEST_NAME),
        "signing_alg": ALGORITHM,
        "token_dialect": "rfc9068_profile_authz",
        "enforce_policies": true,
        "allow_offline_access": true,
        "skip_consent_for_verifiable_first_party_clients": true,
        "subject_type_authorization": {
            "user": {"policy": "require_client_grant"},
            "client": {"policy": "require_client_grant"},
        },
        "token_lifetime": TOKEN_LIFETIME,
        "token_lifetime_for_web": TOKEN_LIFETIME,
    }))
}

/// The body of the creation of an API: until its client is there, its name says whose it is.
pub(super) fn api_creation(want: &ResourceSpec) -> Value {
    let mut body = api(want);
    body.insert("identifier".to_owned(), json!(want.resource));
    body.insert(
        "name".to_owned(),
        json!(birth_name(&want.display_name, &want.mark)),
    );
    body.insert("scopes".to_owned(), json!(scopes(&want.scopes)));
    Value::Object(body)
}

/// The name of an API whose client is not there, yet or any more.
pub(super) fn birth_name(name: &str, mark: &Mark) -> String {
    let birthmark = mark::birthmark(mark);
    format!("{}{birthmark}", plain(name, LONGEST_NAME - birthmark.len()))
}

/// Scopes of an API.
pub(super) fn scopes(wanted: &BTreeMap<String, String>) -> Vec<Value> {
    let all = wanted.iter();
    all.map(|(name, description)| json!({"value": name, "description": described(name, description)}))
        .collect()
}

/// What people are asked.
fn described<'a>(name: &'a str, description: &'a str) -> &'a str {
    if description.is_empty() { name } else { description }
}

/// A name as Auth0 takes it. No user's text may end like a birthmark.
fn plain(name: &str, longest: usize) -> String {
    let clean: String = name
        .chars()
        .map(|letter| match letter {
            '<' | '[' => '(',
            '>' | ']' => ')',
            other => other,
        })
        .collect();
    cut(&clean, longest)
}

fn cut(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

fn fields_of(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
