//! The reverse proxy: a request is judged whole, sent on byte for byte as it was judged, and its answer passed back as
//! it comes.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request};
use hyper::body::Incoming;
use mcp_auth_gate_core::{
    answer::{Answer, Reason},
    policy::Policy,
    wire::{self, Wire},
};
use secrecy::{ExposeSecret as _, zeroize::Zeroizing};
use tokio::sync::{Semaphore, SetOnce};

use crate::{
    access_log::{AccessLog, Record},
    authorizer::Authorizer,
    callers::Callers,
    changes::Listener,
    config::{Limits, Timeouts},
    exchange::Exchanges,
    handles::{HandleGuard, Handles},
    metrics::{Face, Metrics, UpstreamFailure},
    session::{Session, Sessions},
};

mod answer;
mod body;
pub(crate) mod budget;
mod connect;
mod headers;
mod judged;
mod relay;
pub mod server;
#[cfg(test)]
mod tests;
pub mod tls;
mod upstream;

use budget::Budget;
use headers::Added;
use judged::Judged;
use relay::{Counted, Place, ReplyBody};
use upstream::{Call, Upstream};

/// What a proxy is made of.
#[derive(Debug)]
pub struct ProxyParts {
    /// Decides.
    pub authorizer: Arc<Authorizer>,
    /// Exchanges tokens that go into the header of requests.
    pub exchanges: Arc<Exchanges>,
    /// Mints handles for those that do not; none where nobody could buy anything for them.
    pub handles: Option<Handles>,
    /// Where the MCP server is, whatever its host resolves to.
    pub upstream: Option<SocketAddr>,
    /// Seals ids of sessions.
    pub sessions: Arc<Sessions>,
    /// What a client gets at most.
    pub limits: Limits,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Counts.
    pub metrics: Metrics,
    /// Writes a line for each request.
    pub access_log: Arc<AccessLog>,
    /// Set when event streams have to end although the server still sends.
    pub stream_end: Arc<SetOnce<()>>,
}

/// The proxy. Shared by all connections.
#[derive(Debug)]
pub struct Proxy {
    parts: ProxyParts,
    upstream: ArcSwapOption<Upstream>,
    places: Arc<Semaphore>,
    callers: Callers,
    budget: Budget,
}

/// A request as the server gets it.
struct Ready {
    upstream: Arc<Upstream>,
    call: Call,
    /// The only address that it may go to, if it is part of a session.
    address: Option<SocketAddr>,
}

impl Proxy {
    /// A proxy that serves once the authorizer has a policy.
    pub fn new(parts: ProxyParts) -> Self {
        Self {
            upstream: ArcSwapOption::empty(),
            places: Arc::new(Semaphore::new(parts.limits.requests)),
            callers: Callers::new(parts.limits.per_caller),
            budget: Budget::new(parts.limits.buffered),
            parts,
        }
    }

