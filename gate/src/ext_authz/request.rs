//! What Envoy says about a request. Pure.

use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use mcp_auth_gate_core::decide::Body;

/// Set by Envoy to say whether the body is cut.
const PARTIAL: &str = "x-envoy-auth-partial-body";

/// The head of a request.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    /// Values of headers that came more than once are joined by commas, unless Envoy is told to send them raw. None of
    /// the headers that decisions rest on means the same then: what came twice is refused, joined or not.
    pub(super) headers: HeaderMap,
}

/// Reads the head; what cannot be read could hide a token.
pub(super) fn read(http: &HttpRequest) -> Result<Read<'_>, &'static str> {
    let method = Method::from_bytes(http.method.as_bytes()).map_err(|_| "The method cannot be read")?;
    let (path, query) = match http.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (http.path.as_str(), None),
    };
    let joined = http
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let raw = http.header_map.iter().flat_map(|map| &map.headers).map(|header| {
        let value = match header.raw_value.as_slice() {
            [] => header.value.as_bytes(),
            raw => raw,
        };
        (header.key.as_str(), value)
    });
    let mut headers = HeaderMap::new();
    // Those that begin with a colon are method, path, scheme and authority.
    for (name, value) in joined.chain(raw).filter(|(name, _)| !name.starts_with(':')) {
        let error = "A header cannot be read";
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| error)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| error)?;
        headers
            .try_append(name, value)
            .map_err(|_| "There are too many headers")?;
    }
    Ok(Read {
        method,
        path,
        query,
        headers,
    })
}

/// The body, if everything that tells of its size agrees that it is whole.
pub(super) fn body<'a>(http: &'a HttpRequest, headers: &HeaderMap, largest: usize) -> Body<'a> {
    let ((bytes, []) | ([], bytes)) = (http.raw_body.as_slice(), http.body.as_bytes()) else {
        return Body::Partial;
    };
    let is_length = |said: &str| said.parse() == Ok(bytes.len());
    let all_say = |name: &str, fits: &dyn Fn(&str) -> bool| {
        let mut values = headers.get_all(name).iter();
        values.all(|value| value.to_str().is_ok_and(fits))
    };
    // -1: not known.
    let size_fits = http.size < 0 || usize::try_from(http.size) == Ok(bytes.len());
    let is_whole = all_say(PARTIAL, &|said| said == "false")
        && all_say(header::CONTENT_LENGTH.as_str(), &is_length)
        && size_fits
        && bytes.len() <= largest;
    if is_whole {
        Body::Whole(bytes)
    } else {
        Body::Partial
    }
}
