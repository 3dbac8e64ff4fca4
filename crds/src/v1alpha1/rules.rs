//! CEL rules that more than one field needs, and the text of the longest ones.
//!
//! A rule stands on a field whose length is bounded, or the API server refuses the whole definition for its
//! estimated cost. Each has a manifest in `e2e/manifests` that it refuses, and one that it just accepts.

use kube::core::{Message, Rule};

use super::{adoption::BUILT_IN_CLIENTS, common::BUILT_IN_SCOPES};

/// A label of a host name.
const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
/// The hosts for which http is safe.
const LOOPBACK: &str = r"(localhost|127[.]0[.]0[.]1|\\[::1\\])";
/// The scheme of any URI.
const SCHEME: &str = "^[A-Za-z][A-Za-z0-9+.-]*:";
/// Schemes that no redirect URI may have.
const DANGEROUS: &str = "(?i)^(javascript|data|file|vbscript|about|blob|ws|wss|ftp):";

/// The one rule on the object root, the same for every kind.
///
/// Objects derived from ours are called `<name>-…`: Service names are DNS labels of 63 characters, and labels
/// hold 63. No other rule may ever stand on the root: it would be checked on status updates and on finalizer
/// removal of stored objects too, so that deleting them would hang.
pub(super) fn object_name() -> Rule {
    Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 52")
        .message("metadata.name must be a DNS label of at most 52 characters that starts with a letter")
}

/// A value that never changes after creation; `instead` says what to do.
pub(super) fn immutable(instead: &str) -> Rule {
    Rule::new("self == oldSelf").message(instead)
}

/// The name of a namespace, of a Service, or of an object of one of our kinds. Names become path segments of
/// requests, so that anything else must not pass.
pub(super) fn dns_label() -> Rule {
    Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("this is not a name that Kubernetes accepts here: use lower-case letters, digits and dashes")
}

/// The name of any other object, such as a Secret.
pub(super) fn dns_name() -> Rule {
    Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message(
        "this is not a name that Kubernetes accepts here: use lower-case letters, digits, dashes and dots",
    )
}

/// A host as it stands in a URL, with a port where it is not that of the scheme.
pub(super) fn authority() -> Rule {
    Rule::new(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*(:[0-9]{1,5})?$')",
    )
    .message("a domain is written in lower case without scheme and path: example.eu.auth0.com")
}

/// A key of a Secret or ConfigMap.
pub(super) fn data_key() -> Rule {
    Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("a key of a Secret or ConfigMap holds letters, digits and - . _")
}

/// The address of something at the authorization server. That http is refused unless the operator was told
/// otherwise is the operator's to decide: development set-ups have no certificate.
pub(super) fn server_url() -> Rule {
    Rule::new("self.matches('^https?://[^/?#@\\\\x00-\\\\x20\\\\x7F]+(/[^?#\\\\x00-\\\\x20\\\\x7F]*)?$') && isURL(self)")
        .message("this is not an https URL without query, fragment and user information")
}

/// A duration between two others, both written as CEL reads them. What is no duration at all has been refused by
/// the rule of `DurationText`, and would only add an unreadable conversion error here.
pub(super) fn between(least: &str, most: &str) -> Rule {
    Rule::new(format!(
        "!self.matches('^([0-9]{{1,6}}h)?([0-9]{{1,6}}m)?([0-9]{{1,6}}s)?$') || self == '' \
         || (duration(self) >= duration('{least}') && duration(self) <= duration('{most}'))"
    ))
    .message(Message::Message(format!("must be between {least} and {most}")))
}

/// One duration of an object below another, where both are given and are durations at all.
pub(super) fn shorter(one: &str, other: &str, why: &str) -> Rule {
    let is_none = |field: &str| {
        format!(
            "!has(self.{field}) || self.{field} == '' \
             || !self.{field}.matches('^([0-9]{{1,6}}h)?([0-9]{{1,6}}m)?([0-9]{{1,6}}s)?$')"
        )
    };
    Rule::new(format!(
        "{} || {} || duration(self.{one}) < duration(self.{other})",
        is_none(one),
        is_none(other)
    ))
    .message(Message::Message(format!(
        "{one} must be shorter than {other}: {why}"
    )))
    .field_path(format!(".{one}"))
}

