//! Requests that may reach the server, and for how long their callers may have the answers.

use std::{pin::Pin, sync::Arc};

use http::{StatusCode, Version, header, request};
use hyper::body::{Bytes, Incoming};
use mcp_auth_gate_core::{
    answer::{Answer, Reason},
    decide::{Allowed, Body, Head},
    policy::Policy,
    token::TokenError,
};

use super::{
    Proxy,
    body::{self, Unread},
    budget::Share,
};
use crate::{access_log::Record, callers::CallerPlace, changes::Listener, session::Owner};

/// Completes when a caller is not accepted any more.
pub(super) type Lost = Pin<Box<dyn Future<Output = TokenError> + Send>>;

/// A request that may reach the server.
pub(super) struct Judged {
    pub(super) policy: Arc<Policy>,
    pub(super) allowed: Allowed,
    pub(super) body: Bytes,
    /// The memory for the body, and for what has to be kept of the answer.
    pub(super) share: Share,
    /// The place among the caller's requests.
    pub(super) caller: Option<CallerPlace>,
}

impl Judged {
    /// A refusal that the caller can read.
    pub(super) fn refuse(&self, reason: Reason, status: StatusCode, message: &str) -> Answer {
        let id = self
            .allowed
            .message
            .as_ref()
            .and_then(|message| message.id.as_ref());
        let answer = Answer::refusal(reason, status, message, id);
        answer.for_origin(self.allowed.caller.origin.as_deref())
    }

    pub(super) fn session_gone(&self) -> Answer {
        let message = "The session is gone: start a new one";
        self.refuse(Reason::Session, StatusCode::NOT_FOUND, message)
    }

    pub(super) fn owner(&self) -> Owner<'_> {
        Owner::new(&self.policy, &self.allowed.caller.claims)
    }

    /// The refusal of a caller who was accepted, and is no more.
    pub(super) fn lost(&self, error: TokenError) -> Answer {
        let answer = Answer::token_refused(&self.policy, error);
        answer.for_origin(self.allowed.caller.origin.as_deref())
    }
}

impl Proxy {
    /// Who calls from the head alone, so that nobody without a token makes us read a body; then whether they may.
    pub(super) async fn judge(
        &self,
        parts: &request::Parts,
        body: &mut Incoming,
        record: &mut Record,
        changes: &mut Listener,
    ) -> Result<Judged, Box<Answer>> {
        if !names_one_host(parts) {
            let message = "A request names its host, once";
            return Err(Box::new(Answer::head_refused(message)));
        }
        let head = head(parts);
        let (mut policy, mut admitted) = self.parts.authorizer.admit(&head).await?;
        record.admitted(&admitted);
        let overloaded = |origin: Option<&str>| Box::new(Answer::overloaded().for_origin(origin));
        let caller = self.callers.enter(&admitted.claims);
        let caller = caller.ok_or_else(|| overloaded(admitted.origin.as_deref()))?;
        let mut share = self.budget.share();
        let (most, within) = (self.parts.limits.body, self.parts.timeouts.body_read);
        let read = body::read(body, most, within, &mut share).await;
        if read == Err(Unread::Exhausted) {
            return Err(overloaded(admitted.origin.as_deref()));
        }
        let whole = match &read {
            Ok(bytes) => Body::Whole(bytes),
            Err(_) => Body::Partial,
        };
        if changes.has_heard() {
            // A body may take long, and what was in force before it is no more.
            (policy, admitted) = self.parts.authorizer.admit(&head).await?;
        }
        let allowed = admitted.judge(&head, whole, &policy)?;
        if let Some(message) = &allowed.message {
            record.called(message);
        }
        Ok(Judged {
            policy,
            allowed,
            body: read.unwrap_or_default(),
            share,
            caller: Some(caller),
        })
    }

    /// The same by the policy of the moment, for a request whose body is there.
    pub(super) async fn judge_again(
        &self,
        parts: &request::Parts,
        judged: &mut Judged,
    ) -> Result<(), Box<Answer>> {
        let body = Body::Whole(&judged.body);
        let (policy, allowed) = self.parts.authorizer.decide(&head(parts), body).await?;
        judged.policy = policy;
        judged.allowed = allowed;
        Ok(())
    }

    /// Completes when the caller is not accepted any more: the client was suspended, or the key withdrawn.
    pub(super) fn lost(&self, judged: &Judged, mut changes: Listener) -> Lost {
        let authorizer = Arc::clone(&self.parts.authorizer);
        let caller = &judged.allowed.caller;
        let (token, claims) = (caller.token().clone(), Arc::clone(&caller.claims));
        Box::pin(async move {
            loop {
                changes.hear().await;
                if let Err(error) = authorizer.recheck(&token, &claims) {
                    return error;
                }
            }
        })
    }
}

fn head(parts: &request::Parts) -> Head<'_> {
    Head {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    }
}

/// RFC 9112, 3.2: two hosts, or none in HTTP/1.1, are a sign of readers that disagree.
fn names_one_host(parts: &request::Parts) -> bool {
    match parts.headers.get_all(header::HOST).iter().count() {
        0 => parts.version != Version::HTTP_11,
        count => count == 1,
    }
}
