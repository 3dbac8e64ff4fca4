//! Over gRPC, from request to answer.

use super::*;
use crate::{
    credentials::ClientCredentials,
    testing::{NOW, Script, TARGET, exchange, issued},
};

fn with(mut http: HttpRequest, name: &str, value: &str) -> HttpRequest {
    http.headers.insert(name.to_owned(), value.to_owned());
    http
}

#[tokio::test]
async fn an_allowed_request_loses_what_must_not_reach_the_server() {
    let stage = Stage::new(&json!({})).await;
    let token = stage.token(&json!({}));
    for (why, http, expected) in [
        ("the caller's token", post(&token), vec!["authorization"]),
        (
            "cookies",
            with(post(&token), "cookie", "a=b"),
            vec!["authorization", "cookie"],
        ),
        (
            "what is ours to say",
            with(
                with(post(&token), "x-mcp-subject", "root"),
                "mcp-auth-handle",
                "x",
            ),
            vec!["authorization", "mcp-auth-handle", "x-mcp-subject"],
        ),
        (
            "what some servers take for it",
            with(post(&token), "mcp_auth_handle", "x"),
            vec!["authorization", "mcp_auth_handle"],
        ),
        (
            "the token under any name",
            with(post(&token), "x-anything", &format!("token={token}")),
            vec!["authorization", "x-anything"],
        ),
        (
            "headers of the other wire",
            with(post(&token), "mcp-name", "a lie"),
            vec!["authorization", "mcp-name"],
        ),
    ] {
        match outcome(stage.check(http).await.unwrap()) {
            Outcome::Allowed { set, remove } => {
                assert_eq!(remove, expected, "{why}");
                assert!(set.is_empty(), "{why}");
            }
            Outcome::Denied { status, body, .. } => panic!("{why}: {status} {body}"),
        }
    }
}

#[tokio::test]
async fn the_exchanged_token_takes_the_place_of_the_callers() {
    let stage = Stage::new(&json!({"exchanges": [exchange("orders", "Header")]})).await;
    let exchanged = stage.signer.sign(&json!({"aud": TARGET, "exp": NOW + 200}));
    let answer = issued(&exchanged, 120);
    stage.server.set_token(move |_| Script::json(200, &answer));
    let refused = outcome(stage.check(stage.post()).await.unwrap());
    assert_eq!(refused.status(), 503, "without credentials there is none");
    stage.arbiter.exchanges.set_client(Some(&ClientCredentials {
        id: "notes".to_owned(),
        secret: "s3cret".into(),
    }));
    match outcome(stage.check(with(stage.post(), "cookie", "a=b")).await.unwrap()) {
        Outcome::Allowed { set, remove } => {
            assert_eq!(set["authorization"], format!("Bearer {exchanged}"));
            assert_eq!(
                remove,
                ["cookie"],
                "Envoy removes last: the new token must not be on the list"
            );
        }
        Outcome::Denied { status, .. } => panic!("{status}"),
    }
}

#[tokio::test]
async fn what_is_bought_with_handles_is_not_offered() {
    let stage = Stage::new(&json!({"exchanges": [exchange("orders", "Endpoint")]})).await;
    match outcome(stage.check(stage.post()).await.unwrap()) {
        Outcome::Allowed { set, remove } => {
            assert!(set.is_empty());
            assert_eq!(remove, ["authorization"]);
        }
        Outcome::Denied { status, .. } => panic!("{status}"),
    }
    assert!(stage.server.calls().is_empty());
}

#[tokio::test]
async fn a_refusal_is_a_whole_answer() {
    let stage =
        Stage::new(&json!({"rules": [{"kind": "Tool", "match": "*", "scopes": ["notes:write"]}]})).await;
    let mut missing = stage.post();
    missing.headers.remove("authorization");
    let missing = with(missing, "origin", "https://mcp.example.com");
    let mut call = stage.post();
    call.raw_body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#.to_vec();
    call.size = -1;
    for (http, expected, challenge) in [
        (missing, 401, r#"Bearer scope="mcp:use", resource_metadata="#),
        (call, 403, r#"Bearer error="insufficient_scope""#),
        (
            with(stage.post(), "authorization", "Bearer x.y.z"),
            401,
            r#"Bearer error="invalid_token""#,
        ),
    ] {
        let has_origin = http.headers.contains_key("origin");
        match outcome(stage.check(http).await.unwrap()) {
            Outcome::Denied {
                status,
                headers,
                body,
            } => {
                assert_eq!(status, expected);
                assert_eq!(headers["content-type"], "application/json");
                assert_eq!(headers["cache-control"], "no-store");
                assert!(headers["www-authenticate"].starts_with(challenge), "{headers:?}");
                assert_eq!(headers.contains_key("access-control-allow-origin"), has_origin);
                assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_object());
            }
            Outcome::Allowed { .. } => panic!("{expected}"),
        }
    }
}

#[tokio::test]
async fn metadata_and_preflight_are_answered() {
    let stage = Stage::new(&json!({})).await;
    let ask = |method: &str, path: &str| HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: [("origin".to_owned(), "https://mcp.example.com".to_owned())].into(),
        size: -1,
        ..HttpRequest::default()
    };
    let metadata = "/.well-known/oauth-protected-resource/mcp";
    for (http, expected, has_body) in [
        (ask("GET", metadata), 200, true),
        (ask("OPTIONS", metadata), 204, false),
        (ask("OPTIONS", "/mcp"), 204, false),
        (ask("POST", metadata), 405, true),
        (ask("GET", "/other"), 404, true),
        (ask("GET", "/mcp"), 401, true),
        (ask("GET", "/mcp?access_token=x"), 401, true),
    ] {
        let what = format!("{} {}", http.method, http.path);
        match outcome(stage.check(http).await.unwrap()) {
            Outcome::Denied {
                status,
                headers,
                body,
            } => {
                assert_eq!(status, expected, "{what}");
                assert_eq!(!body.is_empty(), has_body, "{what}");
                let readable = headers.contains_key("access-control-allow-origin");
                assert_eq!(readable, expected != 405, "{what}");
            }
            Outcome::Allowed { .. } => panic!("{what}"),
        }
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_an_error_of_the_call() {
    let stage = Stage::new(&json!({})).await;
    let nothing = stage
        .client
        .clone()
        .check(CheckRequest::default())
        .await
        .unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    let mut large = stage.post();
    large.raw_body = vec![b' '; 1024 * 1024 + HEADERS + 1];
    let large = stage.check(large).await.unwrap_err();
    assert_eq!(large.code(), Code::OutOfRange, "it is not read at all");
}
