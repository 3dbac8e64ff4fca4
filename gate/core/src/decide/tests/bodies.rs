//! The body of a POST, and the headers that speak of it.

use super::*;

#[test]
fn a_body_is_plain_json_whatever_else_is_said() {
    let good = token("mcp:use");
    let typed = |value: &str| {
        post(&good, PING)
            .without("content-type")
            .with("content-type", value)
    };
    for (request, plain, why) in [
        (typed("application/json"), true, "as it is"),
        (typed("Application/JSON"), true, "without regard to case"),
        (typed("application/json; charset=utf-8"), true, "in UTF-8"),
        (
            typed("application/json;charset=\"UTF-8\""),
            true,
            "in UTF-8, quoted",
        ),
        (
            post(&good, PING).with("content-encoding", "identity"),
            true,
            "no encoding, spelled out",
        ),
        (
            post(&good, PING).with("accept", "application/json"),
            true,
            "Accept is the server's affair",
        ),
        (post(&good, PING).without("content-type"), false, "no type"),
        (typed(""), false, "an empty type"),
        (typed("text/plain"), false, "which pages may send without asking"),
        (typed("application/x-www-form-urlencoded"), false, "a form"),
        (typed("multipart/form-data"), false, "a form"),
        (typed("text/json"), false, "an old name"),
        (typed("application/json-rpc"), false, "another"),
        (typed("application/json5"), false, "a longer name"),
        (typed("application/vnd.api+json"), false, "another"),
        (typed("application/json, text/plain"), false, "two in one"),
        (
            typed("application/json; charset=utf-16"),
            false,
            "in other letters",
        ),
        (
            typed("application/json; charset=utf-8; charset=utf-7"),
            false,
            "in two",
        ),
        (
            typed("application/json; boundary=x"),
            false,
            "a parameter that it does not have",
        ),
        (typed("application/json;"), false, "half a parameter"),
        (
            typed("application/json").with("content-type", "application/json"),
            false,
            "two headers",
        ),
        (
            typed("application/json").with("content-type", "text/plain"),
            false,
            "two headers",
        ),
        (
            post(&good, PING).with("content-encoding", "gzip"),
            false,
            "compressed",
        ),
        (
            post(&good, PING).with("content-encoding", ""),
            false,
            "encoded in no known way",
        ),
        (
            post(&good, PING)
                .with("content-encoding", "identity")
                .with("content-encoding", "br"),
            false,
            "twice",
        ),
        (
            post(&good, PING).with("content-encoding", "identity, gzip"),
            false,
            "twice",
        ),
    ] {
        match request.decide() {
            Decision::Allow(_) => assert!(plain, "{why}"),
            decision => {
                let answer = answer(decision);
                assert_eq!(
                    (answer.status.as_u16(), answer.reason),
                    (400, Reason::ContentType),
                    "{why}"
                );
                assert!(!plain, "{why}");
            }
        }
    }
}

#[test]
fn a_body_must_be_there_and_whole() {
    let good = token("mcp:use");
    assert_eq!(post(&good, "").answer().reason, Reason::BodyPresence);
    let partial = answer(post(&good, PING).decide_by(&policy(), &issuer_keys(), true));
    assert_eq!((partial.status.as_u16(), partial.reason), (413, Reason::BodySize));
    let unnamed = answer(bare("POST", "/a/mcp").decide_by(&policy(), &issuer_keys(), true));
    assert_eq!(
        unnamed.status,
        StatusCode::UNAUTHORIZED,
        "without a token nobody need know"
    );
}

/// What a caller who may read can do, and that no spelling gets them further.
#[test]
fn no_spelling_of_a_call_avoids_its_scopes() {
    let reader = token("mcp:use notes:read");
    let arguments = "x".repeat(9000);
    for (body, status, why) in [
        (call("read_note"), 200, "may read"),
        (call("write_note"), 403, "may not write"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write\u005fnote"}}"#.into(), 403, "escaped"),
        (r#"{"params":{"name":"write_note"},"method":"tools/call","id":1,"jsonrpc":"2.0"}"#.into(), 403, "in another order"),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"arguments":{{"a":"{arguments}"}},"name":"write_note"}}}}"#), 403, "far behind"),
        (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"write_note"}}"#.into(), 403, "as a notification"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write_note","name":"read_note"}}"#.into(), 400, "twice"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_note","name":"write_note"}}"#.into(), 400, "twice, the other way"),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write_note"}}]"#.into(), 400, "in a batch"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_note","Name":"write_note"}}"#.into(), 400, "in other case"),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"method":"tools/call","params":{"name":"write_note"}}"#.into(), 400, "as an answer"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[{"name":"write_note"}]}"#.into(), 400, "in a list"),
        (call("Write_note"), 200, "another tool, by the rule for all notes"),
        (call("write_note "), 403, "another tool"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"TOOLS/CALL","params":{"name":"write_note"}}"#.into(), 200, "no method of MCP: the server knows none either"),
    ] {
        match post(&reader, &body).decide() {
            Decision::Allow(_) => assert_eq!(status, 200, "{why}"),
            decision => assert_eq!(answer(decision).status.as_u16(), status, "{why}"),
        }
    }
}

