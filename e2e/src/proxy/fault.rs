//! What can go wrong on the way to an authorization server, and with which calls.

use std::time::Duration;

use http::StatusCode;

use super::Call;

/// Something that goes wrong with every call, or with those that [`Fault::on`] and [`Fault::times`] leave.
#[must_use = "a fault does nothing until it is injected"]
pub struct Fault {
    effect: Effect,
    matches: Box<dyn Fn(&Call) -> bool + Send + Sync>,
    remaining: Option<usize>,
}

#[derive(Clone, Copy)]
pub(super) enum Effect {
    Disconnect,
    Hang,
    LoseReply,
    Delay(Duration),
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

    /// The call is carried out, but the connection is closed instead of an answer.
    pub fn lose_reply() -> Self {
        Self::new(Effect::LoseReply)
    }

    /// The call is carried out after a pause.
    pub fn delay(pause: Duration) -> Self {
        Self::new(Effect::Delay(pause))
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

    fn new(effect: Effect) -> Self {
        Self {
            effect,
            matches: Box::new(|_| true),
            remaining: None,
        }
    }

    /// What happens to this call, if it is one of ours.
    pub(super) fn take(&mut self, call: &Call) -> Option<Effect> {
        if self.remaining == Some(0) || !(self.matches)(call) {
            return None;
        }
        if let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        Some(self.effect)
    }
}
