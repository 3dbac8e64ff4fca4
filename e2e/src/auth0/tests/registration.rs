use serde_json::{Value, json};

use super::support::{Bench, CALLBACK, MCP, Reply, credentials, login, read};
use crate::{
    auth0::{Rate, Setup},
    oauth::OAuthClient,
};

async fn register(bench: &Bench, body: &Value) -> Reply {
    let url = format!("{}/oidc/register", bench.auth0.url());
    read(bench.http.post(url).json(body)).await
}

async fn open(bench: &Bench) {
    let on = json!({"flags": {"enable_dynamic_client_registration": true}});
    bench.patch("tenants/settings", on).await.ok(200);
}

fn client() -> Value {
    json!({
        "client_name": "My Dynamic Application", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
    })
}

/// "Dynamic Client Registration": closed unless the flag is on, at once when it goes off again.
#[tokio::test]
async fn the_door_is_closed_unless_the_flag_is_on() {
    let bench = Bench::new().await;
    register(&bench, &client()).await.no(404, "Not Found");
    open(&bench).await;
    register(&bench, &client()).await.ok(201);
    let off = json!({"flags": {"enable_dynamic_client_registration": false}});
    bench.patch("tenants/settings", off).await.ok(200);
    register(&bench, &client()).await.no(404, "Not Found");
}

/// "Register an application": a strict client, the grant types filtered, no way to manage it, a secret only for those
/// who use one.
#[tokio::test]
async fn who_registers_is_a_strict_stranger() {
    let bench = Bench::new().await;
    open(&bench).await;
    let mut body = client();
    body["grant_types"] = json!(["authorization_code", "client_credentials", "implicit"]);
    body["software_id"] = json!("passed over");
    let answer = register(&bench, &body).await.ok(201);
    let id = answer["client_id"].as_str().unwrap();
    assert!(id.starts_with("tpc_"));
    assert_eq!(answer["grant_types"], json!(["authorization_code"]));
    assert_eq!(answer["client_secret_expires_at"], 0);
    for absent in [
        "client_secret",
        "registration_access_token",
        "registration_client_uri",
    ] {
        assert!(answer.get(absent).is_none(), "{absent}");
    }
    let shown = bench.get(&format!("clients/{id}")).await.ok(200);
    assert_eq!(shown["external_metadata_type"], "dcr");
    assert_eq!(shown["external_metadata_created_by"], "client");
    assert_eq!(shown["third_party_security_mode"], "strict");

    body.as_object_mut().unwrap().remove("token_endpoint_auth_method");
    let confidential = register(&bench, &body).await.ok(201);
    assert_eq!(confidential["token_endpoint_auth_method"], "client_secret_post");
    assert!(credentials(&confidential).1.len() > 32);
}

/// What cannot be registered (RFC 7591 section 3.2.2 for the codes).
#[tokio::test]
async fn bad_metadata_are_refused() {
    let bench = Bench::new().await;
    open(&bench).await;
    bench.auth0.limit(
        "POST /oidc/register",
        Rate {
            burst: 50,
            per_second: 1.0,
        },
    );
    for (field, value, error) in [
        ("redirect_uris", Value::Null, "invalid_redirect_uri"),
        ("redirect_uris", json!([]), "invalid_redirect_uri"),
        (
            "redirect_uris",
            json!(["https://*.example.com/"]),
            "invalid_redirect_uri",
        ),
        (
            "redirect_uris",
            json!(["https://a.example/#x"]),
            "invalid_redirect_uri",
        ),
        ("redirect_uris", json!(["no url"]), "invalid_redirect_uri"),
        (
            "token_endpoint_auth_method",
            json!("private_key_jwt"),
            "invalid_client_metadata",
        ),
        (
            "token_endpoint_auth_method",
            json!("client_secret_basic"),
            "invalid_client_metadata",
        ),
        ("response_types", json!(["token"]), "invalid_client_metadata"),
        ("client_name", json!("<script>"), "invalid_client_metadata"),
    ] {
        let mut body = client();
        body[field] = value.clone();
        register(&bench, &body).await.no(400, error);
    }
}

/// "Rate limits": five a second for the whole tenant.
#[tokio::test]
async fn five_register_in_a_second() {
    let bench = Bench::new().await;
    open(&bench).await;
    bench.auth0.limit(
        "POST /oidc/register",
        Rate {
            burst: 5,
            per_second: 0.0,
        },
    );
    for _ in 0..5 {
        register(&bench, &client()).await.ok(201);
    }
    register(&bench, &client()).await.no(429, "too_many_requests");
}

