use serde_json::json;

use super::support::Bench;
use crate::auth0::Setup;

/// "Update tenant settings": PATCH merges at the top and within `flags`.
#[tokio::test]
async fn settings_are_merged_also_within_flags() {
    let bench = Bench::new().await;
    let before = bench.get("tenants/settings").await.ok(200);
    assert_eq!(before["resource_parameter_profile"], "audience");
    assert_eq!(before["flags"]["enable_client_connections"], true);
    let change = json!({
        "resource_parameter_profile": "compatibility",
        "flags": {"enable_dynamic_client_registration": true},
    });
    let after = bench.patch("tenants/settings", change).await.ok(200);
    assert_eq!(after["resource_parameter_profile"], "compatibility");
    assert_eq!(after["flags"]["enable_dynamic_client_registration"], true);
    assert_eq!(after["flags"]["enable_client_connections"], true);
    assert_eq!(after["friendly_name"], before["friendly_name"]);
    assert_eq!(bench.get("tenants/settings").await.ok(200), after);
}

/// `additionalProperties: false`; a flag that a sample of the vendor sets does not exist.
#[tokio::test]
async fn unknown_settings_and_flags_are_refused() {
    let bench = Bench::new().await;
    for body in [
        json!({"no_such_setting": 1}),
        json!({"flags": {"enable_resource_server_identifier": true}}),
        json!({"resource_parameter_profile": "both"}),
        json!({"client_id_metadata_document_supported": "yes"}),
    ] {
        bench
            .patch("tenants/settings", body)
            .await
            .no(400, "invalid_body");
    }
}

/// Reported of live tenants: GET shows flags that a PATCH refuses.
#[tokio::test]
async fn what_was_read_cannot_be_sent_back() {
    let bench = Bench::new().await;
    let read = bench.get("tenants/settings").await.ok(200);
    let body = json!({"flags": read["flags"]});
    let reply = bench.patch("tenants/settings", body).await;
    reply.no(400, "Additional properties not allowed: ");
}

/// "Permissive Mode for Third-Party Applications": only where there were third-party clients before April 2026. The
/// default mode is not shown (reported of live tenants).
#[tokio::test]
async fn permissive_registration_is_for_old_tenants() {
    let body = || json!({"dynamic_client_registration_security_mode": "permissive"});
    let strict = json!({"dynamic_client_registration_security_mode": "strict"});
    let bench = Bench::new().await;
    bench
        .patch("tenants/settings", body())
        .await
        .no(400, "Permissive mode");
    bench.patch("tenants/settings", strict).await.ok(200);
    let shown = bench.get("tenants/settings").await.ok(200);
    assert!(shown.get("dynamic_client_registration_security_mode").is_none());

    let old = Bench::with(Setup {
        legacy: true,
        ..Setup::default()
    })
    .await;
    old.patch("tenants/settings", body()).await.ok(200);
    let shown = old.get("tenants/settings").await.ok(200);
    assert_eq!(shown["dynamic_client_registration_security_mode"], "permissive");
}

/// The metadata document follows the settings, at both addresses, and its issuer ends in a slash.
#[tokio::test]
async fn metadata_follow_the_settings() {
    let bench = Bench::new().await;
    let read = |path: &'static str| {
        let url = format!("{}/.well-known/{path}", bench.auth0.url());
        super::support::read(bench.http.get(url))
    };
    let document = read("openid-configuration").await.ok(200);
    assert_eq!(document["issuer"], bench.auth0.issuer());
    assert!(bench.auth0.issuer().ends_with('/'));
    assert_eq!(
        document["registration_endpoint"],
        format!("{}/oidc/register", bench.auth0.url())
    );
    assert_eq!(document["code_challenge_methods_supported"][0], "S256");
    for setting in [
        "client_id_metadata_document_supported",
        "authorization_response_iss_parameter_supported",
    ] {
        assert!(document.get(setting).is_none());
        bench
            .patch("tenants/settings", json!({setting: true}))
            .await
            .ok(200);
        assert_eq!(read("oauth-authorization-server").await.ok(200)[setting], true);
    }
    let methods = |document: &serde_json::Value| document["token_endpoint_auth_methods_supported"].clone();
    assert!(!methods(&document).as_array().unwrap().contains(&json!("none")));
    bench.auth0.list_none(true);
    let document = read("openid-configuration").await.ok(200);
    assert!(methods(&document).as_array().unwrap().contains(&json!("none")));
}

/// "Custom Domains": everything that is got there says that it is from there, but the audience of the Management API is
/// that of the canonical domain, and a token for it is good only where it was got. Other names are not the tenant's.
#[tokio::test]
async fn a_custom_domain_is_an_issuer_of_its_own() {
    let bench = Bench::with(Setup {
        custom_domain: true,
        ..Setup::default()
    })
    .await;
    let custom = format!("https://{}/", bench.auth0.custom_domain().unwrap());
    let read = |url: String| super::support::read(bench.http.get(url));
    let document = read(format!("{custom}.well-known/openid-configuration"))
        .await
        .ok(200);
    assert_eq!(document["issuer"], custom);
    assert_eq!(document["token_endpoint"], format!("{custom}oauth/token"));
    let document = read(format!(
        "{}.well-known/openid-configuration",
        bench.auth0.issuer()
    ))
    .await
    .ok(200);
    assert_eq!(document["issuer"], bench.auth0.issuer());

    let operator = bench.auth0.operator();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", operator.client_id.as_str()),
        (
            "client_secret",
            secrecy::ExposeSecret::expose_secret(&operator.client_secret),
        ),
        ("audience", &bench.auth0.management_audience()),
    ];
    let token = bench.http.post(format!("{custom}oauth/token")).form(&form);
    let token = super::support::read(token).await.ok(200);
    let token = token["access_token"].as_str().unwrap();
    let call = |base: &str| {
        let request = bench.http.get(format!("{base}api/v2/clients")).bearer_auth(token);
        super::support::read(request)
    };
    call(&custom).await.ok(200);
    call(&bench.auth0.issuer()).await.no(401, "Bad issuer");

    let other = bench
        .http
        .get(format!("{}.well-known/jwks.json", bench.auth0.issuer()));
    let other = other.header("host", "evil.example");
    super::support::read(other).await.no(400, "Unknown host");
    let plain = Bench::new().await;
    assert!(plain.auth0.custom_domain().is_none());
}

/// The issuer's keys are published, and the token names its key.
#[tokio::test]
async fn keys_are_published() {
    let bench = Bench::new().await;
    let url = format!("{}/.well-known/jwks.json", bench.auth0.url());
    let keys = super::support::read(bench.http.get(url)).await.ok(200);
    let key = &keys["keys"][0];
    assert_eq!((&key["kty"], &key["use"]), (&json!("RSA"), &json!("sig")));
    assert!(key["kid"].as_str().is_some() && key.get("d").is_none());
}
