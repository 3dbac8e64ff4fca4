//! What a client may be told, and what it is when it is told nothing.

use serde_json::{Value, json};

use crate::auth0::{
    schema::{Field, Kind},
    wire::{Object, object, text},
};

pub(super) const GRANT_TYPES: [&str; 10] = [
    "authorization_code",
    "implicit",
    "refresh_token",
    "client_credentials",
    "password",
    "http://auth0.com/oauth/grant-type/password-realm",
    "http://auth0.com/oauth/grant-type/mfa-otp",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:openid:params:grant-type:ciba",
    "urn:auth0:params:oauth:grant-type:token-exchange:federated-connection-access-token",
];
const APP_TYPES: [&str; 5] = [
    "native",
    "spa",
    "regular_web",
    "non_interactive",
    "resource_server",
];
const AUTH_METHODS: [&str; 3] = ["none", "client_secret_post", "client_secret_basic"];
const URLS: Kind = Kind::List(&Kind::Url, 100);

/// What both a new client and a changed one can be given.
pub(super) const FIELDS: &[Field] = &[
    Field("name", Kind::Name(200)),
    Field("description", Kind::Text(0, 140)),
    Field("logo_uri", Kind::Text(0, 1024)),
    Field("app_type", Kind::Choice(&APP_TYPES)),
    Field("is_first_party", Kind::Bool),
    Field("oidc_conformant", Kind::Bool),
    Field("callbacks", URLS),
    Field("allowed_origins", URLS),
    Field("web_origins", URLS),
    Field("allowed_logout_urls", URLS),
    Field("initiate_login_uri", Kind::Url),
    Field("grant_types", Kind::List(&Kind::Choice(&GRANT_TYPES), 20)),
    Field(
        "token_endpoint_auth_method",
        Kind::Nullable(&Kind::Choice(&AUTH_METHODS)),
    ),
    Field("is_token_endpoint_ip_header_trusted", Kind::Bool),
    Field("jwt_configuration", Kind::Object(JWT)),
    Field("refresh_token", Kind::Nullable(&Kind::Object(REFRESH))),
    Field("client_metadata", Kind::Texts(10, 255)),
    Field("sso_disabled", Kind::Bool),
    Field("cross_origin_authentication", Kind::Bool),
    Field("custom_login_page_on", Kind::Bool),
    Field(
        "organization_usage",
        Kind::Nullable(&Kind::Choice(&["deny", "allow", "require"])),
    ),
    Field(
        "organization_require_behavior",
        Kind::Nullable(&Kind::Choice(&[
            "no_prompt",
            "pre_login_prompt",
            "post_login_prompt",
        ])),
    ),
    Field("default_organization", Kind::Nullable(&Kind::Any)),
    Field("require_pushed_authorization_requests", Kind::Bool),
    Field("require_proof_of_possession", Kind::Bool),
    Field("skip_non_verifiable_callback_uri_confirmation_prompt", Kind::Bool),
    Field("token_quota", Kind::Nullable(&Kind::Any)),
    Field("token_exchange", Kind::Nullable(&Kind::Object(EXCHANGE))),
    Field(
        "third_party_security_mode",
        Kind::Choice(&["strict", "permissive"]),
    ),
    Field(
        "redirection_policy",
        Kind::Choice(&["allow_always", "open_redirect_protection"]),
    ),
];

/// What only a new client can be given.
pub(super) const AT_CREATION: &[Field] = &[
    Field("resource_server_identifier", Kind::Text(1, 600)),
    Field("client_authentication_methods", Kind::Object(INLINE_METHODS)),
];

/// What only a client that exists can be given.
pub(super) const AFTER_CREATION: &[Field] = &[
    Field("client_secret", Kind::Text(1, 1024)),
    Field(
        "client_authentication_methods",
        Kind::Nullable(&Kind::Object(METHODS)),
    ),
];

