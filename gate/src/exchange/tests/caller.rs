//! What a caller's request gets.

use http::{StatusCode, header};
use mcp_auth_gate_core::answer::Reason;

use super::*;

#[tokio::test]
async fn the_request_is_that_of_rfc_8693() {
    let stage = Stage::new().await;
    let odd = ClientCredentials {
        id: "https://mcp.example.com/mcp".to_owned(),
        secret: "a:b c%ü".into(),
    };
    stage.exchanges.set_client(Some(&odd));
    let subject = stage.signer.sign(&claims(&stage.server, &json!({})));
    let allowed = allowed(&stage.policy, &stage.signer, &subject);
    let token = stage
        .exchanges
        .header_token(&stage.policy, &allowed)
        .await
        .unwrap();
    assert!(token.is_some());
    let calls = stage.server.calls();
    let [call] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    let pair = STANDARD
        .decode(call.authorization.strip_prefix("Basic ").unwrap())
        .unwrap();
    assert_eq!(
        String::from_utf8(pair).unwrap(),
        "https%3A%2F%2Fmcp.example.com%2Fmcp:a%3Ab+c%25%C3%BC",
        "RFC 6749, 2.3.1: both are encoded, or the id would end at its first colon"
    );
    for (field, expected) in [
        ("grant_type", Some(GRANT)),
        ("subject_token", Some(subject.as_str())),
        ("subject_token_type", Some(ACCESS_TOKEN)),
        ("requested_token_type", Some(ACCESS_TOKEN)),
        ("scope", Some("orders:read")),
        ("audience", None),
        ("resource", None),
        ("client_secret", None),
    ] {
        assert_eq!(call.field(field), expected, "{field}");
    }
}

#[tokio::test]
async fn a_token_is_presented_as_the_policy_says() {
    let mut stage = Stage::new().await;
    let mut by_an_action = exchange("orders", "Header");
    by_an_action["subjectTokenType"] = json!("urn:mcp-auth-operator:a:b");
    stage.policy = policy(&stage.server, &json!({"exchanges": [by_an_action]}));
    stage.exchanges.follow(&stage.policy);
    assert!(stage.header_token(&json!({})).await.unwrap().is_some());
    let calls = stage.server.calls();
    let [call] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!(
        call.field("subject_token_type"),
        Some("urn:mcp-auth-operator:a:b")
    );
    assert_eq!(call.field("requested_token_type"), None);
}

#[tokio::test]
async fn an_audience_is_named_where_scopes_do_not_say_it() {
    let mut stage = Stage::new().await;
    let changes = json!({"exchanges": [exchange("orders", "Header")], "authorizationServer": {"exchangeBy": "Audience"}});
    stage.policy = policy(&stage.server, &changes);
    stage.exchanges.follow(&stage.policy);
    assert!(stage.header_token(&json!({})).await.unwrap().is_some());
    let calls = stage.server.calls();
    let [call] = calls.as_slice() else {
        panic!("{calls:?}")
    };
    assert_eq!(call.authorization, "", "the secret is shown once");
    for (field, expected) in [
        ("audience", Some(TARGET)),
        ("scope", Some("orders:read")),
        ("client_id", Some("https://mcp.example.com/mcp")),
        ("client_secret", Some("s3cret")),
        ("resource", None),
    ] {
        assert_eq!(call.field(field), expected, "{field}");
    }
}