    /// Answers a request. `connection` lasts as long as the answer.
    async fn serve(&self, request: Request<Incoming>, connection: server::Busy) -> Response<ReplyBody> {
        let (parts, mut body) = request.into_parts();
        let record = Record::new(
            &self.parts.access_log,
            &parts.method,
            parts.uri.path(),
            &parts.headers,
        );
        let answered = if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            let place = Place {
                _permit: permit,
                _counted: Counted::new(&self.parts.metrics.requests),
                _connection: connection,
            };
            self.pass(&parts, &mut body, record, place).await
        } else {
            Err((Answer::overloaded().into(), record))
        };
        let (answer, mut record) = match answered {
            Ok(response) => return response,
            Err(refused) => refused,
        };
        body::drain(parts.version, &parts.headers, &mut body).await;
        self.parts
            .metrics
            .decided(Face::Proxy, answer.reason, answer.status.as_u16());
        self.parts.metrics.answered(record.started().elapsed());
        record.reason = Some(answer.reason);
        record.status = Some(answer.status.as_u16());
        reply(*answer, &parts.method)
    }

    /// The whole way of a request that ends at the server.
    async fn pass(
        &self,
        parts: &request::Parts,
        body: &mut Incoming,
        mut record: Record,
        place: Place,
    ) -> Result<Response<ReplyBody>, (Box<Answer>, Record)> {
        let mut changes = self.parts.authorizer.listen();
        let mut judged = match self.judge(parts, body, &mut record, &mut changes).await {
            Ok(judged) => judged,
            Err(answer) => return Err((answer, record)),
        };
        self.parts.metrics.judged(record.started().elapsed());
        let handles = self.parts.handles.as_ref();
        let handle = handles.and_then(|handles| handles.mint(&judged.policy, &judged.allowed));
        let ready = self
            .prepare(parts, &mut judged, handle.as_ref(), &mut changes)
            .await;
        let mut lost = self.lost(&judged, changes);
        let sent = match ready {
            Ok(ready) => tokio::select! {
                sent = ready.upstream.send(&ready.call, ready.address) =>
                    sent.map_err(|failure| self.upstream_failed(&judged, failure).into()),
                error = lost.as_mut() => Err(judged.lost(error).into()),
            },
            Err(answer) => Err(answer),
        };
        let (response, lease) = match sent {
            Ok(answered) => answered,
            Err(answer) => return Err((answer, record)),
        };
        let held = relay::Held {
            record,
            _place: place,
            _caller: judged.caller.take(),
            _handle: handle,
            lease,
            stream: None,
        };
        self.answer(judged, response, lost, held).await
    }

    /// The request as the server gets it. What it waits for may take seconds: if the policy has changed meanwhile, it
    /// is judged again.
    async fn prepare(
        &self,
        parts: &request::Parts,
        judged: &mut Judged,
        handle: Option<&HandleGuard>,
        changes: &mut Listener,
    ) -> Result<Ready, Box<Answer>> {
        loop {
            let ready = self.ready(parts, judged, handle).await?;
            if !changes.has_heard() {
                return Ok(ready);
            }
            self.judge_again(parts, judged).await?;
        }
    }

    async fn ready(
        &self,
        parts: &request::Parts,
        judged: &Judged,
        handle: Option<&HandleGuard>,
    ) -> Result<Ready, Box<Answer>> {
        let unreachable = |failure| self.upstream_failed(judged, failure);
        let upstream = self
            .upstream(&judged.policy)
            .ok_or_else(|| unreachable(UpstreamFailure::Resolve))?;
        let session = self.session(parts, judged, &upstream).await?;
        let (address, session) = match session {
            Some(session) => (Some(session.address), Some(session.id)),
            None => (None, None),
        };
        let added = Added {
            session,
            authorization: self.exchanged(judged).await?,
            handle: handle.map(|handle| handle.header_value().clone()),
        };
        let call = Call {
            method: parts.method.clone(),
            query: parts.uri.query().map(str::to_owned),
            headers: headers::outgoing(&parts.headers, &judged.allowed, upstream.host(), added),
            body: judged.body.clone(),
        };
        Ok(Ready {
            upstream,
            call,
            address,
        })
    }

    /// The token that the server gets instead of the caller's, if it gets one with the request.
    async fn exchanged(&self, judged: &Judged) -> Result<Option<HeaderValue>, Box<Answer>> {
        let token = self
            .parts
            .exchanges
            .header_token(&judged.policy, &judged.allowed)
            .await?;
        let Some(token) = token else { return Ok(None) };
        let text = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            let message = "The authorization server gave no token that can be sent";
            judged.refuse(Reason::Exchange, StatusCode::BAD_GATEWAY, message)
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The session that the request is part of. An id that does not open never reaches the server.
    async fn session(
        &self,
        parts: &request::Parts,
        judged: &Judged,
        upstream: &Arc<Upstream>,
    ) -> Result<Option<Session>, Box<Answer>> {
        if judged.allowed.caller.wire == Wire::Stateless {
            return Ok(None);
        }
        let gone = || judged.session_gone();
        let Some(sealed) = headers::single(&parts.headers, &wire::SESSION_ID).map_err(|()| gone())? else {
            return Ok(None);
        };
        let session = self
            .parts
            .sessions
            .open(judged.owner(), sealed)
            .ok_or_else(gone)?;
        if upstream.has(session.address).await {
            Ok(Some(session))
        } else {
            Err(gone().into())
        }
    }

    /// The server of a policy; its connections are kept while policies name the same one.
    fn upstream(&self, policy: &Policy) -> Option<Arc<Upstream>> {
        let wanted = policy.upstream.as_ref()?;
        if let Some(upstream) = self.upstream.load_full()
            && upstream.is(wanted)
        {
            return Some(upstream);
        }
        let upstream = Arc::new(Upstream::new(wanted, self.parts.timeouts, self.parts.upstream)?);
        self.upstream.store(Some(Arc::clone(&upstream)));
        Some(upstream)
    }

    /// 502, or 504 when the server was too slow.
    fn upstream_failed(&self, judged: &Judged, failure: UpstreamFailure) -> Answer {
        self.parts.metrics.upstream_failed(failure);
        tracing::warn!(
            failure = failure.as_str(),
            "the server did not answer as it should"
        );
        let (status, message) = match failure {
            UpstreamFailure::Timeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "The server behind the gate did not answer in time",
            ),
            UpstreamFailure::Answer => (
                StatusCode::BAD_GATEWAY,
                "The server behind the gate answered what may not be passed on",
            ),
            _ => (
                StatusCode::BAD_GATEWAY,
                "The server behind the gate cannot be reached",
            ),
        };
        judged.refuse(Reason::Upstream, status, message)
    }
}

/// What the gate says by itself, as a response. One to HEAD has the length of the body and not the body, which HTTP/2
/// would send.
fn reply(answer: Answer, method: &Method) -> Response<ReplyBody> {
    let length = HeaderValue::from(answer.body.len());
    let is_head = *method == Method::HEAD;
    let body = if is_head { String::new() } else { answer.body };
    let mut response = Response::new(ReplyBody::whole(body));
    if is_head {
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    *response.status_mut() = answer.status;
    append(&mut response, answer.headers);
    response
}

fn append(response: &mut Response<ReplyBody>, headers: Vec<(HeaderName, HeaderValue)>) {
    for (name, value) in headers {
        response.headers_mut().append(name, value);
    }
}
