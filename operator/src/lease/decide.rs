//! What to do about a lease, decided without I/O and without a clock.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::api::ObjectMeta;
use tokio::time::Instant;

/// The part of a Lease that says who holds it. Its times are the holder's and serve only to notice a renewal.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// Who holds it; `None` if it was released.
    pub(super) holder: Option<String>,
    /// How long it stays valid after a renewal, as the holder wrote it.
    pub(super) duration: Option<Duration>,
    renewed: Option<MicroTime>,
    acquired: Option<MicroTime>,
    transitions: Option<i32>,
}

impl Record {
    /// Reads a Lease.
    pub(super) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            duration: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
            renewed: spec.renew_time,
            acquired: spec.acquire_time,
            transitions: spec.lease_transitions,
        }
    }
}

/// What we saw of the lease last, and since when by our own clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Sight {
    /// No lease, ever.
    #[default]
    Never,
    /// It looks like this since then.
    There(Record, Instant),
    /// It looked like this and is gone since then, by our own clock. Who held it may not know yet.
    Gone(Record, Instant),
}

impl Sight {
    /// Notes what was read at `now`; `None` means that there is no lease.
    pub(super) fn observe(&mut self, record: Option<Record>, now: Instant) -> &Self {
        match (&*self, record) {
            (Self::There(known, _), Some(record)) if *known == record => {}
            (_, Some(record)) => *self = Self::There(record, now),
            (Self::There(known, _), None) => *self = Self::Gone(known.clone(), now),
            (Self::Never | Self::Gone(..), None) => {}
        }
        self
    }
}

/// What a replica does next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// Nobody holds the lease, or its holder let it expire: take it.
    Acquire,
    /// It is ours: keep it.
    Renew,
    /// Another replica holds it: look again, at `until` at the latest.
    Wait {
        /// When it expires unless it changes.
        until: Instant,
        /// Who holds it.
        holder: String,
    },
}

/// Judges what was seen of the lease.
///
/// One that is gone counts as if its holder had renewed it when we noticed: that may have happened since we last saw
/// it. `fallback` is the duration to assume for a record without one.
pub(super) fn evaluate(sight: &Sight, me: &str, now: Instant, fallback: Duration) -> Decision {
    let (record, since) = match sight {
        Sight::Never => return Decision::Acquire,
        Sight::There(record, _) if record.holder.as_deref() == Some(me) => return Decision::Renew,
        // Also if it was ours: another may have held it since, unless we lead, of which the caller knows.
        Sight::There(record, since) | Sight::Gone(record, since) => (record, *since),
    };
    let Some(holder) = record.holder.clone() else {
        return Decision::Acquire;
    };
    let until = since + record.duration.unwrap_or(fallback);
    if until <= now {
        Decision::Acquire
    } else {
        Decision::Wait { until, holder }
    }
}

/// The Lease with which `me` takes or renews the one that was `read`.
///
/// It keeps the `resourceVersion` of `read`, which makes the write conditional, and whatever others put into the
/// metadata. Without a lease to keep, the write is a creation, which is conditional by nature.
pub(super) fn claimed(
    read: Option<&Lease>,
    name: &str,
    me: &str,
    duration: Duration,
    now: Timestamp,
) -> Lease {
    let previous = read.map(Record::of).unwrap_or_default();
    let renewal = previous.holder.as_deref() == Some(me);
    let mut lease = read.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Lease::default()
    });
    lease.metadata.managed_fields = None;
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(me.to_owned());
    spec.lease_duration_seconds = Some(whole_seconds(duration));
    spec.renew_time = Some(MicroTime(now));
    if !renewal {
        spec.acquire_time = Some(MicroTime(now));
        // Counts changes of hands; the first holder makes none.
        spec.lease_transitions =
            Some(read.map_or(0, |_| previous.transitions.unwrap_or(0).saturating_add(1)));
    }
    lease
}

/// The Lease with which its holder lets `ours` go: nobody holds it, and the next one need not wait.
pub(super) fn released(ours: &Lease, now: Timestamp) -> Lease {
    let mut lease = ours.clone();
    lease.metadata.managed_fields = None;
    let spec = lease.spec.take().unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        holder_identity: None,
        // The API server wants at least a second.
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(now)),
        ..spec
    });
    lease
}

/// Rounded up: others must not think it shorter than we do.
fn whole_seconds(duration: Duration) -> i32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX).max(1)
}