/// Text that people see on the authorization server's pages: nothing invisible that could disguise it, and none of
/// the `${…}` that Keycloak replaces by messages of its own. Line breaks stay possible, since YAML makes them.
pub(super) fn visible_text() -> Rule {
    Rule::new(
        "!self.matches('[\\\\x00-\\\\x08\\\\x0B-\\\\x1F\\\\x7F-\\\\x{9F}\\\\x{202A}-\\\\x{202E}\\\\x{2066}-\\\\x{2069}]') \
         && !self.contains('${')",
    )
    .message("text for people holds no control characters and no ${")
}

/// An expression of a label selector.
pub(super) fn values_go_with_in() -> Rule {
    Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)")
        .message("values go with the operators In and NotIn, and only with them")
}

/// A scope name that a tenant declares.
pub(super) fn not_built_in() -> Rule {
    Rule::new(format!("!(self in {})", list(&BUILT_IN_SCOPES)))
        .message("this scope name belongs to the authorization server itself: choose another one")
}

/// Scopes of an API that the operator would create or overwrite.
pub(super) fn managed_scopes_are_not_built_in() -> Rule {
    let names = list(&BUILT_IN_SCOPES);
    Rule::new(format!(
        "!has(self.manage) || !self.manage || self.scopes.all(s, !(s.name in {names}))"
    ))
    .message("the operator does not manage scopes that belong to the authorization server itself")
}

/// What may be taken over.
pub(super) fn adopted_is_not_built_in() -> Rule {
    let (scopes, clients) = (list(&BUILT_IN_SCOPES), list(&BUILT_IN_CLIENTS));
    Rule::new(format!(
        "!(self.id in (self.kind == 'Scope' ? {scopes} : {clients}))"
    ))
    .message("what belongs to the authorization server itself is never taken over")
}

/// What `resource` begins with.
pub(super) fn resource_scheme() -> Rule {
    Rule::new(format!("self.matches('^(https://|http://{LOOPBACK}(:|/|$))')")).message(
        "resource is an https URL; http is for the loopback hosts localhost, 127.0.0.1 and [::1] only",
    )
}

/// `resource` as WHATWG URL parsers return it, since MCP clients send `new URL(it).href` and the authorization
/// server compares bytes. `isURL` alone takes fragments, user information, upper case, spaces and much more.
pub(super) fn resource_spelling() -> Rule {
    let host = format!(r"({LABEL}([.]{LABEL})*|\\[[0-9a-f:.]+\\])");
    let path = "(/|(/[A-Za-z0-9._~!$&()*+,;=:@%-]+)+)";
    Rule::new(format!(
        "!self.matches('^https?://') || \
         (isURL(self) && self.matches('^https?://{host}(:[1-9][0-9]{{0,4}})?{path}$'))"
    ))
    .message(
        "resource is written as URL parsers return it: host in lower case, no user information, query or fragment, \
         no empty path segment or slash at the end, and the root as https://host/",
    )
}

/// A port beyond 65535, which `isURL` lets pass.
pub(super) fn resource_port() -> Rule {
    let beyond = "([7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9])";
    Rule::new(format!("!self.matches('^[a-z]+://[^/]*:{beyond}(/|$)')"))
        .message("the port of resource is at most 65535")
}

/// A host whose last label is a number is an IPv4 address to URL parsers, which return it as four decimal numbers.
pub(super) fn resource_ipv4() -> Rule {
    let number = "^[a-z]+://([^/:]*[.])?(0x[0-9a-f]*|[0-9]+)(:|/|$)";
    let byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    Rule::new(format!(
        "!self.matches('{number}') || self.matches('^[a-z]+://({byte}[.]){{3}}{byte}(:|/|$)')"
    ))
    .message("resource spells an IPv4 address as four decimal numbers")
}

/// Redirect URIs that every party reads in the same way: browsers take a backslash for a slash, for example.
pub(super) fn absolute_uris() -> Rule {
    Rule::new(format!(
        "self.all(u, isURL(u) && u.matches('{SCHEME}') \
         && (!u.matches('(?i)^https?:') || u.matches('^https?://[^/?#:]')) \
         && !u.matches('[^!-~]|[\\\\x22\\\\x5C<>^`{{|}}]'))",
    ))
    .message(
        "a redirect URI is an absolute URI, its scheme in lower case, of the characters that RFC 3986 allows",
    )
}

