use std::sync::atomic::{AtomicUsize, Ordering};

use mcp_auth_crds::condition::{Report, types};
use serde_json::json;
use tokio::time::Instant;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use super::{
    super::answers::{AT_ONCE, AT_ONCE_IN_NAMESPACE},
    *,
};
use crate::egress::EgressPolicy;

const HOUR: Duration = Duration::from_hours(1);

fn server(uid: &str, resource: &str, mode: &str) -> McpServer {
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": "team", "name": "notes", "uid": uid},
        "spec": {"authorizationServerRef": {"name": "main"}, "resource": resource, "target": {"service": "notes"},
                 "enforcement": {"mode": mode}},
    }))
    .unwrap()
}

fn saying(mode: &str, report: &Report) -> McpServer {
    let mut server = server("u", "https://h.example/mcp", mode);
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    server.status = Some(mcp_auth_crds::v1alpha1::McpServerStatus {
        conditions: mcp_auth_crds::condition::merge(&[], std::slice::from_ref(report), None, now),
        enforcement: Some(enforcement::mode(&server)),
        ..Default::default()
    });
    server
}

fn egress() -> Egress {
    Egress::new(EgressPolicy {
        allow_http: true,
        insecure_allow_loopback: true,
        ..EgressPolicy::default()
    })
}

#[test]
fn what_was_known_before_a_start_holds_until_there_is_an_answer() {
    for mode in ["External", "Gate"] {
        for known in [
            Answer::Served,
            Answer::Challenged,
            Answer::Refused,
            Answer::Unclear,
        ] {
            let (probes, now) = (Probes::default(), Instant::now());
            let said = public::report(&server("u", "https://h.example/mcp", mode), known);
            let server = saying(mode, &said);
            probes.recall(&server);
            let key = key(&server);
            assert_eq!(
                probes.public.last(&key, "", now, HOUR),
                Some((said.clone(), true)),
                "{mode}"
            );
            assert!(!probes.public.conclude(&key, None));
            assert_eq!(
                probes.public.last(&key, "", now, HOUR),
                Some((said, false)),
                "{mode}"
            );
        }
    }
}

#[test]
fn what_was_known_in_one_mode_says_nothing_in_the_other() {
    let served = public::report(&server("u", "https://h.example/mcp", "External"), Answer::Served);
    let mut server = saying("External", &served);
    server.spec.enforcement = None;
    let probes = Probes::default();
    probes.recall(&server);
    let (report, _) = probes
        .public
        .last(&key(&server), "", Instant::now(), HOUR)
        .unwrap();
    assert_eq!(report, public::report(&server, Answer::Unclear));
}

#[test]
fn a_pass_that_stopped_early_makes_nothing_forgotten() {
    let probes = Probes::default();
    let served = public::report(&server("u", "https://h.example/mcp", "Gate"), Answer::Served);
    probes.recall(&saying("Gate", &served));
    let waiting = Report::pending(types::ENFORCED, "Waiting", "Waits for Registered");
    let later = saying("Gate", &waiting);
    probes.recall(&later);
    let (report, _) = probes
        .public
        .last(&key(&later), "", Instant::now(), HOUR)
        .unwrap();
    assert_eq!(report, served);
}

/// A public address where requests without a token are answered with this challenge, and what the metadata are.
async fn address(challenge: Option<&str>, metadata: Option<serde_json::Value>) -> MockServer {
    let address = MockServer::start().await;
    let answer = match challenge {
        Some(challenge) => ResponseTemplate::new(401).insert_header(
            "WWW-Authenticate",
            challenge.replace("HERE", &address.uri()).as_str(),
        ),
        None => ResponseTemplate::new(200),
    };
    Mock::given(method("POST"))
        .and(path("/mcp"))
        .respond_with(answer)
        .mount(&address)
        .await;
    if let Some(mut metadata) = metadata {
        if metadata["resource"] == "ours" {
            metadata["resource"] = json!(format!("{}/mcp", address.uri()));
        }
        Mock::given(method("GET"))
            .and(path("/.well-known/oauth-protected-resource/mcp"))
            .respond_with(ResponseTemplate::new(200).set_body_json(metadata))
            .mount(&address)
            .await;
    }
    address
}

#[tokio::test]
async fn a_gate_is_proved_by_its_challenge_and_its_metadata() {
    let ours = r#"Bearer resource_metadata="HERE/.well-known/oauth-protected-resource/mcp""#;
    let resource = |name: &str| Some(json!({"resource": name}));
    for (challenge, metadata, expected) in [
        (Some(ours), resource("ours"), Answer::Challenged),
        (
            Some(ours),
            resource("https://other.example/mcp"),
            Answer::ForeignMetadata,
        ),
        (Some(ours), Some(json!("no metadata")), Answer::ForeignMetadata),
        (Some(ours), None, Answer::NoMetadata),
        (Some("Bearer"), resource("ours"), Answer::Refused),
        (None, resource("ours"), Answer::Served),
    ] {
        let address = address(challenge, metadata.clone()).await;
        let server = server("u", &format!("{}/mcp", address.uri()), "Gate");
        let found = Probes::default().post(&server, &egress()).await.unwrap();
        assert_eq!(found, expected, "{challenge:?} {metadata:?}");
    }
}

