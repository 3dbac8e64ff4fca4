use serde_json::{Value, json};

use super::support::{Bench, CALLBACK, MCP, credentials, login, tokens};
use crate::{auth0::Setup, oauth::OAuthClient};

fn strict(more: Value) -> Value {
    let mut body = json!({
        "name": "stranger", "app_type": "regular_web", "is_first_party": false,
        "third_party_security_mode": "strict", "callbacks": [CALLBACK],
        "token_endpoint_auth_method": "client_secret_post",
    });
    super::support::put(&mut body, more);
    body
}

/// Recorded (TestAccClient_ThirdPartySecurityMode): a strict client and its defaults.
#[tokio::test]
async fn a_strict_client_has_the_recorded_defaults() {
    let bench = Bench::new().await;
    let mut client = bench.post("clients", strict(json!({}))).await.ok(201);
    let (id, _) = credentials(&client);
    assert!(id.starts_with("tpc_") && id.len() == 26, "{id}");
    for field in ["client_id", "client_secret"] {
        client.as_object_mut().unwrap().remove(field);
    }
    let expected = json!({
        "name": "stranger", "app_type": "regular_web", "is_first_party": false,
        "is_token_endpoint_ip_header_trusted": false, "oidc_conformant": true, "callbacks": [CALLBACK],
        "jwt_configuration": {"secret_encoded": false, "alg": "RS256", "lifetime_in_seconds": 3600},
        "sso_disabled": false, "cross_origin_authentication": false, "grant_types": ["authorization_code"],
        "custom_login_page_on": true, "token_endpoint_auth_method": "client_secret_post",
        "refresh_token": {
            "rotation_type": "non-rotating", "expiration_type": "expiring", "leeway": 0,
            "token_lifetime": 31_557_600, "infinite_token_lifetime": true,
            "idle_token_lifetime": 2_592_000, "infinite_idle_token_lifetime": false,
        },
        "third_party_security_mode": "strict", "redirection_policy": "open_redirect_protection",
    });
    assert_eq!(client, expected);
    // "Rotation enabled by default for public clients" (recorded: TestAccClientCIMD).
    let public = strict(json!({"token_endpoint_auth_method": "none"}));
    let public = bench.post("clients", public).await.ok(201);
    assert_eq!(
        public["refresh_token"],
        json!({
            "rotation_type": "rotating", "expiration_type": "expiring", "leeway": 0,
            "token_lifetime": 2_592_000, "infinite_token_lifetime": false,
            "idle_token_lifetime": 1_296_000, "infinite_idle_token_lifetime": false,
        })
    );
}

/// "Permissive Mode": the default of old tenants was permissive; new ones have strict clients only.
#[tokio::test]
async fn who_does_not_say_gets_the_default_of_the_tenant() {
    let mut body = strict(json!({}));
    body.as_object_mut().unwrap().remove("third_party_security_mode");
    let old = Setup {
        legacy: true,
        ..Setup::default()
    };
    let (bench, old) = (Bench::new().await, Bench::with(old).await);
    let mode = |client: &Value| client["third_party_security_mode"].clone();
    assert_eq!(mode(&bench.post("clients", body.clone()).await.ok(201)), "strict");
    let client = old.post("clients", body.clone()).await.ok(201);
    assert_eq!(mode(&client), "permissive");
    assert!(!credentials(&client).0.starts_with("tpc_"));
    body["third_party_security_mode"] = json!("permissive");
    bench
        .post("clients", body.clone())
        .await
        .no(400, "Permissive mode");
    old.post("clients", body).await.ok(201);
    // Choice: the mode is for third parties.
    let own = json!({"name": "own", "third_party_security_mode": "strict"});
    bench
        .post("clients", own)
        .await
        .no(400, "third_party_security_mode");
}

