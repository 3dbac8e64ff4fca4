use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::*;
use crate::{
    policy::Policy,
    testing::{NOW, RESOURCE, claims, issuer_keys, policy, policy_with, signers, token},
    token::Keys,
};

mod answers;
mod bodies;
mod paths;
mod properties;
mod removal;
mod resources;
mod tokens;

/// A request as faces see it.
#[derive(Clone)]
struct Request {
    method: &'static str,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A POST of this message to the endpoint, with this token.
fn post(token: &str, body: &str) -> Request {
    let request = Request {
        method: "POST",
        target: "/a/mcp".to_owned(),
        headers: HeaderMap::new(),
        body: body.as_bytes().to_vec(),
    };
    request
        .with("content-type", "application/json")
        .with("authorization", &format!("Bearer {token}"))
}

/// The same without token and body.
fn bare(method: &'static str, target: &str) -> Request {
    Request {
        method,
        target: target.to_owned(),
        headers: HeaderMap::new(),
        body: Vec::new(),
    }
}

impl Request {
    fn with(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers
            .append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    fn decide_by(&self, policy: &Policy, keys: &Keys, partial: bool) -> Decision {
        let method = Method::from_bytes(self.method.as_bytes()).unwrap();
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        let head = Head {
            method: &method,
            path,
            query,
            headers: &self.headers,
        };
        let body = if partial {
            Body::Partial
        } else {
            Body::Whole(&self.body)
        };
        decide(&head, body, policy, keys, NOW)
    }

    fn decide(&self) -> Decision {
        self.decide_by(&policy(), &issuer_keys(), false)
    }

    /// The answer of the gate; fails when it lets the request through.
    fn answer(&self) -> Answer {
        answer(self.decide())
    }

    /// What goes through; fails with the answer if there is one.
    fn allowed(&self) -> Allowed {
        match self.decide() {
            Decision::Allow(allowed) => *allowed,
            Decision::Answer(answer) | Decision::UnknownKey(answer) => panic!("{answer:?}"),
        }
    }
}

fn answer(decision: Decision) -> Answer {
    match decision {
        Decision::Allow(allowed) => panic!("allowed: {allowed:?}"),
        Decision::Answer(answer) | Decision::UnknownKey(answer) => *answer,
    }
}

/// The values of a header, in their order.
fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let all = answer.headers.iter().filter(|(header, _)| header == name);
    all.map(|(_, value)| value.to_str().unwrap()).collect()
}

/// A token with one claim changed.
fn token_with(claim: &str, value: &serde_json::Value) -> String {
    let mut claims = claims("mcp:use");
    claims[claim] = value.clone();
    signers().p256.token(jsonwebtoken::Algorithm::ES256, &claims)
}

const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;

fn call(tool: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool}}).to_string()
}

/// Two things are wrong with each request: the answer is about the one that is looked at first.
#[test]
fn checks_have_an_order() {
    let good = token("mcp:use notes:write");
    let evil = |request: Request| request.with("origin", "https://evil.example");
    let expired = token_with("exp", &json!(NOW - 60));
    for (request, status, reason, why) in [
        (
            evil(bare("GET", "/.well-known/oauth-protected-resource/a/mcp")),
            200,
            "metadata",
            "metadata are for all pages",
        ),
        (
            evil(bare("POST", "/nowhere")),
            403,
            "origin",
            "origin before path",
        ),
        (
            evil(bare("OPTIONS", "/a/mcp")),
            403,
            "origin",
            "origin before preflight",
        ),
        (
            evil(post(&good, PING)),
            403,
            "origin",
            "origin before a good token",
        ),
        (evil(post("x", PING)), 403, "origin", "origin before a bad token"),
        (
            bare("OPTIONS", "/nowhere"),
            404,
            "not_found",
            "path before preflight",
        ),
        (bare("PATCH", "/nowhere"), 404, "not_found", "path before token"),
        (
            bare("OPTIONS", "/a/mcp").with("authorization", "Bearer x"),
            204,
            "preflight",
            "preflight before token",
        ),
        (
            bare("PATCH", "/a/mcp"),
            401,
            "token_missing",
            "token before method",
        ),
        (
            post("x", "[").with("mcp-protocol-version", "a b"),
            401,
            "token_malformed",
            "token before wire",
        ),
        (post(&expired, "["), 401, "token_expired", "token before body"),
        (
            post(&good, "[").with("mcp-protocol-version", "a b"),
            400,
            "protocol_version",
            "wire before body",
        ),
        (
            bare("PATCH", "/a/mcp")
                .with("authorization", &format!("Bearer {good}"))
                .with("mcp-protocol-version", "a b"),
            400,
            "protocol_version",
            "wire before method",
        ),
        (
            post(&good, "[").without("content-type"),
            400,
            "content_type",
            "type before body",
        ),
        (post(&token(""), "["), 400, "body_batch", "body before scope"),
        (
            post(&token(""), &call("write_note")).with("mcp-protocol-version", "2026-07-28"),
            400,
            "header_mismatch",
            "headers before scope",
        ),
        (
            post(&token(""), &call("delete")),
            403,
            "unmatched",
            "rules before scope",
        ),
        (post(&token(""), &call("write_note")), 403, "scope", "scope last"),
    ] {
        let answer = request.answer();
        assert_eq!(
            (answer.status.as_u16(), answer.reason.as_str()),
            (status, reason),
            "{why}"
        );
    }
}