#[test]
fn everything_but_calls_needs_the_scopes_of_the_challenge() {
    let listen = |uris: &[&str]| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {"notifications": {"resourceSubscriptions": uris}}}).to_string()
    };
    let method = |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
    for (body, needed) in [
        (method("initialize"), "mcp:use"),
        (method("tools/list"), "mcp:use"),
        (method("server/discover"), "mcp:use"),
        (method("no/such/method"), "mcp:use"),
        (method(""), "mcp:use"),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#.into(),
            "mcp:use",
        ),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(), "mcp:use"),
        (listen(&[]), "mcp:use"),
        (listen(&["note:///1", "note:///2"]), "notes:read"),
    ] {
        assert_eq!(
            post(&token("notes:write"), &body).decide_reason(),
            if needed == "mcp:use" { "scope" } else { "allowed" },
            "{body}"
        );
        assert_eq!(post(&token(needed), &body).decide_reason(), "allowed", "{body}");
    }
    let mixed = listen(&["note:///1", "file:///etc/passwd"]);
    assert_eq!(
        post(&token("notes:admin"), &mixed).decide_reason(),
        "unmatched",
        "one that nobody may read"
    );
}

/// The new wire repeats the body in headers; the old one does not know them.
#[test]
fn headers_say_what_the_body_says() {
    let good = token("mcp:use notes:write");
    let new = |body: &str| post(&good, body).with("mcp-protocol-version", "2026-07-28");
    let (method, name) = ("mcp-method", "mcp-name");
    for (request, reason, why) in [
        (
            new(&call("write_note"))
                .with(method, "tools/call")
                .with(name, "write_note"),
            "allowed",
            "as it should be",
        ),
        (
            new(&call("write_note"))
                .with(method, "tools/call")
                .with(name, "=?base64?d3JpdGVfbm90ZQ==?="),
            "allowed",
            "encoded",
        ),
        (new(&call("write_note")), "header_mismatch", "neither"),
        (
            new(&call("write_note")).with(method, "tools/call"),
            "header_mismatch",
            "no name",
        ),
        (
            new(&call("write_note")).with(name, "write_note"),
            "header_mismatch",
            "no method",
        ),
        (
            new(&call("write_note"))
                .with(method, "tools/call")
                .with(name, "read_note"),
            "header_mismatch",
            "another name",
        ),
        (
            new(&call("write_note"))
                .with(method, "tools/list")
                .with(name, "write_note"),
            "header_mismatch",
            "another method",
        ),
        (
            new(&call("write_note"))
                .with(method, "Tools/Call")
                .with(name, "write_note"),
            "header_mismatch",
            "in other case",
        ),
        (
            new(&call("write_note"))
                .with(method, "tools/call")
                .with(name, "write_note")
                .with(name, "write_note"),
            "header_mismatch",
            "twice",
        ),
        (
            new(&call("write_note"))
                .with(method, "tools/call")
                .with(name, "=?BASE64?d3JpdGVfbm90ZQ==?="),
            "header_mismatch",
            "encoded by another name",
        ),
        (new(PING).with(method, "ping"), "allowed", "no name is needed"),
        (
            new(PING).with(method, "ping").with(name, "x"),
            "header_mismatch",
            "nor wanted",
        ),
        (
            post(&good, &call("write_note"))
                .with(method, "tools/list")
                .with(name, "read_note"),
            "allowed",
            "the old wire: by the body",
        ),
        (
            post(&token("mcp:use"), &call("write_note"))
                .with(method, "tools/list")
                .with(name, "read_note"),
            "scope",
            "the old wire: lies do not help",
        ),
        (
            new(&call("write_note")).with("mcp-protocol-version", "2025-11-25"),
            "protocol_version",
            "two versions",
        ),
    ] {
        assert_eq!(request.decide_reason(), reason, "{why}");
    }
}

impl Request {
    fn decide_reason(&self) -> &'static str {
        match self.decide() {
            Decision::Allow(_) => "allowed",
            decision => answer(decision).reason.as_str(),
        }
    }
}
