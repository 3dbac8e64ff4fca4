mod misuse;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use super::*;
use crate::{
    handles::HandleGuard,
    http_face,
    keys::{KeyOptions, KeyStore},
    outbound::Outbound,
    testing::{
        AuthorizationServer, BOUNDS, ManualClock, NOW, Script, Signer, allowed, claims, exchange, issued,
        policy,
    },
};

/// A replica of a gate, with its tokens face at an address of its own.
struct Replica {
    face: TokensFace,
    task: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Stage {
    server: AuthorizationServer,
    signer: Signer,
    clock: Arc<ManualClock>,
    port: u16,
    /// At 127.0.0.1 and 127.0.0.2, each with the other as its peer.
    replicas: Vec<Replica>,
    http: reqwest::Client,
}

fn at(host: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, host), port).into()
}

fn sold() -> Value {
    let mut other = exchange("other", "Endpoint");
    other["scopes"] = json!([{"name": "other:write", "requires": ["notes:write"]}]);
    let mut closed = exchange("closed", "Endpoint");
    closed["subjectClients"] = json!(["somebody-else"]);
    json!({"exchanges": [exchange("orders", "Endpoint"), other, closed, exchange("header", "Header")]})
}

impl Stage {
    async fn new() -> Self {
        let signer = Signer::new("one");
        let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
        let first = TcpListener::bind(at(1, 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let second = TcpListener::bind(at(2, port)).await.unwrap();
        let mut stage = Self {
            server,
            signer,
            clock: ManualClock::at(NOW),
            port,
            replicas: Vec::new(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        let issuer = Signer::new("issuer");
        let exchanged = issuer.sign(&json!({"aud": crate::testing::TARGET, "exp": NOW + 200}));
        stage
            .server
            .set_token(move |_| Script::json(200, &issued(&exchanged, 120)));
        for (own, listener, peer) in [(1, first, 2), (2, second, 1)] {
            let replica = stage.replica(at(own, port), listener, &at(peer, port).to_string());
            stage.replicas.push(replica);
        }
        stage
    }

    fn replica(&self, own: SocketAddr, listener: TcpListener, peers: &str) -> Replica {
        let clock = self.clock.clone();
        let outbound = Outbound::new(false);
        let keys = KeyStore::new(outbound.clone(), KeyOptions::default(), clock.clone());
        let face = TokensFace {
            authorizer: Arc::new(Authorizer::new(Arc::new(keys), clock.clone())),
            exchanges: Arc::new(Exchanges::new(outbound, clock.clone())),
            handles: Handles::new(own, 10, clock),
            peers: Some(Arc::new(Peers::new(peers).unwrap())),
            purchases: Purchases::default(),
        };
        face.authorizer.set_policy(policy(&self.server, &sold()));
        face.exchanges
            .set_client(Some(&crate::credentials::ClientCredentials {
                id: "notes".to_owned(),
                secret: "s3cret".into(),
            }));
        let routes = face.clone().router();
        let task = tokio::spawn(async move {
            http_face::serve(listener, routes, BOUNDS, std::future::pending()).await;
        });
        Replica { face, task }
    }

    /// A handle for a request of alice's at this replica.
    fn mint(&self, replica: usize) -> HandleGuard {
        self.mint_for(replica, &json!({}))
    }

    fn mint_for(&self, replica: usize, changes: &Value) -> HandleGuard {
        let face = &self.replicas[replica].face;
        let policy = face.authorizer.policy().unwrap();
        let token = self.signer.sign(&claims(&self.server, changes));
        let allowed = allowed(&policy, &self.signer, &token);
        face.handles.mint(&policy, &allowed).unwrap()
    }

    fn request(&self, replica: usize, path: &str) -> reqwest::RequestBuilder {
        let host = self.replicas[replica].face.handles.own();
        self.http.post(format!("http://{host}{path}"))
    }

    /// What a purchase at this replica comes to.
    async fn buy(&self, replica: usize, name: &str, handle: &HeaderValue) -> (u16, Value) {
        let request = self.request(replica, &format!("/token/{name}"));
        outcome(request.header(&HANDLE, handle)).await
    }
}

async fn outcome(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store", "{status}");
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/json",
        "{status}"
    );
    let text = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&text).unwrap())
}

fn refused(error: &str) -> Value {
    json!({ "error": error })
}

#[tokio::test]
async fn a_handle_buys_what_the_policy_sells_at_either_replica() {
    let stage = Stage::new().await;
    let guard = stage.mint(0);
    for replica in [0, 1] {
        let (status, body) = stage.buy(replica, "orders", guard.header_value()).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"], 120);
        assert_eq!(body["scope"], "orders:read");
        assert!(body["access_token"].as_str().unwrap().starts_with("ey"));
    }
    assert_eq!(stage.server.calls().len(), 1, "the minting replica remembers it");
    let counted = |replica: usize, outcome| stage.replicas[replica].face.purchases.counted(outcome);
    assert_eq!(
        (counted(0, "sold"), counted(1, "relayed"), counted(1, "sold")),
        (2, 1, 0)
    );
}

#[tokio::test]
async fn a_replica_that_is_gone_makes_a_purchase_wait() {
    let stage = Stage::new().await;
    let guard = stage.mint(1);
    stage.replicas[1].task.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let bought = stage.buy(0, "orders", guard.header_value()).await;
    assert_eq!(bought, (503, refused("temporarily_unavailable")));
}

#[tokio::test]
async fn only_what_is_sold_to_this_caller_can_be_bought() {
    let stage = Stage::new().await;
    let (reader, writer) = (stage.mint(0), stage.mint_for(0, &json!({"scope": "notes:write"})));
    for (why, handle, name, expected) in [
        (
            "without the scope that it requires",
            &reader,
            "other",
            (403, refused("insufficient_scope")),
        ),
        (
            "of another client",
            &reader,
            "closed",
            (403, refused("access_denied")),
        ),
        (
            "delivered otherwise",
            &reader,
            "header",
            (404, refused("unknown_policy")),
        ),
        ("unknown", &reader, "nothing", (404, refused("unknown_policy"))),
        (
            "no name",
            &reader,
            "..%2forders",
            (404, refused("unknown_policy")),
        ),
        (
            "no name either",
            &reader,
            "ORDERS",
            (404, refused("unknown_policy")),
        ),
    ] {
        for replica in [0, 1] {
            let bought = stage.buy(replica, name, handle.header_value()).await;
            assert_eq!(bought, expected, "{why}, at {replica}");
        }
    }
    assert_eq!(stage.buy(0, "other", writer.header_value()).await.0, 200);
    let calls = stage.server.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].field("scope"), Some("other:write"));
}

