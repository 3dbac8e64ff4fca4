//! Targets of requests: what a gate takes for the path of its server must be that path to whoever reads it afterwards.
//!
//! What is made is the path of a resource and a target, with a space between them.

use http::{HeaderMap, Method, Uri};
use mcp_auth_gate_core::{
    answer::Reason,
    decide::{Head, Stop, admit},
    policy::Policy,
    token::{Claims, TokenError, Verifier},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    meaning::hex,
    subject::{Subject, View},
};

/// Targets of requests.
pub const SUBJECT: Subject = Subject {
    name: "targets",
    make,
    judge: to_the_gate,
    shown,
    beside: &[],
    agree,
    probe: b"/a/mcp /a/mcp?x",
};

/// What resources have for a path, apart from what makes them no canonical ones.
const PATHS: [&str; 12] = [
    "/",
    "/mcp",
    "/a/mcp",
    "/a/mcp/",
    "/a//mcp",
    "//a/mcp",
    "/a%2fmcp",
    "/%6dcp",
    "/mcp;v=1",
    "/mcp:a",
    "/%2e%2fmcp",
    "/m%C3%B6p",
];
/// What is put into targets.
const FRAGMENTS: [&str; 34] = [
    "?",
    "?x",
    "?x=/../y",
    "#",
    "#x",
    "?#",
    "/",
    "//",
    "/.",
    "/..",
    "/../",
    "..;/",
    ";",
    ";x=1",
    "\\",
    "%2f",
    "%2F",
    "%5c",
    "%2e%2e",
    "%3f",
    "%23",
    "%00",
    "%20",
    "%",
    "%6d",
    "%6D",
    "%25",
    "http://mcp.example",
    "//h",
    "*",
    "@",
    ":",
    "\u{f6}",
    "|",
];

fn make(seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let path = PATHS.choose(&mut random).copied().unwrap_or_default();
    let mut target = path.to_owned();
    for _ in 0..random.random_range(0..3) {
        let fragment = FRAGMENTS.choose(&mut random).copied().unwrap_or_default();
        let at = if random.random_ratio(1, 2) {
            target.len()
        } else {
            let places: Vec<usize> = (0..=target.len())
                .filter(|at| target.is_char_boundary(*at))
                .collect();
            places.choose(&mut random).copied().unwrap_or_default()
        };
        target.insert_str(at, fragment);
    }
    if random.random_ratio(1, 12) {
        target.make_ascii_uppercase();
    }
    format!("{path} {target}").into_bytes()
}

/// The path of the resource, and the target.
fn parts(made: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(made).ok()?.split_once(' ')
}

/// The path, if the gate takes the target for it in any of its faces.
fn to_the_gate(made: &[u8]) -> Option<String> {
    let (path, _) = parts(made)?;
    (!sent_on(made).is_empty()).then(|| hex(path.as_bytes()))
}

/// The path, and every target that reaches a server instead of the one that was sent.
fn shown(made: &[u8]) -> Vec<u8> {
    let path = parts(made).map(|(path, _)| path.to_owned());
    let all: Vec<String> = path.into_iter().chain(sent_on(made)).collect();
    all.join(" ").into_bytes()
}

/// What the faces send on, or let be sent on: the proxy what it read, put together again; an engine, for which the others
/// decide, the target as it came.
fn sent_on(made: &[u8]) -> Vec<String> {
    let Some((path, target)) = parts(made) else {
        return Vec::new();
    };
    let Some(policy) = policy(path) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    if let Ok(uri) = target.parse::<Uri>()
        && admits(&policy, uri.path(), uri.query())
    {
        all.push(
            uri.query()
                .map_or(path.to_owned(), |query| format!("{path}?{query}")),
        );
    }
    let (asked, query) = match target.split_once('?') {
        Some((asked, query)) => (asked, Some(query)),
        None => (target, None),
    };
    if admits(&policy, asked, query) {
        all.push(target.to_owned());
    }
    all
}

fn policy(path: &str) -> Option<Policy> {
    let document = serde_json::json!({
        "version": 1,
        "server": {"namespace": "n", "name": "s"},
        "resource": format!("https://mcp.example{path}"),
        "authorizationServer": {
            "issuer": "https://login.example",
            "jwksUri": "https://login.example/keys",
            "tokenEndpoint": "https://login.example/token",
            "tokenTypes": [{"header": "at+jwt"}],
        },
        "scopes": [{"name": "use", "challenge": true}],
        "upstream": {"url": "http://server/mcp"},
    });
    Policy::parse(document.to_string().as_bytes()).ok()
}

/// Whether the gate would look at the token of a request for this: everything else at this path is refused later.
fn admits(policy: &Policy, path: &str, query: Option<&str>) -> bool {
    let head = Head {
        method: &Method::POST,
        path,
        query,
        headers: &HeaderMap::new(),
    };
    match admit(&head, policy, &Nobody, 0) {
        Err(Stop::Answer(answer)) => answer.reason != Reason::NotFound && answer.reason != Reason::Metadata,
        _ => true,
    }
}

/// No token is good.
struct Nobody;

impl Verifier for Nobody {
    fn verify(&self, _: &str, _: &str) -> Result<std::sync::Arc<Claims>, TokenError> {
        Err(TokenError::Malformed)
    }
}

/// Whether each reader takes all targets for the path of the resource. One that refuses a target does nothing.
fn agree(views: &[View]) -> bool {
    let mut readers = views.iter().skip(1).map(|(_, view)| view.split(' '));
    readers.all(|mut paths| {
        let own = paths.next();
        paths.all(|path| Some(path) == own || path.starts_with('!'))
    })
}
