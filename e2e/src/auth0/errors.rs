//! How the tenant says no: one shape for the Management API, one for OAuth.

use std::fmt::Write as _;

use http::StatusCode;
use serde_json::json;

use super::wire::{Answer, Body};

/// A refusal of the Management API: `{"statusCode", "error", "message", "errorCode"?}`.
///
/// Recorded traffic shows `errorCode` for some refusals only. Where none is known there is none: whoever reads answers
/// must not count on it.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    code: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: &str) -> Self {
        Self {
            status,
            message: message.to_owned(),
            code: None,
        }
    }

    fn coded(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self {
            code: Some(code),
            ..Self::new(status, message)
        }
    }

    /// A body that breaks a rule: 400 `invalid_body`.
    pub(super) fn body(problem: &str) -> Self {
        let message = format!("Payload validation error: '{problem}'.");
        Self::coded(StatusCode::BAD_REQUEST, "invalid_body", &message)
    }

    /// A parameter that breaks a rule.
    pub(super) fn query(problem: &str) -> Self {
        let message = format!("Query validation error: '{problem}'.");
        Self::coded(StatusCode::BAD_REQUEST, "invalid_query_string", &message)
    }

    /// What the kind of object does not allow.
    pub(super) fn unsupported(message: &str) -> Self {
        Self::coded(StatusCode::BAD_REQUEST, "operation_not_supported", message)
    }

    pub(super) fn no_client() -> Self {
        let message = "The client does not exist";
        Self::coded(StatusCode::NOT_FOUND, "inexistent_client", message)
    }

    pub(super) fn no_resource_server() -> Self {
        let message = "The resource server does not exist";
        Self::coded(StatusCode::NOT_FOUND, "inexistent_resource_server", message)
    }

    pub(super) fn no_connection() -> Self {
        let message = "The connection does not exist";
        Self::coded(StatusCode::NOT_FOUND, "inexistent_connection", message)
    }

    /// Something else that is not there; such answers have no code.
    pub(super) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn conflict(message: &str) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(super) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// A token without the scope of the endpoint.
    pub(super) fn scope(any_of: &[&str]) -> Self {
        let mut message = "Insufficient scope; expected any of: ".to_owned();
        // Writing to a String cannot fail.
        let _ = write!(message, "{}", any_of.join(","));
        Self::coded(StatusCode::FORBIDDEN, "insufficient_scope", &message)
    }

    /// The plan allows no more of these (entity limit policy).
    pub(super) fn full() -> Self {
        let message = "You reached the limit of entities of this type for this tenant.";
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(super) fn too_many() -> Self {
        let message = "Global limit has been reached";
        Self::coded(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let mut body = json!({
            "statusCode": refusal.status.as_u16(),
            "error": refusal.status.canonical_reason().unwrap_or_default(),
            "message": refusal.message,
        });
        if let Some(code) = refusal.code {
            body["errorCode"] = json!(code);
        }
        Self::new(refusal.status, Body::Json(body))
    }
}

/// A refusal of an OAuth endpoint (RFC 6749 section 5.2).
#[derive(Clone, Debug)]
pub(super) struct OAuthRefusal {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) description: String,
}

impl OAuthRefusal {
    pub(super) fn new(status: StatusCode, error: &'static str, description: &str) -> Self {
        Self {
            status,
            error,
            description: description.to_owned(),
        }
    }

    pub(super) fn request(description: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// Wrong or missing credentials of a client: Auth0 answers 401 `access_denied` where RFC 6749 has `invalid_client`.
    pub(super) fn credentials() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "access_denied", "Unauthorized")
    }

    pub(super) fn grant(description: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "invalid_grant", description)
    }

    pub(super) fn denied(description: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "access_denied", description)
    }

    pub(super) fn client(description: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "unauthorized_client", description)
    }
}

impl From<OAuthRefusal> for Answer {
    fn from(refusal: OAuthRefusal) -> Self {
        let body = json!({"error": refusal.error, "error_description": refusal.description});
        Self::new(refusal.status, Body::Json(body))
    }
}