#[tokio::test]
async fn an_address_that_a_tenant_must_not_reach_is_not_asked() {
    let address = address(None, None).await;
    let server = server("u", &format!("{}/mcp", address.uri()), "Gate");
    let found = Probes::default()
        .post(&server, &Egress::new(EgressPolicy::default()))
        .await;
    assert!(found.is_err());
    assert!(address.received_requests().await.unwrap().is_empty());
}

/// Takes connections in, answers none, and counts how many were open at once.
async fn silence() -> (u16, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            open.push(connection);
        }
    });
    (port, taken)
}

/// Asks about so many servers that never answer, of which each namespace has some. How many are asked at once.
async fn asked_at_once(servers: usize, namespaces: usize) -> usize {
    let (port, taken) = silence().await;
    let (egress, probes) = (egress(), Arc::new(Probes::default()));
    let asking: Vec<_> = (0..servers)
        .map(|number| {
            let mut server = server(
                &number.to_string(),
                &format!("http://127.0.0.1:{port}/mcp"),
                "External",
            );
            server.metadata.namespace = Some(format!("n{}", number % namespaces));
            let (probes, egress) = (Arc::clone(&probes), egress.clone());
            tokio::spawn(async move { probes.ask(&server, &egress, &[]).await })
        })
        .collect();
    let mut before = 0;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = taken.load(Ordering::SeqCst);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    for task in asking {
        task.abort();
    }
    taken.load(Ordering::SeqCst)
}

#[tokio::test]
async fn only_some_servers_are_asked_at_a_time_and_few_of_a_namespace() {
    assert_eq!(asked_at_once(3 * AT_ONCE, 3 * AT_ONCE).await, AT_ONCE);
    assert_eq!(asked_at_once(3 * AT_ONCE, 1).await, AT_ONCE_IN_NAMESPACE);
    assert_eq!(
        asked_at_once(3 * AT_ONCE, 2).await,
        2 * AT_ONCE_IN_NAMESPACE,
        "one does not hold up another"
    );
}

#[tokio::test]
async fn an_answer_outlives_two_failures_and_no_more() {
    let address = MockServer::start().await;
    let challenge = format!(
        r#"Bearer resource_metadata="{}/.well-known/oauth-protected-resource/mcp""#,
        address.uri()
    );
    let server = server("u", &format!("{}/mcp", address.uri()), "Gate");
    let metadata = json!({"resource": server.spec.resource});
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(metadata))
        .mount(&address)
        .await;
    let answers = [401, 503, 503, 401, 503, 503, 503, 401, 404, 401, 302];
    let asked = AtomicUsize::new(0);
    let answer = move |_: &wiremock::Request| {
        let status = answers[asked.fetch_add(1, Ordering::SeqCst)];
        ResponseTemplate::new(status).insert_header("WWW-Authenticate", challenge.as_str())
    };
    Mock::given(method("POST"))
        .respond_with(answer)
        .mount(&address)
        .await;
    let probes = Probes::default();
    probes.recall(&server);
    for (status, reason) in [
        (401, "Enforced"),
        (503, "Enforced"),
        (503, "Enforced"),
        (401, "Enforced"),
        (503, "Enforced"),
        (503, "Enforced"),
        (503, "NotReached"),
        (401, "Enforced"),
        (404, "NotReached"),
        (401, "Enforced"),
        (302, "NotReached"),
    ] {
        probes.ask(&server, &egress(), &[]).await;
        assert_eq!(
            probes.public.known(&key(&server)).unwrap().reason,
            reason,
            "after {status}"
        );
    }
}

/// What is known of an external server once it was asked, which answers so in turn; and how often it was asked.
async fn asked(answers: &'static [u16], pauses: &[Duration]) -> (&'static str, usize) {
    let address = MockServer::start().await;
    let count = AtomicUsize::new(0);
    let answer = move |_: &wiremock::Request| {
        ResponseTemplate::new(answers[count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1)])
    };
    Mock::given(method("POST"))
        .respond_with(answer)
        .mount(&address)
        .await;
    let server = server("u", &format!("{}/mcp", address.uri()), "External");
    let probes = Probes::default();
    probes.recall(&server);
    probes.ask(&server, &egress(), pauses).await;
    let known = probes.public.known(&key(&server)).unwrap();
    (known.reason, address.received_requests().await.unwrap().len())
}

#[tokio::test]
async fn a_server_that_is_about_to_come_up_is_asked_again() {
    let pauses = [Duration::ZERO; 3];
    let open = "AnswersWithoutToken";
    assert_eq!(asked(&[502, 503, 200], &pauses).await, (open, 3));
    assert_eq!(asked(&[502, 502, 502, 200], &pauses).await, (open, 4));
    assert_eq!(
        asked(&[502], &pauses).await,
        ("ServerValidates", 4),
        "and no more"
    );
    assert_eq!(
        asked(&[401, 200], &pauses).await,
        ("ServerValidates", 1),
        "not once it is clear"
    );
}
