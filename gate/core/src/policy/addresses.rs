//! Addresses in a policy file.

use url::Url;

use super::{PolicyError, wrong};
use crate::document::{AuthorizationServer, Upstream};

/// The resource, if it is spelled as every client spells it: what a WHATWG URL parser returns for it.
pub(super) fn resource(text: &str) -> Result<Url, PolicyError> {
    let url = Url::parse(text).map_err(|_| wrong("resource is no URL"))?;
    let is_loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        _ => return Err(wrong("resource is not https, nor http on a loopback host")),
    }
    if url.query().is_some() || url.fragment().is_some() || has_user(&url) {
        return Err(wrong("resource has a query, a fragment or a user"));
    }
    if url.as_str() != text {
        return Err(wrong("resource is not spelled as MCP clients spell it"));
    }
    Ok(url)
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Whether browsers could send this as `Origin`. Not `null`, which pages of many strangers share.
pub(super) fn is_origin(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let origin = url.origin();
    // A star stands for nothing here: whoever writes one should hear of it.
    if origin.is_tuple() {
        return origin.ascii_serialization() == text && !text.contains('*');
    }
    // Programs with pages inside have schemes of their own: `vscode-webview://…`.
    url.has_host()
        && url.as_str() == text
        && url.path().is_empty()
        && url.query().is_none()
        && url.fragment().is_none()
        && !has_user(&url)
}

/// Whether an authorization server can be reached by what is said of it.
pub(super) fn check_authorization_server(server: &AuthorizationServer) -> Result<(), PolicyError> {
    if server.issuer.is_empty() || server.token_types.is_empty() {
        return Err(wrong("there is no issuer, or no token type"));
    }
    for address in [&server.jwks_uri, &server.token_endpoint] {
        match Url::parse(address) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
            _ => {
                return Err(wrong(format!(
                    "{address:?} is no address of an authorization server"
                )));
            }
        }
    }
    Ok(())
}

/// Whether a server can be reached by what is said of it.
pub(super) fn check_upstream(upstream: Option<&Upstream>) -> Result<(), PolicyError> {
    let Some(upstream) = upstream else { return Ok(()) };
    match Url::parse(&upstream.url) {
        Ok(url)
            if url.scheme() == "http"
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && !has_user(&url) =>
        {
            Ok(())
        }
        _ => Err(wrong("upstream is no http address of a server")),
    }
}
