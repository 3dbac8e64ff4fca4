//! What becomes of the server's answer.
//!
//! A server must not be able to look like the gate. Its 401 would send clients to log in again and again with tokens
//! that it never sees; its redirects would lead around the gate: both are 502. Its 403 passes, without a challenge.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response};
use hyper::body::{Bytes, Incoming};
use mcp_auth_gate_core::{
    answer::{self, Answer, Reason},
    body::MessageKind,
    list::Listing,
    wire::{self, Wire},
};
use tokio::time::{Instant, sleep_until};

use super::{
    Judged, Proxy,
    body::{self, Unread},
    headers,
    judged::Lost,
    relay::{Counted, End, Filter, Held, Lists, Relay, ReplyBody},
};
use crate::{
    access_log::Record,
    metrics::{Face, UpstreamFailure},
    session::Session,
};

/// The largest list that is filtered.
const LARGEST_LIST: usize = 8 << 20;
/// No answer goes on for longer.
const LONGEST: Duration = Duration::from_hours(30 * 24);

impl Proxy {
    /// Passes the server's answer on.
    pub(super) async fn answer(
        &self,
        mut judged: Judged,
        response: Response<Incoming>,
        lost: Lost,
        mut held: Held,
    ) -> Result<Response<ReplyBody>, (Box<Answer>, Record)> {
        let (mut parts, from) = response.into_parts();
        // The server has it.
        judged.body = Bytes::new();
        let prepared = match self.head(&judged, &mut parts, &held) {
            Ok(()) => prepare(&mut judged, &mut parts, from, self.parts.timeouts.upstream_header).await,
            Err(failure) => Err(failure.into()),
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(Unfit::Failure(failure)) => {
                return Err((self.upstream_failed(&judged, failure).into(), held.record));
            }
            Err(Unfit::Exhausted) => {
                let origin = judged.allowed.caller.origin.as_deref();
                return Err((Answer::overloaded().for_origin(origin).into(), held.record));
            }
        };
        let status = parts.status.as_u16();
        held.record.status = Some(status);
        held.record.reason = Some(Reason::Allowed);
        self.parts.metrics.decided(Face::Proxy, Reason::Allowed, status);
        self.parts.metrics.answered(held.record.started().elapsed());
        let body = match prepared {
            Prepared::Whole(bytes) => ReplyBody::kept(bytes, held, judged.share.take()),
            Prepared::Pieces {
                from,
                is_stream,
                lists,
            } => {
                held.stream = is_stream.then(|| Counted::new(&self.parts.metrics.streams));
                let idle = self.parts.timeouts.stream_idle;
                let relay = Relay::new(
                    from,
                    self.end(&judged, lost),
                    idle,
                    held,
                    self.parts.metrics.clone(),
                );
                let filter = lists.map(|lists| Filter::new(lists, judged.share.take()));
                ReplyBody::Relay(Box::new(relay.filtered(filter)))
            }
        };
        Ok(Response::from_parts(parts, body))
    }

    /// The head of the answer as the client gets it.
    fn head(&self, judged: &Judged, parts: &mut response::Parts, held: &Held) -> Result<(), UpstreamFailure> {
        if !may_pass(parts.status) {
            return Err(UpstreamFailure::Answer);
        }
        let session = self.sealed_session(judged, &parts.headers, held)?;
        headers::incoming(&mut parts.headers);
        if let Some(session) = session {
            parts.headers.insert(&wire::SESSION_ID, session);
        }
        for (name, value) in answer::cors(judged.allowed.caller.origin.as_deref()) {
            parts.headers.append(name, value);
        }
        // The server's version says nothing about the client's connection to the gate.
        parts.version = http::Version::HTTP_11;
        Ok(())
    }

