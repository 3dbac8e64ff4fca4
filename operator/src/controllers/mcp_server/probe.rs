//! Whether the server answers without a token: asked at its public address, as anybody could.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::Stream;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use mcp_auth_crds::{
    condition::{Report, types},
    v1alpha1::McpServer,
};
use reqwest::{Method, header};
use tokio::{
    sync::{OnceCell, Semaphore},
    time::Instant,
};
use url::Url;

use crate::{
    context::Context,
    egress::{Audience, Egress, EgressClient, EgressError},
    wakes::Wakes,
};

/// The call that is made without a token. It changes nothing at the server.
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcp-auth-operator","version":"1"}}}"#;

/// What a request without a token was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It was served.
    Served,
    /// It was refused for want of a token.
    Refused,
    /// No telling: no answer, or one that says nothing about tokens.
    Unclear,
}

/// How many servers are asked at a time: after a start all are due at once.
const AT_ONCE: usize = 8;

/// What is known of a server.
#[derive(Clone, Copy, Debug)]
struct Known {
    answer: Answer,
    /// When it was asked last.
    asked: Option<Instant>,
    /// It is being asked, or waits for its turn.
    asking: bool,
}

/// The last answer of each server, by UID. A server is asked once per resync, not once per pass, and no pass waits
/// for it: a server that hangs must not hold up its own registration.
#[derive(Debug)]
pub struct Probes {
    known: Mutex<HashMap<String, Known>>,
    wakes: Wakes<McpServer>,
    turns: Semaphore,
    /// Made once: it holds the authorities that are trusted.
    client: OnceCell<EgressClient>,
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            wakes: Wakes::default(),
            turns: Semaphore::new(AT_ONCE),
            client: OnceCell::new(),
        }
    }
}

impl Probes {
    /// The servers whose answer changed.
    pub fn subscribe(&self) -> impl Stream<Item = ObjectRef<McpServer>> + Send + use<> {
        self.wakes.subscribe()
    }

    /// Takes over what the status says, where nothing is known better. At the beginning of a pass: one that stops
    /// early takes it out of the status.
    pub(super) fn recall(&self, server: &McpServer) {
        let recalled = Known {
            answer: stored(server),
            asked: None,
            asking: false,
        };
        self.lock().entry(uid(server)).or_insert(recalled);
    }

    /// The last answer, and whether it is time to ask again; if it is, the caller has to.
    fn last(&self, server: &McpServer, now: Instant, age: Duration) -> (Answer, bool) {
        self.recall(server);
        let mut all = self.lock();
        let Some(known) = all.get_mut(&uid(server)) else {
            return (Answer::Unclear, false);
        };
        let due = !known.asking && known.asked.is_none_or(|at| now.duration_since(at) >= age);
        if due {
            known.asked = Some(now);
            known.asking = true;
        }
        (known.answer, due)
    }

    /// Asks a server, when it is its turn.
    async fn ask(&self, server: &McpServer, egress: &Egress) {
        // It is never closed.
        let turn = self.turns.acquire().await;
        let answer = match self.post(&server.spec.resource, egress).await {
            Ok(Some(status)) if status.is_success() => Answer::Served,
            Ok(Some(status)) if status.as_u16() == 401 => Answer::Refused,
            Ok(_) | Err(_) => Answer::Unclear,
        };
        drop(turn);
        self.note(server, answer);
    }

    async fn post(
        &self,
        resource: &str,
        egress: &Egress,
    ) -> Result<Option<reqwest::StatusCode>, EgressError> {
        let make = || async { egress.client(Audience::Tenant, None) };
        let client = self.client.get_or_try_init(make).await?;
        let Ok(url) = Url::parse(resource) else {
            return Ok(None);
        };
        let request = client
            .request(Method::POST, &url)?
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(INITIALIZE);
        // The status alone is of interest: the body of a stream may never end.
        Ok(Some(client.send(request).await?.status()))
    }

    fn note(&self, server: &McpServer, answer: Answer) {
        let mut all = self.lock();
        let Some(known) = all.get_mut(&uid(server)) else {
            return;
        };
        known.asking = false;
        // One failed probe flips nothing: only an answer replaces an answer.
        if known.answer != answer && answer != Answer::Unclear {
            known.answer = answer;
            self.wakes.wake(&ObjectRef::from_obj(server));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the servers for whose UID `exists` says no.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| exists(uid));
    }
}

