use std::time::Duration;

use serde_json::{Value, json};

use super::support::Bench;

fn okta() -> Value {
    json!({
        "name": "okta-corp", "display_name": "Okta", "strategy": "okta", "metadata": {"owner": "team"},
        "options": {"client_id": "c", "client_secret": "s", "domain": "acme.okta.com", "scope": "openid email"},
    })
}

/// "Create a connection" (recorded: TestAccConnectionConnectedAccounts): defaults, and what cannot be changed.
#[tokio::test]
async fn a_connection_keeps_its_name_and_strategy() {
    let bench = Bench::new().await;
    let connection = bench.post("connections", okta()).await.ok(201);
    assert!(connection["id"].as_str().unwrap().starts_with("con_"));
    assert_eq!(connection["is_domain_connection"], false);
    assert_eq!(connection["authentication"], json!({"active": true}));
    assert_eq!(connection["realms"], json!(["okta-corp"]));
    assert_eq!(connection["enabled_clients"], json!([]));
    bench.post("connections", okta()).await.no(409, "same name");
    let path = format!("connections/{}", connection["id"].as_str().unwrap());
    for body in [
        json!({"name": "okta-corp"}),
        json!({"strategy": "okta"}),
        // Reported of live tenants: the list of clients has an endpoint of its own now.
        json!({"enabled_clients": []}),
        json!({"no_such_field": 1}),
    ] {
        bench
            .patch(&path, body)
            .await
            .no(400, "Additional properties not allowed");
    }
    for name in ["", "-x", "x-", "a--b", "a_b", "a b"] {
        let mut body = okta();
        body["name"] = json!(name);
        bench.post("connections", body).await.no(400, "invalid_body");
    }
}

/// "Update a connection": `options` is replaced whole, and a display name that is not sent is lost.
#[tokio::test]
async fn a_change_replaces_options_and_forgets_the_display_name() {
    let bench = Bench::new().await;
    let connection = bench.post("connections", okta()).await.ok(201);
    let path = format!("connections/{}", connection["id"].as_str().unwrap());
    let change = json!({"options": {"client_id": "d"}, "display_name": "Okta"});
    let changed = bench.patch(&path, change).await.ok(200);
    assert_eq!(changed["options"], json!({"client_id": "d"}));
    let changed = bench
        .patch(&path, json!({"is_domain_connection": true}))
        .await
        .ok(200);
    assert_eq!(changed["display_name"], "okta-corp");
    assert_eq!(changed["options"], json!({"client_id": "d"}));
}

/// Options need scopes of their own, to be read and to be set.
#[tokio::test]
async fn options_need_scopes_of_their_own() {
    let mut bench = Bench::new().await;
    let connection = bench.post("connections", okta()).await.ok(201);
    let path = format!("connections/{}", connection["id"].as_str().unwrap());
    bench
        .only(&["read:connections", "update:connections", "create:connections"])
        .await;
    assert!(bench.get(&path).await.ok(200).get("options").is_none());
    let list = bench.get("connections").await.ok(200);
    assert!(!list.to_string().contains("client_secret"));
    let body = json!({"options": {"client_id": "d"}});
    bench
        .patch(&path, body)
        .await
        .no(403, "update:connections_options");
    bench
        .post("connections", okta())
        .await
        .no(403, "update:connections_options");
    let changed = bench.patch(&path, json!({"show_as_button": true})).await.ok(200);
    assert!(changed.get("options").is_none());
}

/// "Delete a connection": 202, and the name is free only later.
#[tokio::test]
async fn a_removed_connection_holds_its_name_for_a_while() {
    let bench = Bench::new().await;
    let connection = bench.post("connections", okta()).await.ok(201);
    let path = format!("connections/{}", connection["id"].as_str().unwrap());
    let removed = bench.delete(&path).await.ok(202);
    assert!(removed["deleted_at"].as_str().unwrap().ends_with('Z'));
    bench.get(&path).await.no(404, "inexistent_connection");
    bench.delete(&path).await.no(404, "inexistent_connection");
    let found = bench.get("connections?name=okta-corp").await.ok(200);
    assert_eq!(found, json!([]));
    bench.post("connections", okta()).await.no(409, "same name");
    bench.auth0.advance(Duration::from_secs(10));
    bench.post("connections", okta()).await.ok(201);
}

/// "Update enabled clients": a list of 1 to 50, which changes those it names; strict clients cannot be enabled.
#[tokio::test]
async fn clients_are_enabled_one_by_one() {
    let bench = Bench::new().await;
    let off = json!({"flags": {"enable_client_connections": false}});
    bench.patch("tenants/settings", off).await.ok(200);
    let connection = bench.post("connections", okta()).await.ok(201);
    let path = format!("connections/{}/clients", connection["id"].as_str().unwrap());
    let ((one, _), (two, _)) = (bench.machine().await, bench.machine().await);
    let entry = |id: &str, status: bool| json!({"client_id": id, "status": status});
    bench.patch(&path, json!([entry(&one, true)])).await.ok(204);
    bench.patch(&path, json!([entry(&two, true)])).await.ok(204);
    let list = bench.get(&path).await.ok(200);
    assert_eq!(list, json!({"clients": [{"client_id": one}, {"client_id": two}]}));
    bench.patch(&path, json!([entry(&one, false)])).await.ok(204);
    let list = bench.get(&path).await.ok(200);
    assert_eq!(list, json!({"clients": [{"client_id": two}]}));

    let many: Vec<Value> = (0..51).map(|_| entry(&one, true)).collect();
    bench.patch(&path, json!(many)).await.no(400, "1 to 50");
    bench.patch(&path, json!([])).await.no(400, "1 to 50");
    bench.patch(&path, entry(&one, true)).await.no(400, "array");
    bench
        .patch(&path, json!([{"client_id": one}]))
        .await
        .no(400, "status");
    bench
        .patch(&path, json!([entry("x", true)]))
        .await
        .no(404, "inexistent_client");
    let stranger = bench.stranger(json!({})).await;
    bench
        .patch(&path, json!([entry(&stranger, true)]))
        .await
        .no(400, "domain-level");
}

/// "Get all connections": by strategy, and by name.
#[tokio::test]
async fn connections_are_found_by_strategy_and_name() {
    let bench = Bench::new().await;
    let connection = bench.post("connections", okta()).await.ok(201);
    for (query, expected) in [
        ("strategy=okta&strategy=oidc", 1),
        ("strategy=okta&strategy=auth0", 2),
        ("name=okta-corp", 1),
        ("name=okta", 0),
    ] {
        let list = bench.get(&format!("connections?{query}")).await.ok(200);
        assert_eq!(list.as_array().unwrap().len(), expected, "{query}");
    }
    assert_eq!(
        bench.get("connections?name=okta-corp").await.ok(200),
        json!([connection])
    );
}
