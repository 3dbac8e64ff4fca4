//! Leader election by a `coordination.k8s.io/v1` Lease: of several replicas one works, the others wait.
//!
//! Two leaders at once would rotate a credential twice, so the election is strict where many are not:
//!
//! - every write of the Lease carries the `resourceVersion` that was read, so of two candidates that both saw an
//!   expired lease only one takes it;
//! - nobody trusts another's clock: a lease has expired when *we* have not seen it change for its duration;
//! - a leader stops earlier than the others may start. Its validity counts from before the renewal was sent and ends at
//!   two thirds of the duration; a successor waits for all of it, counted from when it saw that renewal. The third in
//!   between is room for calls that are under way;
//! - [`Leadership`] is the fence: whoever writes to an authorization server or to the API server asks it first;
//! - a lease that somebody deletes is not free: who knew it waits for its duration, and its holder makes it again.
//!
//! What remains is a process frozen between that question and the write, which no lease can exclude: what it writes must
//! be refused where it arrives (see [`crate::provider::Provider::take_over`]). And a replica that starts right after the
//! lease was deleted: it cannot know that there was one.

use std::{future::Future, pin::pin, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Client, ResourceExt,
    api::{Api, PostParams},
};
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    admin::Health, clock::SharedClock, config::LeaseConfig, metrics::Metrics, telemetry::in_one_line,
};

mod decide;
mod leadership;
#[cfg(test)]
mod tests;

use decide::{Decision, Record, Sight, claimed, evaluate, released};
pub use leadership::Leadership;
use leadership::Tenure;

/// Why the election ended without being asked to.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// The lease could not be renewed in time; another replica may lead by now.
    #[error("lost the lease {name}: it could not be renewed for {} ms; last problem: {problem}", .after.as_millis())]
    NotRenewed {
        /// The lease.
        name: String,
        /// How long after the last renewal.
        after: Duration,
        /// What the last attempt met.
        problem: String,
    },
    /// Another replica holds the lease although we had not let go of it.
    #[error("lost the lease {name}: {holder} holds it")]
    Taken {
        /// The lease.
        name: String,
        /// The identity of the other replica.
        holder: String,
    },
    /// The API server does not let us use the lease at all.
    #[error("cannot use the lease {name} in namespace {namespace}: {problem}")]
    Denied {
        /// The lease.
        name: String,
        /// The operator's namespace.
        namespace: String,
        /// The API server's words.
        problem: String,
    },
}

/// What kept a leader from renewing if no attempt failed: it did not get to try.
const HELD_UP: &str = "this process was held up";

/// How the lease's duration is divided. All in one place, because safety depends on their order.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// Between two renewals.
    renew: Duration,
    /// From before a renewal was sent to when we no longer trust it.
    valid: Duration,
    /// Between two looks of a candidate.
    look: Duration,
    /// Between a failed attempt and the next one, of a leader, whose time is running out.
    retry: Duration,
    /// One request to the API server: short enough that a leader whose answer got lost can ask again in time.
    request: Duration,
}

impl Timing {
    fn of(duration: Duration) -> Self {
        Self {
            renew: duration / 3,
            valid: duration * 2 / 3,
            look: duration / 8,
            retry: duration / 20,
            request: duration / 5,
        }
    }
}

/// What a replica brings to the election.
pub struct Election {
    /// Speaks to the API server.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// The lease's name and duration.
    pub lease: LeaseConfig,
    /// Who we are: unique for each process, also across restarts of a pod.
    pub identity: String,
    /// The clocks.
    pub clock: SharedClock,
    /// Learns whether we lead.
    pub metrics: Metrics,
    /// Learns whether the API server answers.
    pub health: Health,
}

/// Takes part in the election. Made with the [`Leadership`] that it grants.
pub struct Elector {
    election: Election,
    api: Api<Lease>,
    timing: Timing,
    tenure: Tenure,
    sight: Sight,
    /// Whether this replica could work if it led.
    able: bool,
    /// The lease as we last wrote it, while we lead: its `resourceVersion` guards the next renewal.
    ours: Option<Lease>,
    /// When the request that last renewed it was sent.
    renewed: Instant,
    problem: String,
}