/// The condition `Enforced` of a server that validates by itself, by the last answer that is known.
pub(super) fn enforcement(server: &Arc<McpServer>, ctx: &Arc<Context>) -> Report {
    let now = ctx.clock.instant();
    let (answer, due) = ctx.probes.last(server, now, ctx.config.resync_interval);
    if due {
        let (server, ctx) = (Arc::clone(server), Arc::clone(ctx));
        tokio::spawn(async move { ctx.probes.ask(&server, &ctx.egress).await });
    }
    report(answer)
}

fn uid(server: &McpServer) -> String {
    server.uid().unwrap_or_default()
}

/// The answer that the status tells of.
fn stored(server: &McpServer) -> Answer {
    let conditions = server.status.iter().flat_map(|status| &status.conditions);
    let said = conditions
        .filter(|condition| condition.type_ == types::ENFORCED)
        .find_map(|condition| {
            [Answer::Served, Answer::Refused].into_iter().find(|answer| {
                let report = report(*answer);
                // A request that was refused and one that had no answer have the same reason.
                condition.reason == report.reason
                    && (*answer == Answer::Served || condition.message == report.message)
            })
        });
    said.unwrap_or(Answer::Unclear)
}

fn report(answer: Answer) -> Report {
    let type_ = types::ENFORCED;
    match answer {
        Answer::Served => Report::no(
            type_,
            "AnswersWithoutToken",
            "The server answered a request that carried no token: make it validate tokens as the ConfigMap says",
        ),
        Answer::Refused => Report::pending(
            type_,
            "ServerValidates",
            "The server validates tokens by itself; a request without one was refused. It has to check that aud is its resource and nothing else",
        ),
        Answer::Unclear => Report::pending(
            type_,
            "ServerValidates",
            "The server validates tokens by itself; it could not be asked from here. It has to check that aud is its resource and nothing else",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use mcp_auth_crds::condition::Status;

    use super::*;

    #[test]
    fn only_an_answer_without_a_token_is_held_against_the_server() {
        for (answer, status) in [
            (Answer::Served, Status::False),
            (Answer::Refused, Status::Unknown),
            (Answer::Unclear, Status::Unknown),
        ] {
            assert_eq!(report(answer).status, status);
        }
    }
    fn server(uid: &str, resource: &str) -> McpServer {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"namespace": "team", "name": "notes", "uid": uid},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": resource, "enforcement": {"mode": "External"}},
        }))
        .unwrap()
    }

    fn saying(report: &Report) -> McpServer {
        let mut server = server("u", "https://h.example/mcp");
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        server.status = Some(mcp_auth_crds::v1alpha1::McpServerStatus {
            conditions: mcp_auth_crds::condition::merge(&[], std::slice::from_ref(report), None, now),
            ..Default::default()
        });
        server
    }

    #[tokio::test]
    async fn what_was_known_before_a_start_holds_until_there_is_an_answer() {
        let hour = Duration::from_hours(1);
        for known in [Answer::Served, Answer::Refused, Answer::Unclear] {
            let (probes, now) = (Probes::default(), Instant::now());
            let server = saying(&report(known));
            assert_eq!(probes.last(&server, now, hour), (known, true));
            assert_eq!(
                probes.last(&server, now + hour, hour),
                (known, false),
                "it is asked already"
            );
            probes.note(&server, Answer::Unclear);
            assert_eq!(probes.last(&server, now, hour), (known, false));
            probes.note(&server, Answer::Refused);
            assert_eq!(probes.last(&server, now + hour, hour), (Answer::Refused, true));
        }
        // A pass that stopped early said so in its place.
        let probes = Probes::default();
        probes.recall(&saying(&report(Answer::Served)));
        let waiting = Report::pending(types::ENFORCED, "Waiting", "Waits for Registered");
        assert_eq!(
            probes.last(&saying(&waiting), Instant::now(), hour).0,
            Answer::Served
        );
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

    #[tokio::test]
    async fn only_some_servers_are_asked_at_a_time() {
        let (port, taken) = silence().await;
        let egress = Egress::new(crate::egress::EgressPolicy {
            allow_http: true,
            insecure_allow_loopback: true,
            ..Default::default()
        });
        let probes = Arc::new(Probes::default());
        let asking: Vec<_> = (0..3 * AT_ONCE)
            .map(|number| {
                let server = server(&number.to_string(), &format!("http://127.0.0.1:{port}/mcp"));
                let (probes, egress) = (Arc::clone(&probes), egress.clone());
                tokio::spawn(async move { probes.ask(&server, &egress).await })
            })
            .collect();
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if taken.load(Ordering::SeqCst) == AT_ONCE {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(taken.load(Ordering::SeqCst), AT_ONCE);
        for task in asking {
            task.abort();
        }
    }
}
