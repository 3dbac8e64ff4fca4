use serde_json::json;

use super::support::{Bench, MCP, encoded};
use crate::auth0::Rate;

/// Another administrator works by the same rules, whatever the operator may do, and costs nobody a call.
#[tokio::test]
async fn another_administrator_is_not_limited() {
    let mut bench = Bench::new().await;
    bench.only(&[]).await;
    let rate = Rate {
        burst: 1,
        per_second: 0.0,
    };
    bench.auth0.limit("", rate);
    let dashboard = bench.auth0.dashboard();
    for number in 0..3 {
        let body = json!({"identifier": format!("https://api{number}.example.com/")});
        dashboard.post("resource-servers", body).await.unwrap();
    }
    let refused = dashboard
        .post("resource-servers", json!({"identifier": ""}))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("400"), "{refused}");
    dashboard.get("no-such-thing").await.unwrap_err();
    let path = format!("resource-servers/{}", encoded("https://api0.example.com/"));
    let api = dashboard.patch(&path, json!({"name": "Renamed"})).await.unwrap();
    assert_eq!(dashboard.get(&path).await.unwrap(), api);
    dashboard.delete(&path).await.unwrap();
    dashboard.get(&path).await.unwrap_err();
    // The one call that the tenant allows is still there.
    bench.get("clients").await.no(403, "read:clients");
    bench.get("clients").await.no(429, "too_many_requests");
}

/// What is everything shows every kind of change, and no secret.
#[tokio::test]
async fn everything_shows_every_change() {
    let bench = Bench::new().await;
    let dashboard = bench.auth0.dashboard();
    let (id, secret) = bench.machine().await;
    let mut before = dashboard.everything();
    assert!(!before.to_string().contains(&secret));
    assert_eq!(dashboard.everything(), before);
    let connection = bench.auth0.connection().to_owned();
    let steps = [
        (
            "resource-servers",
            json!({"identifier": MCP, "scopes": [{"value": "a"}]}),
        ),
        (
            "client-grants",
            json!({"client_id": id, "audience": MCP, "scope": ["a"]}),
        ),
        ("roles", json!({"name": "r"})),
        ("clients", json!({"name": "c"})),
    ];
    let mut changed = |what: &str| {
        let now = dashboard.everything();
        assert_ne!(now, before, "{what}");
        before = now;
    };
    for (path, body) in steps {
        dashboard.post(path, body).await.unwrap();
        changed(path);
    }
    for (path, body) in [
        ("tenants/settings".to_owned(), json!({"friendly_name": "x"})),
        (
            format!("clients/{id}"),
            json!({"client_secret": "another-secret"}),
        ),
        (
            format!("connections/{connection}"),
            json!({"show_as_button": true}),
        ),
        (
            format!("connections/{connection}/clients"),
            json!([{"client_id": id, "status": false}]),
        ),
    ] {
        dashboard.patch(&path, body).await.unwrap();
        changed(&path);
    }
}
