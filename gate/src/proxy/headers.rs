//! Which headers pass, in either direction. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use mcp_auth_gate_core::{decide::Allowed, wire};

use crate::handles::HANDLE;

static X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Headers of one connection (RFC 9110, 7.6.1), those of framing among them: each side has its own.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Headers of requests that end at the gate, besides those that a decision removes. The body is sent as it was judged;
/// answers must be readable for the gate; and it was the gate that checked where the page is from.
const ENDS_HERE: [&str; 6] = [
    "accept-encoding",
    "content-length",
    "expect",
    "host",
    "origin",
    "mcp-session-id",
];

/// Headers of answers that only the gate may set, or that would lead clients around it: another place, another port,
/// another login.
const NEVER_ANSWERED: [&str; 8] = [
    "alt-svc",
    "authentication-info",
    "location",
    "mcp-session-id",
    "proxy-authentication-info",
    "refresh",
    "set-cookie",
    "www-authenticate",
];

/// What decisions look at, and so must reach the server, whatever the `Connection` header says of it.
fn is_judged(name: &str) -> bool {
    name.starts_with("mcp-") || matches!(name, "content-type" | "content-encoding" | "accept")
}

/// The names that `Connection` lists.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    let names = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    names
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect()
}

/// What the gate adds to a request.
#[derive(Debug, Default)]
pub(crate) struct Added {
    /// The server's own name for the session.
    pub(crate) session: Option<HeaderValue>,
    /// `Authorization` with an exchanged token.
    pub(crate) authorization: Option<HeaderValue>,
    /// The handle for exchanged tokens.
    pub(crate) handle: Option<HeaderValue>,
}

/// The headers of the request to the server. `host` is the server's.
pub(crate) fn outgoing(given: &HeaderMap, allowed: &Allowed, host: &HeaderValue, added: Added) -> HeaderMap {
    let options = connection_options(given);
    let passes = |name: &HeaderName| {
        let text = name.as_str();
        // Servers that hand headers on as variables (CGI, WSGI) cannot tell an underscore from a dash: `mcp_auth_handle`
        // would be a handle.
        let is_plain = !text.contains('_');
        is_plain
            && !HOP_BY_HOP.contains(&text)
            && !ENDS_HERE.contains(&text)
            && !allowed.remove.contains(name)
            && (is_judged(text) || !options.contains(name))
    };
    let mut headers = HeaderMap::with_capacity(given.keys_len() + 4);
    headers.insert(header::HOST, host.clone());
    for (name, value) in given.iter().filter(|(name, _)| passes(name)) {
        headers.append(name.clone(), value.clone());
    }
    let added = [
        (&wire::SESSION_ID, added.session),
        (&header::AUTHORIZATION, added.authorization),
        (&HANDLE, added.handle),
    ];
    for (name, value) in added {
        if let Some(value) = value {
            headers.insert(name.clone(), value);
        }
    }
    headers
}

/// Removes from an answer what must not reach the client.
pub(crate) fn incoming(headers: &mut HeaderMap) {
    let options = connection_options(headers);
    for name in options.iter().filter(|name| !is_judged(name.as_str())) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP.iter().chain(&NEVER_ANSWERED) {
        headers.remove(*name);
    }
    let cors: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in cors {
        headers.remove(name);
    }
}

/// Asks proxies in front not to hold events back.
pub(crate) fn unbuffered(headers: &mut HeaderMap) {
    headers.insert(X_ACCEL_BUFFERING.clone(), HeaderValue::from_static("no"));
}

/// The only value of a header; an error when there are several.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ()> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (value, None) => Ok(value),
        _ => Err(()),
    }
}

/// Whether an answer is of this media type.
pub(crate) fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(wanted))
}
