//! Which calls the operator made for which object, and what kinds of calls they were.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::proxy::Call;

/// Digits of the number in the name of one of many.
pub(super) const DIGITS: usize = 6;

/// The side of the operator on which a call goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    AuthorizationServer,
    ApiServer,
}

/// A call with the side on which it went out.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) side: Side,
    pub(super) call: Call,
}

impl Sent {
    /// What kind of call it is: the same for the same call for another object.
    pub(super) fn kind(&self) -> String {
        let (path, method) = (self.call.path(), &self.call.method);
        let below = |folder: &str| path.split_once(folder)?.1.split_once('/');
        match (self.side, below("/realms/"), below("/namespaces/")) {
            (Side::AuthorizationServer, Some((_, rest)), _) if self.call.is_protocol() => {
                let named = self
                    .call
                    .form("client_id")
                    .is_some_and(|id| number(&id).is_some());
                let whose = if named {
                    " (the client's)"
                } else {
                    " (the operator's)"
                };
                let last = rest.rsplit('/').next().unwrap_or_default();
                format!("{method} {last}{whose}")
            }
            (Side::AuthorizationServer, Some((_, rest)), _) => {
                format!("{method} {}{}", plain(rest), parameters(&self.call))
            }
            (Side::ApiServer, _, Some((namespace, rest))) => {
                let journal = namespace.ends_with("-operator") && rest.starts_with("secrets");
                let what = if journal { " (journal)" } else { "" };
                format!("{method} {}{what}", plain(rest))
            }
            _ => format!("{method} {}", plain(path.trim_start_matches('/'))),
        }
    }

    /// Whether it comes with time, however many objects there are: the election, and the operator's own tokens.
    pub(super) fn is_of_time(&self) -> bool {
        let of_object = self
            .call
            .form("client_id")
            .is_some_and(|id| number(&id).is_some());
        self.call.path().contains("/leases/") || self.call.is_protocol() && !of_object
    }
}

/// A path without ids and names that differ from object to object.
fn plain(path: &str) -> String {
    let plain = |segment: &str| match segment {
        _ if is_id(segment) => "{id}".to_owned(),
        _ if number(segment).is_some() => "{name}".to_owned(),
        _ => segment.to_owned(),
    };
    path.split('/').map(plain).collect::<Vec<_>>().join("/")
}

/// The names of the parameters of a read: they say what it looks for.
fn parameters(call: &Call) -> String {
    let Some((_, query)) = call.target.split_once('?') else {
        return String::new();
    };
    let names = query.split('&').filter_map(|pair| pair.split('=').next());
    format!("?{}", names.collect::<Vec<_>>().join("&"))
}

/// Whether a segment of a path is an id at the authorization server.
fn is_id(segment: &str) -> bool {
    segment.len() == 36 && segment.split('-').count() == 5
}

/// The number of an object that a text names, whatever its kind.
fn number(text: &str) -> Option<u32> {
    numbers(text, "-").next()
}

/// The numbers that follow `before` in a text.
fn numbers<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = u32> + 'a {
    let digits = move |(at, _): (usize, &str)| {
        let digits = text.get(at + before.len()..at + before.len() + DIGITS)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| all)
    };
    text.match_indices(before).filter_map(digits)
}

/// The calls of a while, by the object that they are about.
#[derive(Default)]
pub(super) struct Recording {
    /// By number of the object, in the order in which they were sent.
    pub(super) objects: BTreeMap<u32, Vec<Sent>>,
    /// By number of the object: what it has at the authorization server.
    pub(super) ids: BTreeMap<u32, HashSet<String>>,
    /// Those that are about no single object.
    pub(super) others: Vec<Sent>,
}

impl Recording {
    /// Sorts calls, which are in the order in which they were sent, by the objects whose names begin with `prefix`.
    pub(super) fn of(prefix: &str, calls: Vec<Sent>) -> Self {
        let before = format!("{prefix}-");
        let named = |sent: &Sent| {
            let body = std::str::from_utf8(&sent.call.body).unwrap_or_default();
            let texts = [sent.call.target.as_str(), body];
            texts.into_iter().find_map(|text| numbers(text, &before).next())
        };
        let mut recording = Self::default();
        let mut owners: HashMap<String, u32> = HashMap::new();
        for sent in calls {
            let path = sent.call.path().to_owned();
            let known = path.split('/').find_map(|segment| owners.get(segment).copied());
            let Some(number) = known.or_else(|| named(&sent)) else {
                recording.others.push(sent);
                continue;
            };
            if let Some(id) = made(&sent) {
                owners.insert(id.clone(), number);
                recording.ids.entry(number).or_default().insert(id);
            }
            recording.objects.entry(number).or_default().push(sent);
        }
        recording
    }
}

/// The id of what a call makes at the authorization server.
fn made(sent: &Sent) -> Option<String> {
    let makes = sent.side == Side::AuthorizationServer && sent.call.method == http::Method::POST;
    let body = makes.then(|| sent.call.json::<Value>().ok())??;
    body["id"].as_str().map(str::to_owned)
}

/// How many calls of each kind there were.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(BTreeMap<(Side, String), u32>);

impl Tally {
    /// Counts these too.
    pub(super) fn add<'a>(&mut self, calls: impl IntoIterator<Item = &'a Sent>) {
        for sent in calls {
            *self.0.entry((sent.side, sent.kind())).or_default() += 1;
        }
    }

    /// How many there were on a side.
    pub(super) fn on(&self, side: Side) -> u32 {
        let own = self.0.iter().filter(|((of, _), _)| *of == side);
        own.map(|(_, count)| count).sum()
    }
}

