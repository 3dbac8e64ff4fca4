//! The faces besides the proxy, of a gate as a process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Gate, POLICY, get};
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest,
    attribute_context::{HttpRequest, Request},
    authorization_client::AuthorizationClient,
    check_response::HttpResponse,
};

#[test]
fn a_face_that_nobody_asked_for_is_off() {
    let gate = Gate::start(POLICY, &[]);
    gate.address("proxy");
    let log = gate.stop();
    for face in ["tokens", "ext_authz", "forward_auth"] {
        assert!(!log.contains(&format!("\"face\":\"{face}\"")), "{log}");
    }
}

#[test]
fn forward_auth_and_tokens_are_served_where_flags_say() {
    let gate = Gate::start(
        POLICY,
        &[
            "--forward-auth-address=127.0.0.1:0",
            "--tokens-address=127.0.0.1:0",
        ],
    );
    let (status, body) = get(gate.address("forward_auth"), "/forward-auth");
    assert_eq!(status, 400);
    assert!(body.contains("X-Forwarded-Method"), "{body}");
    assert_eq!(get(gate.address("tokens"), "/token/orders").0, 405);
    gate.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_is_answered_where_a_flag_says() {
    let gate = Gate::start(POLICY, &["--ext-authz-address=127.0.0.1:0"]);
    let address = gate.address("ext_authz");
    let mut client = AuthorizationClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    for (path, expected) in [
        ("/mcp", 401),
        ("/other", 404),
        ("/.well-known/oauth-protected-resource/mcp", 200),
    ] {
        let http = HttpRequest {
            method: "GET".to_owned(),
            path: path.to_owned(),
            size: -1,
            ..HttpRequest::default()
        };
        let request = CheckRequest {
            attributes: Some(AttributeContext {
                request: Some(Request {
                    http: Some(http),
                    ..Request::default()
                }),
                ..AttributeContext::default()
            }),
        };
        let answered = client.check(request).await.unwrap().into_inner();
        let Some(HttpResponse::DeniedResponse(denied)) = answered.http_response else {
            panic!("{path}");
        };
        assert_eq!(denied.status.unwrap().code, expected, "{path}");
    }
    // Envoy keeps its connection, and answers pings: the gate has to end it.
    gate.stop();
}
