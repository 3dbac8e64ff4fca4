//! From the text of one flag to its value. Every error says what to write instead.

use std::{fmt::Display, net::SocketAddr, num::NonZeroU32, str::FromStr, time::Duration};

use super::FlagError;
use crate::watch::WatchScope;

/// More calls per second than this cannot be meant.
pub(super) const MAX_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);

/// Collects what is wrong, so that all of it can be reported at once.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<FlagError>);

impl Problems {
    /// The value, or a placeholder that never gets out because a problem was noted.
    pub(super) fn keep<T: Default, E: Display>(&mut self, flag: &'static str, value: Result<T, E>) -> T {
        self.keep_or(flag, value, T::default())
    }

    /// As [`Self::keep`], for types without a default.
    pub(super) fn keep_or<T, E: Display>(
        &mut self,
        flag: &'static str,
        value: Result<T, E>,
        placeholder: T,
    ) -> T {
        value.unwrap_or_else(|problem| {
            self.0.push(FlagError {
                flag,
                problem: problem.to_string(),
            });
            placeholder
        })
    }

    /// `config` if there were no problems.
    pub(super) fn none_or<T>(self, config: T) -> Result<T, Vec<FlagError>> {
        if self.0.is_empty() {
            Ok(config)
        } else {
            Err(self.0)
        }
    }
}

/// A duration as the custom resources write it: hours, minutes and seconds in this order, each at most once.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text:?} is not a duration: write it as 90s, 10m or 1h30m");
    let mut rest = text;
    let mut seconds = 0;
    for (unit, worth) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((count, after)) = rest.split_once(unit) {
            if count.is_empty() || count.len() > 6 || !count.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(malformed());
            }
            seconds += count.parse::<u64>().map_err(|_| malformed())? * worth;
            rest = after;
        }
    }
    if text.is_empty() || !rest.is_empty() {
        Err(malformed())
    } else {
        Ok(Duration::from_secs(seconds))
    }
}

/// A duration of at least `min` and at most `max` seconds.
pub(super) fn duration_within(text: &str, min: u64, max: Option<u64>) -> Result<Duration, String> {
    let value = duration(text)?;
    if value < Duration::from_secs(min) {
        return Err(format!("{text:?} is too short: the least is {min}s"));
    }
    match max {
        Some(max) if value > Duration::from_secs(max) => {
            Err(format!("{text:?} is too long: the most is {max}s"))
        }
        _ => Ok(value),
    }
}

/// A whole number between `min` and `max`, both included.
pub(super) fn number_within<N: FromStr + PartialOrd + Display + Copy>(
    text: &str,
    min: N,
    max: N,
) -> Result<N, String> {
    match text.parse::<N>() {
        Ok(number) if min <= number && number <= max => Ok(number),
        _ => Err(format!("{text:?} is not a whole number from {min} to {max}")),
    }
}

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an address: write it as 0.0.0.0:8080 or [::]:8080"))
}

/// A comma-separated list of namespaces; blanks and repetitions do no harm.
pub(super) fn namespaces(text: &str) -> Result<WatchScope, String> {
    let mut names = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(dns_label)
        .collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable();
    names.dedup();
    Ok(if names.is_empty() {
        WatchScope::All
    } else {
        WatchScope::Namespaces(names)
    })
}

/// A DNS label (RFC 1123), as namespaces are.
pub(super) fn dns_label(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not usable as a name: write 1 to 63 lower-case letters, digits and dashes, with no dash at either end"
    ))
}

/// A DNS subdomain (RFC 1123), as most object names are.
pub(super) fn dns_subdomain(text: &str) -> Result<String, String> {
    if text.len() <= 253 && text.split('.').all(is_dns_label) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not usable as the name of an object: write lower-case letters, digits, dashes and dots"
    ))
}

fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A key of labels and taints: a name of at most 63 characters, with or without a DNS name before a slash.
pub(super) fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = text
        .rsplit_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(|prefix| dns_subdomain(prefix).is_ok())
}

/// A value of labels and taints: at most 63 letters, digits, dashes, dots and underscores.
pub(super) fn is_label_value(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte))
        && ends(bytes.first())
        && ends(bytes.last())
}
