//! What a gate answers, byte for byte.

use super::*;

const METADATA: &str = "https://mcp.example/.well-known/oauth-protected-resource/a/mcp";

fn challenge(request: &Request) -> (u16, String) {
    let answer = request.answer();
    let values = values(&answer, "www-authenticate");
    assert_eq!(values.len(), 1, "{answer:?}");
    (answer.status.as_u16(), values[0].to_owned())
}

#[test]
fn challenges_are_spelled_so() {
    let description = "the token lacks a scope that this call needs";
    let missing = |scopes: &str| {
        format!(
            "Bearer error=\"insufficient_scope\", error_description=\"{description}\", \
             scope=\"{scopes}\", resource_metadata=\"{METADATA}\""
        )
    };
    let invalid = |why: &str| {
        format!(
            "Bearer error=\"invalid_token\", error_description=\"{why}\", \
             scope=\"mcp:use\", resource_metadata=\"{METADATA}\""
        )
    };
    let claimed = |claim: &str, value: serde_json::Value| post(&token_with(claim, &value), PING);
    for (request, status, expected) in [
        (
            bare("POST", "/a/mcp"),
            401,
            format!("Bearer scope=\"mcp:use\", resource_metadata=\"{METADATA}\""),
        ),
        (post("x", PING), 401, invalid("the token cannot be read")),
        (
            claimed("iss", json!("x")),
            401,
            invalid("the token is from another issuer"),
        ),
        (
            claimed("aud", json!("x")),
            401,
            invalid("the token is for another audience"),
        ),
        (claimed("exp", json!(1)), 401, invalid("the token has expired")),
        (
            claimed("nbf", json!(NOW + 99)),
            401,
            invalid("the token is not valid yet"),
        ),
        (
            post(&token("mcp:use"), PING).with("authorization", "x"),
            400,
            format!("Bearer error=\"invalid_request\", scope=\"mcp:use\", resource_metadata=\"{METADATA}\""),
        ),
        (post(&token(""), PING), 403, missing("mcp:use")),
        (
            post(&token("notes:read"), &call("write_note")),
            403,
            missing("notes:write mcp:use"),
        ),
        (
            post(&token("notes:write"), &call("write_note")),
            403,
            missing("notes:write mcp:use"),
        ),
        (
            post(&token("mcp:use"), &call("read_note")),
            403,
            missing("mcp:use notes:read"),
        ),
    ] {
        assert_eq!(challenge(&request), (status, expected));
    }
}

/// All scopes of the call, also those that the caller holds, in the order of the policy, each time the same.
#[test]
fn a_step_up_names_every_scope_of_the_call() {
    let policy = policy_with(&json!({"rules": [
        {"kind": "Tool", "match": "*", "scopes": ["notes:admin", "mcp:use"]},
        {"kind": "Tool", "match": "x", "scopes": ["notes:read", "notes:write"]},
    ]}));
    let all = "scope=\"notes:write mcp:use notes:read notes:admin\"";
    for scopes in ["", "mcp:use", "notes:read mcp:use", "notes:write", "openid"] {
        for _ in 0..3 {
            let answer = answer(post(&token(scopes), &call("x")).decide_by(&policy, &issuer_keys(), false));
            assert!(
                values(&answer, "www-authenticate")[0].contains(all),
                "{scopes}: {answer:?}"
            );
        }
    }
    let decision = post(&token("notes:admin"), &call("x")).decide_by(&policy, &issuer_keys(), false);
    assert!(
        matches!(decision, Decision::Allow(_)),
        "one scope that implies all is enough"
    );
}

/// Of a method that is gone from the stateless wire, without saying of what.
const SUBSCRIBE: &str = r#"{"jsonrpc":"2.0","id":7,"method":"resources/subscribe","params":{}}"#;

