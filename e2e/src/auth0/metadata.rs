//! What the tenant says about itself (RFC 8414 and OpenID Connect Discovery), the same document at both addresses.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::server::Shared;

/// The document as the settings are at this moment.
///
/// The registration endpoint is always there, also while it is closed. Whether live tenants list `none` among the ways of
/// authentication is not known, and the sample in the documentation does not, so it is left out unless a test wants it.
pub(super) fn document(shared: &Shared) -> Value {
    let issuer = shared.place.issuer();
    let mut methods = vec!["client_secret_basic", "client_secret_post", "private_key_jwt"];
    if shared.lists_none.load(Ordering::SeqCst) {
        methods.push("none");
    }
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}authorize"),
        "token_endpoint": format!("{issuer}oauth/token"),
        "userinfo_endpoint": format!("{issuer}userinfo"),
        "jwks_uri": format!("{issuer}.well-known/jwks.json"),
        "registration_endpoint": format!("{issuer}oidc/register"),
        "revocation_endpoint": format!("{issuer}oauth/revoke"),
        "scopes_supported": ["openid", "profile", "offline_access", "email"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        "code_challenge_methods_supported": ["S256", "plain"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "RS384", "PS256"],
        "request_uri_parameter_supported": false,
    });
    let tenant = shared.tenant();
    for setting in [
        "authorization_response_iss_parameter_supported",
        "client_id_metadata_document_supported",
    ] {
        if tenant.settings.get(setting) == Some(&json!(true)) {
            document[setting] = json!(true);
        }
    }
    document
}
