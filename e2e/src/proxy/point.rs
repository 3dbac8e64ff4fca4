//! Which write a call is, in words that are the same in every run.

use std::fmt;

use super::Call;

/// A write as it comes up again when the same is done with another object: method and path, without ids and names that
/// differ from run to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point(String);

impl Point {
    /// Which point a call is. None if it changes nothing, as a look at a document at Auth0 does, or belongs to the election,
    /// which goes on beside all work.
    /// The proof of a client's credential is one too: the credential is in force after it. So is reading a registration:
    /// the answer may hold another token for the next time.
    pub fn of(call: &Call, namespace: &str, client: &str) -> Option<Self> {
        let path = call.path();
        if path.contains("/leases") || path == "/api/v2/clients/cimd/preview" {
            return None;
        }
        let proves = path.ends_with("/protocol/openid-connect/token") && is_shown_by(call, client);
        (call.is_write() || proves || reads_registration(call)).then(|| {
            let (auth0, registered) = (path.starts_with("/api/v2/"), path.starts_with("/reg/"));
            let segments: Vec<String> = path
                .split('/')
                .map(|segment| match segment {
                    segment if auth0 && is_id_of_auth0(segment) => "{id}".to_owned(),
                    // The authorization server makes the id up.
                    segment if registered && !matches!(segment, "" | "reg") => "{id}".to_owned(),
                    segment => plain(segment, namespace, client),
                })
                .collect();
            Self(format!("{} {}", call.method, plain_event(&segments.join("/"))))
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether a request for a token is the client's: the id of ours says whose it is, and who registered shows itself in the
/// header.
fn is_shown_by(call: &Call, client: &str) -> bool {
    match call.form("client_id") {
        Some(id) => id.ends_with(&format!(".{client}")),
        None => call.form("client_assertion").is_none(),
    }
}

/// Whether a registration is read (RFC 7592 section 2.1).
fn reads_registration(call: &Call) -> bool {
    let path = call.path();
    let is_one = path.starts_with("/reg/") || path.contains("/clients-registrations/openid-connect/");
    call.method == http::Method::GET && is_one
}

/// A segment of a path without what differs from run to run.
fn plain(segment: &str, namespace: &str, client: &str) -> String {
    let is_hexadecimal = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    if segment.len() == 36 && segment.split('-').count() == 5 && segment.bytes().all(is_hexadecimal) {
        return "{id}".to_owned();
    }
    segment
        .replace(namespace, "{namespace}")
        .replace(client, "{client}")
}

/// Whether a segment is an id of Auth0 (with a prefix, of 24 hexadecimal digits, or of 32 letters and digits) or an encoded
/// identifier of an API.
fn is_id_of_auth0(segment: &str) -> bool {
    let prefixes = ["tpc_", "cgr_", "con_", "rol_", "tep_", "cred_"];
    let all = |is: fn(&u8) -> bool| segment.as_bytes().iter().all(is);
    prefixes.iter().any(|prefix| segment.starts_with(prefix))
        || segment.contains("%2F")
        || (segment.len() == 24 && all(u8::is_ascii_hexdigit))
        || (segment.len() == 32 && all(u8::is_ascii_alphanumeric))
}

/// The name of an Event is made up.
fn plain_event(path: &str) -> String {
    match path.split_once("/events/") {
        Some((before, _)) => format!("{before}/events/{{event}}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::Method;
    use hyper::body::Bytes;

    use super::*;

    fn point(method: Method, target: &str, body: &'static str) -> Option<String> {
        let call = Call {
            at: Instant::now(),
            method,
            target: target.to_owned(),
            status: None,
            arrived: false,
            content_type: None,
            authorization: None,
            body: Bytes::from(body),
        };
        Point::of(&call, "team", "reader-7").map(|point| point.to_string())
    }

    #[test]
    fn a_point_is_the_same_in_every_run() {
        let table = [
            (
                Method::PUT,
                "/admin/realms/team/clients/6f1c0e7a-0000-4000-8000-0123456789ab?x=y",
                "PUT /admin/realms/{namespace}/clients/{id}",
            ),
            (
                Method::PATCH,
                "/apis/mcpauth.dev/v1alpha1/namespaces/team/mcpclients/reader-7/status",
                "PATCH /apis/mcpauth.dev/v1alpha1/namespaces/{namespace}/mcpclients/{client}/status",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/team-operator/secrets/mcpclient.team.reader-7",
                "PUT /api/v1/namespaces/{namespace}-operator/secrets/mcpclient.{namespace}.{client}",
            ),
            (
                Method::PATCH,
                "/apis/events.k8s.io/v1/namespaces/team/events/reader-7.abc",
                "PATCH /apis/events.k8s.io/v1/namespaces/{namespace}/events/{event}",
            ),
            (
                Method::PATCH,
                "/api/v2/clients/tpc_vbc2Y77hGZfbhkSi7y3gTh",
                "PATCH /api/v2/clients/{id}",
            ),
            (
                Method::DELETE,
                "/api/v2/clients/AvXWonRB4kwqYaQKIGQNEcl1K9kUlRL4/credentials/cred_fquyqiJaDoUm1ZCWhwUzUZ",
                "DELETE /api/v2/clients/{id}/credentials/{id}",
            ),
            (
                Method::PATCH,
                "/api/v2/resource-servers/69f1afe9659b98d75ab916ff",
                "PATCH /api/v2/resource-servers/{id}",
            ),
            (
                Method::PATCH,
                "/api/v2/resource-servers/https:%2F%2Fmcp.example.com%2F",
                "PATCH /api/v2/resource-servers/{id}",
            ),
            (Method::GET, "/reg/V1StGXR8_Z5jdHi6B-myT", "GET /reg/{id}"),
            (Method::POST, "/reg", "POST /reg"),
            (
                Method::POST,
                "/api/v1/namespaces/crashes-registered-public-1-operator/secrets",
                "POST /api/v1/namespaces/crashes-registered-public-1-operator/secrets",
            ),
            (
                Method::GET,
                "/realms/team/clients-registrations/openid-connect/6f1c0e7a-0000-4000-8000-0123456789ab",
                "GET /realms/{namespace}/clients-registrations/openid-connect/{id}",
            ),
        ];
        for (method, target, expected) in table {
            assert_eq!(point(method, target, "").as_deref(), Some(expected));
        }
    }

    #[test]
    fn of_what_changes_nothing_only_the_proof_is_a_point() {
        let token = "/realms/team/protocol/openid-connect/token";
        for (target, body, expected) in [
            (token, "client_id=i.team.reader-7&client_secret=s", true),
            (token, "client_id=mcp-operator", false),
            (token, "grant_type=client_credentials", true),
            (token, "grant_type=client_credentials&client_assertion=a", false),
            ("/apis/coordination.k8s.io/v1/namespaces/team/leases/l", "", false),
            ("/api/v2/clients/cimd/preview", "{}", false),
            ("/api/v2/clients/cimd/register", "{}", true),
        ] {
            assert_eq!(
                point(Method::POST, target, body).is_some(),
                expected,
                "{target} {body}"
            );
        }
        assert_eq!(point(Method::GET, "/admin/realms/team/clients", ""), None);
    }
}
