//! The reverse proxy: a request is judged whole, sent on byte for byte as it was judged, and its answer passed back as
//! it comes.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use hyper::body::{Bytes, Incoming};
use mcp_auth_gate_core::{
    answer::{Answer, Reason},
    decide::{Allowed, Body, Head},
    policy::Policy,
    wire::{self, Wire},
};
use secrecy::{ExposeSecret as _, zeroize::Zeroizing};
use tokio::sync::Semaphore;

use crate::{
    access_log::{AccessLog, Record},
    authorizer::Authorizer,
    callers::{CallerPlace, Callers},
    config::{Limits, Timeouts},
    exchange::Exchanges,
    handles::{HandleGuard, Handles},
    metrics::{Face, Metrics, UpstreamFailure},
    session::{Owner, Session, Sessions},
    shutdown::Shutdown,
};

mod answer;
mod body;
pub(crate) mod budget;
mod connect;
mod headers;
mod relay;
pub mod server;
#[cfg(test)]
mod tests;
pub mod tls;
mod upstream;

use body::Unread;
use budget::{Budget, Share};
use headers::Added;
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
    /// Says when to stop.
    pub shutdown: Shutdown,
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

/// A request that may reach the server.
struct Judged {
    policy: Arc<Policy>,
    allowed: Allowed,
    body: Bytes,
    /// The memory for the body, and for what has to be kept of the answer.
    share: Share,
    /// The place among the caller's requests.
    caller: Option<CallerPlace>,
}

impl Judged {
    /// A refusal that the caller can read.
    fn refuse(&self, reason: Reason, status: StatusCode, message: &str) -> Answer {
        let id = self
            .allowed
            .message
            .as_ref()
            .and_then(|message| message.id.as_ref());
        let answer = Answer::refusal(reason, status, message, id);
        answer.for_origin(self.allowed.caller.origin.as_deref())
    }

    fn session_gone(&self) -> Answer {
        let message = "The session is gone: start a new one";
        self.refuse(Reason::Session, StatusCode::NOT_FOUND, message)
    }

    fn owner(&self) -> Owner<'_> {
        Owner::new(&self.policy, &self.allowed.caller.claims)
    }
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
        let mut judged = match self.judge(parts, body, &mut record).await {
            Ok(judged) => judged,
            Err(answer) => return Err((answer, record)),
        };
        self.parts.metrics.judged(record.started().elapsed());
        let handles = self.parts.handles.as_ref();
        let handle = handles.and_then(|handles| handles.mint(&judged.policy, &judged.allowed));
        let (response, lease) = match self.forward(parts, &judged, handle.as_ref()).await {
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
        self.answer(judged, response, held).await
    }

    /// Who calls from the head alone, so that nobody without a token makes us read a body; then whether they may.
    async fn judge(
        &self,
        parts: &request::Parts,
        body: &mut Incoming,
        record: &mut Record,
    ) -> Result<Judged, Box<Answer>> {
        if !names_one_host(parts) {
            let message = "A request names its host, once";
            return Err(Box::new(Answer::head_refused(message)));
        }
        let head = Head {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query(),
            headers: &parts.headers,
        };
        let (policy, admitted) = self.parts.authorizer.admit(&head).await?;
        record.admitted(&admitted);
        let overloaded = || Box::new(Answer::overloaded().for_origin(admitted.origin.as_deref()));
        let caller = self.callers.enter(&admitted.claims).ok_or_else(overloaded)?;
        let mut share = self.budget.share();
        let (most, within) = (self.parts.limits.body, self.parts.timeouts.body_read);
        let read = body::read(body, most, within, &mut share).await;
        if read == Err(Unread::Exhausted) {
            return Err(overloaded());
        }
        let whole = match &read {
            Ok(bytes) => Body::Whole(bytes),
            Err(_) => Body::Partial,
        };
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

    /// Sends the request on.
    async fn forward(
        &self,
        parts: &request::Parts,
        judged: &Judged,
        handle: Option<&HandleGuard>,
    ) -> Result<(Response<Incoming>, upstream::Lease), Box<Answer>> {
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
        Ok(upstream.send(&call, address).await.map_err(unreachable)?)
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

/// RFC 9112, 3.2: two hosts, or none in HTTP/1.1, are a sign of readers that disagree.
fn names_one_host(parts: &request::Parts) -> bool {
    match parts.headers.get_all(header::HOST).iter().count() {
        0 => parts.version != Version::HTTP_11,
        count => count == 1,
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
