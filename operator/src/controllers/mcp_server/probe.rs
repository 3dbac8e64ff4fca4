//! Whether the server answers without a token: asked at its public address, as anybody could.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::Stream;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use mcp_auth_crds::{
    condition::{Report, types},
    v1alpha1::McpServer,
};
use reqwest::{Method, header};
use tokio::time::Instant;
use url::Url;

use crate::{
    context::Context,
    egress::{Audience, EgressError},
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

/// The last answer of each server, by UID. A server is asked once per resync, not once per pass, and no pass waits
/// for it: a server that hangs must not hold up its own registration.
#[derive(Debug, Default)]
pub struct Probes {
    answers: Mutex<HashMap<String, (Instant, Answer)>>,
    wakes: Wakes<McpServer>,
}

impl Probes {
    /// The servers whose answer changed.
    pub fn subscribe(&self) -> impl Stream<Item = ObjectRef<McpServer>> + Send + use<> {
        self.wakes.subscribe()
    }

    /// The last answer, and whether it is time to ask again; if it is, the caller has to.
    fn last(&self, uid: &str, now: Instant, age: Duration) -> (Answer, bool) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = answers
            .get(uid)
            .copied()
            .map_or((None, Answer::Unclear), |(at, answer)| (Some(at), answer));
        let due = at.is_none_or(|at| now.duration_since(at) >= age);
        if due {
            answers.insert(uid.to_owned(), (now, answer));
        }
        (answer, due)
    }

    fn note(&self, server: &McpServer, answer: Answer) {
        let uid = server.uid().unwrap_or_default();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, known)) = answers.get_mut(&uid) else {
            return;
        };
        // One failed probe flips nothing: only an answer replaces an answer.
        if *known != answer && answer != Answer::Unclear {
            *known = answer;
            self.wakes.wake(&ObjectRef::from_obj(server));
        }
    }

    /// Forgets the servers for whose UID `exists` says no.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|uid, _| exists(uid));
    }
}

/// The condition `Enforced` of a server that validates by itself, by the last answer that is known.
pub(super) fn enforcement(server: &Arc<McpServer>, ctx: &Arc<Context>) -> Report {
    let uid = server.uid().unwrap_or_default();
    let (answer, due) = ctx
        .probes
        .last(&uid, ctx.clock.instant(), ctx.config.resync_interval);
    if due {
        let (server, ctx) = (Arc::clone(server), Arc::clone(ctx));
        tokio::spawn(async move {
            let answer = ask(&server.spec.resource, &ctx).await;
            ctx.probes.note(&server, answer);
        });
    }
    report(answer)
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

async fn ask(resource: &str, ctx: &Context) -> Answer {
    match post(resource, ctx).await {
        Ok(Some(status)) if status.is_success() => Answer::Served,
        Ok(Some(status)) if status.as_u16() == 401 => Answer::Refused,
        Ok(_) | Err(_) => Answer::Unclear,
    }
}

async fn post(resource: &str, ctx: &Context) -> Result<Option<reqwest::StatusCode>, EgressError> {
    let client = ctx.egress.client(Audience::Tenant, None)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use mcp_auth_crds::condition::Status;

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
}
