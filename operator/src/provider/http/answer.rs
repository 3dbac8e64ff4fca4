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

    /// `errorCode` of an answer of Auth0's Management API, if it looks like a code.
    pub(crate) fn error_code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let code = body["errorCode"].as_str().filter(|code| is_code(code));
        code.unwrap_or_default().to_owned()
    }

    /// Whether `message` of such an answer holds this phrase of ours. The text itself goes nowhere.
    pub(crate) fn says(&self, phrase: &str) -> bool {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["message"].as_str().is_some_and(|text| text.contains(phrase))
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

/// For how long no more calls are allowed, as `x-ratelimit-remaining` and `x-ratelimit-reset` (seconds since 1970) say:
/// Auth0's, and others have the same. The time is compared with the answer's own `Date`.
pub(super) fn allowance(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    if number("x-ratelimit-remaining")? > 0 {
        return None;
    }
    let now = rfc2822::parse(headers.get(DATE)?.to_str().ok()?).ok()?;
    let seconds = number("x-ratelimit-reset")?.saturating_sub(now.timestamp().as_second());
    // Both are whole seconds, so what is left may be anything below the next.
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(Duration::from_millis(500)))
}

/// `Retry-After` as a span; without it, what the headers of rate limits say. A date is compared with the answer's own `Date`, so that no clock of ours matters.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let Some(value) = headers.get(RETRY_AFTER) else {
        return allowance(headers);
    };
    let value = value.to_str().ok()?.trim();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = all
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()));
        pairs
            .collect::<Vec<(reqwest::header::HeaderName, _)>>()
            .into_iter()
            .collect()
    }

    #[test]
    fn rate_limit_headers_say_how_long_to_wait_by_the_clock_of_the_server() {
        const DATE: (&str, &str) = ("date", "Thu, 01 Jan 1970 00:16:40 GMT");
        for (remaining, reset, expected) in [
            ("0", "1003", Some(Duration::from_secs(3))),
            ("0", "1000", Some(Duration::from_millis(500))),
            ("0", "10", Some(Duration::from_millis(500))),
            ("1", "1003", None),
            ("", "1003", None),
            ("0", "soon", None),
        ] {
            let all = headers(&[
                DATE,
                ("x-ratelimit-remaining", remaining),
                ("x-ratelimit-reset", reset),
            ]);
            assert_eq!(allowance(&all), expected, "{remaining} {reset}");
            assert_eq!(retry_after(&all), expected, "{remaining} {reset}");
        }
        let without_date = headers(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1003")]);
        assert_eq!(allowance(&without_date), None);
        let both = headers(&[
            DATE,
            ("retry-after", "7"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1003"),
        ]);
        assert_eq!(retry_after(&both), Some(Duration::from_secs(7)));
    }
}
