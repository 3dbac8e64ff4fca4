//! The bodies of answers: what the gate says itself, or what the server sends, piece by piece as it comes.

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use mcp_auth_gate_core::{
    list::{self, Listing},
    policy::Policy,
    sse::Rewriter,
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep},
};

use super::{budget::Share, server::Busy, upstream::Lease};
use crate::{
    access_log::Record,
    callers::CallerPlace,
    handles::HandleGuard,
    metrics::{Metrics, UpstreamFailure},
};

/// The largest event that is looked into: no list is larger.
const LARGEST_EVENT: usize = 8 << 20;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// All of it is here.
    Whole(Option<Bytes>),
    /// It comes from the server.
    Relay(Box<Relay>),
}

impl ReplyBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// What was read from the server, until the connection has sent it.
    pub(crate) fn kept(bytes: Bytes, held: Held, mut share: Share) -> Self {
        // Less than was read: this cannot fail.
        let _ = share.resize(bytes.len());
        Self::whole(Bytes::from_owner(Kept {
            bytes,
            _held: held,
            _share: share,
        }))
    }
}

/// Bytes that a client takes, with what lasts until it has: a slow one must not have more than its place and its share
/// of the memory.
struct Kept {
    bytes: Bytes,
    _held: Held,
    _share: Share,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The answer was cut off, and its reader must notice.
#[derive(Debug, thiserror::Error)]
#[error("the answer of the server was cut off")]
pub(crate) struct CutOff;

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relay(relay) => relay
                .poll(context)
                .map(|piece| piece.map(|data| data.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Relay(relay) => relay.ended || (relay.filter.is_none() && relay.from.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relay(relay) if relay.filter.is_none() => relay.from.size_hint(),
            Self::Relay(_) => SizeHint::default(),
        }
    }
}

/// What lasts as long as an answer does.
#[derive(Debug)]
pub(crate) struct Held {
    /// The line of the access log.
    pub(crate) record: Record,
    /// The place among the requests at a time.
    pub(crate) _place: Place,
    /// The place among the caller's own.
    pub(crate) _caller: Option<CallerPlace>,
    /// What the server may buy with while it works at it.
    pub(crate) _handle: Option<HandleGuard>,
    /// The address that works at it.
    pub(crate) lease: Lease,
    /// The count of open streams.
    pub(crate) stream: Option<Counted>,
}

/// One of the requests that are served at a time.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) _permit: OwnedSemaphorePermit,
    pub(crate) _counted: Counted,
    pub(crate) _connection: Busy,
}

/// One more in a gauge, until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// When an answer has to end.
pub(crate) type End = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The answer of the server on its way to the client.
pub(crate) struct Relay {
    from: Incoming,
    end: End,
    idle: Option<Idle>,
    filter: Option<Filter>,
    is_stream: bool,
    ended: bool,
    metrics: Metrics,
    _held: Held,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

struct Idle {
    after: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Relay {
    /// Passes on what comes `from` the server until `end`, or until it was silent for `idle`. An event stream ends
    /// there like any other; whatever else is cut off.
    pub(crate) fn new(
        from: Incoming,
        end: End,
        idle: Option<Duration>,
        held: Held,
        metrics: Metrics,
    ) -> Self {
        Self {
            from,
            end,
            idle: idle.map(|after| Idle {
                after,
                sleep: Box::pin(sleep(after)),
            }),
            filter: None,
            is_stream: held.stream.is_some(),
            ended: false,
            metrics,
            _held: held,
        }
    }

    /// Leaves out of the events what the caller may not call.
    #[must_use]
    pub(crate) fn filtered(mut self, filter: Option<Filter>) -> Self {
        self.filter = filter;
        self
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, CutOff>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(self.stop());
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.from).poll_frame(context) else {
                return self.poll_idle(context);
            };
            if let Some(idle) = &mut self.idle {
                idle.sleep.as_mut().reset(Instant::now() + idle.after);
            }
            let piece = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    // Trailers are no part of MCP.
                    Err(_) => continue,
                },
                Some(Err(_)) => return Poll::Ready(Some(Err(self.fail(UpstreamFailure::Cut)))),
                None => {
                    self.ended = true;
                    let rest = self.filter.take().map(Filter::finish);
                    return Poll::Ready(rest.filter(|rest| !rest.is_empty()).map(Ok));
                }
            };
            let Some(filter) = &mut self.filter else {
                return Poll::Ready(Some(Ok(piece)));
            };
            match filter.push(&piece) {
                Some(events) if events.is_empty() => {}
                Some(events) => return Poll::Ready(Some(Ok(events))),
                None => return Poll::Ready(Some(Err(self.fail(UpstreamFailure::Answer)))),
            }
        }
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, CutOff>>> {
        let Some(idle) = &mut self.idle else {
            return Poll::Pending;
        };
        ready!(idle.sleep.as_mut().poll(context));
        self.metrics.upstream_failed(UpstreamFailure::Idle);
        Poll::Ready(self.stop())
    }

    fn stop(&mut self) -> Option<Result<Bytes, CutOff>> {
        self.ended = true;
        (!self.is_stream).then_some(Err(CutOff))
    }

    fn fail(&mut self, failure: UpstreamFailure) -> CutOff {
        self.ended = true;
        self.metrics.upstream_failed(failure);
        CutOff
    }
}

/// Whose answers are filtered, and of which lists.
#[derive(Clone, Debug)]
pub(crate) struct Lists {
    pub(crate) listing: Listing,
    pub(crate) policy: Arc<Policy>,
    pub(crate) held: BTreeSet<String>,
}

impl Lists {
    /// The message with what the caller may not call left out; `None` if it is no JSON.
    pub(crate) fn filter(&self, message: Bytes) -> Option<Bytes> {
        match list::filter(&message, self.listing, &self.policy, &self.held) {
            Ok(Some(filtered)) => Some(filtered.into()),
            Ok(None) => Some(message),
            Err(list::Unreadable) => None,
        }
    }
}

/// Lists in an event stream.
#[derive(Debug)]
pub(crate) struct Filter {
    lists: Lists,
    rewriter: Rewriter,
    share: Share,
}

impl Filter {
    /// `share` is the memory for the event that is not complete.
    pub(crate) fn new(lists: Lists, share: Share) -> Self {
        Self {
            lists,
            rewriter: Rewriter::new(LARGEST_EVENT),
            share,
        }
    }

    /// The events that are complete now; `None` when one is too large, or there is no memory for it.
    fn push(&mut self, piece: &[u8]) -> Option<Bytes> {
        let Self {
            lists,
            rewriter,
            share,
        } = self;
        let mut out = Vec::with_capacity(piece.len());
        let pushed = rewriter.push(piece, &mut out, |data| changed(lists, data));
        pushed.ok()?;
        share.resize(rewriter.kept()).ok()?;
        Some(out.into())
    }

    fn finish(mut self) -> Bytes {
        let Self { lists, rewriter, .. } = &mut self;
        let mut out = Vec::new();
        rewriter.finish(&mut out, |data| changed(lists, data));
        out.into()
    }
}

/// Data that are no JSON are no message of MCP, and pass.
fn changed(lists: &Lists, data: &[u8]) -> Option<Vec<u8>> {
    list::filter(data, lists.listing, &lists.policy, &lists.held)
        .ok()
        .flatten()
}