/// Redirect URIs with http (RFC 8252 section 7.3), also not to hosts that only look like loopback ones.
pub(super) fn http_is_loopback_only() -> Rule {
    Rule::new(format!(
        "self.all(u, !u.matches('^http://[^/?#:]') || u.matches('^http://{LOOPBACK}(:[0-9]{{1,5}})?(/|[?]|$)'))"
    ))
    .message(
        "a redirect URI uses https; http is for the loopback hosts localhost, 127.0.0.1 and [::1] only (RFC 8252 \
         section 7.3)",
    )
}

/// Redirect URIs that a browser would run, or that lead nowhere.
pub(super) fn no_dangerous_schemes() -> Rule {
    Rule::new(format!("self.all(u, !u.matches('{DANGEROUS}'))")).message(
        "a redirect URI does not use the schemes javascript, data, file, vbscript, about, blob, ws, wss, ftp",
    )
}

/// Redirect URIs with a scheme of the application's own: a dot in it shows whose it is. `cursor` is the one
/// well-known MCP client that has none.
pub(super) fn private_schemes_are_native() -> Rule {
    Rule::new(format!(
        "!has(self.redirectUris) || self.redirectUris.all(u, !u.matches('{SCHEME}') || u.matches('(?i)^https?:') \
         || u.matches('{DANGEROUS}') || (has(self.applicationType) && self.applicationType == 'native' \
         && u.matches('^([a-z][a-z0-9+-]*[.][a-z0-9+.-]*|cursor):/')))"
    ))
    .message(
        "a redirect URI with a scheme of its own needs applicationType native and a scheme with a dot, such as \
         com.example.app:/callback (RFC 8252 section 7.1)",
    )
    .field_path(".redirectUris")
}

/// Origins as browsers send them (RFC 6454 section 6.2), which are compared byte for byte.
pub(super) fn origins() -> Rule {
    let host = format!(r"({LABEL}([.]{LABEL})*|\\[[0-9a-f:.]+\\])");
    Rule::new(format!(
        "self.all(o, o.matches('^[a-z][a-z0-9+.-]*://{host}(:[1-9][0-9]{{0,4}})?$') \
         && !o.matches('^https://.*[^:]:443$') && !o.matches('^http://.*[^:]:80$'))"
    ))
    .message(
        "an origin is a scheme, a host in lower case and a port other than the default, without a path, such as \
         https://app.example.com",
    )
}

/// The address of a client's metadata document, as Auth0 takes it: on a host with a name that others can have too.
pub(super) fn document_address() -> Rule {
    Rule::new(format!(
        "self.matches('^https://{LABEL}([.]{LABEL})+(:[1-9][0-9]{{0,4}})?/[A-Za-z0-9._~!$&()*+,;=:%/-]+$') \
         && !self.matches('^https://([^/:]*[.])?(localhost|[0-9]+)(:|/)')"
    ))
    .message(
        "a metadata document is at an https URL with the name of a host and a path, without user information, query and \
         fragment",
    )
}

/// Segments that URL parsers take away.
pub(super) fn document_path() -> Rule {
    Rule::new("!self.matches('/([.]|%2[eE]){1,2}(/|$)')")
        .message("the path of a metadata document has no dot segments")
}

/// The keys of a Secret after renaming. The list stands in another list, because CEL has no other way to name it.
pub(super) fn secret_keys_differ() -> Rule {
    let values = [
        "client-id",
        "client-secret",
        "client-key.jwk",
        "client-key.pem",
        "key-id",
        "issuer",
        "token-endpoint",
        "scope",
        "resource",
    ];
    let keys = values.map(|value| {
        let property = value.replace('-', "__dash__").replace('.', "__dot__");
        format!("has(self.{property}) ? self.{property} : '{value}'")
    });
    Rule::new(format!(
        "[[{}]].all(keys, keys.all(a, keys.exists_one(b, b == a)))",
        keys.join(", ")
    ))
    .message("two values cannot share one key; a value that is not named here keeps its own name")
}

/// These names as a list in CEL.
fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("[{}]", quoted.join(", "))
}
