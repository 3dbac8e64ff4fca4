//! Whether what came of a row is what was expected.

use anyhow::{Context, ensure};
use mcp_auth_e2e::gate::http1::Message;
use serde_json::{Value, json};

use super::{
    case::{Case, Challenge, Expect, OWN_PAGE},
    scene::{METADATA, RESOURCE, Scene},
    table::{self, CASE, Sent},
};

/// What must never reach the server, whatever the row.
const NEVER: [&str; 4] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "mcp-auth-handle",
];
const EXPOSED: [&str; 3] = ["WWW-Authenticate", "Mcp-Session-Id", "MCP-Protocol-Version"];

pub(crate) fn row(
    scene: &Scene,
    case: &Case,
    expect: &Expect,
    sent: &Sent,
    requests: &[Message],
) -> anyhow::Result<()> {
    let number = sent.number.to_string();
    let reached: Vec<&Message> = requests
        .iter()
        .filter(|request| request.value(CASE) == Some(&number))
        .collect();
    for request in &reached {
        for name in NEVER {
            ensure!(request.values(name).is_empty(), "the server got {name}");
        }
    }
    let statuses: Vec<u16> = sent.replies.answers.iter().filter_map(Message::status).collect();
    let reached_nothing = || {
        let count = reached.len();
        ensure!(
            count == 0,
            "the server got {count} requests, and the client {statuses:?}"
        );
        Ok(())
    };
    let only = || match &sent.replies.answers[..] {
        [answer] => Ok(answer),
        _ => Err(anyhow::anyhow!("answers: {statuses:?}")),
    };
    match expect {
        Expect::Passes { gone, kept } => {
            let answer = only()?;
            ensure!(
                statuses == [200],
                "answered {}: {}",
                statuses[0],
                String::from_utf8_lossy(&answer.body)
            );
            let [request] = reached[..] else {
                anyhow::bail!("the server got {} requests", reached.len());
            };
            passed(case, sent, request, gone, kept)?;
            readable(case, answer)
        }
        Expect::Answers {
            status,
            challenge,
            code,
        } => {
            let answer = only()?;
            let text = || String::from_utf8_lossy(&answer.bytes()).replace("\r\n", " | ");
            ensure!(statuses == [*status], "answered {}", text());
            reached_nothing()?;
            refusal(answer, *challenge, *code).with_context(text)?;
            readable(case, answer).with_context(text)
        }
        Expect::Metadata => {
            ensure!(statuses == [200], "{statuses:?}");
            reached_nothing()?;
            metadata(scene, only()?)
        }
        Expect::Leave => {
            ensure!(statuses == [200], "{statuses:?}");
            ensure!(only()?.body.is_empty(), "leave with a body");
            reached_nothing()
        }
        Expect::Front(allowed) => {
            // Whoever closes the connection without a word has refused as well.
            let is_refused = statuses.len() <= 1 && statuses.iter().all(|status| allowed.contains(status));
            ensure!(
                is_refused && sent.replies.closed,
                "{statuses:?}, closed: {}",
                sent.replies.closed
            );
            reached_nothing()
        }
        Expect::Several(expected) => {
            ensure!(statuses == *expected, "{statuses:?}");
            let good = expected.iter().filter(|status| **status == 200).count();
            ensure!(reached.len() == good, "the server got {} requests", reached.len());
            Ok(())
        }
    }
}

/// Method, target, headers and body are what was sent.
fn passed(
    case: &Case,
    sent: &Sent,
    request: &Message,
    gone: &[&str],
    kept: &[(&str, &str)],
) -> anyhow::Result<()> {
    let body = table::body(case, sent);
    ensure!(
        request.body == body,
        "the server got {:?}",
        String::from_utf8_lossy(&request.body)
    );
    let (method, target) = request.request_line();
    ensure!(method == case.request.method, "the method is {method}");
    let path = target.split('?').next();
    ensure!(path == Some("/a/mcp"), "the target is {target}");
    let query = case.request.target.split_once('?').map(|(_, query)| query);
    ensure!(
        target.split_once('?').map(|(_, query)| query) == query,
        "the target is {target}"
    );
    for name in gone {
        ensure!(request.values(name).is_empty(), "the server got {name}");
    }
    for (name, value) in kept {
        ensure!(
            request.values(name) == [*value],
            "{name} is {:?}",
            request.values(name)
        );
    }
    let types = case
        .request
        .headers
        .iter()
        .filter(|(name, _)| name == "content-type");
    let types: Vec<&str> = types.map(|(_, value)| value.as_str()).collect();
    ensure!(
        request.values("content-type") == types,
        "the type is {:?}",
        request.values("content-type")
    );
    Ok(())
}

