use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::*;
use crate::{
    credentials::ClientCredentials,
    http_face,
    testing::{AuthorizationServer, CALL, NOW, Script, Signer, TARGET, claims, exchange, issued},
};

/// The face, asked as Traefik asks.
struct Stage {
    server: AuthorizationServer,
    signer: Signer,
    arbiter: Arbiter,
    url: String,
    http: reqwest::Client,
    task: JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stage {
    async fn new(changes: &Value) -> Self {
        let signer = Signer::new("one");
        let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
        let arbiter = crate::testing::arbiter(&server, changes);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/forward-auth", listener.local_addr().unwrap());
        let face = ForwardAuth::new(arbiter.clone());
        let task = tokio::spawn(async move {
            let stop = std::future::pending();
            http_face::serve(listener, face.router(), crate::testing::BOUNDS, stop).await;
        });
        Self {
            server,
            signer,
            arbiter,
            url,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            task,
        }
    }

    fn token(&self) -> String {
        self.signer.sign(&claims(&self.server, &json!({})))
    }

    fn ask(&self, method: &str, uri: &str) -> RequestBuilder {
        let request = self.http.request(method.parse().unwrap(), &self.url);
        request.header(&METHOD, method).header(&URI, uri)
    }

    /// A POST of [`CALL`] with a good token.
    fn post(&self) -> RequestBuilder {
        let request = self.ask("POST", "/mcp").bearer_auth(self.token());
        request
            .header(header::CONTENT_TYPE, "application/json")
            .body(CALL)
    }
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn an_allowed_request_goes_without_the_callers_token() {
    let stage = Stage::new(&json!({})).await;
    let response = stage.post().header("cookie", "a=b").send().await.unwrap();
    assert_eq!(response.status(), 200);
    for name in NEVER_FORWARDED.into_iter().chain(["mcp-method", "mcp-name"]) {
        assert!(
            !response.headers().contains_key(name),
            "{name}: the proxy takes it away"
        );
    }
    assert_eq!(response.bytes().await.unwrap().len(), 0);
}

#[tokio::test]
async fn the_new_wire_keeps_its_headers() {
    let stage = Stage::new(&json!({})).await;
    let new = |request: RequestBuilder| request.header("mcp-protocol-version", "2026-07-28");
    let good = new(stage.post()).header("mcp-method", "tools/list");
    let response = good.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["mcp-method"], "tools/list");
    let lie = new(stage.post()).header("mcp-method", "tools/call");
    assert_eq!(status(lie).await, 400);
    let old = stage
        .post()
        .header("mcp-method", "tools/call")
        .send()
        .await
        .unwrap();
    assert_eq!(old.status(), 200);
    assert!(
        !old.headers().contains_key("mcp-method"),
        "the old wire does not have it"
    );
}

#[tokio::test]
async fn the_exchanged_token_takes_the_place_of_the_callers() {
    let stage = Stage::new(&json!({"exchanges": [exchange("orders", "Header")]})).await;
    let exchanged = stage.signer.sign(&json!({"aud": TARGET, "exp": NOW + 200}));
    let answer = issued(&exchanged, 120);
    stage.server.set_token(move |_| Script::json(200, &answer));
    assert_eq!(
        status(stage.post()).await,
        503,
        "without credentials there is none"
    );
    stage.arbiter.exchanges.set_client(Some(&ClientCredentials {
        id: "notes".to_owned(),
        secret: "s3cret".into(),
    }));
    let response = stage.post().send().await.unwrap();
    assert_eq!(response.headers()["authorization"], format!("Bearer {exchanged}"));
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn a_token_where_the_proxy_cannot_remove_it_is_refused() {
    let stage = Stage::new(&json!({"exchanges": [exchange("orders", "Header")]})).await;
    let token = stage.token();
    for (name, value) in [
        ("x-anything", token.as_str()),
        ("x-my-auth", &format!("Bearer {token}")),
        ("mcp_auth_handle", "x"),
        ("x_forwarded_access_token", "x"),
    ] {
        let request = stage.ask("POST", "/mcp").bearer_auth(&token).header(name, value);
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .body(CALL);
        let response = request
            .header(header::ORIGIN, "https://mcp.example.com")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 400, "{name}");
        assert!(
            response.headers().contains_key("access-control-allow-origin"),
            "{name}"
        );
    }
    assert!(
        stage.server.calls().is_empty(),
        "and nothing was exchanged for it"
    );
}

#[tokio::test]
async fn refusals_are_passed_on_as_they_are() {
    let stage = Stage::new(&json!({})).await;
    let missing = stage
        .ask("POST", "/mcp")
        .body(CALL)
        .header(header::CONTENT_TYPE, "application/json");
    let response = missing.send().await.unwrap();
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("Bearer scope="), "{challenge}");
    assert_eq!(response.headers()["content-type"], "application/json");
    let metadata = "/.well-known/oauth-protected-resource/mcp";
    for (method, uri, expected) in [
        // A success would let the request pass to the server, token or not.
        ("GET", metadata, 400),
        ("OPTIONS", metadata, 400),
        ("OPTIONS", "/mcp", 400),
        ("GET", "/other", 404),
        ("GET", "/mcp?access_token=x", 401),
    ] {
        assert_eq!(status(stage.ask(method, uri)).await, expected, "{method} {uri}");
    }
}

