//! Which headers a page may send.

use std::collections::BTreeSet;

/// Headers of MCP clients. `Authorization` must be named: a star does not stand for it.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Accept, MCP-Protocol-Version, Mcp-Method, Mcp-Name, Mcp-Session-Id, Last-Event-ID";
/// How many headers of MCP a preflight may ask for, besides those that are allowed in any case.
const MOST_NAMES: usize = 32;
/// How long the names of such headers may be, in bytes.
const LONGEST_NAME: usize = 64;

/// The value of `Access-Control-Allow-Headers`, when a page has `asked` for these.
pub(super) fn allowed_headers(asked: &str) -> String {
    let mut all = vec![ALLOWED_HEADERS];
    all.extend(own_headers(asked));
    all.join(", ")
}

/// The headers of MCP among those that a page wants to send, besides those that are allowed in any case. None of them
/// when there are more than any client has: nobody has shown a token yet.
fn own_headers(asked: &str) -> Vec<&str> {
    let is_own = |name: &&str| {
        let prefix = name.get(..4);
        prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("mcp-"))
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let mut seen: BTreeSet<String> = ALLOWED_HEADERS.split(", ").map(str::to_ascii_lowercase).collect();
    let mut own = Vec::new();
    for name in asked.split(',').map(str::trim).filter(is_own) {
        if name.len() > LONGEST_NAME {
            return Vec::new();
        }
        if !seen.insert(name.to_ascii_lowercase()) {
            continue;
        }
        if own.len() == MOST_NAMES {
            return Vec::new();
        }
        own.push(name);
    }
    own
}
