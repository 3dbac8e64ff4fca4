use std::{
    io,
    sync::{Mutex, PoisonError},
};

use http::HeaderValue;
use mcp_auth_cli::logs::{self, LogFormat};
use mcp_auth_gate_core::{
    body,
    decide::{self, Body, Decision, Head},
    token::Keys,
};
use serde_json::Value;
use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

use super::*;
use crate::{
    config::LOGS,
    testing::{self, AuthorizationServer, NOW, Signer},
};

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn logged(act: impl FnOnce()) -> String {
    let written = Lines::default();
    let subscriber = tracing_subscriber::registry().with(logs::lines(
        LogFormat::Json,
        &LOGS.filter("info").unwrap(),
        written.clone(),
    ));
    tracing::subscriber::with_default(subscriber, act);
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// Alice, admitted by a real token.
async fn admitted() -> (String, Admitted) {
    let signer = Signer::new("k1");
    let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
    let policy = testing::policy(&server, &serde_json::json!({}));
    let token = signer.sign(&testing::claims(&server, &serde_json::json!({})));
    let headers = testing::headers(&token);
    let head: Head<'_> = testing::post(&headers);
    let keys = Keys::parse(&Signer::jwks(&[&signer])).unwrap();
    match decide::decide(&head, Body::Whole(testing::CALL), &policy, &keys, NOW) {
        Decision::Allow(allowed) => (token, allowed.caller),
        other => panic!("{other:?}"),
    }
}

fn record(log: &Arc<AccessLog>, path: &str, headers: &HeaderMap, admitted: &Admitted) -> String {
    logged(|| {
        let mut record = Record::new(log, &Method::POST, path, headers);
        record.admitted(admitted);
        let call = br#"{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "look"}}"#;
        record.called(&body::judge(call, None).unwrap());
        record.status = Some(200);
        record.reason = Some(Reason::Allowed);
    })
}

#[tokio::test]
async fn a_line_tells_what_was_called_and_by_whom_as_far_as_it_may() {
    let (token, admitted) = admitted().await;
    let mut headers = testing::headers(&token);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert("traceparent", HeaderValue::from_static(trace));
    let plain = Arc::new(AccessLog::new(AccessLogForm::Plain));
    let line: Value = serde_json::from_str(&record(&plain, "/mcp", &headers, &admitted)).unwrap();
    for (field, value) in [
        ("method", "POST"),
        ("path", "/mcp"),
        ("reason", "allowed"),
        ("wire", "sessions"),
        ("mcp_method", "tools/call"),
        ("mcp_name", "look"),
        ("subject", "alice"),
        ("client", "agent"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("message", "answered"),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    assert_eq!(line["status"], 200);
    assert!(line["seconds"].is_number());

    let hashed = Arc::new(AccessLog::new(AccessLogForm::Hashed));
    let subject = |log| {
        let line = record(log, "/mcp", &headers, &admitted);
        assert!(!line.contains("alice") && !line.contains("agent"), "{line}");
        serde_json::from_str::<Value>(&line).unwrap()["subject"].clone()
    };
    let one = subject(&hashed);
    assert_eq!(one.as_str().unwrap().len(), 16);
    assert_eq!(one, subject(&hashed), "lines of one caller can be found");
    let other = Arc::new(AccessLog::new(AccessLogForm::Hashed));
    assert_ne!(one, subject(&other), "under a key of this process");

    let off = Arc::new(AccessLog::new(AccessLogForm::Off));
    assert_eq!(record(&off, "/mcp", &headers, &admitted), "");
}

#[tokio::test]
async fn no_token_gets_into_a_line() {
    let (token, admitted) = admitted().await;
    let log = Arc::new(AccessLog::new(AccessLogForm::Plain));
    let mut headers = testing::headers(&token);
    headers.insert(
        "traceparent",
        HeaderValue::from_str(&format!("00-{token}-1-1")).unwrap(),
    );
    let path = format!("/mcp/{token}/x");
    let line = record(&log, &path, &headers, &admitted);
    let signature = token.rsplit('.').next().unwrap();
    assert!(!line.contains(signature), "{line}");
    assert!(line.contains("/mcp/…/x"), "{line}");
    let named = logged(|| {
        let mut record = Record::new(&log, &Method::POST, "/", &HeaderMap::new());
        let call = serde_json::json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": token},
        });
        record.called(&body::judge(call.to_string().as_bytes(), None).unwrap());
    });
    assert!(!named.contains(signature), "{named}");
    assert!(
        named.contains("abandoned"),
        "nobody waited for an answer: {named}"
    );
}

#[test]
fn only_ids_of_traces_are_taken_for_ones() {
    for (value, id) in [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
        (
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what",
            true,
        ),
        ("0af7651916cd43dd8448eb211c80319c", false),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
        ("00-short-b7ad6b7169203331-01", false),
        ("", false),
    ] {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("traceparent"),
            HeaderValue::from_static(value),
        )]);
        assert_eq!(trace_id(&headers).is_some(), id, "{value}");
    }
}
