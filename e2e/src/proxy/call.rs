//! One recorded call.

use std::{fmt, time::Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode};
use hyper::body::Bytes;
use serde::de::DeserializeOwned;

/// A call as it arrived. It prints without query values and body, which may hold secrets.
#[derive(Clone)]
pub struct Call {
    /// When it arrived.
    pub at: Instant,
    /// Its method.
    pub method: Method,
    /// Path and query, as sent.
    pub target: String,
    /// What was answered; None while it runs, and when there was no answer.
    pub status: Option<StatusCode>,
    /// Whether the server answered, so that it was carried out, even if nobody was told.
    pub arrived: bool,
    /// What the body is said to be.
    pub content_type: Option<String>,
    /// The credential in its head, for assertions only.
    pub authorization: Option<String>,
    /// What was sent with it, for assertions only.
    pub body: Bytes,
}

impl Call {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<String> {
        parameter(self.target.split_once('?')?.1.as_bytes(), name)
    }

    /// A parameter of a form that was sent.
    pub fn form(&self, name: &str) -> Option<String> {
        parameter(&self.body, name)
    }

    /// Whether this secret was sent with it: in the address, the body, or the head, where it may be encoded (RFC 7617).
    pub fn holds(&self, secret: &str) -> bool {
        let shown = self.authorization.as_deref().unwrap_or_default();
        let basic = shown
            .strip_prefix("Basic ")
            .and_then(|text| STANDARD.decode(text).ok());
        let places = [
            self.target.as_bytes(),
            &self.body,
            shown.as_bytes(),
            basic.as_deref().unwrap_or_default(),
        ];
        places
            .iter()
            .any(|place| String::from_utf8_lossy(place).contains(secret))
    }

    /// The JSON that was sent.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Whether it goes to the OAuth and metadata endpoints rather than to the Admin API. A request for a token changes
    /// no configuration, although it is a POST.
    pub fn is_protocol(&self) -> bool {
        let path = self.path();
        path.contains("/protocol/openid-connect/") || path.contains("/.well-known/") || path == "/oauth/token"
    }

    /// Whether Auth0 only says what would come of a client's document.
    fn is_preview(&self) -> bool {
        self.path().ends_with("/clients/cimd/preview")
    }

    /// Whether it is a watch at the API server, which is answered for as long as both sides like.
    pub fn is_watch(&self) -> bool {
        self.method == Method::GET && matches!(self.query("watch").as_deref(), Some("true" | "1"))
    }

    /// Whether it changes something at the server.
    pub fn is_write(&self) -> bool {
        let reads = matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS);
        !reads && !self.is_protocol() && !self.is_preview()
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.path())?;
        match self.status {
            Some(status) => write!(formatter, " -> {}", status.as_u16()),
            None => write!(formatter, " -> no answer"),
        }
    }
}

fn parameter(encoded: &[u8], name: &str) -> Option<String> {
    url::form_urlencoded::parse(encoded)
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: Method, target: &str, body: &'static str) -> Call {
        Call {
            at: Instant::now(),
            method,
            target: target.to_owned(),
            status: None,
            arrived: false,
            content_type: None,
            authorization: None,
            body: Bytes::from(body),
        }
    }

    #[test]
    fn only_changes_of_configuration_are_writes() {
        let table = [
            (Method::POST, "/admin/realms/a/clients", true),
            (Method::DELETE, "/admin/realms/a/clients/1", true),
            (Method::GET, "/admin/realms/a/clients?clientId=x", false),
            (Method::POST, "/realms/a/protocol/openid-connect/token", false),
            (
                Method::POST,
                "/realms/a/clients-registrations/openid-connect",
                true,
            ),
            (Method::POST, "/api/v2/clients", true),
            (Method::POST, "/api/v2/clients/cimd/preview", false),
            (Method::POST, "/oauth/token", false),
            (Method::POST, "/oidc/register", true),
        ];
        for (method, target, expected) in table {
            assert_eq!(
                call(method.clone(), target, "").is_write(),
                expected,
                "{method} {target}"
            );
        }
    }

    #[test]
    fn a_secret_is_found_wherever_it_was_sent() {
        let sent = call(Method::POST, "/token?a=s3cr3t", "b=hidden");
        let shown = |head: String| Call {
            authorization: Some(head),
            ..sent.clone()
        };
        let basic = shown(format!("Basic {}", STANDARD.encode("id:basic")));
        for (call, secret, expected) in [
            (&sent, "s3cr3t", true),
            (&sent, "hidden", true),
            (&sent, "basic", false),
            (&basic, "basic", true),
            (&shown("Bearer token".to_owned()), "token", true),
            (&shown("Basic ?".to_owned()), "basic", false),
        ] {
            assert_eq!(call.holds(secret), expected, "{secret}");
        }
    }

    #[test]
    fn a_call_prints_without_secrets() {
        let call = call(
            Method::POST,
            "/token?code=hidden1",
            "client_secret=hidden2&a=b%20c",
        );
        assert_eq!(format!("{call:?}"), "POST /token -> no answer");
        assert_eq!(call.form("a").as_deref(), Some("b c"));
        assert_eq!(call.query("code").as_deref(), Some("hidden1"));
    }
}