#[test]
fn what_is_allowed_says_who_calls() {
    let allowed = post(&token("mcp:use notes:write openid"), &call("write_note"))
        .with("origin", "https://mcp.example")
        .allowed();
    assert_eq!(allowed.caller.claims.subject, "alice");
    assert_eq!(allowed.caller.origin.as_deref(), Some("https://mcp.example"));
    assert_eq!(
        allowed.caller.held.iter().collect::<Vec<_>>(),
        ["mcp:use", "notes:read", "notes:write"]
    );
    assert_eq!(allowed.message.unwrap().method(), Some("tools/call"));
    let stream = bare("GET", "/a/mcp")
        .with("authorization", &format!("Bearer {}", token("mcp:use")))
        .allowed();
    assert!(stream.message.is_none());
}

/// Method, wire, and what becomes of it.
#[test]
fn methods_depend_on_the_wire() {
    let good = token("mcp:use");
    let at = |method, version: &str| {
        let request = bare(method, "/a/mcp").with("authorization", &format!("Bearer {good}"));
        if version.is_empty() {
            request
        } else {
            request.with("mcp-protocol-version", version)
        }
    };
    for version in ["", "2024-11-05", "2025-11-25"] {
        at("GET", version).allowed();
        at("DELETE", version).allowed();
    }
    for (method, version, allow) in [
        ("GET", "2026-07-28", "POST, OPTIONS"),
        ("DELETE", "2026-07-28", "POST, OPTIONS"),
        ("GET", "2027-12-31", "POST, OPTIONS"),
        ("HEAD", "", "GET, POST, DELETE, OPTIONS"),
        ("PUT", "", "GET, POST, DELETE, OPTIONS"),
        ("PATCH", "2025-11-25", "GET, POST, DELETE, OPTIONS"),
        ("TRACE", "", "GET, POST, DELETE, OPTIONS"),
        ("CONNECT", "", "GET, POST, DELETE, OPTIONS"),
        ("PROPFIND", "", "GET, POST, DELETE, OPTIONS"),
        ("post", "", "GET, POST, DELETE, OPTIONS"),
    ] {
        let answer = at(method, version).answer();
        assert_eq!(
            answer.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{method} {version}"
        );
        assert_eq!(values(&answer, "allow"), [allow]);
    }
    for method in ["GET", "DELETE"] {
        let mut request = at(method, "");
        request.body = PING.into();
        assert_eq!(
            request.answer().reason,
            Reason::BodyPresence,
            "{method} with a message"
        );
        assert_eq!(
            answer(at(method, "").decide_by(&policy(), &issuer_keys(), true)).reason,
            Reason::BodyPresence
        );
        let few = bare(method, "/a/mcp").with("authorization", &format!("Bearer {}", token("notes:write")));
        assert_eq!(
            few.answer().reason,
            Reason::Scope,
            "{method} without the challenge's scope"
        );
    }
}
