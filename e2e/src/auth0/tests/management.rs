use std::time::Duration;

use serde_json::json;

use super::support::{Bench, read};
use crate::auth0::{Entity, Rate};

/// "Management API Access Tokens": a Bearer token, for this audience, that is valid.
#[tokio::test]
async fn a_call_needs_a_token_for_the_management_api() {
    let bench = Bench::new().await;
    let url = format!("{}/api/v2/clients", bench.auth0.url());
    read(bench.http.get(&url)).await.no(401, "Missing authentication");
    read(bench.http.get(&url).bearer_auth("x.y.z"))
        .await
        .no(401, "Invalid token");

    bench
        .api("https://other.example.com/", &["read:clients"], json!({}))
        .await;
    let (id, secret) = bench.machine().await;
    bench
        .grant(&id, "https://other.example.com/", "client", &["read:clients"])
        .await;
    let other = bench
        .token(&[
            ("grant_type", "client_credentials"),
            ("client_id", &id),
            ("client_secret", &secret),
            ("audience", "https://other.example.com/"),
        ])
        .await
        .ok(200);
    let token = other["access_token"].as_str().unwrap();
    read(bench.http.get(&url).bearer_auth(token))
        .await
        .no(401, "Bad audience");

    bench.get("clients").await.ok(200);
    bench.auth0.advance(Duration::from_hours(24));
    bench.get("clients").await.no(401, "Invalid token");
}

/// The scopes that the reference lists for each endpoint; the message names them.
#[tokio::test]
async fn every_endpoint_has_its_scope() {
    let mut bench = Bench::new().await;
    bench.only(&["read:users"]).await;
    let table = [
        ("GET", "tenants/settings", "read:tenant_settings"),
        ("PATCH", "tenants/settings", "update:tenant_settings"),
        ("GET", "resource-servers", "read:resource_servers"),
        ("POST", "resource-servers", "create:resource_servers"),
        ("PATCH", "resource-servers/x", "update:resource_servers"),
        ("DELETE", "resource-servers/x", "delete:resource_servers"),
        ("GET", "clients/x", "read:clients"),
        ("POST", "clients", "create:clients"),
        ("PATCH", "clients/x", "update:clients"),
        ("DELETE", "clients/x", "delete:clients"),
        ("POST", "clients/x/rotate-secret", "update:client_keys"),
        ("GET", "clients/x/credentials", "read:client_credentials"),
        ("POST", "clients/x/credentials", "create:client_credentials"),
        ("PATCH", "clients/x/credentials/y", "update:client_credentials"),
        ("DELETE", "clients/x/credentials/y", "delete:client_credentials"),
        ("POST", "clients/cimd/preview", "read:clients"),
        ("POST", "clients/cimd/register", "create:clients"),
        ("GET", "client-grants", "read:client_grants"),
        ("POST", "client-grants", "create:client_grants"),
        ("PATCH", "client-grants/x", "update:client_grants"),
        ("DELETE", "client-grants/x", "delete:client_grants"),
        ("GET", "connections", "read:connections"),
        ("POST", "connections", "create:connections"),
        ("PATCH", "connections/x", "update:connections"),
        ("PATCH", "connections/x/clients", "update:connections"),
        ("DELETE", "connections/x", "delete:connections"),
        ("GET", "token-exchange-profiles", "read:token_exchange_profiles"),
        (
            "POST",
            "token-exchange-profiles",
            "create:token_exchange_profiles",
        ),
        (
            "PATCH",
            "token-exchange-profiles/x",
            "update:token_exchange_profiles",
        ),
        (
            "DELETE",
            "token-exchange-profiles/x",
            "delete:token_exchange_profiles",
        ),
        ("GET", "actions/actions", "read:actions"),
        ("POST", "actions/actions", "create:actions"),
        ("POST", "actions/actions/x/deploy", "create:actions"),
        ("DELETE", "actions/actions/x", "delete:actions"),
        ("GET", "roles", "read:roles"),
        ("POST", "roles", "create:roles"),
        ("POST", "roles/x/permissions", "update:roles"),
        ("DELETE", "roles/x/permissions", "update:roles"),
        ("DELETE", "roles/x", "delete:roles"),
        ("POST", "users/x/roles", "update:users,create:role_members"),
    ];
    for (method, path, scope) in table {
        let reply = bench.call(method.parse().unwrap(), path, Some(json!({}))).await;
        let expected = format!("Insufficient scope; expected any of: {scope}");
        let body = reply.no(403, &expected);
        assert_eq!(
            (&body["statusCode"], &body["error"]),
            (&json!(403), &json!("Forbidden")),
            "{method} {path}"
        );
    }
}

