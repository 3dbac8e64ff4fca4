use serde_json::json;

use super::support::{Bench, MCP};

/// Recorded (TestAccClientGrant_DefaultFor): without `subject_type` it is `client`.
#[tokio::test]
async fn a_grant_is_for_clients_unless_it_says_user() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a", "b"], json!({})).await;
    let body = json!({"default_for": "third_party_clients", "audience": MCP, "scope": ["a"]});
    let grant = bench.post("client-grants", body).await.ok(201);
    assert_eq!(grant["subject_type"], "client");
    assert!(grant["id"].as_str().unwrap().starts_with("cgr_"));
}

/// "Create client grant": exactly one of `client_id` and `default_for`; known scopes of a known API; a known client.
#[tokio::test]
async fn a_grant_names_parties_that_exist() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a"], json!({})).await;
    let (id, _) = bench.machine().await;
    let table = [
        (
            json!({"client_id": id, "audience": MCP, "scope": ["x"]}),
            400,
            "not defined",
        ),
        (
            json!({"client_id": "x", "audience": MCP, "scope": []}),
            404,
            "inexistent_client",
        ),
        (
            json!({"client_id": id, "audience": "https://x.example", "scope": []}),
            404,
            "inexistent_resource_server",
        ),
        (
            json!({"audience": MCP, "scope": []}),
            400,
            "exactly one of client_id",
        ),
        (
            json!({"client_id": id, "default_for": "third_party_clients", "audience": MCP, "scope": []}),
            400,
            "exactly one of client_id",
        ),
        (json!({"client_id": id, "scope": []}), 400, "audience"),
        (
            json!({"client_id": id, "audience": MCP}),
            400,
            "exactly one of scope",
        ),
        (
            json!({"client_id": id, "audience": MCP, "scope": [], "allow_all_scopes": true}),
            400,
            "exactly one of scope",
        ),
        (
            json!({"client_id": id, "audience": MCP, "scope": [], "subject_type": "robot"}),
            400,
            "subject_type",
        ),
        (
            json!({"client_id": id, "audience": MCP, "scope": [], "name": "x"}),
            400,
            "Additional",
        ),
    ];
    for (body, status, text) in table {
        bench.post("client-grants", body).await.no(status, text);
    }
}

/// "An application can have up to two client grants for a single API", one of each subject type; 409 beyond.
#[tokio::test]
async fn a_client_has_one_grant_of_each_kind_at_an_api() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a"], json!({})).await;
    let (id, _) = bench.machine().await;
    for subject_type in ["client", "user"] {
        bench.grant(&id, MCP, subject_type, &["a"]).await;
        let body = json!({"client_id": id, "audience": MCP, "subject_type": subject_type, "scope": []});
        bench.post("client-grants", body).await.no(409, "Conflict");
    }
}

/// "Update client grant": scopes are replaced; who, where and for whom cannot be changed.
#[tokio::test]
async fn only_what_a_grant_allows_can_be_changed() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a", "b"], json!({})).await;
    let (id, _) = bench.machine().await;
    let grant = bench.grant(&id, MCP, "user", &["a"]).await;
    let path = format!("client-grants/{}", grant["id"].as_str().unwrap());
    for name in ["client_id", "audience", "subject_type", "default_for"] {
        let body = json!({name: grant[name]});
        let text = format!("Additional properties not allowed: {name}");
        bench.patch(&path, body).await.no(400, &text);
    }
    bench
        .patch(&path, json!({"scope": ["c"]}))
        .await
        .no(400, "not defined");
    let changed = bench.patch(&path, json!({"scope": ["b"]})).await.ok(200);
    assert_eq!(
        (&changed["scope"], &changed["subject_type"]),
        (&json!(["b"]), &json!("user"))
    );
    bench
        .patch("client-grants/x", json!({}))
        .await
        .no(404, "client grant");
}

/// Recorded (TestAccClientGrant): the same DELETE twice gives 204 twice.
#[tokio::test]
async fn a_grant_can_be_deleted_twice() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a"], json!({})).await;
    let (id, _) = bench.machine().await;
    let grant = bench.grant(&id, MCP, "client", &["a"]).await;
    let path = format!("client-grants/{}", grant["id"].as_str().unwrap());
    bench.delete(&path).await.ok(204);
    bench.delete(&path).await.ok(204);
}

/// "Third-party applications cannot be granted access to system APIs."
#[tokio::test]
async fn no_third_party_gets_at_a_system_api() {
    let bench = Bench::new().await;
    let stranger = bench.stranger(json!({})).await;
    let audience = bench.auth0.management_audience();
    for who in ["client_id", "default_for"] {
        let value = if who == "client_id" {
            &stranger
        } else {
            "third_party_clients"
        };
        let body =
            json!({who: value, "audience": audience, "scope": ["read:clients"], "subject_type": "user"});
        bench.post("client-grants", body).await.no(400, "system APIs");
    }
}

/// "Retrieve client grants": filters.
#[tokio::test]
async fn grants_are_found_by_their_parties() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a"], json!({})).await;
    let (id, _) = bench.machine().await;
    let user = bench.grant(&id, MCP, "user", &["a"]).await;
    let client = bench.grant(&id, MCP, "client", &["a"]).await;
    for (query, expected) in [
        (format!("client_id={id}&subject_type=user"), json!([user])),
        (format!("audience={MCP}"), json!([user, client])),
        ("default_for=third_party_clients".to_owned(), json!([])),
    ] {
        let list = bench.get(&format!("client-grants?{query}")).await.ok(200);
        assert_eq!(list, expected, "{query}");
    }
}