    /// The session that the server names, as only the caller can use it. The stateless wire has none.
    fn sealed_session(
        &self,
        judged: &Judged,
        headers: &HeaderMap,
        held: &Held,
    ) -> Result<Option<HeaderValue>, UpstreamFailure> {
        let id = headers::single(headers, &wire::SESSION_ID).map_err(|()| UpstreamFailure::Answer)?;
        let Some(id) = id.filter(|_| judged.allowed.caller.wire == Wire::Sessions) else {
            return Ok(None);
        };
        let session = Session {
            address: held.lease.address(),
            id: id.clone(),
        };
        let sealed = self.parts.sessions.seal(judged.owner(), &session);
        sealed.map(Some).ok_or(UpstreamFailure::Answer)
    }

    /// When an answer to this caller has to end: when the caller is not accepted any more, some time after the token,
    /// or when the gate ends.
    fn end(&self, judged: &Judged, lost: Lost) -> End {
        let left = judged.allowed.caller.claims.expires - self.parts.authorizer.clock().now();
        let left = Duration::from_secs(left.try_into().unwrap_or(0));
        let deadline = Instant::now() + left.saturating_add(self.parts.timeouts.stream_grace).min(LONGEST);
        let stream_end = Arc::clone(&self.parts.stream_end);
        Box::pin(async move {
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = stream_end.wait() => {}
                error = lost => tracing::debug!(%error, "an answer ends: its caller is not accepted any more"),
            }
        })
    }
}

/// The body of an answer, as far as it has to be known before the answer begins.
enum Prepared {
    Whole(Bytes),
    Pieces {
        from: Incoming,
        is_stream: bool,
        lists: Option<Lists>,
    },
}

/// Why an answer is not passed on.
enum Unfit {
    Failure(UpstreamFailure),
    /// There is no memory for it.
    Exhausted,
}

impl From<UpstreamFailure> for Unfit {
    fn from(failure: UpstreamFailure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Unread> for Unfit {
    fn from(unread: Unread) -> Self {
        Self::Failure(match unread {
            Unread::TooLarge => UpstreamFailure::Answer,
            Unread::TooSlow => UpstreamFailure::Timeout,
            Unread::Broken => UpstreamFailure::Cut,
            Unread::Exhausted => return Self::Exhausted,
        })
    }
}

/// Reads a list whole, and leaves everything else to be passed on as it comes.
async fn prepare(
    judged: &mut Judged,
    parts: &mut response::Parts,
    mut from: Incoming,
    within: Duration,
) -> Result<Prepared, Unfit> {
    let is_stream = headers::is_of_type(&parts.headers, "text/event-stream");
    if is_stream {
        headers::unbuffered(&mut parts.headers);
    }
    let Some(lists) = parts.status.is_success().then(|| lists(judged)).flatten() else {
        return Ok(Prepared::Pieces {
            from,
            is_stream,
            lists: None,
        });
    };
    // Nothing was asked to encode it.
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(UpstreamFailure::Answer.into());
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    if is_stream {
        return Ok(Prepared::Pieces {
            from,
            is_stream,
            lists: Some(lists),
        });
    }
    let list = body::read(&mut from, LARGEST_LIST, within, &mut judged.share).await?;
    if list.is_empty() {
        return Ok(Prepared::Whole(list));
    }
    let list = lists.filter(list).ok_or(UpstreamFailure::Answer)?;
    Ok(Prepared::Whole(list))
}

/// Whether an answer with this status may reach a client.
fn may_pass(status: StatusCode) -> bool {
    let logs_in = [
        StatusCode::UNAUTHORIZED,
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    ];
    !status.is_informational() && !status.is_redirection() && !logs_in.contains(&status)
}

/// The lists that the answer may hold: what was asked for, and in a stream that is taken up again anything.
fn lists(judged: &Judged) -> Option<Lists> {
    if !judged.policy.tells_calls_apart() {
        return None;
    }
    let listing = match &judged.allowed.message {
        Some(message) => match &message.kind {
            MessageKind::Request(method) => Listing::asked_by(method)?,
            _ => return None,
        },
        None => Listing::Any,
    };
    Some(Lists {
        listing,
        policy: judged.policy.clone(),
        held: judged.allowed.caller.held.clone(),
    })
}
