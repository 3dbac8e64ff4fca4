//! URIs of resources, and what servers make of them.
//!
//! Servers read a URI in different ways: one compares it as it came, another (the TypeScript SDK, pydantic) as a URL
//! parser writes it, and some decode it. Rules have to hold for each of them, or another spelling would get past one.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;
use url::Url;

/// Whether readers could take a URI for another one: it has white space or controls, which URL parsers drop; a backslash,
/// which some of them take for a slash; a segment `.` or `..`, which they resolve, whether it is encoded or not; or is that of
/// a file for which parsers have quirks.
pub fn is_ambiguous(uri: &str) -> bool {
    let is_dropped = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\\' | '\u{feff}');
    if uri.contains(is_dropped) || is_odd_file(uri) {
        return true;
    }
    let decoded = decoded(uri);
    let rest = decoded.split_once(':').map_or(&*decoded, |(_, rest)| rest);
    // Decoded, any of these may end a segment for somebody.
    let mut segments = rest.split(['/', '\\', '?', '#']);
    // For what is written in C, text ends at NUL.
    decoded.contains('\0') || segments.any(|segment| matches!(segment, "." | ".."))
}

/// A URI as servers may compare it: as it came, with its scheme in small letters, as a URL parser (WHATWG URL) writes it, and
/// each of these decoded.
pub fn spellings(uri: &str) -> BTreeSet<String> {
    let parsed = Url::parse(uri).ok().map(String::from);
    let written = [uri.to_owned(), with_small_scheme(uri)].into_iter().chain(parsed);
    written
        .flat_map(|spelling| [decoded(&spelling), spelling])
        .collect()
}

/// A URI template (RFC 6570) as servers may compare it. To a URL parser its braces are characters to be encoded; no
/// server looks for it that way.
pub(crate) fn template_spellings(template: &str) -> BTreeSet<String> {
    let restore = |spelling: String| spelling.replace("%7B", "{").replace("%7D", "}");
    spellings(template).into_iter().map(restore).collect()
}

/// Whether it is of a file, and parsers (WHATWG URL) are known to differ about it: two slashes at the beginning of the path,
/// of which some leave one out, or a drive with a bar (`c|`), for which some write a colon.
fn is_odd_file(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else {
        return false;
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = match rest.strip_prefix("//") {
        Some(host) => host.find('/').map_or("", |at| &host[at..]),
        None => rest,
    };
    let is_drive =
        |segment: &str| matches!(segment.as_bytes(), [letter, b'|'] if letter.is_ascii_alphabetic());
    scheme.eq_ignore_ascii_case("file") && (path.starts_with("//") || rest.split('/').any(is_drive))
}

/// The least that parsers do (RFC 3986, 6.2.2.1), and all that some do.
fn with_small_scheme(uri: &str) -> String {
    match uri.split_once(':') {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#']) => {
            format!("{}:{rest}", scheme.to_ascii_lowercase())
        }
        _ => uri.to_owned(),
    }
}

fn decoded(uri: &str) -> String {
    percent_decode_str(uri).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_readers_would_change_is_ambiguous() {
        for (uri, ambiguous, why) in [
            ("note:///a/b", false, "plain"),
            ("note:///a/b.txt", false, "a dot in a name"),
            ("note:///a/...", false, "three dots are a name"),
            ("note:///a%20b", false, "an encoded space stays one"),
            ("note:///größe", false, "letters of others"),
            ("note:///{id}/{+path}{?q}", false, "a template"),
            ("file:///c:/x", false, "a colon"),
            ("u", false, "no URL at all"),
            ("", false, "nothing"),
            (" note:///a", true, "URL parsers trim spaces"),
            ("note:///a ", true, "at the end, too"),
            ("note:///a b", true, "or encode them"),
            ("note:///a\tb", true, "and drop tabs"),
            ("note:///a\nb", true, "and line ends"),
            ("note:///a\r", true, "of any kind"),
            ("\u{1}note:///a", true, "a control"),
            ("note:///a\u{7f}", true, "another"),
            ("note:///a\u{a0}", true, "a space of Unicode"),
            (
                "\u{feff}note:///a",
                true,
                "a byte order mark, which JavaScript trims",
            ),
            ("file:\\\\\\secret", true, "backslashes for slashes"),
            ("note://a/./x", true, "a dot"),
            ("note://a/../x", true, "two"),
            ("note://a/..", true, "at the end"),
            ("note://a/x/.?q", true, "before a query"),
            ("note://a/..#f", true, "before a fragment"),
            ("file:../x", true, "at the beginning"),
            ("note://a/%2e/x", true, "encoded"),
            ("note://a/%2E%2e/x", true, "in either case"),
            ("note://a/.%2e/x", true, "in part"),
            ("note://a/..%2fx", true, "with an encoded slash"),
            ("note://a/..%5cx", true, "with an encoded backslash"),
            ("note://a/x%00.txt", true, "an end of text"),
            ("File:////x", true, "slashes of which one is too many"),
            ("file://host//x", true, "behind a host as well"),
            ("file://host/x//y?//", false, "further on they are all there"),
            ("file://host?x//y", false, "in a query"),
            ("file:///c|/x", true, "a drive"),
            ("file://c|", true, "a drive in place of a host"),
            ("file:///c:/x", false, "a drive with a colon"),
            ("file:///ab|c", false, "no drive"),
            ("note:////x", false, "slashes that are all the server's"),
            ("file:///x", false, "a file"),
        ] {
            assert_eq!(is_ambiguous(uri), ambiguous, "{uri:?}: {why}");
        }
    }

    #[test]
    fn each_reader_has_its_spelling() {
        for (uri, expected) in [
            ("note://a/x", vec!["note://a/x"]),
            ("NOTE://a/x", vec!["NOTE://a/x", "note://a/x"]),
            ("file://localhost/x", vec!["file:///x", "file://localhost/x"]),
            ("note://a/%78", vec!["note://a/%78", "note://a/x"]),
            (
                "NOTE://a/%78",
                vec!["NOTE://a/%78", "NOTE://a/x", "note://a/%78", "note://a/x"],
            ),
            (
                "https://A.example:443",
                vec!["https://A.example:443", "https://a.example/"],
            ),
            ("FILE:x", vec!["FILE:x", "file:///x", "file:x"]),
            ("u%78", vec!["u%78", "ux"]),
            ("HTTPS://a:x/", vec!["HTTPS://a:x/", "https://a:x/"]),
            ("A/b:c", vec!["A/b:c"]),
        ] {
            assert_eq!(Vec::from_iter(spellings(uri)), expected, "{uri}");
        }
        let template = "note:///{id}";
        assert_eq!(Vec::from_iter(template_spellings(template)), [template]);
    }

    proptest! {
        /// What a URL parser writes stays as it is when it is parsed again: there is no fourth spelling.
        #[test]
        fn normal_forms_are_stable(uri in "(note|NOTE|file|https|HTTPS):/{0,3}[a-zA-Z0-9%:@.?#{}~/ö]{0,20}") {
            prop_assume!(!is_ambiguous(&uri));
            if let Ok(url) = Url::parse(&uri) {
                let again = Url::parse(url.as_str()).map(String::from);
                prop_assert_eq!(again.as_deref(), Ok(url.as_str()));
                prop_assert!(spellings(&uri).contains(url.as_str()));
            }
        }
    }
}