#[tokio::test]
async fn only_what_the_caller_may_is_asked_for() {
    let stage = Stage::new().await;
    let only = |scopes: Value| {
        let mut exchange = exchange("orders", "Header");
        exchange["scopes"] = scopes;
        exchange
    };
    let of = |clients: Value| {
        let mut exchange = exchange("orders", "Header");
        exchange["subjectClients"] = clients;
        exchange
    };
    let write = json!([{"name": "orders:write", "requires": ["notes:write"]}]);
    for (why, exchange, caller, expected) in [
        (
            "what needs nothing",
            exchange("orders", "Header"),
            json!({}),
            Some("orders:read"),
        ),
        (
            "all that the caller holds for",
            exchange("orders", "Header"),
            json!({"scope": "notes:write"}),
            Some("orders:read orders:write"),
        ),
        ("nothing, so the request goes bare", only(write), json!({}), None),
        (
            "implied scopes count",
            only(json!([{"name": "a", "requires": ["mcp:use"]}])),
            json!({"scope": "notes:write"}),
            Some("a"),
        ),
        (
            "its client may",
            of(json!(["agent"])),
            json!({}),
            Some("orders:read"),
        ),
        ("another client may", of(json!(["other"])), json!({}), None),
        ("nobody may", of(json!([])), json!({}), None),
        (
            "only one of its names may",
            of(json!(["agent"])),
            json!({"azp": "other"}),
            None,
        ),
        (
            "it has no name",
            of(json!(["agent"])),
            json!({"client_id": null}),
            None,
        ),
        (
            "none is for the header",
            super::exchange("orders", "Endpoint"),
            json!({}),
            None,
        ),
    ] {
        let before = stage.calls();
        let policy = policy(&stage.server, &json!({"exchanges": [exchange]}));
        let token = stage.header_token_by(&policy, &caller).await.unwrap();
        assert_eq!(token.is_some(), expected.is_some(), "{why}");
        let calls = stage.server.calls();
        let asked = calls.get(before).and_then(|call| call.field("scope"));
        assert_eq!(asked, expected, "{why}");
    }
}

#[tokio::test]
async fn a_caller_is_told_what_helps() {
    let stage = Stage::new().await;
    let error = |code: &str, text: &str| json!({"error": code, "error_description": text});
    let answers = [
        (
            400,
            error("invalid_request", "Invalid token"),
            401,
            "token_revoked",
        ),
        (400, error("invalid_grant", ""), 401, "token_revoked"),
        (
            400,
            error("invalid_request", "Standard token exchange is not enabled"),
            403,
            "exchange",
        ),
        (
            403,
            error("access_denied", "Client is not within the token audience"),
            403,
            "exchange",
        ),
        (
            400,
            error("invalid_scope", "Invalid scopes: orders:read"),
            403,
            "exchange",
        ),
        (400, error("invalid_target", ""), 403, "exchange"),
        (
            401,
            error("invalid_client", "Invalid client or Invalid client credentials"),
            503,
            "exchange",
        ),
        // So Keycloak answers a wrong secret.
        (
            401,
            error(
                "unauthorized_client",
                "Invalid client or Invalid client credentials",
            ),
            503,
            "exchange",
        ),
        (429, json!({}), 503, "exchange"),
        (
            500,
            error("invalid_grant", "an error of the server is not one of the token"),
            503,
            "exchange",
        ),
        (302, json!({}), 503, "exchange"),
        (200, json!({}), 503, "exchange"),
    ];
    for (number, (status, body, expected, reason)) in answers.into_iter().enumerate() {
        let script = Script::json(status, &body);
        stage.server.set_token(move |_| script.clone());
        let refused = stage.header_token(&json!({"jti": number})).await;
        let answer = refused.unwrap_err();
        assert_eq!(answer.status.as_u16(), expected, "{status} {body}");
        assert_eq!(answer.reason.as_str(), reason, "{status} {body}");
        let has = |name| answer.headers.iter().any(|(header, _)| *header == name);
        assert!(
            has(header::ACCESS_CONTROL_ALLOW_ORIGIN),
            "{status} {body}: pages can read it"
        );
        assert_eq!(has(header::WWW_AUTHENTICATE), expected == 401, "{status} {body}");
        let message: Value = serde_json::from_str(&answer.body).unwrap();
        let id = if expected == 401 { Value::Null } else { json!(7) };
        assert_eq!(message["id"], id, "{status} {body}");
        assert!(
            !answer.body.contains("Client"),
            "nothing that the server wrote is repeated"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_asked_again_once_it_is_up() {
    let mut stage = Stage::new().await;
    stage.server.stop().await;
    let answer = stage.header_token(&json!({})).await.unwrap_err();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.reason, Reason::Exchange);
    stage.server.restart().await;
    assert!(stage.header_token(&json!({})).await.unwrap().is_some());
}

#[tokio::test]
async fn without_credentials_nobody_is_asked() {
    let stage = Stage::new().await;
    stage.exchanges.set_client(None);
    let answer = stage.header_token(&json!({})).await.unwrap_err();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(stage.calls(), 0);
    stage.exchanges.set_client(Some(&client("s3cret")));
    assert!(stage.header_token(&json!({})).await.unwrap().is_some(), "at once");
}
