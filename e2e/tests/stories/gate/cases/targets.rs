//! Spellings of the endpoint's address that some reader takes for the endpoint, and that for no other one.

use crate::gate::case::{Case, Challenge, Difference, Expect, REFUSED, passes};

pub(crate) fn cases() -> Vec<Case> {
    [decoded(), climbing(), queries(), whole()]
        .into_iter()
        .flatten()
        .collect()
}

/// With a good token, and so refused for the path alone.
fn nowhere(why: &'static str, target: &str) -> Case {
    Case::new(why).target(target).not_found()
}

/// A spelling that engines put into another form, which is the endpoint.
fn normal(why: &'static str, target: &str) -> Case {
    nowhere(why, target).engines(Difference::NormalPath, &passes())
}

/// Readers that decode before they split, and those that split first.
fn decoded() -> Vec<Case> {
    vec![
        nowhere("a slash in percent at the end", "/a/mcp%2f"),
        nowhere("a slash in percent at the end, in capitals", "/a/mcp%2F"),
        nowhere("a question mark in percent", "/a/mcp%3fx"),
        nowhere("a number sign in percent", "/a/mcp%23x"),
        nowhere("a percent sign in percent", "/a/%256dcp"),
        nowhere("a space in percent", "/a/mcp%20"),
        nowhere("a line end in percent", "/a/mcp%0d%0a"),
        nowhere("a parameter at the end", "/a/mcp;"),
        nowhere("a parameter in percent", "/a/mcp%3bx"),
        nowhere("a percent sign without digits", "/a/mcp%")
            .traefik(Difference::OwnRefusal, Expect::Front(&[400])),
        normal("all letters in percent", "/%61/%6D%63%70"),
    ]
}

fn climbing() -> Vec<Case> {
    vec![
        normal("a step up from the endpoint and back", "/a/mcp/../mcp"),
        normal("a step up above the root", "/../a/mcp"),
        normal("a way to the endpoint from another place", "/x/../a/mcp"),
        nowhere("a step up with a parameter", "/a/mcp/..;/mcp").envoy(Difference::NormalPath, passes()),
        nowhere("a dot at the end", "/a/mcp/.").traefik(Difference::NormalPath, passes()),
        nowhere("a step up at the end", "/a/mcp/x/..").traefik(Difference::NormalPath, passes()),
        nowhere("the endpoint and two slashes", "/a/mcp//"),
    ]
}

/// The path is judged without the query, which goes on as it is.
fn queries() -> Vec<Case> {
    vec![
        Case::new("a query of one word").target("/a/mcp?x"),
        Case::new("an empty query").target("/a/mcp?"),
        Case::new("a query with a question mark").target("/a/mcp?x?y"),
        Case::new("a query with a path").target("/a/mcp?/../x"),
        nowhere("a slash before the query", "/a/mcp/?x"),
        Case::bare("a query of one word without a token", "POST", "/a/mcp?x").answers(
            401,
            Challenge::Missing,
            REFUSED,
        ),
    ]
}

/// Targets in absolute form (RFC 9112, 3.2.2), and `*`.
fn whole() -> Vec<Case> {
    let away = |why, target| Case::new(why).target(target).not_found();
    vec![
        Case::new("the whole address over https").target("https://mcp.example/a/mcp"),
        Case::new("the whole address with a query").target("http://mcp.example/a/mcp?x"),
        away("the whole address of another path", "http://mcp.example/a/mcp/x"),
        away("the whole address without a path", "http://mcp.example"),
        Case::bare(
            "the whole address without a token",
            "POST",
            "http://mcp.example/a/mcp",
        )
        .answers(401, Challenge::Missing, REFUSED),
        Case::bare("what the whole server can do", "OPTIONS", "*")
            .not_found()
            .envoy(Difference::OwnRefusal, Expect::Front(&[404]))
            .traefik(Difference::OwnRefusal, Expect::Front(&[200])),
    ]
}
