//! How much of bodies, lists and events is in memory at a time, in all: many callers at once must not use it up.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in pieces of this size.
const UNIT: usize = 1 << 10;

/// What is there for all requests together.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Semaphore>);

/// What one request has of it. It goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Budget,
    held: Option<OwnedSemaphorePermit>,
}

/// There is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is in memory at a time")]
pub(crate) struct Exhausted;

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let units = bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(units)))
    }

    /// Nothing yet, for one request.
    pub(crate) fn share(&self) -> Share {
        Share {
            of: self.clone(),
            held: None,
        }
    }
}

impl Share {
    /// All of it, for somebody else.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            of: self.of.clone(),
            held: self.held.take(),
        }
    }

    /// Makes it so many bytes, or less.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let wanted = bytes.div_ceil(UNIT);
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted > held {
            let more = u32::try_from(wanted - held).map_err(|_| Exhausted)?;
            let more = Arc::clone(&self.of.0).try_acquire_many_owned(more);
            let more = more.map_err(|_| Exhausted)?;
            match &mut self.held {
                Some(held) => held.merge(more),
                None => self.held = Some(more),
            }
        } else if let Some(held) = &mut self.held {
            drop(held.split(held.num_permits() - wanted));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_and_shrinks_and_goes_back() {
        let budget = Budget::new(10 * UNIT);
        let (mut one, mut two) = (budget.share(), budget.share());
        for (bytes, left, why) in [
            (0, 10, "nothing"),
            (1, 9, "a piece that is begun counts whole"),
            (UNIT, 9, "the same piece"),
            (UNIT + 1, 8, "the next"),
            (10 * UNIT, 0, "all of it"),
            (3 * UNIT, 7, "less"),
        ] {
            assert_eq!(one.resize(bytes), Ok(()), "{why}");
            assert_eq!(budget.0.available_permits(), left, "{why}");
        }
        assert_eq!(two.resize(8 * UNIT), Err(Exhausted));
        assert_eq!(two.resize(7 * UNIT), Ok(()));
        assert_eq!(one.resize(4 * UNIT), Err(Exhausted));
        drop(two);
        assert_eq!(one.resize(4 * UNIT), Ok(()));
        assert_eq!(one.resize(usize::MAX), Err(Exhausted));
        drop(one);
        assert_eq!(budget.0.available_permits(), 10);
    }
}