impl Elector {
    /// A candidate that has not looked at the lease yet.
    pub fn new(election: Election) -> (Self, Leadership) {
        let (tenure, leadership) = Tenure::new(election.clock.clone());
        let elector = Self {
            api: Api::namespaced(election.client.clone(), &election.namespace),
            timing: Timing::of(election.lease.duration),
            tenure,
            sight: Sight::default(),
            able: false,
            ours: None,
            renewed: election.clock.instant(),
            problem: HELD_UP.to_owned(),
            election,
        };
        (elector, leadership)
    }

    /// Waits for the lease, then keeps it, until `release` completes: then it is given up, so that the next replica
    /// need not wait for it to expire. Until `able` completes it only looks: a replica that could do nothing would keep
    /// the lease from those that can.
    ///
    /// # Errors
    /// When the lease is lost, or cannot be used at all. The process must then stop.
    pub async fn run(
        mut self,
        able: impl Future<Output = ()>,
        release: impl Future<Output = ()>,
    ) -> Result<(), LeaseError> {
        let (mut able, mut release) = (pin!(able), pin!(release));
        loop {
            let next = match self.step().await {
                Ok(next) => next,
                Err(lost) => {
                    self.resign();
                    return Err(lost);
                }
            };
            tokio::select! {
                biased;
                () = &mut release => break,
                () = &mut able, if !self.able => self.able = true,
                () = sleep_until(next) => {}
            }
        }
        self.give_up().await;
        Ok(())
    }

    /// One look at the lease, with a write if it is ours to take or keep. Returns when to look again.
    async fn step(&mut self) -> Result<Instant, LeaseError> {
        if self.leads() && self.now() >= self.renewed + self.timing.valid {
            return Err(self.not_renewed());
        }
        match self.attempt().await {
            Ok(next) => {
                self.election.health.api_server_answered();
                next
            }
            Err(failure) => {
                if matches!(failure, Failure::Gone | Failure::Kube(kube::Error::Api(_))) {
                    self.election.health.api_server_answered();
                }
                self.failed(&failure)
            }
        }
    }

    /// The outer error is one of the API server or the way to it; the inner one means that the election is over.
    async fn attempt(&mut self) -> Result<Result<Instant, LeaseError>, Failure> {
        let lease = match self.ours.clone() {
            Some(ours) => Some(ours),
            None => self.bounded(self.api.get_opt(&self.election.lease.name)).await?,
        };
        let now = self.now();
        let Election {
            identity,
            lease: agreed,
            ..
        } = &self.election;
        let sight = self.sight.observe(lease.as_ref().map(Record::of), now);
        let decision = match evaluate(sight, identity, now, agreed.duration) {
            // A deleted lease is still ours while we lead: others wait.
            Decision::Wait { .. } if lease.is_none() && self.tenure.is_running() => Decision::Renew,
            decision => decision,
        };
        match decision {
            Decision::Wait { holder, .. } if self.leads() => Ok(Err(LeaseError::Taken {
                name: self.election.lease.name.clone(),
                holder,
            })),
            Decision::Wait { until, holder } => {
                tracing::debug!(lease = self.election.lease.name, holder, "another replica leads");
                Ok(Ok(until.min(now + self.timing.look)))
            }
            Decision::Acquire if !self.able => Ok(Ok(now + self.timing.look)),
            Decision::Acquire | Decision::Renew => {
                self.write(lease.as_ref()).await?;
                Ok(Ok(self.renewed + self.timing.renew))
            }
        }
    }