/// A table with a line for each kind of call and a column for each tally, in calls per object.
pub(super) fn table(columns: &[(&str, &Tally, u32)]) -> Vec<String> {
    let names: Vec<_> = columns.iter().map(|(name, ..)| *name).collect();
    let head = format!(
        "| to | call | {} |\n|---|---|{}",
        names.join(" | "),
        "--:|".repeat(names.len())
    );
    let mut kinds: Vec<_> = columns.iter().flat_map(|(_, tally, _)| tally.0.keys()).collect();
    kinds.sort();
    kinds.dedup();
    let row = |kind: &&(Side, String)| {
        let cells = columns.iter().map(|(_, tally, objects)| {
            let count = tally.0.get(*kind).copied().unwrap_or_default();
            f64::from(count) / f64::from((*objects).max(1))
        });
        let cells: Vec<f64> = cells.collect();
        let side = match kind.0 {
            Side::AuthorizationServer => "authorization server",
            Side::ApiServer => "API server",
        };
        let cells: Vec<_> = cells.iter().map(|cell| figure(*cell)).collect();
        let shown = cells.iter().any(|cell| !cell.is_empty());
        shown.then(|| format!("| {side} | `{}` | {} |", kind.1, cells.join(" | ")))
    };
    std::iter::once(head)
        .chain(kinds.iter().filter_map(row))
        .collect()
}

/// Nothing for next to none.
fn figure(each: f64) -> String {
    if each < 0.005 {
        String::new()
    } else {
        format!("{each:.2}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::Method;
    use hyper::body::Bytes;

    use super::*;

    const ID: &str = "6f1c0e7a-0000-4000-8000-0123456789ab";

    fn sent(side: Side, method: Method, target: &str, body: &str) -> Sent {
        let call = Call {
            at: Instant::now(),
            method,
            target: target.to_owned(),
            status: None,
            arrived: false,
            content_type: None,
            authorization: None,
            body: Bytes::from(body.to_owned()),
        };
        Sent { side, call }
    }

    #[test]
    fn kinds_of_calls_do_not_name_objects() {
        use Side::{ApiServer, AuthorizationServer};
        let token = "/realms/r/protocol/openid-connect/token";
        for (sent, kind) in [
            (
                sent(
                    AuthorizationServer,
                    Method::PUT,
                    &format!("/admin/realms/r/clients/{ID}"),
                    "",
                ),
                "PUT clients/{id}",
            ),
            (
                sent(
                    AuthorizationServer,
                    Method::GET,
                    "/admin/realms/r/clients?clientId=r.client-000001",
                    "",
                ),
                "GET clients?clientId",
            ),
            (
                sent(
                    AuthorizationServer,
                    Method::POST,
                    token,
                    "client_id=r.n.client-000001",
                ),
                "POST token (the client's)",
            ),
            (
                sent(AuthorizationServer, Method::POST, token, "client_id=mcp-operator"),
                "POST token (the operator's)",
            ),
            (
                sent(
                    ApiServer,
                    Method::PUT,
                    "/api/v1/namespaces/n-operator/secrets/mcpclient.n.client-000001?x=y",
                    "",
                ),
                "PUT secrets/{name} (journal)",
            ),
            (
                sent(
                    ApiServer,
                    Method::PATCH,
                    "/apis/mcpauth.dev/v1alpha1/namespaces/n/mcpclients/client-000001/status",
                    "",
                ),
                "PATCH mcpclients/{name}/status",
            ),
            (sent(ApiServer, Method::GET, "/version", ""), "GET version"),
        ] {
            assert_eq!(sent.kind(), kind);
        }
    }

    #[test]
    fn calls_belong_to_the_object_that_they_name_or_whose_id_they_carry() {
        let body = format!(r#"{{"clientId": "r.client-000007", "id": "{ID}"}}"#);
        let put = format!("/admin/realms/r/clients/{ID}/optional-client-scopes/other");
        let recording = Recording::of(
            "client",
            vec![
                sent(
                    Side::AuthorizationServer,
                    Method::POST,
                    "/admin/realms/r/clients",
                    &body,
                ),
                sent(Side::AuthorizationServer, Method::PUT, &put, ""),
                sent(
                    Side::AuthorizationServer,
                    Method::GET,
                    "/admin/realms/r/client-scopes",
                    "server-000001",
                ),
                sent(
                    Side::ApiServer,
                    Method::GET,
                    "/api/v1/namespaces/n/secrets/client-000008-x",
                    "",
                ),
            ],
        );
        assert_eq!(recording.objects[&7].len(), 2);
        assert_eq!(recording.objects[&8].len(), 1);
        assert_eq!(recording.others.len(), 1);
        assert!(recording.ids[&7].contains(ID));
    }

    #[test]
    fn a_table_has_what_each_object_cost() {
        let mut tally = Tally::default();
        tally.add(&vec![sent(Side::ApiServer, Method::GET, "/version", ""); 3]);
        let table = table(&[("made", &tally, 2), ("idle", &Tally::default(), 2)]);
        assert_eq!(table[1], "| API server | `GET version` | 1.50 |  |");
        assert_eq!(tally.on(Side::ApiServer), 3);
        assert_eq!(tally.on(Side::AuthorizationServer), 0);
    }
}
