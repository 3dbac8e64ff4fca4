//! One path is the server, one or two are its metadata, and nothing else is there.

use super::*;

const AT: &str = "/.well-known/oauth-protected-resource/a/mcp";
const TOP: &str = "/.well-known/oauth-protected-resource";

#[test]
fn metadata_need_no_token() {
    for target in [AT, "/.well-known/oauth-protected-resource/a/mcp?x=1"] {
        for method in ["GET", "HEAD"] {
            for request in [
                bare(method, target),
                bare(method, target)
                    .with("authorization", "Bearer x")
                    .with("host", "evil.example")
                    .with("x-forwarded-host", "evil.example"),
            ] {
                let answer = request.answer();
                assert_eq!((answer.status, answer.reason), (StatusCode::OK, Reason::Metadata));
                assert_eq!(answer.body, policy().metadata);
                let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
                assert_eq!(body["resource"], RESOURCE);
                assert_eq!(values(&answer, "content-type"), ["application/json"]);
                assert_eq!(values(&answer, "cache-control"), ["public, max-age=300"]);
                assert_eq!(values(&answer, "access-control-allow-origin"), ["*"]);
            }
        }
        for method in ["POST", "PUT", "DELETE"] {
            let answer = bare(method, target).answer();
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(values(&answer, "allow"), ["GET, HEAD, OPTIONS"]);
        }
        let preflight = bare("OPTIONS", target)
            .with("origin", "https://any.example")
            .answer();
        assert_eq!(preflight.status, StatusCode::NO_CONTENT);
        assert_eq!(values(&preflight, "access-control-allow-origin"), ["*"]);
        assert_eq!(values(&preflight, "access-control-allow-headers"), ["*"]);
        assert_eq!(
            values(&preflight, "access-control-allow-methods"),
            ["GET, HEAD, OPTIONS"]
        );
    }
}

#[test]
fn the_top_level_is_for_a_server_alone_on_its_host() {
    assert_eq!(bare("GET", TOP).answer().status, StatusCode::NOT_FOUND);
    let alone = policy_with(&json!({"aloneOnHost": true}));
    let answer = answer(bare("GET", TOP).decide_by(&alone, &issuer_keys(), false));
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &alone.metadata));
}

/// Paths that some proxy or server could take for the endpoint, or for the metadata.
#[test]
fn paths_are_compared_byte_for_byte() {
    let good = token("mcp:use notes:write");
    for target in [
        "/",
        "",
        "/a",
        "/a/",
        "/a/mcp/",
        "//a/mcp",
        "/a//mcp",
        "/a/mcp//",
        "/a/%6dcp",
        "/%61/mcp",
        "/a%2fmcp",
        "/a%2Fmcp",
        "/A/mcp",
        "/a/MCP",
        "/a/./mcp",
        "/a/../a/mcp",
        "/b/../a/mcp",
        "/a/mcp/.",
        "/a/mcp/x/..",
        "/a/mcp/../mcp",
        "/a/%2e/mcp",
        "/a/x/%2e%2e/mcp",
        "/a/mcp;x=1",
        "/a/mcp%00",
        "/a/mcp%20",
        "/a/mcp#x",
        "/a\\mcp",
        "a/mcp",
        "*",
        "https://mcp.example/a/mcp",
        "/a/mcp/messages",
        "/a/mcp/.well-known/oauth-protected-resource",
        "/a/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-protected-resource/a/mcp/",
        "/.well-known/oauth-protected-resource/",
        "/.well-known/oauth-protected-resource/a/%6dcp",
        "/.well-known/oauth-protected-resource/a",
        "/.Well-Known/oauth-protected-resource/a/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/healthz",
        "/metrics",
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            let request = Request {
                method,
                target: target.to_owned(),
                ..post(&good, PING)
            };
            let answer = request.answer();
            assert_eq!(
                (answer.status, answer.reason),
                (StatusCode::NOT_FOUND, Reason::NotFound),
                "{method} {target}"
            );
            assert!(
                values(&answer, "www-authenticate").is_empty(),
                "nothing leads from here to an issuer"
            );
        }
    }
}

#[test]
fn a_server_at_the_root_is_at_the_root_alone() {
    let root = policy_with(&json!({"resource": "https://mcp.example/"}));
    for (aud, good) in [("https://mcp.example/", true), ("https://mcp.example", false)] {
        let token = token_with("aud", &json!(aud));
        let request = Request {
            target: "/".to_owned(),
            ..post(&token, PING)
        };
        let decision = request.decide_by(&root, &issuer_keys(), false);
        assert_eq!(matches!(decision, Decision::Allow(_)), good, "{aud}");
    }
    assert_eq!(
        answer(bare("GET", TOP).decide_by(&root, &issuer_keys(), false)).status,
        StatusCode::OK
    );
    for target in ["", "//", "/mcp", "/.well-known/oauth-protected-resource/"] {
        assert_eq!(
            answer(bare("GET", target).decide_by(&root, &issuer_keys(), false)).status,
            StatusCode::NOT_FOUND,
            "{target}"
        );
    }
}
