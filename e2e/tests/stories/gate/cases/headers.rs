//! Headers that speak of the body, headers that carry credentials, and headers that are the gate's own.

use crate::gate::case::{Case, Challenge, Difference, Expect, MISMATCH, REFUSED, VERSION, call};

pub(crate) fn cases() -> Vec<Case> {
    [stateless(), sessions(), forged(), credentials()]
        .into_iter()
        .flatten()
        .collect()
}

const METHOD: (&str, &str) = ("mcp-method", "tools/call");

/// The wire without sessions, on which headers repeat the body.
fn stateless() -> Vec<Case> {
    let read = |why, headers: &[(&str, &str)]| Case::new(why).call("read_note").stateless(headers);
    let mismatch = |case: Case| case.bad(MISMATCH);
    let kept: &[(&'static str, &'static str)] = &[
        METHOD,
        ("mcp-name", "read_note"),
        ("mcp-protocol-version", "2026-07-28"),
    ];
    vec![
        read(
            "headers that repeat the body",
            &[METHOD, ("mcp-name", "read_note")],
        )
        .passes_with(kept),
        read(
            "a name in base64",
            &[METHOD, ("mcp-name", "=?base64?cmVhZF9ub3Rl?=")],
        )
        .passes_with(&[("mcp-name", "=?base64?cmVhZF9ub3Rl?=")]),
        mismatch(read("neither method nor name", &[])),
        mismatch(read("no name", &[METHOD])),
        mismatch(read("no method", &[("mcp-name", "read_note")])),
        mismatch(read(
            "another method",
            &[("mcp-method", "tools/list"), ("mcp-name", "read_note")],
        )),
        mismatch(read("another name", &[METHOD, ("mcp-name", "write_note")])),
        mismatch(read("a name in other case", &[METHOD, ("mcp-name", "Read_note")])),
        mismatch(read(
            "another name in base64",
            &[METHOD, ("mcp-name", "=?base64?d3JpdGVfbm90ZQ==?=")],
        )),
        mismatch(read(
            "a name in broken base64",
            &[METHOD, ("mcp-name", "=?base64?!?=")],
        )),
        mismatch(read(
            "the name in two headers",
            &[METHOD, ("mcp-name", "read_note"), ("mcp-name", "write_note")],
        )),
        mismatch(read(
            "the method in two headers",
            &[METHOD, METHOD, ("mcp-name", "read_note")],
        )),
        mismatch(
            Case::new("headers that lie about a forbidden call")
                .call("write_note")
                .stateless(&[METHOD, ("mcp-name", "read_note")]),
        ),
        Case::new("headers that tell of a forbidden call")
            .call("write_note")
            .stateless(&[METHOD, ("mcp-name", "write_note")])
            .needs("notes:write mcp:use"),
        Case::new("a method without a name")
            .stateless(&[("mcp-method", "ping")])
            .passes_with(&[("mcp-method", "ping")]),
        mismatch(
            Case::new("a name where none is due").stateless(&[("mcp-method", "ping"), ("mcp-name", "x")]),
        ),
        mismatch(Case::new("a newer version").header("mcp-protocol-version", "2027-01-01")),
        mismatch(Case::new("no date for a version").header("mcp-protocol-version", "draft")),
        Case::new("no word for a version")
            .header("mcp-protocol-version", "2026 07 28")
            .bad(VERSION),
        Case::new("two versions")
            .header("mcp-protocol-version", "2025-11-25")
            .header("mcp-protocol-version", "2026-07-28")
            .bad(VERSION),
        Case::new("a session on the wire without")
            .stateless(&[("mcp-method", "ping")])
            .header("mcp-session-id", "of-somebody-else")
            .passes_without(&["mcp-session-id"]),
    ]
}