#[tokio::test]
async fn what_the_proxy_does_not_say_is_not_guessed() {
    let stage = Stage::new(&json!({})).await;
    let bare = || {
        let request = stage.http.post(&stage.url).bearer_auth(stage.token());
        request
            .header(header::CONTENT_TYPE, "application/json")
            .body(CALL)
    };
    for (why, request) in [
        ("nothing", bare()),
        ("no method", bare().header(&URI, "/mcp")),
        ("no address", bare().header(&METHOD, "POST")),
        ("two methods", stage.post().header(&METHOD, "GET")),
        ("two addresses", stage.post().header(&URI, "/mcp")),
        (
            "a method that is none",
            bare().header(&METHOD, "P O").header(&URI, "/mcp"),
        ),
    ] {
        assert_eq!(status(request).await, 400, "{why}");
    }
    // nginx's auth_request asks without the body, with a GET.
    let without = stage.http.get(&stage.url).bearer_auth(stage.token());
    let without = without.header(&METHOD, "POST").header(&URI, "/mcp");
    let without = without.header(header::CONTENT_TYPE, "application/json");
    assert_eq!(status(without).await, 400, "a POST has a body");
    let elsewhere = stage.http.get(format!("{}/x", stage.url));
    assert_eq!(status(elsewhere).await, 404);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let stage = Stage::new(&json!({})).await;
    let largest = stage.arbiter.largest_body;
    for (length, expected) in [(largest, 200), (largest + 1, 413)] {
        let mut body = CALL.to_vec();
        body.resize(length, b' ');
        assert_eq!(status(stage.post().body(body)).await, expected, "{length}");
    }
}

#[tokio::test]
async fn memory_is_bounded_and_nobody_without_a_token_takes_any() {
    let stage = Stage::new(&json!({})).await;
    let mut share = stage.arbiter.budget.share();
    share.resize(4 * 1024 * 1024).unwrap();
    assert_eq!(status(stage.post()).await, 503);
    let without = stage.ask("POST", "/mcp").body(vec![b' '; 512 * 1024]);
    assert_eq!(
        status(without).await,
        401,
        "it is refused before its body is read"
    );
    drop(share);
    assert_eq!(status(stage.post()).await, 200);
}

#[tokio::test]
async fn requests_at_a_time_are_bounded() {
    let stage = Stage::new(&json!({})).await;
    let all = stage.arbiter.places.acquire_many(100).await.unwrap();
    assert_eq!(status(stage.post()).await, 503);
    drop(all);
    assert_eq!(status(stage.post()).await, 200);
}

#[tokio::test]
async fn one_caller_leaves_places_for_others() {
    let stage = Stage::new(&json!({})).await;
    let policy = stage.arbiter.authorizer.policy().unwrap();
    let alice = crate::testing::allowed(&policy, &stage.signer, &stage.token());
    let alice = alice.caller.claims;
    let all: Vec<_> = (0..100)
        .map(|_| stage.arbiter.callers.enter(&alice).unwrap())
        .collect();
    assert_eq!(status(stage.post()).await, 503);
    let bob = stage.signer.sign(&claims(&stage.server, &json!({"sub": "bob"})));
    let bob = stage
        .ask("POST", "/mcp")
        .bearer_auth(bob)
        .header(header::CONTENT_TYPE, "application/json");
    assert_eq!(status(bob.body(CALL)).await, 200);
    drop(all);
    assert_eq!(status(stage.post()).await, 200);
}

#[tokio::test]
async fn heads_are_bounded_and_nobody_changes_the_protocol() {
    let stage = Stage::new(&json!({})).await;
    assert_eq!(
        status(stage.post().header("x-large", "x".repeat(64 << 10))).await,
        431
    );
    for name in ["sec-websocket-key", "http2-settings"] {
        assert_eq!(status(stage.post().header(name, "x")).await, 400, "{name}");
    }
}
