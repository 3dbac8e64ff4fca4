use http::{Method, StatusCode};
use serde_json::json;

use super::support::{Bench, MCP, login, read};
use crate::{
    oauth::OAuthClient,
    proxy::{Fault, RecordingProxy},
};

/// The stories' proxy stands in front of a tenant as in front of Keycloak: what is lost on the way has happened, and
/// tokens are still the tenant's own.
#[tokio::test]
async fn the_recording_proxy_stands_in_front_of_it() {
    let bench = Bench::new().await;
    let proxy = RecordingProxy::start(&bench.auth0.url(), &bench.authority).unwrap();
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
    let url = format!("{}/oauth/token", proxy.url());
    let token = read(bench.http.post(url).form(&form)).await.ok(200);
    let token = token["access_token"].as_str().unwrap();
    let call = |method: Method, path: &str| {
        let url = format!("{}/api/v2/{path}", proxy.url());
        bench.http.request(method, url).bearer_auth(token)
    };

    let creates =
        |call: &crate::proxy::Call| call.method == Method::POST && call.path().ends_with("/clients");
    let hits = proxy.inject(Fault::lose_reply().on(creates).at(2));
    for (number, arrives) in [(1, true), (2, false), (3, true)] {
        let body = json!({"name": format!("client {number}")});
        let reply = call(Method::POST, "clients").json(&body).send().await;
        assert_eq!(reply.is_ok(), arrives, "{number}");
    }
    assert_eq!(hits.count(), 1);
    let names = read(call(Method::GET, "clients?fields=name")).await.ok(200);
    assert!(names.to_string().contains("client 2"), "{names}");
    // Fetching a token and looking at a document change nothing.
    read(call(Method::POST, "clients/cimd/preview").json(&json!({})))
        .await
        .no(400, "external_client_id");
    assert_eq!(proxy.writes().len(), 3);

    let _busy = proxy.inject(Fault::status_retry_after(StatusCode::TOO_MANY_REQUESTS, 1).times(1));
    assert_eq!(read(call(Method::GET, "clients")).await.status, 429);
    read(call(Method::GET, "clients")).await.ok(200);
}

/// Fields that come later break nobody who passes over them (RFC 6749 section 5.1).
#[tokio::test]
async fn answers_can_hold_unknown_fields() {
    let mut bench = Bench::new().await;
    bench.for_mcp().await;
    bench.alice();
    bench.auth0.answer_with_unknown_fields(true);
    bench.sign_in().await;
    let api = bench.api(MCP, &["a"], json!({})).await;
    assert!(api.get("x_introduced_later").is_some());
    assert!(api["scopes"][0].get("x_introduced_later").is_some());
    bench.get("clients/x").await.no(404, "x_introduced_later");
    // Whoever sends back what was read is refused: the fields are nobody's to set.
    let path = format!("resource-servers/{}", api["id"].as_str().unwrap());
    bench
        .patch(&path, json!({"scopes": api["scopes"]}))
        .await
        .no(400, "x_introduced_later");
    // The harness's own OAuth client passes over them.
    let stranger = bench.stranger(json!({})).await;
    bench.grant(&stranger, MCP, "user", &["a"]).await;
    let (issuer, client) = (bench.issuer().await, OAuthClient::public(&stranger));
    let code = issuer
        .sign_in(&client, &login("a"))
        .await
        .unwrap()
        .granted()
        .unwrap();
    issuer.redeem(&client, &code).await.unwrap().granted().unwrap();
}
