use http::Method;
use serde_json::json;

use super::support::{Bench, MCP};

/// "Create a role" answers 200, "Delete a role" too (recorded); 409 for the same name.
#[tokio::test]
async fn roles_answer_as_recorded() {
    let bench = Bench::new().await;
    let body = json!({"name": "reader", "description": "Reads"});
    let role = bench.post("roles", body.clone()).await.ok(200);
    let id = role["id"].as_str().unwrap();
    assert!(id.starts_with("rol_"));
    bench.post("roles", body).await.no(409, "already exists");
    bench
        .post("roles", json!({"name": "x", "metadata": {}}))
        .await
        .no(400, "Additional");
    let path = format!("roles/{id}");
    let changed = bench
        .patch(&path, json!({"description": "Reads more"}))
        .await
        .ok(200);
    assert_eq!(changed["name"], "reader");
    assert_eq!(
        bench.get("roles?name_filter=read").await.ok(200),
        json!([changed])
    );
    bench.delete(&path).await.ok(200);
    bench.delete(&path).await.no(404, "role");
}

/// "Associate permissions with a role" and "Remove": 201, 204 with a body; only what an API defines.
#[tokio::test]
async fn permissions_are_scopes_of_an_api() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a", "b"], json!({})).await;
    let role = bench.post("roles", json!({"name": "reader"})).await.ok(200);
    let path = format!("roles/{}/permissions", role["id"].as_str().unwrap());
    let permission =
        |name: &str| json!({"permissions": [{"resource_server_identifier": MCP, "permission_name": name}]});
    bench.post(&path, permission("a")).await.ok(201);
    bench.post(&path, permission("b")).await.ok(201);
    bench.post(&path, permission("c")).await.no(400, "no permission");
    bench
        .post(&path, json!({"permissions": ["a"]}))
        .await
        .no(400, "permissions");
    bench
        .call(Method::DELETE, &path, Some(permission("a")))
        .await
        .ok(204);
    assert_eq!(bench.get(&path).await.ok(200), permission("b")["permissions"]);
}

/// "Assign roles to a user".
#[tokio::test]
async fn users_get_roles_that_exist() {
    let bench = Bench::new().await;
    let alice = bench.alice().replace('|', "%7C");
    let role = bench.post("roles", json!({"name": "reader"})).await.ok(200);
    let path = format!("users/{alice}/roles");
    bench
        .post(&path, json!({"roles": ["rol_x"]}))
        .await
        .no(404, "role");
    bench.post(&path, json!({"roles": [role["id"]]})).await.ok(204);
    assert_eq!(bench.get(&path).await.ok(200), json!([role]));
    bench
        .post("users/nobody/roles", json!({"roles": []}))
        .await
        .no(404, "user");
}
