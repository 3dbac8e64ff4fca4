//! From the text of a flag that only the operator has to its value. Every error says what to write instead.

use std::{num::NonZeroU32, path::PathBuf};

use crate::watch::WatchScope;

/// More calls per second than this cannot be meant.
pub(super) const MAX_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);

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

/// A comma-separated list of files; blanks do no harm.
pub(super) fn files(text: &str) -> Vec<PathBuf> {
    let names = text.split(',').map(str::trim);
    names.filter(|name| !name.is_empty()).map(PathBuf::from).collect()
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
