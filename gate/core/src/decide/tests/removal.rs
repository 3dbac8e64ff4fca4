//! What of a request must not reach the server.

use super::*;

fn removed(request: &Request) -> Vec<String> {
    let mut names: Vec<String> = request.allowed().remove.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

#[test]
fn credentials_stay_behind_under_every_name() {
    let good = token("mcp:use");
    let signature = good.rsplit('.').next().unwrap();
    assert_eq!(removed(&post(&good, PING)), ["authorization"]);
    for (name, value) in [
        ("proxy-authorization", "Basic x"),
        ("cookie", "a=b"),
        ("mcp-auth-handle", "x"),
        ("x-access-token", "x"),
        ("x-auth-request-access-token", "x"),
        ("x-forwarded-access-token", "x"),
        ("x-mcp-subject", "admin"),
        ("x-mcp-client", "admin"),
        ("x-mcp-scopes", "notes:admin"),
        ("mcp_auth_handle", "x"),
        ("mcp_method", "tools/call"),
        ("mcp_name", "read_note"),
        ("mcp_session_id", "x"),
        ("mcp-session_id", "x"),
        ("mcp_protocol-version", "2025-11-25"),
        ("mcp_param_region", "eu"),
        ("x-anything", &*good),
        ("x-anything", signature),
        ("x-anything", &*format!("a; {signature}; b")),
        ("user-agent", &*format!("agent/1 ({good})")),
        ("mcp-session-id", signature),
        ("last-event-id", signature),
    ] {
        let mut expected = ["authorization", name];
        expected.sort_unstable();
        assert_eq!(
            removed(&post(&good, PING).with(name, value)),
            expected,
            "{name}: {value}"
        );
    }
    let twice = post(&good, PING).with("x-a", "fine").with("x-a", signature);
    assert_eq!(removed(&twice), ["authorization", "x-a"], "in any of its values");
}

#[test]
fn what_is_no_credential_goes_on() {
    let good = token("mcp:use");
    for (name, value) in [
        ("mcp-session-id", "s"),
        ("last-event-id", "1"),
        ("mcp-protocol-version", "2025-11-25"),
        ("accept", "text/event-stream"),
        ("traceparent", "00-1-1-00"),
        ("x-request-id", "1"),
        ("mcp-param-region", "eu"),
    ] {
        assert_eq!(
            removed(&post(&good, PING).with(name, value)),
            ["authorization"],
            "{name}"
        );
    }
}

#[test]
fn headers_of_the_other_wire_stay_behind() {
    let good = token("mcp:use");
    let old = post(&good, PING)
        .with("mcp-method", "tools/call")
        .with("mcp-name", "x");
    assert_eq!(
        removed(&old),
        ["authorization", "mcp-method", "mcp-name"],
        "nobody compared them"
    );
    let new = post(&good, PING)
        .with("mcp-protocol-version", "2026-07-28")
        .with("mcp-method", "ping");
    assert_eq!(removed(&new), ["authorization"]);
    let session = new.with("mcp-session-id", "somebody-else's");
    assert_eq!(
        removed(&session),
        ["authorization", "mcp-session-id"],
        "nobody looked whose it is"
    );
}

#[test]
fn a_body_with_the_token_does_not_go_on() {
    let good = token("mcp:use");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"t": good}}).to_string();
    let answer = post(&good, &body).answer();
    assert_eq!(answer.reason.as_str(), "body_holds_token");
    let other = token("mcp:use notes:read");
    assert_eq!(
        removed(&post(&other, &body)),
        ["authorization"],
        "a token that is not the caller's is text"
    );
}