/// "Restricted client configuration", for a new client and for a change. Choice: what the page does not name is refused.
#[tokio::test]
async fn a_strict_client_takes_the_listed_properties_only() {
    let bench = Bench::new().await;
    let id = bench.stranger(json!({})).await;
    let refused = [
        ("oidc_conformant", json!(false)),
        ("allowed_logout_urls", json!(["https://a.example/"])),
        ("initiate_login_uri", json!("https://a.example/")),
        ("organization_usage", json!("allow")),
        (
            "token_exchange",
            json!({"allow_any_profile_of_type": ["custom_authentication"]}),
        ),
        ("sso_disabled", json!(true)),
        ("callbacks", json!(["https://*.example.com/"])),
        ("web_origins", json!(["https://*.example.com"])),
        ("grant_types", json!(["implicit"])),
        (
            "grant_types",
            json!(["urn:ietf:params:oauth:grant-type:device_code"]),
        ),
        ("app_type", json!("resource_server")),
        ("jwt_configuration", json!({"alg": "HS256"})),
        ("refresh_token", json!({"expiration_type": "non-expiring"})),
        ("refresh_token", json!({"infinite_idle_token_lifetime": true})),
        ("require_pushed_authorization_requests", json!(true)),
    ];
    for (field, value) in refused {
        let made = bench.post("clients", strict(json!({field: value}))).await;
        assert_eq!(made.status, 400, "{field}: {value}");
        let changed = bench.patch(&format!("clients/{id}"), json!({field: value})).await;
        assert_eq!(changed.status, 400, "{field}: {value}");
    }
    let accepted = json!({
        "description": "d", "logo_uri": "https://a.example/l.png", "allowed_origins": ["https://a.example"],
        "web_origins": ["https://a.example"], "client_metadata": {"k": "v"}, "oidc_conformant": true,
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "jwt_configuration": {"lifetime_in_seconds": 600}, "refresh_token": {"leeway": 5},
        "require_proof_of_possession": false, "redirection_policy": "allow_always",
    });
    bench.post("clients", strict(accepted)).await.ok(201);
}

/// "Client ID format": mode and ownership are permanent. Recorded: the same value is no change.
#[tokio::test]
async fn mode_and_ownership_cannot_be_changed() {
    let bench = Bench::new().await;
    let id = bench.stranger(json!({})).await;
    let path = format!("clients/{id}");
    let body = json!({"is_first_party": true});
    bench.patch(&path, body).await.no(400, "is_first_party");
    let body = json!({"third_party_security_mode": "permissive"});
    bench
        .patch(&path, body)
        .await
        .no(400, "third_party_security_mode");
    let same = json!({"is_first_party": false, "third_party_security_mode": "strict", "redirection_policy": "allow_always"});
    bench.patch(&path, same).await.ok(200);
    let (own, _) = bench.machine().await;
    let body = json!({"is_first_party": false});
    bench
        .patch(&format!("clients/{own}"), body)
        .await
        .no(400, "is_first_party");
}

/// "Machine-to-machine": the client must be confidential.
#[tokio::test]
async fn a_public_stranger_has_no_client_credentials() {
    let bench = Bench::new().await;
    let body = strict(json!({"token_endpoint_auth_method": "none", "grant_types": ["client_credentials"]}));
    bench.post("clients", body).await.no(400, "confidential");
}

/// "Permissive Mode": such a client is served where an API allows all, without a grant, but not by an API of the system.
#[tokio::test]
async fn a_permissive_stranger_follows_the_policy_of_the_api() {
    let old = Setup {
        legacy: true,
        ..Setup::default()
    };
    let bench = Bench::with(old).await;
    bench.for_mcp().await;
    bench.alice();
    bench.api(MCP, &["a"], json!({})).await;
    let stranger = bench
        .stranger(json!({"third_party_security_mode": "permissive"}))
        .await;
    let issuer = bench.issuer().await;
    assert_eq!(tokens(&issuer, &stranger, "a").await.scope, "a");
    let mut request = login("read:clients");
    request.resource = Some(bench.auth0.management_audience());
    let refused = issuer
        .sign_in(&OAuthClient::public(&stranger), &request)
        .await
        .unwrap();
    assert_eq!(refused.refused().unwrap().error, "unauthorized_client");
}
