mod creating;

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant as StdInstant},
};

use serde_json::json;
use wiremock::{
    Mock, MockServer, Respond, ResponseTemplate,
    matchers::{any, header},
};

use super::*;
use crate::{
    egress::{Audience, Egress, EgressPolicy},
    provider::realm::LimitSettings,
};

fn client(timeout: Duration) -> HttpClient {
    let policy = EgressPolicy {
        allow_http: true,
        insecure_allow_loopback: true,
        ..Default::default()
    };
    let rate = NonZeroU32::new(10_000).unwrap();
    HttpClient {
        egress: Egress::new(policy)
            .client_with_timeout(Audience::AuthorizationServer, None, timeout)
            .unwrap(),
        limits: Arc::new(RealmLimits::new(LimitSettings::new(
            rate,
            Duration::from_secs(60),
        ))),
        metrics: Metrics::default(),
        leadership: Leadership::uncontested(),
    }
}

fn request(uri: &str, effect: Effect) -> Request<'static> {
    Request {
        operation: "op",
        method: if effect == Effect::Create {
            Method::POST
        } else {
            Method::GET
        },
        url: Url::parse(uri).unwrap(),
        effect,
        shown: Shown::Nothing,
        body: Body::Empty,
        limit: 1000,
    }
}

/// Answers the first requests in turn and all later ones by 200.
struct InTurn(Vec<ResponseTemplate>, AtomicUsize);

impl Respond for InTurn {
    fn respond(&self, _: &wiremock::Request) -> ResponseTemplate {
        let n = self.1.fetch_add(1, Ordering::SeqCst);
        self.0
            .get(n)
            .cloned()
            .unwrap_or_else(|| ResponseTemplate::new(200).set_body_json(json!({})))
    }
}

async fn server(first: Vec<ResponseTemplate>) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(InTurn(first, AtomicUsize::new(0)))
        .mount(&server)
        .await;
    server
}

async fn requests(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

fn status(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_string("hunter2")
}

fn unavailable(status: u16, retry_after: Option<u64>) -> ProviderError {
    ProviderError::Unavailable {
        status,
        retry_after: retry_after.map(Duration::from_secs),
    }
}

const LONG: Duration = Duration::from_secs(5);

#[tokio::test]
async fn what_may_be_repeated_is_repeated() {
    for effect in [Effect::Read, Effect::Replace] {
        let server = server(vec![status(503), status(500)]).await;
        let answer = client(LONG).call(&request(&server.uri(), effect)).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), requests(&server).await),
            (200, 3),
            "{effect:?}"
        );
    }
}

#[tokio::test]
async fn repeating_ends() {
    let server = server(vec![status(502); 9]).await;
    let error = client(LONG)
        .call(&request(&server.uri(), Effect::Read))
        .await
        .err();
    assert_eq!(
        (error, requests(&server).await),
        (Some(unavailable(502, None)), 3)
    );
}

#[tokio::test]
async fn a_creation_is_sent_once_whatever_comes() {
    for first in [
        status(503),
        status(429),
        status(500).set_delay(Duration::from_millis(400)),
    ] {
        let server = server(vec![first]).await;
        let client = client(Duration::from_millis(300));
        assert!(
            client
                .call(&request(&server.uri(), Effect::Create))
                .await
                .is_err()
        );
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(requests(&server).await, 1);
    }
}

#[tokio::test]
async fn a_short_pause_that_is_asked_for_is_made_and_a_long_one_is_reported() {
    let server = server(vec![status(429).insert_header("retry-after", "1")]).await;
    let begun = StdInstant::now();
    assert!(
        client(LONG)
            .call(&request(&server.uri(), Effect::Read))
            .await
            .is_ok()
    );
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let server = super::tests::server(vec![status(503).insert_header("retry-after", "120")]).await;
    let client = client(LONG);
    let error = client.call(&request(&server.uri(), Effect::Read)).await.err();
    assert_eq!(
        (error, requests(&server).await),
        (Some(unavailable(503, Some(120))), 1)
    );
    let refused = client
        .call(&request(&server.uri(), Effect::Read))
        .await
        .err()
        .unwrap();
    assert_eq!(requests(&server).await, 1, "left alone");
    let left = refused.retry_after().unwrap();
    assert!(
        left > Duration::from_secs(50) && left <= Duration::from_secs(60),
        "capped: {left:?}"
    );
}

#[tokio::test]
async fn an_answer_below_500_is_the_callers_matter() {
    for code in [200, 204, 400, 401, 403, 404, 409] {
        let server = server(vec![status(code); 3]).await;
        let answer = client(LONG)
            .call(&request(&server.uri(), Effect::Read))
            .await
            .unwrap();
        assert_eq!((answer.status.as_u16(), requests(&server).await), (code, 1));
    }
}