fn refusal(answer: &Message, challenge: Challenge, code: Option<i32>) -> anyhow::Result<()> {
    let expected: Vec<String> = challenge_text(challenge).into_iter().collect();
    let found = answer.values("www-authenticate");
    ensure!(
        found == expected,
        "the challenge is {found:?} instead of {expected:?}"
    );
    let Some(code) = code else { return Ok(()) };
    let body: Value = serde_json::from_slice(&answer.body).context("the body is no JSON")?;
    ensure!(
        body["jsonrpc"] == "2.0" && body["error"]["code"] == code,
        "the code is {}",
        body["error"]["code"]
    );
    ensure!(answer.value("content-type") == Some("application/json"));
    ensure!(answer.value("cache-control") == Some("no-store"));
    Ok(())
}

/// The challenge, byte for byte.
fn challenge_text(challenge: Challenge) -> Option<String> {
    let text = |error: &str, scopes: &str| {
        format!("Bearer {error}scope=\"{scopes}\", resource_metadata=\"{METADATA}\"")
    };
    match challenge {
        Challenge::Absent => None,
        Challenge::Missing => Some(text("", "mcp:use")),
        Challenge::Place => Some(text("error=\"invalid_request\", ", "mcp:use")),
        Challenge::Invalid(why) => {
            let error = format!("error=\"invalid_token\", error_description=\"{why}\", ");
            Some(text(&error, "mcp:use"))
        }
        Challenge::Scope(scopes) => {
            let why = "the token lacks a scope that this call needs";
            let error = format!("error=\"insufficient_scope\", error_description=\"{why}\", ");
            Some(text(&error, scopes))
        }
    }
}

/// The page of the resource can read whatever comes; no other page can.
fn readable(case: &Case, answer: &Message) -> anyhow::Result<()> {
    let origins = case.request.headers.iter().filter(|(name, _)| name == "origin");
    let origins: Vec<&str> = origins.map(|(_, value)| value.as_str()).collect();
    let (allowed, exposed) = (
        answer.values("access-control-allow-origin"),
        answer.values("access-control-expose-headers"),
    );
    if origins == [OWN_PAGE] {
        ensure!(allowed == [OWN_PAGE], "allowed origins: {allowed:?}");
        let exposed: Vec<&str> = exposed
            .iter()
            .flat_map(|names| names.split(','))
            .map(str::trim)
            .collect();
        ensure!(exposed == EXPOSED, "exposed headers: {exposed:?}");
        let is_preflight = case.request.method == "OPTIONS" && answer.status() == Some(204);
        let methods = answer.values("access-control-allow-methods");
        ensure!(
            !is_preflight || methods == ["GET, POST, DELETE, OPTIONS"],
            "allowed methods: {methods:?}"
        );
    } else {
        let is_for_all = case.request.target.starts_with("/.well-known/") && allowed == ["*"];
        // Its own page sends one origin; whoever sends it twice is no page, and learns nothing by this.
        let is_own = origins.contains(&OWN_PAGE) && allowed == [OWN_PAGE];
        ensure!(
            allowed.is_empty() || is_for_all || is_own,
            "allowed origins: {allowed:?}"
        );
    }
    Ok(())
}

fn metadata(scene: &Scene, answer: &Message) -> anyhow::Result<()> {
    let found: Value = serde_json::from_slice(&answer.body)?;
    let expected = json!({
        "resource": RESOURCE,
        "authorization_servers": [scene.issuer.issuer()],
        "scopes_supported": ["mcp:use"],
        "bearer_methods_supported": ["header"],
    });
    ensure!(found == expected, "{found}");
    ensure!(answer.value("access-control-allow-origin") == Some("*"));
    ensure!(answer.value("content-type") == Some("application/json"));
    ensure!(answer.value("cache-control") == Some("public, max-age=300"));
    Ok(())
}