#[test]
fn refusals_are_errors_of_the_message() {
    for (request, code, id) in [
        (post(&token(""), PING), -32001, json!(7)),
        (post(&token("mcp:use"), &call("delete")), -32001, json!(7)),
        (
            post(&token(""), r#"{"jsonrpc":"2.0","id":"ä\"","method":"ping"}"#),
            -32001,
            json!("ä\""),
        ),
        (
            post(&token(""), r#"{"jsonrpc":"2.0","method":"notifications/x"}"#),
            -32001,
            json!(null),
        ),
        (post("x", PING), -32001, json!(null)),
        (bare("POST", "/a/mcp"), -32001, json!(null)),
        (post(&token("mcp:use"), "{"), -32700, json!(null)),
        (post(&token("mcp:use"), "[]"), -32600, json!(null)),
        (post(&token("mcp:use"), ""), -32600, json!(null)),
        (
            post(
                &token("mcp:use"),
                r#"{"jsonrpc":"2.0","id":7,"id":7,"method":"ping"}"#,
            ),
            -32600,
            json!(null),
        ),
        (
            post(
                &token("mcp:use"),
                r#"{"jsonrpc":"2.0","id":7,"method":"tools/call"}"#,
            ),
            -32602,
            json!(7),
        ),
        (
            post(&token("mcp:use"), PING).with("mcp-protocol-version", "2026-07-28"),
            -32020,
            json!(7),
        ),
        (
            post(&token("mcp:use"), PING).with("mcp-protocol-version", "draft"),
            -32020,
            json!(7),
        ),
        (
            post(&token("mcp:use"), PING).with("mcp-protocol-version", "a b"),
            -32022,
            json!(null),
        ),
        (
            post(&token("mcp:use"), SUBSCRIBE).with("mcp-protocol-version", "2026-07-28"),
            -32601,
            json!(7),
        ),
        (post(&token("mcp:use"), SUBSCRIBE), -32602, json!(7)),
    ] {
        let answer = request.answer();
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (&body["jsonrpc"], &body["error"]["code"], &body["id"]),
            (&json!("2.0"), &json!(code), &id)
        );
        assert!(body["error"]["message"].is_string());
        assert_eq!(values(&answer, "content-type"), ["application/json"]);
        assert_eq!(values(&answer, "cache-control"), ["no-store"]);
    }
}

/// No answer repeats what a caller sent, but the id of its message.
#[test]
fn answers_tell_nothing_of_the_request() {
    let secret = "s3cr3t";
    let good = token("mcp:use");
    for request in [
        post(secret, PING),
        post(&good, secret),
        post(&good, &call(secret)),
        post("", "").with("authorization", secret),
        post(&good, PING).with("mcp-protocol-version", secret),
        post(&good, PING)
            .with("mcp-protocol-version", "2026-07-28")
            .with("mcp-name", secret),
        bare("POST", "/s3cr3t"),
        bare("POST", "/a/mcp").with("origin", "https://s3cr3t.example"),
    ] {
        let answer = request.answer();
        assert!(!format!("{answer:?}").contains(secret), "{answer:?}");
    }
}

/// Every answer to a page that may call can be read by it; no other page learns more than that it may not.
#[test]
fn pages_can_read_answers() {
    let good = token("mcp:use");
    let own = "https://mcp.example";
    let exposed = "WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version";
    for request in [
        bare("POST", "/a/mcp"),
        post("x", PING),
        post(&token(""), PING),
        post(&good, &call("delete")),
        post(&good, "["),
        post(&good, PING).with("mcp-protocol-version", "x"),
        bare("PUT", "/a/mcp").with("authorization", &format!("Bearer {good}")),
        bare("OPTIONS", "/a/mcp"),
        bare("GET", "/nowhere"),
    ] {
        let answer = request.clone().with("origin", own).answer();
        assert_eq!(
            values(&answer, "access-control-allow-origin"),
            [own],
            "{answer:?}"
        );
        assert_eq!(values(&answer, "access-control-expose-headers"), [exposed]);
        assert_eq!(values(&answer, "vary"), ["Origin"]);
        assert!(values(&answer, "access-control-allow-credentials").is_empty());
        let answer = request.answer();
        assert!(values(&answer, "access-control-allow-origin").is_empty());
        assert_eq!(
            values(&answer, "vary"),
            ["Origin"],
            "a cache must not give this to a page"
        );
    }
    let large = post(&good, PING)
        .with("origin", own)
        .decide_by(&policy(), &issuer_keys(), true);
    let large = answer(large);
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(values(&large, "access-control-allow-origin"), [own]);
    let down = answer(
        post(&good, PING)
            .with("origin", own)
            .decide_by(&policy(), &Keys::default(), false),
    );
    assert_eq!(
        (down.status, values(&down, "retry-after")),
        (StatusCode::SERVICE_UNAVAILABLE, vec!["5"])
    );
    assert_eq!(values(&down, "access-control-allow-origin"), [own]);
}

#[test]
fn strange_origins_are_refused() {
    let good = token("mcp:use");
    for origin in [
        "https://evil.example",
        "null",
        "",
        "https://mcp.example.evil.example",
        "http://mcp.example",
        "https://mcp.example:444",
        "https://MCP.example",
        "https://mcp.example, https://evil.example",
        "ä",
    ] {
        let answer = post(&good, PING).with("origin", origin).answer();
        assert_eq!(
            (answer.status.as_u16(), answer.reason),
            (403, Reason::Origin),
            "{origin}"
        );
        assert!(
            values(&answer, "access-control-allow-origin").is_empty()
                && values(&answer, "www-authenticate").is_empty()
        );
    }
    let two = post(&good, PING)
        .with("origin", "https://mcp.example")
        .with("origin", "https://mcp.example");
    assert_eq!(
        two.answer().reason,
        Reason::Origin,
        "two headers, even of the right page"
    );
}

#[test]
fn a_preflight_needs_no_token() {
    let fixed = "Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Method, Mcp-Name, Mcp-Session-Id, Last-Event-ID";
    for (asked, added) in [
        ("", ""),
        ("authorization,content-type", ""),
        ("mcp-method, MCP-NAME", ""),
        ("mcp-param-region", ", mcp-param-region"),
        ("Mcp-Param-A,mcp-param-a,mcp-b", ", Mcp-Param-A, mcp-b"),
        ("x-evil, cookie", ""),
        ("mcp-a\"b, mcp-ä, mcp-a b", ""),
    ] {
        let request = bare("OPTIONS", "/a/mcp").with("origin", "https://mcp.example");
        let answer = request.with("access-control-request-headers", asked).answer();
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(
            values(&answer, "access-control-allow-headers"),
            [format!("{fixed}{added}")]
        );
        assert_eq!(
            values(&answer, "access-control-allow-methods"),
            ["GET, POST, DELETE, OPTIONS"]
        );
        assert_eq!(
            values(&answer, "access-control-allow-origin"),
            ["https://mcp.example"]
        );
        assert!(answer.body.is_empty());
    }
}

#[test]
fn a_preflight_is_answered_in_little_whatever_it_asks_for() {
    let names = |count: usize| {
        (0..count)
            .map(|at| format!("mcp-{at:x}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    for (asked, allowed, why) in [
        (names(32), 8 + 32, "as many as any client has"),
        (names(33), 8, "more"),
        (names(4000), 8, "32 KiB of them"),
        ("mcp-a,".repeat(5000), 8 + 1, "the same again and again"),
        (format!("mcp-a,mcp-{}", "b".repeat(60)), 8 + 2, "a long name"),
        (format!("mcp-a,mcp-{}", "b".repeat(61)), 8, "one that is too long"),
    ] {
        let answer = bare("OPTIONS", "/a/mcp")
            .with("access-control-request-headers", &asked)
            .answer();
        let header = values(&answer, "access-control-allow-headers")[0];
        assert_eq!(header.split(", ").count(), allowed, "{why}");
        assert!(header.len() < 4096, "{why}");
    }
}

#[test]
fn nobody_asks_for_another_protocol() {
    for (name, value) in [
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("upgrade", ""),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        let get = bare("GET", "/a/mcp").with("authorization", &format!("Bearer {}", token("mcp:use")));
        for request in [post(&token("mcp:use"), PING), get, bare("OPTIONS", "/a/mcp")] {
            let answer = request.with(name, value).answer();
            assert_eq!(
                (answer.status, answer.reason),
                (StatusCode::BAD_REQUEST, Reason::Head),
                "{name}: {value}"
            );
        }
    }
}