    /// Takes or renews the lease, on the condition that it is still the one that was read.
    async fn write(&mut self, read: Option<&Lease>) -> Result<(), Failure> {
        let LeaseConfig { name, duration } = &self.election.lease;
        let claim = claimed(
            read,
            name,
            &self.election.identity,
            *duration,
            self.election.clock.now(),
        );
        let sent = self.now();
        let parameters = PostParams::default();
        let written = if claim.metadata.resource_version.is_some() {
            let replaced = self.bounded(self.api.replace(name, &parameters, &claim)).await;
            replaced.map_err(Failure::of_replacing)
        } else {
            self.bounded(self.api.create(&parameters, &claim)).await
        };
        // Somebody else wrote first, or an earlier answer was lost: what we know of the lease is worth nothing now.
        let written = written.inspect_err(|_| self.ours = None)?;
        if !self.leads() {
            tracing::info!(lease = name, identity = self.election.identity, "leading");
        }
        self.sight.observe(Some(Record::of(&written)), self.now());
        self.renewed = sent;
        HELD_UP.clone_into(&mut self.problem);
        self.tenure.extend(sent + self.timing.valid);
        self.election.metrics.set_leader(true);
        self.ours = Some(written);
        Ok(())
    }

    /// After a failed request: look again soon, unless the API server said that this will never work.
    fn failed(&mut self, failure: &Failure) -> Result<Instant, LeaseError> {
        let now = self.now();
        self.problem = failure.to_string();
        match failure {
            Failure::Gone => return Ok(now + self.timing.retry / 4),
            // The other's write is there already: looking at once costs one read, waiting could cost the lease.
            Failure::Kube(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                return Ok(now + self.timing.retry / 4);
            }
            Failure::Kube(kube::Error::Api(status))
                if !self.leads() && (status.is_forbidden() || status.is_not_found()) =>
            {
                return Err(LeaseError::Denied {
                    name: self.election.lease.name.clone(),
                    namespace: self.election.namespace.clone(),
                    problem: status.message.clone(),
                });
            }
            _ => {}
        }
        tracing::warn!(
            lease = self.election.lease.name,
            problem = self.problem,
            "the lease is out of reach"
        );
        Ok(now
            + if self.leads() {
                self.timing.retry
            } else {
                self.timing.look
            })
    }

    /// Lets go of the lease, if it is ours. Best effort: an unreachable API server lets it expire by itself.
    async fn give_up(&mut self) {
        let ours = self.ours.take();
        self.resign();
        let Some(ours) = ours else { return };
        let name = ours.name_any();
        let freed = released(&ours, self.election.clock.now());
        match self
            .bounded(self.api.replace(&name, &PostParams::default(), &freed))
            .await
        {
            Ok(_) => tracing::info!(lease = name, "released the lease"),
            Err(problem) => {
                tracing::warn!(lease = name, %problem, "the lease could not be released and will expire");
            }
        }
    }

    /// From here on, nothing of this process may write.
    fn resign(&mut self) {
        self.tenure.end();
        self.election.metrics.set_leader(false);
    }

    fn not_renewed(&self) -> LeaseError {
        LeaseError::NotRenewed {
            name: self.election.lease.name.clone(),
            after: self.now() - self.renewed,
            problem: self.problem.clone(),
        }
    }

    /// One request, bounded in time: neither a leader nor a candidate may hang on a silent API server.
    async fn bounded<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        match timeout(self.timing.request, request).await {
            Ok(answer) => answer.map_err(Failure::Kube),
            Err(_) => Err(Failure::NoAnswer(self.timing.request)),
        }
    }

    /// Whether the lease was taken and neither lost nor given up, as far as we know.
    fn leads(&self) -> bool {
        self.tenure.is_running()
    }

    fn now(&self) -> Instant {
        self.election.clock.instant()
    }
}

/// Why one request for the lease failed.
#[derive(Debug, Error)]
enum Failure {
    #[error("{}", in_one_line(.0))]
    Kube(kube::Error),
    #[error("the API server did not answer within {} ms", .0.as_millis())]
    NoAnswer(Duration),
    #[error("somebody deleted it")]
    Gone,
}

impl Failure {
    /// What is not found when it is to be replaced was there when it was read.
    fn of_replacing(self) -> Self {
        match self {
            Self::Kube(kube::Error::Api(status)) if status.is_not_found() => Self::Gone,
            other => other,
        }
    }
}
