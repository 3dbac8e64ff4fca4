//! What of a client does not go together.
//!
//! The list for third parties follows "Security Controls for Third-Party Applications", the rest the reference of the
//! Management API. Where that page says no more than "unless explicitly reviewed and added to the supported set", what it
//! does not name is refused; whether the live API refuses it or passes over it is not known.

use serde_json::Value;

use super::Client;
use crate::auth0::{
    errors::Refusal,
    tenant::Tenant,
    wire::{Object, is_true, text, texts},
};

/// What a strict third-party client can be given.
const STRICT: [&str; 16] = [
    "name",
    "description",
    "logo_uri",
    "callbacks",
    "allowed_origins",
    "web_origins",
    "grant_types",
    "token_endpoint_auth_method",
    "app_type",
    "client_metadata",
    "jwt_configuration",
    "refresh_token",
    "client_authentication_methods",
    "require_proof_of_possession",
    "redirection_policy",
    "client_secret",
];

/// What it can be given besides, as long as it says what it is anyway.
const STRICT_CONSTANTS: [(&str, bool); 2] = [("is_first_party", false), ("oidc_conformant", true)];

/// What can be changed of a client whose metadata is a document of its own.
const OF_DOCUMENT: [&str; 17] = [
    "description",
    "app_type",
    "allowed_origins",
    "web_origins",
    "grant_types",
    "oidc_conformant",
    "jwt_configuration",
    "refresh_token",
    "organization_usage",
    "organization_require_behavior",
    "default_organization",
    "client_metadata",
    "require_proof_of_possession",
    "skip_non_verifiable_callback_uri_confirmation_prompt",
    "redirection_policy",
    "token_quota",
    "third_party_security_mode",
];

/// Whether a body has only what such a client can be given.
pub(super) fn check_names(body: &Object, document: bool) -> Result<(), Refusal> {
    for (name, value) in body {
        let constant = STRICT_CONSTANTS
            .iter()
            .any(|(constant, is)| constant == name && *value == Value::Bool(*is));
        let known: &[&str] = if document { &OF_DOCUMENT } else { &STRICT };
        if !constant && name != "third_party_security_mode" && !known.contains(&name.as_str()) {
            let problem = format!("Property not supported for third-party clients: {name}");
            return Err(Refusal::body(&problem));
        }
    }
    Ok(())
}

/// Whether all of a client goes together.
pub(super) fn check(tenant: &Tenant, client: &Object) -> Result<(), Refusal> {
    let no = |problem: &str| Err(Refusal::body(problem));
    let resource_server = text(client, "app_type") == "resource_server";
    let has_keys = client.contains_key("client_authentication_methods");
    let exchanges = client.contains_key("token_exchange");
    let first_party = is_true(client, "is_first_party");
    let public = text(client, "token_endpoint_auth_method") == "none";
    if resource_server != client.contains_key("resource_server_identifier") {
        return no("resource_server_identifier and app_type resource_server need each other");
    }
    if (resource_server || exchanges) && (!first_party || public) {
        return no("Only confidential first-party clients can exchange tokens or be linked to an API");
    }
    if exchanges && !is_true(client, "oidc_conformant") {
        return no("token_exchange needs oidc_conformant");
    }
    if texts_of(client, "token_exchange", "allow_any_profile_of_type")
        .contains(&"on_behalf_of_token_exchange")
        && !resource_server
    {
        return no("on_behalf_of_token_exchange needs app_type resource_server");
    }
    if has_keys && client.contains_key("token_endpoint_auth_method") {
        return no("client_authentication_methods and token_endpoint_auth_method exclude each other");
    }
    if has_keys && nested(client, "jwt_configuration", "alg") != Some(&Value::from("RS256")) {
        return no("client_authentication_methods needs jwt_configuration.alg RS256");
    }
    if first_party && client.contains_key("third_party_security_mode") {
        // Not documented; a first-party client has no such mode.
        return no("third_party_security_mode is for third-party clients");
    }
    if text(client, "third_party_security_mode") == "permissive" && !tenant.legacy {
        return no("Permissive mode is not available for this tenant");
    }
    if public && texts(client, "grant_types").contains(&"client_credentials") && !first_party {
        return no("client_credentials needs a confidential client");
    }
    if text(client, "third_party_security_mode") == "strict" {
        check_strict(client)?;
    }
    Ok(())
}

fn check_strict(client: &Object) -> Result<(), Refusal> {
    let no = |problem: &str| Err(Refusal::body(problem));
    let urls = ["callbacks", "allowed_origins", "web_origins"];
    if urls
        .iter()
        .any(|name| texts(client, name).iter().any(|url| url.contains('*')))
    {
        return no("Wildcards are not supported for third-party clients");
    }
    let allowed = ["authorization_code", "refresh_token", "client_credentials"];
    if texts(client, "grant_types")
        .iter()
        .any(|grant| !allowed.contains(grant))
    {
        return no("Grant type not supported for third-party clients");
    }
    if text(client, "app_type") == "resource_server" {
        return no("app_type not supported for third-party clients");
    }
    if nested(client, "jwt_configuration", "alg") != Some(&Value::from("RS256")) {
        return no("jwt_configuration.alg must be RS256 for third-party clients");
    }
    let endless =
        nested(client, "refresh_token", "infinite_idle_token_lifetime") != Some(&Value::Bool(false));
    if endless || nested(client, "refresh_token", "expiration_type") != Some(&Value::from("expiring")) {
        return no("Refresh tokens of third-party clients must expire");
    }
    Ok(())
}

/// Whether the API that a new client wants to be linked to is there and free. That an API has one linked client only is
/// inferred from the answer of the API, which names one.
pub(super) fn check_link(tenant: &Tenant, client: &Object) -> Result<(), Refusal> {
    let identifier = text(client, "resource_server_identifier");
    if identifier.is_empty() {
        return Ok(());
    }
    let server = tenant.api(identifier).ok_or_else(Refusal::no_resource_server)?;
    if is_true(server, "is_system") {
        return Err(Refusal::unsupported("A system API has no client"));
    }
    let linked = |client: &Client| client.text("resource_server_identifier") == identifier;
    match tenant.clients.find(linked) {
        None => Ok(()),
        Some(_) => Err(Refusal::conflict("The API has a client already")),
    }
}

fn nested<'a>(client: &'a Object, outer: &str, inner: &str) -> Option<&'a Value> {
    client.get(outer)?.get(inner)
}

fn texts_of<'a>(client: &'a Object, outer: &str, inner: &str) -> Vec<&'a str> {
    client
        .get(outer)
        .and_then(Value::as_object)
        .map(|object| texts(object, inner))
        .unwrap_or_default()
}
