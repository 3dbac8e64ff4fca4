use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Bench, MCP, credentials, encoded};

/// Recorded (TestAccClientCredentialsPrivateKeyJWTFullRotation, TestAccClientRotateSecret): what a client is that is told
/// nothing but its name.
#[tokio::test]
async fn a_new_client_has_the_recorded_defaults() {
    let bench = Bench::new().await;
    let mut client = bench.post("clients", json!({"name": "c"})).await.ok(201);
    let (id, secret) = credentials(&client);
    assert_eq!((id.len(), secret.len()), (32, 64));
    for field in ["client_id", "client_secret"] {
        client.as_object_mut().unwrap().remove(field);
    }
    let expected = json!({
        "name": "c",
        "is_first_party": true,
        "is_token_endpoint_ip_header_trusted": false,
        "oidc_conformant": false,
        "jwt_configuration": {"secret_encoded": false, "lifetime_in_seconds": 36_000},
        "sso_disabled": false,
        "cross_origin_authentication": false,
        "grant_types": ["authorization_code", "implicit", "refresh_token", "client_credentials"],
        "custom_login_page_on": true,
        "refresh_token": {
            "rotation_type": "non-rotating", "expiration_type": "non-expiring", "leeway": 0,
            "token_lifetime": 31_557_600, "infinite_token_lifetime": true,
            "idle_token_lifetime": 2_592_000, "infinite_idle_token_lifetime": true,
        },
    });
    assert_eq!(client, expected);
}

/// "Create a client": the schema, and what only the one or the other call takes.
#[tokio::test]
async fn what_does_not_fit_the_schema_is_refused() {
    let bench = Bench::new().await;
    let metadata: serde_json::Map<String, Value> =
        (0..11).map(|number| (format!("k{number}"), json!("v"))).collect();
    for (field, value) in [
        ("client_secret", json!("chosen")),
        ("client_id", json!("chosen")),
        ("external_client_id", json!("https://x.example/c")),
        ("no_such_field", json!(1)),
        ("app_type", json!("robot")),
        ("callbacks", json!(["no url"])),
        ("allowed_origins", json!([""])),
        ("grant_types", json!(["magic"])),
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("description", json!("x".repeat(141))),
        ("client_metadata", json!(metadata)),
        ("client_metadata", json!({"k": "x".repeat(256)})),
        ("client_metadata", json!({"k": 1})),
        ("refresh_token", json!({"token_lifetime": 157_788_001})),
        ("token_exchange", json!({"allow_any_profile_of_type": ["any"]})),
    ] {
        let mut body = json!({"name": "c"});
        body[field] = value.clone();
        let reply = bench.post("clients", body).await;
        assert_eq!(reply.status, 400, "{field}: {value}");
    }
    bench
        .post("clients", json!({}))
        .await
        .no(400, "Missing required property: name");
    let (id, _) = bench.machine().await;
    let body = json!({"resource_server_identifier": MCP});
    bench
        .patch(&format!("clients/{id}"), body)
        .await
        .no(400, "resource_server_identifier");
}

/// Recorded (TestAccClientMetadataBehavior): metadata is merged, null takes a key away; lists are replaced whole.
#[tokio::test]
async fn a_change_merges_metadata_and_replaces_lists() {
    let bench = Bench::new().await;
    let body = json!({
        "name": "c", "client_metadata": {"foo": "zoo", "bar": "baz"}, "callbacks": ["https://a.example/", "https://b.example/"],
    });
    let client = bench.post("clients", body).await.ok(201);
    let path = format!("clients/{}", credentials(&client).0);
    let change = json!({"client_metadata": {"bar": null, "new": "one"}, "callbacks": ["https://c.example/"]});
    let client = bench.patch(&path, change).await.ok(200);
    assert_eq!(client["client_metadata"], json!({"foo": "zoo", "new": "one"}));
    assert_eq!(client["callbacks"], json!(["https://c.example/"]));
    assert_eq!(client["name"], "c");
    assert_eq!(bench.get(&path).await.ok(200), client);
}

/// "Get a client": the secret only with `read:client_keys` or `read:client_credentials`, but always in the answer that
/// made the client.
#[tokio::test]
async fn a_secret_is_hidden_without_its_scope() {
    let mut bench = Bench::new().await;
    bench
        .only(&["create:clients", "read:clients", "update:clients"])
        .await;
    let client = bench.post("clients", json!({"name": "c"})).await.ok(201);
    let (id, secret) = credentials(&client);
    let path = format!("clients/{id}");
    assert!(bench.get(&path).await.ok(200).get("client_secret").is_none());
    let changed = bench.patch(&path, json!({"name": "d"})).await.ok(200);
    assert!(changed.get("client_secret").is_none());
    let list = bench.get("clients").await.ok(200);
    assert!(!list.to_string().contains(&secret));
    for scope in ["read:client_keys", "read:client_credentials"] {
        bench.only(&["read:clients", scope]).await;
        assert_eq!(bench.get(&path).await.ok(200)["client_secret"], json!(secret));
    }
}

/// "Rotate a client secret": `update:client_keys`; the answer is the client with the new secret; the old one is dead,
/// unless a test lets the tenant take its time.
#[tokio::test]
async fn a_rotated_secret_takes_the_place_of_the_old() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a"], json!({})).await;
    let (id, first) = bench.machine().await;
    bench.grant(&id, MCP, "client", &["a"]).await;
    let ask = async |secret: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &id),
            ("client_secret", secret),
            ("audience", MCP),
        ];
        bench.token(&form).await.status
    };
    assert_eq!(ask(&first).await, 200);
    let rotated = bench
        .post(&format!("clients/{id}/rotate-secret"), json!({}))
        .await
        .ok(200);
    let second = credentials(&rotated).1;
    assert_eq!((ask(&first).await, ask(&second).await), (401, 200));

    bench.auth0.overlap_secrets(Duration::from_secs(30));
    let body = json!({"client_secret": "a-secret-of-our-own"});
    bench.patch(&format!("clients/{id}"), body).await.ok(200);
    assert_eq!((ask(&second).await, ask("a-secret-of-our-own").await), (200, 200));
    bench.auth0.advance(Duration::from_secs(30));
    assert_eq!((ask(&second).await, ask("a-secret-of-our-own").await), (401, 200));
}

