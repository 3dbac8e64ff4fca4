//! What of a request must not reach the server.

use http::{HeaderMap, HeaderName};

use crate::{
    body::Needle,
    wire::{self, Wire},
};

/// Headers by which credentials travel, and those that are ours to set: nobody may send them past a gate.
pub const NEVER_FORWARDED: [&str; 10] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "mcp-auth-handle",
    "x-access-token",
    "x-auth-request-access-token",
    "x-forwarded-access-token",
    "x-mcp-subject",
    "x-mcp-client",
    "x-mcp-scopes",
];

/// The headers of this request that must not reach the server: those, and whatever holds the token.
pub(super) fn removed(headers: &HeaderMap, wire: Wire, needle: Option<&Needle<'_>>) -> Vec<HeaderName> {
    // Headers of the other wire, which nobody compared or looked up: a server that speaks both must not act on them.
    let unchecked = |name: &HeaderName| match wire {
        Wire::Sessions => *name == wire::METHOD || *name == wire::NAME,
        Wire::Stateless => *name == wire::SESSION_ID,
    };
    let holds = |name: &HeaderName| {
        needle.is_some_and(|needle| {
            headers
                .get_all(name)
                .iter()
                .any(|value| needle.is_in(value.as_bytes()))
        })
    };
    // Servers that hand headers on as variables (CGI, WSGI) cannot tell an underscore from a dash.
    let is_forbidden = |name: &HeaderName| {
        let text = name.as_str();
        if !text.contains('_') {
            return NEVER_FORWARDED.contains(&text);
        }
        let meant = text.replace('_', "-");
        // What a wire says was judged under its own name.
        NEVER_FORWARDED.contains(&meant.as_str()) || meant.starts_with("mcp-")
    };
    headers
        .keys()
        .filter(|name| is_forbidden(name) || unchecked(name) || holds(name))
        .cloned()
        .collect()
}