#[tokio::test]
async fn each_purchase_is_judged_by_the_policy_of_the_moment() {
    let stage = Stage::new().await;
    let face = &stage.replicas[0].face;
    let guard = stage.mint(0);
    let gone = (401, refused("invalid_handle"));
    let with = |field: &str, value: Value| {
        let mut changes = sold();
        changes[field] = value;
        policy(&stage.server, &changes)
    };
    let less = json!([exchange("other", "Endpoint")]);
    let elsewhere = "https://moved.example.com/mcp";
    for (why, policy, expected) in [
        (
            "its client was suspended",
            with("deniedClients", json!(["agent"])),
            gone.clone(),
        ),
        (
            "the exchange was taken away",
            with("exchanges", less),
            (404, refused("unknown_policy")),
        ),
        (
            "the server is another",
            with("resource", json!(elsewhere)),
            gone.clone(),
        ),
    ] {
        face.authorizer.set_policy(policy);
        assert_eq!(
            stage.buy(0, "orders", guard.header_value()).await,
            expected,
            "{why}"
        );
    }
    face.authorizer.set_policy(policy(&stage.server, &sold()));
    assert_eq!(stage.buy(0, "orders", guard.header_value()).await.0, 200);
    stage.clock.advance(400);
    assert_eq!(
        stage.buy(0, "orders", guard.header_value()).await,
        gone,
        "the token has expired"
    );
}

#[tokio::test]
async fn the_answers_of_the_authorization_server_are_passed_on_as_codes() {
    let stage = Stage::new().await;
    for (number, (status, body, expected)) in [
        (
            400,
            json!({"error": "invalid_grant"}),
            (401, refused("invalid_token")),
        ),
        (
            403,
            json!({"error": "access_denied"}),
            (403, refused("access_denied")),
        ),
        (
            401,
            json!({"error": "invalid_client"}),
            (503, refused("temporarily_unavailable")),
        ),
        (500, json!({}), (503, refused("temporarily_unavailable"))),
    ]
    .into_iter()
    .enumerate()
    {
        let script = Script::json(status, &body);
        stage.server.set_token(move |_| script.clone());
        let guard = stage.mint_for(0, &json!({"jti": number}));
        for replica in [0, 1] {
            let bought = stage.buy(replica, "orders", guard.header_value()).await;
            assert_eq!(bought, expected, "{body}, at {replica}");
        }
    }
}

#[tokio::test]
async fn only_posts_are_served_and_their_bodies_do_not_matter() {
    let stage = Stage::new().await;
    let guard = stage.mint(0);
    let url = format!("http://{}/token/orders", at(1, stage.port));
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let request = stage.http.request(method.parse().unwrap(), &url);
        let response = request
            .header(&HANDLE, guard.header_value())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    let response = stage.request(0, "/token").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let with_body = stage
        .request(0, "/token/orders")
        .header(&HANDLE, guard.header_value());
    assert_eq!(outcome(with_body.body("grant_type=anything")).await.0, 200);
}
