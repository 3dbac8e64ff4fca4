//! Redirect URIs that nobody wrote into one of our objects, and that the schema of McpClients has not judged: those of a
//! client's own metadata document. The rules are the same, but for schemes of an application's own, which `redirectHosts` of
//! a grant names one by one.

use url::{Host, Url};

/// As long as an McpClient may write one.
const LONGEST: usize = 255;

/// Schemes that a browser would run, or that lead nowhere.
const DANGEROUS: [&str; 9] = [
    "javascript",
    "data",
    "file",
    "vbscript",
    "about",
    "blob",
    "ws",
    "wss",
    "ftp",
];

/// Parameters that the answer brings.
const ANSWERS: [&str; 4] = ["code", "state", "iss", "error"];

/// Whether every party reads this redirect URI in the same way, and none of them runs it or sends it in the clear.
pub fn is_sound(uri: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !br#""\<>^`{|}*#"#.contains(&byte);
    let Ok(url) = Url::parse(uri) else {
        return false;
    };
    let is_nobodys = url.username().is_empty() && url.password().is_none();
    let is_answer = url
        .query_pairs()
        .any(|(name, _)| ANSWERS.contains(&name.as_ref()));
    // `https:/host` and the like are read as if they had two slashes.
    let is_spelt = uri.starts_with(&format!("{}:", url.scheme()))
        && (!matches!(url.scheme(), "http" | "https") || uri.contains("://"));
    uri.len() <= LONGEST
        && uri.bytes().all(plain)
        && is_spelt
        && is_nobodys
        && !is_answer
        && !DANGEROUS.contains(&url.scheme())
        && (url.scheme() != "http" || is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address == std::net::Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(address)) => address == std::net::Ipv6Addr::LOCALHOST,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_gets_no_redirect_uri_that_an_object_would_not() {
        for sound in [
            "https://app.example.com/cb",
            "http://localhost:33418/",
            "http://127.0.0.1/cb",
            "http://[::1]:8080/cb",
            "com.example.app:/cb",
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "https://app.example.com/cb?tenant=a",
        ] {
            assert!(is_sound(sound), "{sound}");
        }
        let long = format!("https://app.example.com/{}", "a".repeat(255));
        for unsound in [
            "javascript:alert(1)",
            "data:text/html,x",
            "JavaScript:alert(1)",
            "http://app.example.com/cb",
            "http://localhost.evil.example/cb",
            "http://127.0.0.2/cb",
            "https://user@app.example.com/cb",
            "https://app.example.com/cb#x",
            "https://*.example.com/cb",
            "https://app.example.com\\@evil.example/cb",
            "https:/app.example.com/cb",
            "https://app.example.com/cb?code=x",
            "HTTPS://app.example.com/cb",
            " https://app.example.com/cb",
            "/cb",
            "",
            &long,
        ] {
            assert!(!is_sound(unsound), "{unsound}");
        }
    }
}
