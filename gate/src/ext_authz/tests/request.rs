//! What is taken for a request, and what is not.

use envoy_types::pb::envoy::config::core::v3::HeaderValue as PbHeader;

use super::*;

#[tokio::test]
async fn what_came_twice_is_refused_joined_or_not() {
    let stage = Stage::new(&json!({})).await;
    let token = stage.token(&json!({}));
    let raw = |pairs: &[(&str, &str)]| {
        let mut http = post(&token);
        let header = |(key, value): &(&str, &str)| PbHeader {
            key: (*key).to_owned(),
            raw_value: value.as_bytes().to_vec(),
            ..PbHeader::default()
        };
        http.header_map = Some(PbHeaders {
            headers: pairs.iter().map(header).collect(),
        });
        http
    };
    let joined = |name: &str, value: &str| {
        let mut http = post(&token);
        http.headers.insert(name.to_owned(), value.to_owned());
        http
    };
    let bearer = format!("Bearer {token}");
    let version = "mcp-protocol-version";
    for (why, http, expected) in [
        ("once", post(&token), 0),
        (
            "two tokens",
            joined("authorization", &format!("{bearer},{bearer}")),
            401,
        ),
        (
            "two tokens, one without scheme",
            joined("authorization", &format!("{bearer},{token}")),
            401,
        ),
        (
            "a token and a login",
            joined("authorization", &format!("{bearer},Basic YTpi")),
            401,
        ),
        (
            "two tokens, one of them raw",
            raw(&[("authorization", &bearer)]),
            400,
        ),
        (
            "two types",
            joined("content-type", "application/json,text/plain"),
            400,
        ),
        (
            "the same type twice",
            joined("content-type", "application/json,application/json"),
            400,
        ),
        (
            "two types with parameters",
            joined(
                "content-type",
                "application/json; charset=utf-8,application/json; charset=utf-8",
            ),
            400,
        ),
        ("two encodings", joined("content-encoding", "identity,gzip"), 400),
        (
            "two origins",
            joined("origin", "https://mcp.example.com,https://evil.example.com"),
            403,
        ),
        ("two versions", joined(version, "2025-06-18,2025-11-25"), 400),
        (
            "two lengths",
            joined("content-length", &format!("{0},{0}", CALL.len())),
            413,
        ),
        ("a name that is none", joined("a b", "x"), 400),
        ("a value that is none", joined("x", "a\nb"), 400),
        ("a raw value that is none", raw(&[("x", "a\0b")]), 400),
        ("a raw pseudo header", raw(&[(":path", "/mcp")]), 0),
    ] {
        let outcome = outcome(stage.check(http).await.unwrap());
        assert_eq!(outcome.status(), expected, "{why}");
    }
}

#[tokio::test]
async fn raw_headers_are_read_as_well() {
    let stage = Stage::new(&json!({})).await;
    let mut http = stage.post();
    let headers = std::mem::take(&mut http.headers);
    let header = |(key, value): (String, String)| PbHeader {
        key,
        raw_value: value.into_bytes(),
        ..PbHeader::default()
    };
    http.header_map = Some(PbHeaders {
        headers: headers.into_iter().map(header).collect(),
    });
    assert_eq!(outcome(stage.check(http).await.unwrap()).status(), 0);
}

#[tokio::test]
async fn a_body_that_may_be_cut_is_refused() {
    let stage = Stage::new(&json!({})).await;
    let length = i64::try_from(CALL.len()).unwrap();
    let base = stage.post();
    let change = |change: &dyn Fn(&mut HttpRequest)| {
        let mut http = base.clone();
        change(&mut http);
        http
    };
    let header = |name: &'static str, value: &'static str| {
        change(&|http| {
            http.headers.insert(name.to_owned(), value.to_owned());
        })
    };
    let in_text = String::from_utf8(CALL.to_vec()).unwrap();
    let largest = stage.arbiter.largest_body;
    for (why, http, expected) in [
        ("bytes", base.clone(), 0),
        (
            "text",
            change(&|http| {
                http.raw_body = Vec::new();
                http.body.clone_from(&in_text);
            }),
            0,
        ),
        ("both", change(&|http| http.body = "x".to_owned()), 413),
        ("the size is not known", change(&|http| http.size = -1), 0),
        ("it was larger", change(&|http| http.size = length + 1), 413),
        ("it was smaller", change(&|http| http.size = length - 1), 413),
        ("Envoy says so", header("x-envoy-auth-partial-body", "true"), 413),
        (
            "Envoy says something else",
            header("x-envoy-auth-partial-body", "maybe"),
            413,
        ),
        ("more was announced", header("content-length", "9109"), 413),
        (
            "nothing that can be read was announced",
            header("content-length", "many"),
            413,
        ),
        (
            "as much as may be",
            change(&|http| {
                http.raw_body.resize(largest, b' ');
                http.size = -1;
            }),
            0,
        ),
        (
            "one more",
            change(&|http| {
                http.raw_body.resize(largest + 1, b' ');
                http.size = -1;
            }),
            413,
        ),
        (
            "Envoy sends no bodies",
            change(&|http| http.raw_body = Vec::new()),
            413,
        ),
        (
            "none at all",
            change(&|http| {
                http.raw_body = Vec::new();
                http.size = 0;
            }),
            400,
        ),
    ] {
        let outcome = outcome(stage.check(http).await.unwrap());
        assert_eq!(outcome.status(), expected, "{why}");
    }
}

#[tokio::test]
async fn method_and_path_are_taken_as_they_are() {
    let stage = Stage::new(&json!({})).await;
    let base = stage.post();
    let change = |change: &dyn Fn(&mut HttpRequest)| {
        let mut http = base.clone();
        change(&mut http);
        http
    };
    for (why, http, expected) in [
        (
            "a GET without one",
            change(&|http| {
                http.method = "GET".to_owned();
                http.raw_body = Vec::new();
                http.size = 0;
            }),
            0,
        ),
        (
            "a GET with one",
            change(&|http| http.method = "GET".to_owned()),
            400,
        ),
        ("no method", change(&|http| http.method = String::new()), 400),
        (
            "another path",
            change(&|http| http.path = "/mcp/".to_owned()),
            404,
        ),
        (
            "the path in another spelling",
            change(&|http| http.path = "/%6dcp".to_owned()),
            404,
        ),
        (
            "a query passes",
            change(&|http| http.path = "/mcp?a=b".to_owned()),
            0,
        ),
        (
            "a fragment does not",
            change(&|http| http.path = "/mcp#a".to_owned()),
            404,
        ),
    ] {
        let outcome = outcome(stage.check(http).await.unwrap());
        assert_eq!(outcome.status(), expected, "{why}");
    }
}
