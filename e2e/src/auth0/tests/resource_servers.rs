use serde_json::{Value, json};

use super::support::{Bench, MCP, encoded};

/// Recorded (TestAccClientGrant_DefaultFor): the defaults of an API, and that what is not set is absent.
#[tokio::test]
async fn a_new_api_has_the_recorded_defaults() {
    let bench = Bench::new().await;
    let mut api = bench
        .post("resource-servers", json!({"name": "Orders", "identifier": MCP}))
        .await
        .ok(201);
    let id = api.as_object_mut().unwrap().remove("id").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 24);
    let expected = json!({
        "name": "Orders",
        "identifier": MCP,
        "allow_offline_access": false,
        "skip_consent_for_verifiable_first_party_clients": false,
        "subject_type_authorization": {
            "client": {"policy": "require_client_grant"}, "user": {"policy": "allow_all"},
        },
        "token_lifetime": 86_400,
        "token_lifetime_for_web": 7200,
        "signing_alg": "RS256",
    });
    assert_eq!(api, expected);
}

/// Recorded: GET, PATCH and DELETE take the id or the URL-encoded identifier.
#[tokio::test]
async fn an_api_is_found_by_id_and_by_identifier() {
    let bench = Bench::new().await;
    let api = bench.api(MCP, &["a"], json!({})).await;
    let by_identifier = format!("resource-servers/{}", encoded(MCP));
    let by_id = format!("resource-servers/{}", api["id"].as_str().unwrap());
    assert_eq!(bench.get(&by_identifier).await.ok(200), api);
    assert_eq!(bench.get(&by_id).await.ok(200), api);
    // Choice: byte for byte.
    let without_slash = format!("resource-servers/{}", encoded("https://mcp.example.com"));
    bench
        .get(&without_slash)
        .await
        .no(404, "inexistent_resource_server");
    let list = bench
        .get(&format!(
            "resource-servers?identifiers={MCP}&identifiers=https://x.example"
        ))
        .await
        .ok(200);
    assert_eq!(list, json!([api]));
    bench
        .patch(&by_identifier, json!({"name": "Other"}))
        .await
        .ok(200);
    bench.delete(&by_identifier).await.ok(204);
    bench.delete(&by_id).await.no(404, "inexistent_resource_server");
}

/// "Create a resource server": 409 for the same identifier; `identifier` cannot be changed.
#[tokio::test]
async fn an_identifier_is_unique_and_stays() {
    let bench = Bench::new().await;
    bench.api(MCP, &[], json!({})).await;
    let again = json!({"identifier": MCP});
    bench.post("resource-servers", again).await.no(409, "Conflict");
    let path = format!("resource-servers/{}", encoded(MCP));
    for body in [
        json!({"identifier": MCP}),
        json!({"client_id": "x"}),
        json!({"is_system": false}),
        json!({"id": "x"}),
    ] {
        bench
            .patch(&path, body)
            .await
            .no(400, "Additional properties not allowed");
    }
}

/// The schema of the reference.
#[tokio::test]
async fn what_does_not_fit_the_schema_is_refused() {
    let bench = Bench::new().await;
    let long = "x".repeat(601);
    for (field, value) in [
        ("identifier", json!("")),
        ("identifier", json!(long)),
        ("name", json!("<b>")),
        ("name", json!("x".repeat(201))),
        ("signing_alg", json!("ES256")),
        ("signing_secret", json!("short")),
        ("token_dialect", json!("jwt")),
        ("token_lifetime", json!(2_592_001)),
        ("allow_offline_access", json!("yes")),
        ("scopes", json!([{"description": "no value"}])),
        ("scopes", json!([{"value": "a"}, {"value": "a"}])),
        ("scopes", json!([{"value": "a", "more": 1}])),
        ("scopes", json!(["a"])),
        (
            "subject_type_authorization",
            json!({"client": {"policy": "allow_all"}}),
        ),
        (
            "subject_type_authorization",
            json!({"robot": {"policy": "deny_all"}}),
        ),
        ("metadata", json!({})),
    ] {
        let mut body = json!({"identifier": MCP});
        body[field] = value.clone();
        let reply = bench.post("resource-servers", body).await;
        assert_eq!(reply.status, 400, "{field}: {value}");
    }
    bench
        .post("resource-servers", json!({"name": "x"}))
        .await
        .no(400, "identifier");
    let most: Vec<Value> = (0..=1000)
        .map(|number| json!({"value": format!("s{number}")}))
        .collect();
    let body = json!({"identifier": MCP, "scopes": most});
    bench.post("resource-servers", body).await.no(400, "scopes");
}

/// Recorded (TestAccClientGrant): PATCH replaces the whole list of scopes. Of the kinds of subjects one that is not named
/// stays.
#[tokio::test]
async fn a_change_replaces_scopes_whole() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a", "b"], json!({})).await;
    let path = format!("resource-servers/{}", encoded(MCP));
    let change = json!({
        "scopes": [{"value": "c", "description": "C"}],
        "subject_type_authorization": {"user": {"policy": "require_client_grant"}},
    });
    let api = bench.patch(&path, change).await.ok(200);
    assert_eq!(api["scopes"], json!([{"value": "c", "description": "C"}]));
    let policies = &api["subject_type_authorization"];
    assert_eq!(policies["user"]["policy"], "require_client_grant");
    assert_eq!(policies["client"]["policy"], "require_client_grant");
}

/// System APIs take few changes and no removal; their scopes are not ours to set.
#[tokio::test]
async fn system_apis_are_hardly_changed() {
    let bench = Bench::new().await;
    let path = format!("resource-servers/{}", encoded(&bench.auth0.management_audience()));
    assert_eq!(bench.get(&path).await.ok(200)["is_system"], true);
    let scopes = json!({"scopes": []});
    bench
        .patch(&path, scopes)
        .await
        .no(400, "Additional properties not allowed: scopes");
    bench.patch(&path, json!({"token_lifetime": 3600})).await.ok(200);
    bench.delete(&path).await.no(400, "operation_not_supported");
}

/// Recorded (TestAccResourceServer_ACR): asking for its identifier makes the My Account API. Choice: other addresses of
/// the tenant cannot be taken.
#[tokio::test]
async fn the_my_account_api_comes_by_its_identifier() {
    let bench = Bench::new().await;
    let identifier = format!("{}me/", bench.auth0.issuer());
    let body = json!({"name": "mine", "identifier": identifier});
    let api = bench.post("resource-servers", body).await.ok(201);
    assert_eq!(
        (&api["name"], &api["is_system"]),
        (&json!("Auth0 My Account API"), &json!(true))
    );
    assert_eq!(api["subject_type_authorization"]["client"]["policy"], "deny_all");
    let other = json!({"identifier": format!("{}other", bench.auth0.issuer())});
    bench.post("resource-servers", other).await.no(400, "reserved");
}

/// Choice: grants of a removed API stay, and count again when it comes back.
#[tokio::test]
async fn grants_outlive_their_api() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a"], json!({})).await;
    let (id, _) = bench.machine().await;
    let grant = bench.grant(&id, MCP, "client", &["a"]).await;
    bench
        .delete(&format!("resource-servers/{}", encoded(MCP)))
        .await
        .ok(204);
    bench.api(MCP, &["a"], json!({})).await;
    assert_eq!(
        bench.get(&format!("client-grants?audience={MCP}")).await.ok(200),
        json!([grant])
    );
}
