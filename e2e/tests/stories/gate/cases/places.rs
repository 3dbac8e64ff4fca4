//! Paths, methods, and pages.

use crate::gate::case::{Case, Challenge, Difference, Expect, OWN_PAGE, REFUSED, passes};

const AT: &str = "/.well-known/oauth-protected-resource/a/mcp";

pub(crate) fn cases() -> Vec<Case> {
    [metadata(), paths(), methods(), pages(), preflights()]
        .into_iter()
        .flatten()
        .collect()
}

fn metadata() -> Vec<Case> {
    let found = |why, target| Case::bare(why, "GET", target).expect(Expect::Metadata);
    vec![
        found("the metadata", AT),
        found(
            "the metadata with a query",
            "/.well-known/oauth-protected-resource/a/mcp?x=1",
        ),
        found("the metadata for any page", AT).header("origin", "https://any.example"),
        found("the metadata under a forged host", AT)
            .set("host", "evil.example")
            .header("x-forwarded-host", "evil.example"),
        found("the metadata with a bad token", AT).header("authorization", "Bearer x"),
        Case::bare(
            "the top level of a host with several servers",
            "GET",
            "/.well-known/oauth-protected-resource",
        )
        .not_found(),
        Case::bare(
            "metadata behind the path",
            "GET",
            "/a/mcp/.well-known/oauth-protected-resource",
        )
        .not_found(),
        Case::bare(
            "metadata of another server",
            "GET",
            "/.well-known/oauth-protected-resource/b/mcp",
        )
        .not_found(),
        Case::bare(
            "metadata with a slash",
            "GET",
            "/.well-known/oauth-protected-resource/a/mcp/",
        )
        .not_found(),
        Case::bare("metadata that are posted", "POST", AT).answers(405, Challenge::Absent, REFUSED),
        Case::bare(
            "the issuer's metadata",
            "GET",
            "/.well-known/oauth-authorization-server",
        )
        .not_found(),
    ]
}

/// With a good token; the body is a call that may be made.
fn paths() -> Vec<Case> {
    let normal = |why, target| Case::new(why).target(target).not_found();
    let both = passes();
    vec![
        normal("a path in other case", "/A/mcp"),
        normal("a path with a slash", "/a/mcp/"),
        normal("a path below", "/a/mcp/x"),
        normal("a path above", "/a"),
        normal("the root", "/"),
        normal("a path with a parameter", "/a/mcp;x=1"),
        normal("a letter in percent", "/a/%6dcp").engines(Difference::NormalPath, &both),
        normal("a slash in percent", "/a%2fmcp"),
        normal("NUL in percent", "/a/mcp%00").envoy(Difference::OwnRefusal, Expect::Front(&[400])),
        Case::new("a fragment")
            .target("/a/mcp#x")
            .engines(Difference::OwnRefusal, &Expect::Front(&[400, 404])),
        Case::new("the whole address").target("http://mcp.example/a/mcp"),
        Case::new("the whole address of somebody else").target("http://evil.example/a/mcp"),
        Case::new("no path at all")
            .target("*")
            .expect(Expect::Front(&[400, 404])),
        normal("two slashes", "//a/mcp").engines(Difference::NormalPath, &both),
        normal("two slashes inside", "/a//mcp").engines(Difference::NormalPath, &both),
        normal("a dot segment", "/a/./mcp").engines(Difference::NormalPath, &both),
        normal("a step up", "/a/x/../mcp").engines(Difference::NormalPath, &both),
        normal("a step up in percent", "/a/x/%2e%2e/mcp").engines(Difference::NormalPath, &both),
        normal("a backslash", "/a\\mcp")
            .envoy(Difference::NormalPath, both.clone())
            .traefik(Difference::OwnRefusal, Expect::Front(&[400, 404])),
    ]
}

fn methods() -> Vec<Case> {
    let bodiless = |why, method| {
        Case::new(why)
            .method(method)
            .body("")
            .framing(super::NOTHING)
            .without("content-type")
    };
    let not_allowed = |case: Case| case.answers(405, Challenge::Absent, REFUSED);
    vec![
        bodiless("a stream of events", "GET"),
        bodiless("a stream of events, without the scope", "GET")
            .scopes("notes:read")
            .needs("mcp:use"),
        bodiless("a stream of events, without a token", "GET")
            .without("authorization")
            .answers(401, Challenge::Missing, REFUSED),
        bodiless("the end of a session", "DELETE"),
        bodiless("the end of a session, without a token", "DELETE")
            .without("authorization")
            .answers(401, Challenge::Missing, REFUSED),
        not_allowed(bodiless("GET on the new wire", "GET").header("mcp-protocol-version", "2026-07-28")),
        not_allowed(
            bodiless("DELETE on the new wire", "DELETE").header("mcp-protocol-version", "2026-07-28"),
        ),
        not_allowed(Case::new("PUT").method("PUT")),
        not_allowed(Case::new("PATCH").method("PATCH")),
        Case::new("PUT without a token")
            .method("PUT")
            .without("authorization")
            .answers(401, Challenge::Missing, REFUSED),
    ]
}

fn pages() -> Vec<Case> {
    let strange = |case: Case| case.answers(403, Challenge::Absent, REFUSED);
    vec![
        Case::new("the page of the resource").header("origin", OWN_PAGE),
        Case::new("the page of the resource without a token")
            .header("origin", OWN_PAGE)
            .without("authorization")
            .answers(401, Challenge::Missing, REFUSED),
        Case::new("the page of the resource with too little")
            .header("origin", OWN_PAGE)
            .call("write_note")
            .needs("notes:write mcp:use"),
        Case::new("the page of the resource with nonsense")
            .header("origin", OWN_PAGE)
            .body("{")
            .bad(crate::gate::case::NOT_JSON),
        Case::new("the page of the resource with a bad token")
            .header("origin", OWN_PAGE)
            .set("authorization", "Bearer x")
            .invalid("the token cannot be read"),
        strange(Case::new("a strange page").header("origin", "https://evil.example")),
        strange(
            Case::new("a strange page without a token")
                .header("origin", "https://evil.example")
                .without("authorization"),
        ),
        strange(
            Case::new("a strange page at a strange path")
                .header("origin", "https://evil.example")
                .target("/x"),
        ),
        strange(Case::new("a page without origin").header("origin", "null")),
        strange(Case::new("a page of another port").header("origin", "https://mcp.example:8443")),
        strange(Case::new("a page over plain http").header("origin", "http://mcp.example")),
        strange(Case::new("a page that begins like it").header("origin", "https://mcp.example.evil.example")),
        strange(
            Case::new("two origins")
                .header("origin", OWN_PAGE)
                .header("origin", OWN_PAGE),
        ),
        strange(
            Case::bare("a preflight of a strange page", "OPTIONS", "/a/mcp")
                .header("origin", "https://evil.example"),
        ),
    ]
}

fn preflights() -> Vec<Case> {
    let preflight = |why| {
        Case::bare(why, "OPTIONS", "/a/mcp")
            .header("origin", OWN_PAGE)
            .header("access-control-request-method", "POST")
    };
    let granted = Expect::Answers {
        status: 204,
        challenge: Challenge::Absent,
        code: None,
    };
    vec![
        preflight("a preflight").expect(granted.clone()),
        preflight("a preflight with headers of MCP")
            .header(
                "access-control-request-headers",
                "authorization,mcp-method,mcp-name",
            )
            .expect(granted.clone()),
        preflight("a preflight with a bad token")
            .header("authorization", "Bearer x")
            .expect(granted),
        preflight("a preflight elsewhere").target("/x").not_found(),
    ]
}
