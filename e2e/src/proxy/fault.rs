//! What can go wrong on the way to a server, and with which calls.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::Value;
use tokio::sync::watch;

use super::Call;

/// Something that goes wrong with every call, or with those that [`Fault::on`] and [`Fault::times`] leave.
#[must_use = "a fault does nothing until it is injected"]
pub struct Fault {
    effect: Effect,
    matches: Box<dyn Fn(&Call) -> bool + Send + Sync>,
    /// So many calls that match go through first.
    before: usize,
    remaining: Option<usize>,
    hits: Arc<watch::Sender<usize>>,
}

/// Tells how often a fault has struck.
pub struct Hits(watch::Receiver<usize>);

impl Effect {
    /// Whether the fault has struck only once the call was carried out.
    pub(super) fn carries_out(&self) -> bool {
        matches!(self, Self::LoseReply | Self::KeepReply | Self::Duplicate)
    }
}

impl Hits {
    /// How often so far.
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until it has struck. Of a fault that carries a call out, that has happened then.
    pub async fn first(&self) {
        if self.0.clone().wait_for(|count| *count > 0).await.is_err() && self.count() == 0 {
            // The fault is gone and never struck.
            std::future::pending::<()>().await;
        }
    }
}

/// A fault that a call met.
pub(super) struct Struck {
    pub(super) effect: Effect,
    hits: Arc<watch::Sender<usize>>,
}

impl Struck {
    /// Lets those know who wait for it.
    pub(super) fn tell(&self) {
        self.hits.send_modify(|count| *count += 1);
    }
}

#[derive(Clone)]
pub(super) enum Effect {
    Disconnect,
    Hang,
    Hold,
    LoseReply,
    KeepReply,
    Duplicate,
    Delay(Duration),
    Amend(Arc<dyn Fn(&mut Value) + Send + Sync>),
    Status {
        code: StatusCode,
        retry_after: Option<u64>,
    },
}

impl Fault {
    /// The connection is closed; the call never arrives.
    pub fn disconnect() -> Self {
        Self::new(Effect::Disconnect)
    }

    /// Nothing happens until the caller gives up or the proxy is healed; the call never arrives.
    pub fn hang() -> Self {
        Self::new(Effect::Hang)
    }

    /// The call waits until the proxy is healed, and is carried out then, if the caller still waits.
    pub fn hold() -> Self {
        Self::new(Effect::Hold)
    }

    /// The call is carried out, but its answer is kept back until the caller gives up or the proxy is healed; then the
    /// connection is closed.
    pub fn keep_reply() -> Self {
        Self::new(Effect::KeepReply)
    }

    /// The call is carried out twice, as by a network that repeats what it lost, and the second answer is given.
    pub fn duplicate() -> Self {
        Self::new(Effect::Duplicate)
    }

    /// The call is carried out, but the connection is closed instead of an answer.
    pub fn lose_reply() -> Self {
        Self::new(Effect::LoseReply)
    }

    /// The call is carried out after a pause.
    pub fn delay(pause: Duration) -> Self {
        Self::new(Effect::Delay(pause))
    }

    /// The call is carried out, and what it answers, where that is JSON, is changed on the way.
    pub fn amend(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::new(Effect::Amend(Arc::new(change)))
    }

    /// The proxy answers by itself with this status.
    pub fn status(code: StatusCode) -> Self {
        Self::new(Effect::Status {
            code,
            retry_after: None,
        })
    }

    /// The proxy answers by itself with this status and `Retry-After` in seconds.
    pub fn status_retry_after(code: StatusCode, seconds: u64) -> Self {
        Self::new(Effect::Status {
            code,
            retry_after: Some(seconds),
        })
    }

    /// Only calls for which this is true.
    pub fn on(mut self, matches: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        self.matches = Box::new(matches);
        self
    }

    /// Only so many calls.
    pub fn times(mut self, count: usize) -> Self {
        self.remaining = Some(count);
        self
    }

    /// Only the call that is this one of those that match, counted from 1.
    pub fn at(mut self, number: usize) -> Self {
        self.before = number.saturating_sub(1);
        self.times(1)
    }

    fn new(effect: Effect) -> Self {
        Self {
            effect,
            matches: Box::new(|_| true),
            before: 0,
            remaining: None,
            hits: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Tells how often it strikes.
    pub(super) fn hits(&self) -> Hits {
        Hits(self.hits.subscribe())
    }

    /// What happens to this call, if it is one of ours.
    pub(super) fn take(&mut self, call: &Call) -> Option<Struck> {
        if self.remaining == Some(0) || !(self.matches)(call) {
            return None;
        }
        if self.before > 0 {
            self.before -= 1;
            return None;
        }
        if let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        Some(Struck {
            effect: self.effect.clone(),
            hits: Arc::clone(&self.hits),
        })
    }
}
