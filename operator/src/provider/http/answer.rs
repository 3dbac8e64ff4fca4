//! What is taken from an answer.

use std::time::Duration;

use k8s_openapi::jiff::fmt::rfc2822;
use reqwest::{
    StatusCode,
    header::{DATE, HeaderMap, RETRY_AFTER},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::provider::ProviderError;

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// Malformed. The decoder's own message would quote the body.
    pub(crate) fn json<T: DeserializeOwned>(&self, operation: &'static str) -> Result<T, ProviderError> {
        serde_json::from_slice(&self.body).map_err(|_| ProviderError::Malformed {
            operation,
            why: "it is not the expected JSON",
        })
    }

    /// The error code: `error` of the body if it looks like a code (RFC 6749 section 5.2), else empty.
    pub(crate) fn code(&self) -> String {
        let body: Option<Value> = serde_json::from_slice(&self.body).ok();
        let code = body
            .as_ref()
            .and_then(|body| body.get("error")?.as_str())
            .unwrap_or_default();
        if is_code(code) {
            code.to_owned()
        } else {
            String::new()
        }
    }

    /// Whether `error_description` holds this phrase of ours. The text itself goes nowhere.
    pub(crate) fn describes(&self, phrase: &str) -> bool {
        let body: Option<Value> = serde_json::from_slice(&self.body).ok();
        let text = body
            .as_ref()
            .and_then(|body| body.get("error_description")?.as_str());
        text.is_some_and(|text| text.contains(phrase))
    }

    /// The failure that an unexpected status stands for.
    pub(crate) fn rejected(&self, operation: &'static str) -> ProviderError {
        ProviderError::Rejected {
            operation,
            status: self.status.as_u16(),
            code: self.code(),
        }
    }
}

fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// `Retry-After` as a span. A date is compared with the answer's own `Date`, so that no clock of ours matters.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are merely a very long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let then = rfc2822::parse(value).ok()?;
    let now = rfc2822::parse(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(Duration::try_from(then.duration_since(&now)).unwrap_or_default())
}

#[cfg(test)]
impl Answer {
    pub(crate) fn of(status: u16, body: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap();
        Self {
            status,
            retry_after: None,
            body: body.as_bytes().to_vec(),
        }
    }
}