#[tokio::test]
async fn answers_that_cannot_be_used() {
    let redirect = ResponseTemplate::new(302).insert_header("location", "https://hunter2.example/");
    for (first, why) in [
        (
            ResponseTemplate::new(200).set_body_string("x".repeat(1001)),
            "it is too long",
        ),
        (redirect, "it is a redirect, which is not followed"),
    ] {
        let server = server(vec![first]).await;
        let error = client(LONG)
            .call(&request(&server.uri(), Effect::Read))
            .await
            .err();
        assert_eq!(error, Some(ProviderError::Malformed { operation: "op", why }));
        assert_eq!(requests(&server).await, 1);
    }
    let server = server(vec![status(200)]).await;
    let answer = client(LONG)
        .call(&request(&server.uri(), Effect::Read))
        .await
        .unwrap();
    let error = answer.json::<Value>("op").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn no_answer_is_said_in_our_words() {
    let server = server(vec![status(200).set_delay(Duration::from_secs(2)); 3]).await;
    let error = client(Duration::from_millis(100))
        .call(&request(&server.uri(), Effect::Read))
        .await
        .err();
    let unreachable = |why: &str| {
        Some(ProviderError::Unreachable {
            why: why.into(),
            retry_after: None,
        })
    };
    assert_eq!(error, unreachable("the server did not answer in time"));
    assert_eq!(requests(&server).await, 1, "a silent server is not asked again");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = client(LONG)
        .call(&request(&format!("http://{nobody}/"), Effect::Read))
        .await
        .err();
    assert_eq!(error, unreachable("the server cannot be reached"));
}

#[tokio::test]
async fn an_address_that_is_refused_is_no_fault_of_the_realm() {
    let mut client = client(LONG);
    let policy = EgressPolicy {
        allow_http: true,
        ..Default::default()
    };
    client.egress = Egress::new(policy)
        .client(Audience::AuthorizationServer, None)
        .unwrap();
    for _ in 0..5 {
        let error = client
            .call(&request("http://127.0.0.1:1/", Effect::Read))
            .await
            .err();
        assert!(matches!(error, Some(ProviderError::Refused { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn who_does_not_lead_reads_but_does_not_write() {
    let server = server(vec![]).await;
    let mut client = client(LONG);
    client.leadership = Leadership::lost();
    assert!(client.call(&request(&server.uri(), Effect::Read)).await.is_ok());
    for effect in [Effect::Replace, Effect::Create] {
        let error = client.call(&request(&server.uri(), effect)).await.err();
        assert_eq!(error, Some(ProviderError::NotLeading));
    }
    assert_eq!(requests(&server).await, 1);
}

#[tokio::test]
async fn a_write_ends_with_the_lease() {
    for effect in [Effect::Replace, Effect::Create] {
        let server = server(vec![status(200).set_delay(Duration::from_secs(4)); 3]).await;
        let mut client = client(LONG);
        client.leadership = Leadership::until(Instant::now() + Duration::from_secs(1));
        let begun = StdInstant::now();
        let error = client.call(&request(&server.uri(), effect)).await.err();
        assert_eq!(error, Some(ProviderError::NotLeading), "no fault of the realm");
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert_eq!(requests(&server).await, 1);
    }
}

#[tokio::test]
async fn every_attempt_is_counted() {
    let server = server(vec![status(503), status(404)]).await;
    let client = client(LONG);
    assert!(client.call(&request(&server.uri(), Effect::Read)).await.is_ok());
    let text = client.metrics.encode().unwrap();
    for class in ["5xx", "4xx"] {
        let series = format!(r#"calls_total{{operation="op",status_class="{class}"}} 1"#);
        assert!(text.contains(&series), "{series} in {text}");
    }
}

#[tokio::test]
async fn tokens_and_bodies_arrive() {
    let server = MockServer::start().await;
    Mock::given(header("authorization", "Bearer t"))
        .and(header("content-type", "application/json"))
        .respond_with(ResponseTemplate::new(201))
        .mount(&server)
        .await;
    let (token, body) = (SecretString::from("t"), json!({"a": 1}));
    let request = Request {
        shown: Shown::Bearer(&token),
        body: Body::Json(&body),
        ..request(&server.uri(), Effect::Create)
    };
    assert_eq!(client(LONG).call(&request).await.unwrap().status.as_u16(), 201);
}

#[test]
fn only_codes_are_taken_from_errors() {
    for (body, code) in [
        (
            r#"{"error":"invalid_grant","error_description":"hunter2"}"#,
            "invalid_grant",
        ),
        (r#"{"error":"a.b-c_D9"}"#, "a.b-c_D9"),
        (r#"{"error":"HTTP 403 Forbidden"}"#, ""),
        (r#"{"error":"<script>"}"#, ""),
        (r#"{"error":{"code":"x"}}"#, ""),
        (r#"{"error":""}"#, ""),
        (r#"{"errorMessage":"hunter2"}"#, ""),
        ("hunter2", ""),
        ("", ""),
    ] {
        assert_eq!(Answer::of(400, body).code(), code, "{body}");
    }
    let long = format!(r#"{{"error":"{}"}}"#, "a".repeat(65));
    assert_eq!(Answer::of(400, &long).code(), "");
}

#[test]
fn retry_after_in_seconds_and_as_a_date() {
    let headers = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    };
    let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
    for (pairs, expected) in [
        (vec![], None),
        (vec![("retry-after", "120")], Some(120)),
        (vec![("retry-after", "0")], Some(0)),
        (
            vec![("retry-after", "99999999999999999999")],
            Some(u64::from(u32::MAX)),
        ),
        (vec![("retry-after", "")], None),
        (vec![("retry-after", "-1")], None),
        (vec![("retry-after", "soon")], None),
        (
            vec![("retry-after", "Wed, 21 Oct 2026 07:29:30 GMT"), date],
            Some(90),
        ),
        (
            vec![("retry-after", "Wed, 21 Oct 2026 07:00:00 GMT"), date],
            Some(0),
        ),
        (vec![("retry-after", "Wed, 21 Oct 2026 07:29:30 GMT")], None),
    ] {
        assert_eq!(
            retry_after(&headers(&pairs)),
            expected.map(Duration::from_secs),
            "{pairs:?}"
        );
    }
}