/// "Default permissions": without a grant for third parties such a client gets nothing, with one no more than that.
#[tokio::test]
async fn default_permissions_are_all_that_it_gets() {
    let bench = Bench::new().await;
    bench.for_mcp().await;
    open(&bench).await;
    bench.alice();
    bench.api(MCP, &["open", "closed"], json!({})).await;
    let answer = register(&bench, &client()).await.ok(201);
    let id = answer["client_id"].as_str().unwrap();
    let path = format!("clients/{id}");
    bench
        .patch(&path, json!({"redirection_policy": "allow_always"}))
        .await
        .ok(200);
    let (issuer, client) = (bench.issuer().await, OAuthClient::public(id));
    let refused = issuer.sign_in(&client, &login("open closed")).await.unwrap();
    assert_eq!(refused.refused().unwrap().error, "unauthorized_client");

    let grant = json!({"default_for": "third_party_clients", "audience": MCP, "scope": ["open"], "subject_type": "user"});
    bench.post("client-grants", grant).await.ok(201);
    let tokens = super::support::tokens(&issuer, id, "open closed").await;
    assert_eq!(tokens.scope, "open");
    // A grant of its own beats the default, also where it has less.
    bench.grant(id, MCP, "user", &[]).await;
    let tokens = super::support::tokens(&issuer, id, "open closed").await;
    assert_eq!(tokens.scope, "");
}

/// "Dynamic Client Registration in Permissive Mode", for tenants that can have it; there it is so until somebody says
/// otherwise.
#[tokio::test]
async fn an_old_tenant_registers_permissive_clients_unless_told_otherwise() {
    let old = Bench::with(Setup {
        legacy: true,
        ..Setup::default()
    })
    .await;
    open(&old).await;
    for (mode, is_strict) in [(None, false), (Some("strict"), true), (Some("permissive"), false)] {
        if let Some(mode) = mode {
            let body = json!({"dynamic_client_registration_security_mode": mode});
            old.patch("tenants/settings", body).await.ok(200);
        }
        let answer = register(&old, &client()).await.ok(201);
        let id = answer["client_id"].as_str().unwrap();
        assert_eq!(id.starts_with("tpc_"), is_strict, "{mode:?}");
        let shown = old.get(&format!("clients/{id}")).await.ok(200);
        let expected = if is_strict { "strict" } else { "permissive" };
        assert_eq!(shown["third_party_security_mode"], expected, "{mode:?}");
    }
}

/// "Security Controls": a strict client needs a grant also where the API lets every client in, and one for all third-party
/// clients is a grant for users only if it says so; a permissive one needs none.
#[tokio::test]
async fn only_a_grant_for_users_lets_a_strict_client_in() {
    let bench = Bench::with(Setup {
        legacy: true,
        ..Setup::default()
    })
    .await;
    bench.for_mcp().await;
    open(&bench).await;
    bench.alice();
    bench.api(MCP, &["open", "closed"], json!({})).await;
    let issuer = bench.issuer().await;
    let permissive = register(&bench, &client()).await.ok(201);
    let id = permissive["client_id"].as_str().unwrap();
    let tokens = super::support::tokens(&issuer, id, "open closed").await;
    assert_eq!(tokens.scope, "closed open");

    let strict = json!({"dynamic_client_registration_security_mode": "strict"});
    bench.patch("tenants/settings", strict).await.ok(200);
    let strict = register(&bench, &client()).await.ok(201);
    let id = strict["client_id"].as_str().unwrap();
    let path = format!("clients/{id}");
    let redirects = json!({"redirection_policy": "allow_always"});
    bench.patch(&path, redirects).await.ok(200);
    let is_refused = async || {
        let refused = issuer.sign_in(&OAuthClient::public(id), &login("open")).await;
        assert_eq!(refused.unwrap().refused().unwrap().error, "unauthorized_client");
    };
    is_refused().await;
    let grant = |kind: &str| json!({"default_for": "third_party_clients", "audience": MCP, "scope": ["open"], "subject_type": kind});
    bench.post("client-grants", grant("client")).await.ok(201);
    is_refused().await;
    bench.post("client-grants", grant("user")).await.ok(201);
    bench
        .post("client-grants", grant("user"))
        .await
        .no(409, "already exists");
    let tokens = super::support::tokens(&issuer, id, "open closed").await;
    assert_eq!(tokens.scope, "open");
}