/// Setting a secret needs `update:client_keys` besides `update:clients`.
#[tokio::test]
async fn setting_a_secret_needs_a_scope_of_its_own() {
    let mut bench = Bench::new().await;
    let (id, _) = bench.machine().await;
    bench.only(&["update:clients"]).await;
    let path = format!("clients/{id}");
    bench.patch(&path, json!({"name": "d"})).await.ok(200);
    let body = json!({"client_secret": "a-secret-of-our-own"});
    bench
        .patch(&path, body)
        .await
        .no(403, "expected any of: update:client_keys");
    let body = json!({"name": "e", "client_secret": "x"});
    bench.patch(&path, body).await.no(403, "update:client_keys");
    bench.only(&["read:clients"]).await;
    assert_eq!(bench.get(&path).await.ok(200)["name"], "d");
}

/// Recorded (TestAccClientOnBehalfOfTokenExchange): the client of an API, and that the API names it then.
#[tokio::test]
async fn an_api_has_one_client_of_its_own() {
    let bench = Bench::new().await;
    bench.api(MCP, &[], json!({})).await;
    let body = json!({
        "name": "Orders MCP server", "app_type": "resource_server", "oidc_conformant": true,
        "resource_server_identifier": MCP,
        "token_exchange": {"allow_any_profile_of_type": ["on_behalf_of_token_exchange"]},
    });
    let client = bench.post("clients", body.clone()).await.ok(201);
    assert_eq!(client["grant_types"], json!([]));
    assert_eq!(
        client["jwt_configuration"],
        json!({"secret_encoded": false, "alg": "RS256"})
    );
    let api = bench
        .get(&format!("resource-servers/{}", encoded(MCP)))
        .await
        .ok(200);
    assert_eq!(api["client_id"], client["client_id"]);
    // Choice: one link for an API.
    bench.post("clients", body.clone()).await.no(409, "Conflict");

    let with = |change: Value| {
        let mut body = body.clone();
        super::support::put(&mut body, change);
        body
    };
    for (change, status) in [
        (json!({"resource_server_identifier": "https://x.example/"}), 404),
        (json!({"app_type": "regular_web"}), 400),
        (json!({"is_first_party": false}), 400),
        (json!({"token_endpoint_auth_method": "none"}), 400),
        (json!({"oidc_conformant": false}), 400),
    ] {
        let reply = bench.post("clients", with(change.clone())).await;
        assert_eq!(reply.status, status, "{change}: {}", reply.body);
    }
    let path = format!("clients/{}", credentials(&client).0);
    let body = json!({"resource_server_identifier": MCP});
    bench
        .patch(&path, body)
        .await
        .no(400, "resource_server_identifier");
    bench.delete(&path).await.ok(204);
    let api = bench
        .get(&format!("resource-servers/{}", encoded(MCP)))
        .await
        .ok(200);
    assert!(api.get("client_id").is_none());
}

/// `token_exchange` can be taken away again with null.
#[tokio::test]
async fn null_takes_a_field_away() {
    let bench = Bench::new().await;
    let body = json!({
        "name": "c", "oidc_conformant": true, "token_exchange": {"allow_any_profile_of_type": ["custom_authentication"]},
    });
    let client = bench.post("clients", body).await.ok(201);
    let path = format!("clients/{}", credentials(&client).0);
    let client = bench.patch(&path, json!({"token_exchange": null})).await.ok(200);
    assert!(client.get("token_exchange").is_none());
}

/// "Get clients": filters; "Delete a client": 204, then 404.
#[tokio::test]
async fn clients_are_found_and_deleted() {
    let bench = Bench::new().await;
    let (machine, _) = bench.machine().await;
    let stranger = bench.stranger(json!({})).await;
    let ids = async |query: &str| {
        let list = bench.get(&format!("clients?{query}")).await.ok(200);
        let ids = list.as_array().unwrap().iter();
        ids.map(|client| client["client_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("is_first_party=false").await, [stranger]);
    assert!(ids("app_type=non_interactive,spa").await.contains(&machine));
    assert!(ids("external_client_id=https://x.example/c").await.is_empty());
    assert!(ids("is_global=true").await.is_empty());
    bench
        .get("clients?is_first_party=maybe")
        .await
        .no(400, "is_first_party");
    let path = format!("clients/{machine}");
    bench.delete(&path).await.ok(204);
    bench.delete(&path).await.no(404, "inexistent_client");
}

/// `enable_client_connections`: a new client of our own gets every connection, without being asked.
#[tokio::test]
async fn a_new_client_gets_every_connection_while_the_flag_is_on() {
    let bench = Bench::new().await;
    let path = format!("connections/{}/clients", bench.auth0.connection());
    let enabled = async |id: &str| {
        let list = bench.get(&format!("{path}?take=1000")).await.ok(200);
        list.to_string().contains(id)
    };
    let (with, _) = bench.machine().await;
    assert!(enabled(&with).await);
    let off = json!({"flags": {"enable_client_connections": false}});
    bench.patch("tenants/settings", off).await.ok(200);
    let (without, _) = bench.machine().await;
    assert!(!enabled(&without).await);
}