/// Register needs both: it makes clients and changes them.
#[tokio::test]
async fn registering_a_document_needs_both_scopes() {
    let mut bench = Bench::new().await;
    bench.only(&["create:clients"]).await;
    let body = json!({"external_client_id": "https://client.example/c.json"});
    let reply = bench.post("clients/cimd/register", body).await;
    reply.no(403, "expected any of: update:clients");
}

/// Recorded 404s: with a code for clients, resource servers and connections, without one for profiles.
#[tokio::test]
async fn what_is_not_there_is_told_in_the_recorded_shape() {
    let bench = Bench::new().await;
    for (path, code) in [
        ("clients/x", Some("inexistent_client")),
        ("resource-servers/x", Some("inexistent_resource_server")),
        ("connections/x", Some("inexistent_connection")),
        ("token-exchange-profiles/x", None),
    ] {
        let body = bench.get(path).await.no(404, "Not Found");
        assert_eq!(body["statusCode"], 404, "{path}");
        assert_eq!(
            body.get("errorCode").and_then(|code| code.as_str()),
            code,
            "{path}"
        );
    }
    bench.get("clients/").await.no(404, "Not Found");
    bench.get("no-such-thing").await.no(404, "Not Found");
}

/// A body is JSON and says so.
#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let bench = Bench::new().await;
    bench.post("clients", json!([])).await.no(400, "invalid_body");
    bench.post("clients", json!("x")).await.no(400, "invalid_body");
}

/// "Rate Limit Configurations": `x-ratelimit-*` on every answer, 429 when the bucket is empty, reset in Unix seconds.
#[tokio::test]
async fn a_route_has_a_bucket_that_fills_again() {
    let bench = Bench::new().await;
    let rate = Rate {
        burst: 2,
        per_second: 0.01,
    };
    bench.auth0.limit("GET /connections", rate);
    let header = |reply: &super::support::Reply, name: &str| -> u64 {
        let value = reply.headers.get(name).unwrap();
        value.to_str().unwrap().parse().unwrap()
    };
    let first = bench.get("connections").await;
    assert_eq!(header(&first, "x-ratelimit-limit"), 2);
    assert_eq!(header(&first, "x-ratelimit-remaining"), 1);
    bench.get("connections").await.ok(200);
    let refused = bench.get("connections").await;
    let now = jsonwebtoken::get_current_timestamp();
    assert!((now + 90..now + 102).contains(&header(&refused, "x-ratelimit-reset")));
    assert_eq!(header(&refused, "x-ratelimit-remaining"), 0);
    refused.no(429, "too_many_requests");
    // Other routes go on, and so does this one after a while.
    bench.get("clients").await.ok(200);
    bench.auth0.advance(Duration::from_secs(100));
    bench.get("connections").await.ok(200);
}

/// Unless a test says otherwise a tenant has the global limit of an Enterprise production tenant: 50 at once, 16 a second.
#[test]
fn a_tenant_is_limited_from_the_beginning() {
    let now = Duration::from_hours(500_000);
    let mut limits = crate::auth0::limits::Limits::new(now);
    let mut take = |at: u64| {
        let standing = limits.take(&["", "GET /clients"], now + Duration::from_secs(at));
        standing.unwrap().allowed
    };
    assert_eq!((0..60).filter(|_| take(0)).count(), 50);
    assert_eq!((0..60).filter(|_| take(1)).count(), 16);
    assert_eq!((0..60).filter(|_| take(60)).count(), 50);
}

/// The global limit counts calls of all routes, refused ones too.
#[tokio::test]
async fn all_routes_share_a_bucket() {
    let bench = Bench::new().await;
    let rate = Rate {
        burst: 3,
        per_second: 0.0,
    };
    bench.auth0.limit("", rate);
    bench.get("clients").await.ok(200);
    bench.get("roles").await.ok(200);
    bench.get("clients/x").await.no(404, "inexistent_client");
    bench.get("connections").await.no(429, "Global limit");
}

/// "Entity Limit Policy": one more is a 403.
#[tokio::test]
async fn a_tenant_holds_so_many() {
    let bench = Bench::new().await;
    let full = "You reached the limit of entities of this type for this tenant.";
    bench.auth0.hold(Entity::Apis, 1);
    bench.api("https://a.example.com/", &["a"], json!({})).await;
    let body = json!({"identifier": "https://b.example.com/"});
    bench.post("resource-servers", body).await.no(403, full);

    bench.auth0.hold(Entity::Applications, 2);
    let (id, _) = bench.machine().await;
    bench
        .post("clients", json!({"name": "third"}))
        .await
        .no(403, full);

    bench.auth0.hold(Entity::Grants, 1);
    let grant = json!({"client_id": id, "audience": "https://a.example.com/", "scope": ["a"]});
    bench.post("client-grants", grant).await.no(403, full);
}
