//! `/api/v2/tenants/settings`: one document for the whole tenant. PATCH merges, at the top and within `flags`.

use serde_json::{Value, json};

use super::{
    pages::projected,
    schema::{Field, Kind, check},
    tenant::{Call, Outcome, Tenant},
    wire::{Answer, Object, object},
};

const FIELDS: &[Field] = &[
    Field("friendly_name", Kind::Text(0, 100)),
    Field("support_email", Kind::Text(0, 320)),
    Field("support_url", Kind::Text(0, 1024)),
    Field("picture_url", Kind::Text(0, 1024)),
    Field("default_audience", Kind::Text(0, 600)),
    Field("default_directory", Kind::Text(0, 128)),
    Field("session_lifetime", Kind::Int(1, 8760)),
    Field("idle_session_lifetime", Kind::Int(1, 8760)),
    Field("enabled_locales", Kind::List(&Kind::Text(2, 20), 100)),
    Field(
        "resource_parameter_profile",
        Kind::Choice(&["audience", "compatibility"]),
    ),
    Field(
        "authorization_response_iss_parameter_supported",
        Kind::Nullable(&Kind::Bool),
    ),
    Field("client_id_metadata_document_supported", Kind::Bool),
    Field(
        "dynamic_client_registration_security_mode",
        Kind::Choice(&["strict", "permissive"]),
    ),
    Field(
        "pushed_authorization_requests_supported",
        Kind::Nullable(&Kind::Bool),
    ),
    Field(
        "mtls",
        Kind::Nullable(&Kind::Object(&[Field("enable_endpoint_aliases", Kind::Bool)])),
    ),
    Field("flags", Kind::Object(FLAGS)),
];

/// The flags that can be set. GET shows two more, which a PATCH may not hold: whoever sends back what it read is
/// refused.
const FLAGS: &[Field] = &[
    Field("enable_dynamic_client_registration", Kind::Bool),
    Field("enable_client_connections", Kind::Bool),
    Field("enable_apis_section", Kind::Bool),
    Field("enable_pipeline2", Kind::Bool),
    Field("revoke_refresh_token_grant", Kind::Bool),
    Field("use_scope_descriptions_for_consent", Kind::Bool),
    Field("no_disclose_enterprise_connections", Kind::Bool),
    Field("disable_clickjack_protection_headers", Kind::Bool),
];

/// What a tenant has when nobody has set anything. The resource parameter profile is that of the OpenAPI document and of
/// the recorded tenant; tenants made since the profile came have `compatibility`. The mode of dynamic registration is not
/// said, so it is what it always was there.
pub(super) fn defaults() -> Object {
    object(json!({
        "friendly_name": "stand-in",
        "support_email": "",
        "default_audience": "",
        "session_lifetime": 168,
        "idle_session_lifetime": 72,
        "enabled_locales": ["en"],
        "resource_parameter_profile": "audience",
        "authorization_response_iss_parameter_supported": false,
        "client_id_metadata_document_supported": false,
        "flags": {
            "enable_dynamic_client_registration": false,
            "enable_client_connections": true,
            "revoke_refresh_token_grant": false,
            "use_scope_descriptions_for_consent": false,
            "disable_impersonation": true,
            "allow_changing_enable_sso": false,
        },
    }))
}

#[expect(clippy::unnecessary_wraps, reason = "all endpoints have one form")]
pub(super) fn get(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    Ok(Answer::ok(projected(call.request, shown(tenant))))
}

pub(super) fn patch(tenant: &mut Tenant, call: &Call<'_>) -> Outcome {
    let body = call.request.object()?;
    check(&body, &[FIELDS])?;
    if body.get(MODE) == Some(&json!("permissive")) && !tenant.legacy {
        return Err(super::errors::Refusal::unsupported(
            "Permissive mode is not available for this tenant",
        ));
    }
    for (name, value) in body {
        match (name.as_str(), value) {
            ("flags", Value::Object(flags)) => {
                if let Some(Value::Object(present)) = tenant.settings.get_mut("flags") {
                    present.extend(flags);
                }
            }
            (_, value) => {
                tenant.settings.insert(name, value);
            }
        }
    }
    Ok(Answer::ok(shown(tenant)))
}

/// The mode of dynamic registration, as `permissive` or not. That a tenant with third-party clients before April 2026 is
/// permissive until somebody says otherwise is a choice.
pub(super) fn registers_strictly(tenant: &Tenant) -> bool {
    match super::wire::text(&tenant.settings, MODE) {
        "" => !tenant.legacy,
        mode => mode == "strict",
    }
}

const MODE: &str = "dynamic_client_registration_security_mode";

/// The mode of dynamic registration is not shown while it is the default, as users of live tenants report.
fn shown(tenant: &Tenant) -> Object {
    let mut settings = tenant.settings.clone();
    if settings.get(MODE) == Some(&json!("strict")) {
        settings.remove(MODE);
    }
    settings
}