const JWT: &[Field] = &[
    Field("lifetime_in_seconds", Kind::Int(1, 2_592_000)),
    Field("alg", Kind::Choice(&["HS256", "RS256", "RS512", "PS256"])),
    Field("secret_encoded", Kind::Bool),
    Field("scopes", Kind::Any),
];
const REFRESH: &[Field] = &[
    Field("rotation_type", Kind::Choice(&["rotating", "non-rotating"])),
    Field("expiration_type", Kind::Choice(&["expiring", "non-expiring"])),
    Field("leeway", Kind::Int(0, 31_557_600)),
    Field("token_lifetime", Kind::Int(1, 157_788_000)),
    Field("infinite_token_lifetime", Kind::Bool),
    Field("idle_token_lifetime", Kind::Int(1, 157_788_000)),
    Field("infinite_idle_token_lifetime", Kind::Bool),
    Field("policies", Kind::Nullable(&Kind::List(&Kind::Any, 10))),
];
const EXCHANGE: &[Field] = &[Field(
    "allow_any_profile_of_type",
    Kind::List(
        &Kind::Choice(&["custom_authentication", "on_behalf_of_token_exchange"]),
        2,
    ),
)];
const INLINE_METHODS: &[Field] = &[Field("private_key_jwt", Kind::Object(INLINE_CREDENTIALS))];
/// Two are the most that a client can have stored.
const INLINE_CREDENTIALS: &[Field] = &[Field("credentials", Kind::List(&Kind::Any, 2))];
const METHODS: &[Field] = &[Field("private_key_jwt", Kind::Object(CREDENTIALS))];
const CREDENTIALS: &[Field] = &[Field(
    "credentials",
    Kind::List(&Kind::Object(&[Field("id", Kind::Text(1, 64))]), 2),
)];

/// A new client as recorded answers show it, with what the body says put over the defaults.
pub(super) fn complete(body: Object, strict: bool) -> Object {
    let third_party = body.get("is_first_party") == Some(&json!(false));
    let mut client = if strict {
        strict_defaults(&body)
    } else {
        defaults(&body)
    };
    if third_party {
        client.insert("redirection_policy".to_owned(), json!("open_redirect_protection"));
        let mode = if strict { "strict" } else { "permissive" };
        client.insert("third_party_security_mode".to_owned(), json!(mode));
    }
    merge(&mut client, body);
    client
}

fn defaults(body: &Object) -> Object {
    let grant_types: &[&str] = if text(body, "app_type") == "resource_server" {
        &[]
    } else {
        &[
            "authorization_code",
            "implicit",
            "refresh_token",
            "client_credentials",
        ]
    };
    let jwt = if body.contains_key("jwt_configuration") {
        json!({"secret_encoded": false})
    } else if text(body, "app_type") == "resource_server" {
        json!({"secret_encoded": false, "alg": "RS256"})
    } else {
        json!({"secret_encoded": false, "lifetime_in_seconds": 36_000})
    };
    object(json!({
        "is_first_party": true,
        "is_token_endpoint_ip_header_trusted": false,
        "oidc_conformant": false,
        "jwt_configuration": jwt,
        "sso_disabled": false,
        "cross_origin_authentication": false,
        "grant_types": grant_types,
        "custom_login_page_on": true,
        "refresh_token": {
            "rotation_type": "non-rotating", "expiration_type": "non-expiring", "leeway": 0,
            "token_lifetime": 31_557_600, "infinite_token_lifetime": true,
            "idle_token_lifetime": 2_592_000, "infinite_idle_token_lifetime": true,
        },
    }))
}

fn strict_defaults(body: &Object) -> Object {
    let refresh = if text(body, "token_endpoint_auth_method") == "none" {
        json!({
            "rotation_type": "rotating", "expiration_type": "expiring", "leeway": 0,
            "token_lifetime": 2_592_000, "infinite_token_lifetime": false,
            "idle_token_lifetime": 1_296_000, "infinite_idle_token_lifetime": false,
        })
    } else {
        json!({
            "rotation_type": "non-rotating", "expiration_type": "expiring", "leeway": 0,
            "token_lifetime": 31_557_600, "infinite_token_lifetime": true,
            "idle_token_lifetime": 2_592_000, "infinite_idle_token_lifetime": false,
        })
    };
    object(json!({
        "is_first_party": false,
        "is_token_endpoint_ip_header_trusted": false,
        "oidc_conformant": true,
        "jwt_configuration": {"secret_encoded": false, "alg": "RS256", "lifetime_in_seconds": 3600},
        "sso_disabled": false,
        "cross_origin_authentication": false,
        "grant_types": ["authorization_code"],
        "custom_login_page_on": true,
        "refresh_token": refresh,
    }))
}

/// Puts a body over what a client is: lists are replaced whole, null takes a field away, and what is an object is merged,
/// where null takes a part away.
pub(super) fn merge(client: &mut Object, body: Object) {
    for (name, value) in body {
        match value {
            Value::Null => {
                client.remove(&name);
            }
            Value::Object(parts)
                if ["client_metadata", "jwt_configuration", "refresh_token"].contains(&name.as_str()) =>
            {
                let present = client.entry(name).or_insert_with(|| json!({}));
                if let Value::Object(present) = present {
                    present.extend(parts);
                    present.retain(|_, value| !value.is_null());
                }
            }
            value => {
                client.insert(name, value);
            }
        }
    }
}
