//! From the text of a flag that only a gate has to its value. Every error says what to write instead.

use std::{net::IpAddr, path::PathBuf};

use mcp_auth_cli::flags::given;

/// A file that must be named. Whether it is there is found out when it is read, and again and again.
pub(super) fn file(text: Option<&str>) -> Result<PathBuf, &'static str> {
    given(text).map(PathBuf::from).ok_or("is missing: name a file")
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
