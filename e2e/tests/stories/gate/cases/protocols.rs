//! Requests for another protocol, for a word before the body, and with methods that are not for servers.

use crate::gate::case::{Case, Challenge, Difference, Expect, REFUSED};

pub(crate) fn cases() -> Vec<Case> {
    [upgrades(), expectations(), methods()]
        .into_iter()
        .flatten()
        .collect()
}

/// A request without a body, with a good token.
fn get(why: &'static str) -> Case {
    let case = Case::new(why).method("GET").body("").framing(super::NOTHING);
    case.without("content-type")
}

/// What asks for another protocol on the connection; none of it reaches a server.
const UPGRADE: [&str; 2] = ["upgrade", "http2-settings"];

fn upgrades() -> Vec<Case> {
    let dropped = || Expect::Passes {
        gone: UPGRADE.to_vec(),
        kept: Vec::new(),
    };
    let forbidden = || Expect::Front(&[403]);
    let web_socket = |why| {
        get(why)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .bad(REFUSED)
            .envoy(Difference::Upgrades, forbidden())
    };
    // Traefik takes the header away, after which it is a request as any other.
    let other = |case: Case, envoy| {
        case.bad(REFUSED)
            .envoy(Difference::Upgrades, envoy)
            .traefik(Difference::Upgrades, dropped())
    };
    let settings = "AAMAAABkAARAAAAAAAIAAAAA";
    vec![
        web_socket("a web socket"),
        web_socket("a web socket without a token").without("authorization"),
        other(
            Case::new("a web socket that is posted")
                .header("connection", "upgrade")
                .header("upgrade", "websocket"),
            forbidden(),
        ),
        other(
            Case::new("an upgrade beside another option")
                .header("connection", "upgrade, x")
                .header("upgrade", "something/1"),
            forbidden(),
        ),
        other(
            Case::new("an upgrade that the connection does not name").header("upgrade", "something/1"),
            dropped(),
        ),
        Case::new("an upgrade that is named and not there")
            .header("connection", "upgrade, x")
            .passes_without(&UPGRADE),
        other(
            Case::new("HTTP/2 in clear")
                .header("connection", "Upgrade, HTTP2-Settings")
                .header("upgrade", "h2c")
                .header("http2-settings", settings),
            dropped(),
        ),
        other(
            Case::new("HTTP/2 in clear, and nothing of its settings")
                .header("connection", "upgrade")
                .header("upgrade", "h2c"),
            dropped(),
        ),
        Case::new("settings of HTTP/2 alone")
            .header("http2-settings", settings)
            .bad(REFUSED),
    ]
}

fn expectations() -> Vec<Case> {
    vec![
        Case::new("a word before the body").header("expect", "100-continue"),
        Case::new("a word before the body, in other case").header("expect", "100-Continue"),
        Case::new("a word before the body, without a token")
            .header("expect", "100-continue")
            .without("authorization")
            .answers(401, Challenge::Missing, REFUSED),
        Case::new("an expectation that nobody knows")
            .header("expect", "something")
            .traefik(Difference::OwnRefusal, Expect::Front(&[417])),
    ]
}

fn methods() -> Vec<Case> {
    let refused = |case: Case, by_envoy: &'static [u16]| {
        case.envoy(Difference::OwnRefusal, Expect::Front(by_envoy))
            .traefik(Difference::OwnRefusal, Expect::Front(&[501]))
    };
    let not_allowed = |case: Case| case.answers(405, Challenge::Absent, REFUSED);
    vec![
        not_allowed(get("TRACE").method("TRACE")),
        get("TRACE without a token")
            .method("TRACE")
            .without("authorization")
            .answers(401, Challenge::Missing, REFUSED),
        not_allowed(get("a method of somebody's own").method("PROPFIND")),
        refused(
            get("CONNECT")
                .method("CONNECT")
                .target("mcp.example:443")
                .not_found(),
            &[404],
        ),
        refused(not_allowed(get("CONNECT with a path").method("CONNECT")), &[400]),
    ]
}
