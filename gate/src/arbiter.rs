//! Decides for proxies that ask: what the faces for them have in common.

use std::sync::Arc;

use http::{HeaderValue, Method, header};
use mcp_auth_gate_core::{
    answer::{Answer, Reason},
    decide::{Allowed, Body, Head},
};
use secrecy::SecretString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    access_log::{AccessLog, Record},
    authorizer::Authorizer,
    callers::Callers,
    exchange::Exchanges,
    metrics::{Face, Metrics},
    proxy::budget::Budget,
};

/// Decides, exchanges, counts and logs.
#[derive(Clone, Debug)]
pub struct Arbiter {
    /// Decides.
    pub authorizer: Arc<Authorizer>,
    /// Exchanges the caller's token, where the policy says so.
    pub exchanges: Arc<Exchanges>,
    /// Counts.
    pub metrics: Metrics,
    /// Logs.
    pub access_log: Arc<AccessLog>,
    /// The largest body of a request, in bytes.
    pub largest_body: usize,
    /// Requests that are decided about at a time.
    pub places: Arc<Semaphore>,
    /// Those of one caller.
    pub(crate) callers: Callers,
    /// Memory for bodies that are read here.
    pub(crate) budget: Budget,
}

/// A body, as far as it was read.
pub(crate) enum Read<B> {
    /// All of it.
    Whole(B),
    /// Too large, too slow, or cut off.
    Partial,
    /// Not read, because too much is in memory at a time.
    Exhausted,
}

impl<'a> From<Body<'a>> for Read<&'a [u8]> {
    fn from(body: Body<'a>) -> Self {
        match body {
            Body::Whole(bytes) => Self::Whole(bytes),
            Body::Partial => Self::Partial,
        }
    }
}

/// A request may reach the server.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// What was decided.
    pub(crate) allowed: Allowed,
    /// The token that goes with it instead of the caller's.
    pub(crate) token: Option<SecretString>,
}

impl Arbiter {
    /// A place among the requests that are decided about at a time.
    ///
    /// # Errors
    /// The answer when there is none.
    pub(crate) fn place(&self, face: Face) -> Result<OwnedSemaphorePermit, Box<Answer>> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let answer = Answer::overloaded();
            self.metrics.decided(face, answer.reason, answer.status.as_u16());
            Box::new(answer)
        })
    }

    /// Decides about a request, whose body is read once it is known who calls. `can_pass` says whether the proxy that asks
    /// can do what the decision demands.
    ///
    /// # Errors
    /// The answer that the proxy has to give.
    pub(crate) async fn judge<B: AsRef<[u8]>>(
        &self,
        face: Face,
        head: &Head<'_>,
        body: impl Future<Output = Read<B>>,
        can_pass: impl Fn(&Allowed) -> Result<(), Answer>,
    ) -> Result<Verdict, Box<Answer>> {
        let mut record = Record::new(&self.access_log, head.method, head.path, head.headers);
        let judged = if self.is_elsewhere(face, head) {
            Err(Box::new(elsewhere()))
        } else {
            self.decide(head, body, can_pass, &mut record).await
        };
        let judged = judged.map_err(|answer| Box::new(sayable(face, *answer)));
        let (reason, status) = match &judged {
            Ok(_) => (Reason::Allowed, 200),
            Err(answer) => (answer.reason, answer.status.as_u16()),
        };
        self.metrics.decided(face, reason, status);
        self.metrics.judged(record.started().elapsed());
        record.reason = Some(reason);
        record.status = Some(status);
        judged
    }

    /// Whether this is a question that the gate would answer with a success, and that this proxy could not pass on.
    fn is_elsewhere(&self, face: Face, head: &Head<'_>) -> bool {
        let Some(policy) = self.authorizer.policy().filter(|_| face == Face::ForwardAuth) else {
            return false;
        };
        let is_of = |methods: &[Method]| methods.contains(head.method);
        let allows = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| policy.allows_origin(origin));
        if policy.metadata_paths.iter().any(|path| path == head.path) {
            return is_of(&[Method::GET, Method::HEAD, Method::OPTIONS]);
        }
        let mut origins = head.headers.get_all(header::ORIGIN).iter();
        head.path == policy.path && is_of(&[Method::OPTIONS]) && origins.all(allows)
    }

    async fn decide<B: AsRef<[u8]>>(
        &self,
        head: &Head<'_>,
        body: impl Future<Output = Read<B>>,
        can_pass: impl Fn(&Allowed) -> Result<(), Answer>,
        record: &mut Record,
    ) -> Result<Verdict, Box<Answer>> {
        let mut changes = self.authorizer.listen();
        let (mut policy, mut admitted) = self.authorizer.admit(head).await?;
        record.admitted(&admitted);
        let overloaded = |origin: Option<&str>| Box::new(Answer::overloaded().for_origin(origin));
        let caller = self.callers.enter(&admitted.claims);
        let _caller = caller.ok_or_else(|| overloaded(admitted.origin.as_deref()))?;
        let read = body.await;
        let body = match &read {
            Read::Whole(bytes) => Body::Whole(bytes.as_ref()),
            Read::Partial => Body::Partial,
            Read::Exhausted => return Err(overloaded(admitted.origin.as_deref())),
        };
        if changes.has_heard() {
            (policy, admitted) = self.authorizer.admit(head).await?;
        }
        // The body and the exchange may take seconds, and what was in force before them is no more.
        loop {
            let allowed = admitted.judge(head, body, &policy)?;
            if let Some(message) = &allowed.message {
                record.called(message);
            }
            let origin = allowed.caller.origin.as_deref();
            can_pass(&allowed).map_err(|answer| answer.for_origin(origin))?;
            let token = self.exchanges.header_token(&policy, &allowed).await?;
            if !changes.has_heard() {
                return Ok(Verdict { allowed, token });
            }
            (policy, admitted) = self.authorizer.admit(head).await?;
        }
    }
}

/// What the proxy passes on to the client. One that asks by HTTP takes every success for leave to pass the request on:
/// metadata and preflight, which need no token, would open the server to everybody. With another policy in between, it
/// can still come to one.
fn sayable(face: Face, answer: Answer) -> Answer {
    if face == Face::ForwardAuth && answer.status.is_success() {
        return elsewhere();
    }
    answer
}

fn elsewhere() -> Answer {
    let message =
        "The metadata and preflights are answered at the gate's own port: they must be routed there";
    Answer::head_refused(message)
}

#[cfg(test)]
mod tests;
