//! The two wires of MCP: with sessions up to 2025-11-25, and without, with headers that repeat the body, from
//! 2026-07-28.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName};

use crate::body::Message;

/// Version of the protocol, in every request but the first of the old wire.
pub static PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The method of the body.
pub static METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// The name or URI in the body.
pub static NAME: HeaderName = HeaderName::from_static("mcp-name");
/// The session of the old wire.
pub static SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// The first version of the wire without sessions. Versions are dates, and compare as text.
const FIRST_STATELESS: &str = "2026-07-28";

/// Which wire a request is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Up to 2025-11-25.
    Sessions,
    /// From 2026-07-28.
    Stateless,
}

/// Why the headers of a request cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The version is there twice, or is no date.
    #[error("MCP-Protocol-Version is not the date of a version")]
    Version,
    /// `Mcp-Method` or `Mcp-Name` is missing, there twice, or not what the body says.
    #[error("Mcp-Method or Mcp-Name do not say what the body says")]
    HeaderMismatch,
}

/// The wire by the version that the request names.
///
/// # Errors
/// [`WireError::Version`].
pub fn wire(headers: &HeaderMap) -> Result<Wire, WireError> {
    let Some(version) = single(headers, &PROTOCOL_VERSION).map_err(|()| WireError::Version)? else {
        return Ok(Wire::Sessions);
    };
    let shape = |(at, b): (usize, u8)| {
        if matches!(at, 4 | 7) {
            b == b'-'
        } else {
            b.is_ascii_digit()
        }
    };
    if version.len() != FIRST_STATELESS.len() || !version.bytes().enumerate().all(shape) {
        return Err(WireError::Version);
    }
    Ok(if version < FIRST_STATELESS {
        Wire::Sessions
    } else {
        Wire::Stateless
    })
}

/// Whether the headers of the stateless wire repeat the body, as they must.
///
/// # Errors
/// [`WireError::HeaderMismatch`].
pub fn compare(headers: &HeaderMap, message: &Message) -> Result<(), WireError> {
    let value = |name| single(headers, name).map_err(|()| WireError::HeaderMismatch);
    let method = value(&METHOD)?;
    let name = value(&NAME)?.map(decoded).transpose()?;
    // An answer to the server has no method, and so nothing to repeat.
    let name_fits = match message.header_name() {
        Some(wanted) => name.as_deref() == Some(wanted),
        None => name.is_none_or(|name| message.subjects.iter().any(|(_, subject)| *subject == name)),
    };
    if method == message.method() && name_fits {
        Ok(())
    } else {
        Err(WireError::HeaderMismatch)
    }
}

/// The only value of a header, as text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut all = headers.get_all(name).iter();
    let Some(value) = all.next() else { return Ok(None) };
    match (value.to_str(), all.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(()),
    }
}

/// A value that cannot stand in a header as it is comes as `=?base64?…?=`.
fn decoded(value: &str) -> Result<String, WireError> {
    let encoded = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    let Some(encoded) = encoded else {
        return Ok(value.to_owned());
    };
    let bytes = STANDARD.decode(encoded).map_err(|_| WireError::HeaderMismatch)?;
    String::from_utf8(bytes).map_err(|_| WireError::HeaderMismatch)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;
    use crate::body;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )
        };
        let mut map = HeaderMap::new();
        for (name, value) in all.iter().map(pair) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn the_version_tells_the_wire() {
        const V: &str = "mcp-protocol-version";
        for (given, expected) in [
            (vec![], Ok(Wire::Sessions)),
            (vec![(V, "2025-11-25")], Ok(Wire::Sessions)),
            (vec![(V, "2026-07-28")], Ok(Wire::Stateless)),
            (vec![(V, "2027-01-01")], Ok(Wire::Stateless)),
            (
                vec![(V, "2025-06-18"), (V, "2026-07-28")],
                Err(WireError::Version),
            ),
            (vec![(V, "draft")], Err(WireError::Version)),
            (vec![(V, "")], Err(WireError::Version)),
            (vec![(V, "2026-07-28 ")], Err(WireError::Version)),
            (vec![(V, "２026-07-28")], Err(WireError::Version)),
        ] {
            assert_eq!(wire(&headers(&given)), expected, "{given:?}");
        }
    }

    #[test]
    fn headers_repeat_the_body() {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "größe"}});
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
        let (m, n) = ("mcp-method", "mcp-name");
        let encoded = "=?base64?Z3LDtsOfZQ==?=";
        for (body, given, fits) in [
            (&call, vec![(m, "tools/call"), (n, encoded)], true),
            (&call, vec![(m, "tools/call"), (n, "grösse")], false),
            (&call, vec![(m, "tools/call")], false),
            (&call, vec![(n, encoded)], false),
            (
                &call,
                vec![(m, "tools/call"), (m, "tools/call"), (n, encoded)],
                false,
            ),
            (&call, vec![(m, "tools/call"), (n, "=?base64?!?=")], false),
            (&call, vec![(m, "tools/call"), (n, "=?base64?/w==?=")], false),
            (&call, vec![(m, "tools/list"), (n, encoded)], false),
            (&list, vec![(m, "tools/list")], true),
            (&list, vec![(m, "tools/list"), (n, "x")], false),
            (&list, vec![], false),
            (&answer, vec![], true),
            (&answer, vec![(m, "tools/call")], false),
        ] {
            let message = body::judge(body.to_string().as_bytes(), None).unwrap();
            assert_eq!(
                compare(&headers(&given), &message).is_ok(),
                fits,
                "{body} {given:?}"
            );
        }
    }
}
