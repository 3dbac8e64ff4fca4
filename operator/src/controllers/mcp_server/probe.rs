//! What is asked about servers from outside: whether they answer without a token, at their public address as anybody could;
//! and, where a gate is in front of them, what its pods have in force and whether a way leads past it.

use std::{sync::Arc, time::Duration};

use futures::Stream;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use mcp_auth_crds::{
    condition::{Report, Status},
    v1alpha1::McpServer,
};
use reqwest::{Method, header};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::{
    answers::Answers,
    gate::Said,
    public::{self, Answer},
};
use crate::{
    context::Context,
    egress::{Audience, Egress, EgressClient, EgressError},
    policy::{enforcement, names},
    wakes::Wakes,
};

/// The call that is made without a token. It changes nothing at the server.
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcp-auth-operator","version":"1"}}}"#;
/// How soon a server is asked again behind whose public address its gate was not found: somebody is at work on it.
const AGAIN: Duration = Duration::from_secs(30);

/// The pauses after which a question is put again that got no clear answer: a server, or the way to it, may be about to
/// come up. No watch tells of it, and the next comparison is far.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(3),
    Duration::from_secs(6),
    Duration::from_secs(12),
    Duration::from_secs(24),
    Duration::from_secs(48),
];
/// After how many questions in a row without a clear answer the last one counts no more.
const PATIENCE: u32 = 3;

/// The last answer to each question about each server.
#[derive(Debug, Default)]
pub struct Probes {
    pub(super) public: Answers<Report>,
    pub(super) pods: Answers<Said>,
    pub(super) ways_in: Answers<Report>,
    pub(super) wakes: Wakes<McpServer>,
    /// Made once: they hold the authorities that are trusted.
    tenant: OnceCell<EgressClient>,
    pod: OnceCell<EgressClient>,
}

impl Probes {
    /// The servers about which an answer changed.
    pub fn subscribe(&self) -> impl Stream<Item = ObjectRef<McpServer>> + Send + use<> {
        self.wakes.subscribe()
    }

    /// Takes over what the status says, where nothing is known better. At the beginning of a pass: one that stops
    /// early takes it out of the status.
    pub(super) fn recall(&self, server: &McpServer) {
        let gate = enforcement::has_gate(server);
        let key = key(server);
        self.public.recall(&key, || {
            public::stored(server, gate).unwrap_or_else(|| public::report(server, Answer::Unclear))
        });
        self.pods.recall(&key, Said::default);
        self.ways_in.recall(&key, || super::gate::stored_ways_in(server));
    }

    /// Forgets the servers for whose UID `exists` says no.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.public.retain(&exists);
        self.pods.retain(&exists);
        self.ways_in.retain(&exists);
    }

    /// A client for addresses of pods.
    pub(super) async fn pod_client(&self, egress: &Egress) -> Result<&EgressClient, EgressError> {
        let make = || async { egress.client_with_timeout(Audience::Pod, None, Duration::from_secs(2)) };
        self.pod.get_or_try_init(make).await
    }

    /// Asks a server at its public address, and again after these pauses while there is no clear answer.
    async fn ask(&self, server: &McpServer, egress: &Egress, pauses: &[Duration]) {
        let key = key(server);
        let mut answer = self.ask_once(server, egress).await;
        for pause in pauses {
            if answer != Answer::Unclear || self.public.is_outdated(&key) {
                break;
            }
            tokio::time::sleep(*pause).await;
            answer = self.ask_once(server, egress).await;
        }
        // One failed probe flips nothing, but no answer counts for ever.
        let counts = answer != Answer::Unclear || self.public.missed(&key) + 1 >= PATIENCE;
        if self
            .public
            .conclude(&key, counts.then(|| public::report(server, answer)))
        {
            self.wakes.wake(&ObjectRef::from_obj(server));
        }
    }

    /// Asks when it is its turn.
    async fn ask_once(&self, server: &McpServer, egress: &Egress) -> Answer {
        let _turn = self.public.turn(&server.namespace().unwrap_or_default()).await;
        self.post(server, egress).await.unwrap_or(Answer::Unclear)
    }

    async fn post(&self, server: &McpServer, egress: &Egress) -> Result<Answer, EgressError> {
        let make = || async { egress.client(Audience::Tenant, None) };
        let client = self.tenant.get_or_try_init(make).await?;
        let Ok(url) = Url::parse(&server.spec.resource) else {
            return Ok(Answer::Unclear);
        };
        let request = client
            .request(Method::POST, &url)?
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(INITIALIZE);
        // The body of a stream may never end: the head says enough.
        let response = match client.send(request).await {
            Err(EgressError::Redirect) => return Ok(Answer::Untelling),
            sent => sent?,
        };
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
        let challenges: Vec<&str> = challenges.filter_map(|value| value.to_str().ok()).collect();
        let answer = public::answer(response.status().as_u16(), &challenges, server);
        if answer == Answer::Challenged && enforcement::has_gate(server) {
            return Ok(metadata(client, server).await);
        }
        Ok(answer)
    }
}

/// Whether the challenge leads to our metadata.
async fn metadata(client: &EgressClient, server: &McpServer) -> Answer {
    #[derive(Deserialize)]
    struct Document {
        resource: String,
    }
    let url = names::metadata_url(&server.spec.resource).and_then(|url| Url::parse(&url).ok());
    let Some(url) = url else { return Answer::Unclear };
    match client.get_json::<Document>(&url).await {
        Ok(document) if document.resource == server.spec.resource => Answer::Challenged,
        Ok(_) | Err(EgressError::NotJson) => Answer::ForeignMetadata,
        Err(EgressError::Status(status)) if status < 500 => Answer::NoMetadata,
        Err(_) => Answer::Unclear,
    }
}

/// The condition `Enforced`, by the last answer that is known. `version` changes when the answer may.
pub(super) fn enforcement(server: &Arc<McpServer>, version: &str, ctx: &Arc<Context>) -> Report {
    let now = ctx.clock.instant();
    let resync = ctx.config.resync_interval;
    // Somebody is about to lead the public address to the gate: until then it is asked again and again.
    let settled = |report: &Report| report.status == Status::True;
    let first = ctx.probes.public.last(&key(server), version, now, resync);
    let again = |(report, due): (Report, bool)| {
        if due || settled(&report) || !enforcement::has_gate(server) {
            return Some((report, due));
        }
        ctx.probes
            .public
            .last(&key(server), version, now, resync.min(AGAIN))
    };
    let Some((report, due)) = first.and_then(again) else {
        return public::report(server, Answer::Unclear);
    };
    if due {
        let (server, ctx) = (Arc::clone(server), Arc::clone(ctx));
        tokio::spawn(async move { ctx.probes.ask(&server, &ctx.egress, &PAUSES).await });
    }
    report
}

/// By what a server is known here: what is known of it in one mode says nothing in the other.
pub(super) fn key(server: &McpServer) -> String {
    format!(
        "{}/{}",
        server.uid().unwrap_or_default(),
        enforcement::mode(server).as_str()
    )
}

/// The condition of the stored status, if its reason is one of `known`.
pub(super) fn stored(server: &McpServer, type_: &'static str, known: &[Report]) -> Option<Report> {
    let conditions = server.status.iter().flat_map(|status| &status.conditions);
    let condition = conditions
        .into_iter()
        .find(|condition| condition.type_ == type_)?;
    let like = known
        .iter()
        .find(|report| report.reason == condition.reason && report.status.as_str() == condition.status)?;
    Some(Report {
        message: condition.message.clone(),
        ..like.clone()
    })
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
