//! What the tests of the gate share: an authorization server of their own, with real keys, and policies that name it.

mod authorization_server;
mod signer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, header};
use mcp_auth_gate_core::{
    decide::{self, Allowed, Body, Decision, Head},
    policy::Policy,
    token::Keys,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    access_log::{AccessLog, AccessLogForm},
    arbiter::Arbiter,
    authorizer::Authorizer,
    callers::Callers,
    clock::Clock,
    exchange::Exchanges,
    http_face::Bounds,
    keys::{KeyOptions, KeyStore},
    metrics::Metrics,
    outbound::Outbound,
    proxy::budget::Budget,
};

pub(crate) use authorization_server::{AuthorizationServer, Script};
pub(crate) use signer::Signer;

/// The server that the tests protect.
pub(crate) const RESOURCE: &str = "https://mcp.example.com/mcp";
/// What the tests exchange for.
pub(crate) const TARGET: &str = "https://orders.example.com";
/// The time of the tests.
pub(crate) const NOW: i64 = 1_800_000_000;

/// What the faces of the tests bear.
pub(crate) const BOUNDS: Bounds = Bounds {
    connections: 100,
    header_read: Duration::from_secs(10),
    header: 32 << 10,
};

/// A clock that a test sets by hand.
#[derive(Debug)]
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at this second of Unix time.
    pub(crate) fn at(unix: i64) -> Arc<Self> {
        Arc::new(Self(unix.into()))
    }

    /// Moves it.
    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A policy that names `server`, with `changes` on top (RFC 7386).
pub(crate) fn policy(server: &AuthorizationServer, changes: &Value) -> Arc<Policy> {
    let mut document = json!({
        "version": 1,
        "server": {"namespace": "team-a", "name": "notes"},
        "resource": RESOURCE,
        "authorizationServer": {
            "issuer": server.issuer(),
            "jwksUri": format!("{}/jwks", server.url()),
            "tokenEndpoint": format!("{}/token", server.url()),
            "tokenTypes": [{"header": "at+jwt"}],
        },
        "scopes": [
            {"name": "mcp:use", "challenge": true},
            {"name": "notes:write", "implies": ["mcp:use"]},
        ],
    });
    merge(&mut document, changes);
    Arc::new(Policy::parse(document.to_string().as_bytes()).unwrap())
}

fn merge(document: &mut Value, changes: &Value) {
    match (document, changes) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(fields.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
        (document, change) => *document = change.clone(),
    }
}

/// A token of alice's for [`RESOURCE`], good for five minutes, with `changes` on top.
pub(crate) fn claims(server: &AuthorizationServer, changes: &Value) -> Value {
    let mut claims = json!({
        "iss": server.issuer(),
        "sub": "alice",
        "aud": RESOURCE,
        "client_id": "agent",
        "scope": "mcp:use",
        "exp": NOW + 300,
    });
    merge(&mut claims, changes);
    claims
}

/// The headers of a POST with this token.
pub(crate) fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = format!("Bearer {token}");
    headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// The head of a POST to the server.
pub(crate) fn post(headers: &HeaderMap) -> Head<'_> {
    Head {
        method: &Method::POST,
        path: "/mcp",
        query: None,
        headers,
    }
}

/// A call that no rule is about.
pub(crate) const CALL: &[u8] = br#"{"jsonrpc": "2.0", "id": 7, "method": "tools/list"}"#;

/// The decision about [`CALL`] with this token, which `signer` signed.
pub(crate) fn allowed(policy: &Policy, signer: &Signer, token: &str) -> Allowed {
    let keys = Keys::parse(&Signer::jwks(&[signer])).unwrap();
    let mut headers = headers(token);
    let origin = HeaderValue::from_static("https://mcp.example.com");
    headers.insert(header::ORIGIN, origin);
    match decide::decide(&post(&headers), Body::Whole(CALL), policy, &keys, NOW) {
        Decision::Allow(allowed) => *allowed,
        other => panic!("{other:?}"),
    }
}

/// An exchange for [`TARGET`], of which the second scope requires `notes:write`.
pub(crate) fn exchange(name: &str, delivery: &str) -> Value {
    json!({
        "name": name,
        "delivery": delivery,
        "audience": TARGET,
        "scopes": [{"name": "orders:read"}, {"name": "orders:write", "requires": ["notes:write"]}],
    })
}

/// The answer of a token endpoint (RFC 8693, 2.2.1).
pub(crate) fn issued(token: &str, lifetime: i64) -> Value {
    json!({
        "access_token": token,
        "token_type": "Bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "expires_in": lifetime,
        "scope": "orders:read",
    })
}

/// What the faces for other proxies decide with, by a policy that names `server`; its keys are fetched.
pub(crate) fn arbiter(server: &AuthorizationServer, changes: &Value) -> Arbiter {
    let clock = ManualClock::at(NOW);
    let outbound = Outbound::new(false);
    let keys = Arc::new(KeyStore::new(
        outbound.clone(),
        KeyOptions::default(),
        clock.clone(),
    ));
    let running = Arc::clone(&keys);
    tokio::spawn(async move { running.run().await });
    let arbiter = Arbiter {
        authorizer: Arc::new(Authorizer::new(keys, clock.clone())),
        exchanges: Arc::new(Exchanges::new(outbound, clock)),
        metrics: Metrics::new(&mut Metrics::registry()),
        access_log: Arc::new(AccessLog::new(AccessLogForm::Off)),
        largest_body: 1024 * 1024,
        places: Arc::new(Semaphore::new(100)),
        callers: Callers::new(100),
        budget: Budget::new(4 * 1024 * 1024),
    };
    arbiter.authorizer.set_policy(policy(server, changes));
    arbiter
}