/// The wire with sessions, which knows no such headers.
fn sessions() -> Vec<Case> {
    let lies = [("mcp-method", "tools/list"), ("mcp-name", "read_note")];
    let with = |case: Case| {
        lies.iter()
            .fold(case, |case, (name, value)| case.header(name, value))
    };
    let own = Expect::Passes {
        gone: Vec::new(),
        kept: vec![("mcp-session-id", "of-the-server")],
    };
    let foreign = Case::new("a session that the gate did not seal").header("mcp-session-id", "of-the-server");
    vec![
        foreign
            .answers(404, Challenge::Absent, REFUSED)
            .engines(Difference::Sessions, &own),
        with(Case::new("lies about a forbidden call on the old wire").call("write_note"))
            .needs("notes:write mcp:use"),
        with(
            Case::new("lies about a call on the old wire")
                .scopes("mcp:use notes:write")
                .call("write_note"),
        )
        .passes_without(&["mcp-method", "mcp-name"]),
        with(
            Case::new("lies on the old wire, by its version")
                .body(call("read_note"))
                .header("mcp-protocol-version", "2025-11-25"),
        )
        .passes_without(&["mcp-method", "mcp-name"]),
        Case::new("a version of the old wire")
            .header("mcp-protocol-version", "2025-06-18")
            .passes_with(&[("mcp-protocol-version", "2025-06-18")]),
    ]
}

/// What proxies tell each other, said by a client.
fn forged() -> Vec<Case> {
    let forbidden = |why, name: &str, value: &str| {
        let case = Case::new(why).call("write_note").header(name, value);
        case.needs("notes:write mcp:use")
    };
    vec![
        forbidden(
            "another target, as Traefik tells it",
            "x-forwarded-uri",
            "/.well-known/oauth-protected-resource",
        ),
        forbidden(
            "another method, as Traefik tells it",
            "x-forwarded-method",
            "OPTIONS",
        ),
        forbidden("another target, as Envoy tells it", "x-envoy-original-path", "/"),
        forbidden("another target, as other proxies tell it", "x-original-url", "/"),
        forbidden(
            "a whole body, as Envoy tells it",
            "x-envoy-auth-partial-body",
            "false",
        ),
        forbidden(
            "another method, as old clients tell it",
            "x-http-method-override",
            "OPTIONS",
        ),
        forbidden("the length of another body", "x-original-content-length", "2"),
    ]
}

/// What must not reach the server, and what must.
fn credentials() -> Vec<Case> {
    let refused = Expect::Answers {
        status: 400,
        challenge: Challenge::Absent,
        code: Some(REFUSED),
    };
    let gone =
        |why, name: &'static str, value: &str| Case::new(why).header(name, value).passes_without(&[name]);
    let held = |why, name: &'static str, value: &str| {
        gone(why, name, value).traefik(Difference::HoldsToken, refused.clone())
    };
    vec![
        gone("a cookie", "cookie", "session=x"),
        gone("a password for a proxy", "proxy-authorization", "Basic YTpi"),
        gone("a handle for tokens", "mcp-auth-handle", "x"),
        gone("a handle for tokens, as CGI spells it", "mcp_auth_handle", "x")
            .traefik(Difference::HoldsToken, refused.clone()),
        gone("a subject, as CGI spells it", "x_mcp_subject", "admin")
            .traefik(Difference::HoldsToken, refused.clone()),
        gone("a subject that the caller made up", "x-mcp-subject", "admin"),
        gone("a client that the caller made up", "x-mcp-client", "admin"),
        gone("scopes that the caller made up", "x-mcp-scopes", "notes:admin"),
        gone(
            "the token as proxies pass it on",
            "x-forwarded-access-token",
            "{token}",
        ),
        gone(
            "the token as other proxies pass it on",
            "x-auth-request-access-token",
            "{token}",
        ),
        gone("a method, as CGI spells it", "mcp_method", "tools/call")
            .traefik(Difference::HoldsToken, refused.clone()),
        Case::new("half of a web socket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .bad(REFUSED),
        held("the token in any other header", "x-anything", "{token}"),
        held(
            "the signature of the token in other text",
            "user-agent",
            "agent/1 ({signature})",
        ),
        held("the token as an event id", "last-event-id", "{token}"),
        Case::new("a header that nobody knows")
            .header("x-anything", "x")
            .passes_with(&[("x-anything", "x")]),
        Case::new("the trace of a request").header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        Case::new("a header of an application")
            .header("mcp-param-region", "eu")
            .passes_with(&[("mcp-param-region", "eu")]),
        Case::new("a forged host").set("host", "evil.example"),
        Case::new("forged hosts, as proxies forward them")
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-proto", "http")
            .header("forwarded", "host=evil.example"),
        Case::bare("a forged host without a token", "POST", "/a/mcp")
            .set("host", "evil.example")
            .header("x-forwarded-host", "evil.example")
            .answers(401, Challenge::Missing, REFUSED),
    ]
}
