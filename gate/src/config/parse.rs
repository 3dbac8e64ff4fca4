//! From the text of one flag to its value. Every error says what to write instead.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::FlagError;

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

/// What was given; an empty text, as an unset variable of a manifest gives it, is nothing.
pub(super) fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// A file that must be named. Whether it is there is found out when it is read, and again and again.
pub(super) fn file(text: Option<&str>) -> Result<PathBuf, &'static str> {
    given(text).map(PathBuf::from).ok_or("is missing: name a file")
}

/// A duration: hours, minutes and seconds in this order, each at most once.
fn duration(text: &str) -> Result<Duration, String> {
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

/// A number of bytes between `min` and `max`.
pub(super) fn size_within(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let (digits, shift) = match text {
        _ if text.ends_with("Ki") => (&text[..text.len() - 2], 10),
        _ if text.ends_with("Mi") => (&text[..text.len() - 2], 20),
        _ => (text, 0),
    };
    let is_number = !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit());
    let bytes = is_number
        .then(|| digits.parse::<usize>().ok()?.checked_mul(1 << shift))
        .flatten();
    match bytes {
        Some(bytes) if (min..=max).contains(&bytes) => Ok(bytes),
        Some(_) => Err(format!("{text:?} is not between {min} and {max} bytes")),
        None => Err(format!(
            "{text:?} is not a size: write a number of bytes, 32Ki or 1Mi"
        )),
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

/// The address of a host.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an IP address: write it as 10.0.0.1 or fd00::1"))
}

/// A name and a port.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let parsed = http::uri::Authority::try_from(text).ok();
    match parsed {
        Some(authority) if authority.port_u16().is_some() && !text.contains('@') => Ok(text.to_owned()),
        _ => Err(format!(
            "{text:?} is not a name and a port: write it as notes-gate-peers:8082"
        )),
    }
}
