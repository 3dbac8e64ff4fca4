//! How often the tenant lets itself be called, and how much it holds.

use std::{collections::BTreeMap, time::Duration};

use http::HeaderName;

use super::wire::Answer;

/// A token bucket: how many calls at once, and how fast it fills again.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// How many calls it holds.
    pub burst: u32,
    /// How many calls come back in a second.
    pub per_second: f64,
}

/// The global limit of the Management API for an Enterprise production tenant (rate limit configurations).
const ENTERPRISE: Rate = Rate {
    burst: 50,
    per_second: 16.0,
};

/// `/oidc/register` takes 5 a second, for the whole tenant.
const REGISTRATION: Rate = Rate {
    burst: 5,
    per_second: 5.0,
};

/// The bucket of all calls of the Management API.
pub(super) const GLOBAL: &str = "";

/// The bucket of `/oidc/register`.
pub(super) const REGISTER: &str = "POST /oidc/register";

struct Bucket {
    rate: Rate,
    left: f64,
    at: Duration,
}

impl Bucket {
    fn new(rate: Rate, now: Duration) -> Self {
        Self {
            rate,
            left: f64::from(rate.burst),
            at: now,
        }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.left = (self.left + passed * self.rate.per_second).min(f64::from(self.rate.burst));
        self.at = now;
    }

    /// Seconds until there is a whole one again.
    fn wait(&self) -> f64 {
        if self.rate.per_second <= 0.0 {
            return 3600.0;
        }
        ((1.0 - self.left) / self.rate.per_second).max(0.0)
    }
}

/// The buckets: one for all calls, and one for each route that has one.
pub(super) struct Limits(BTreeMap<String, Bucket>);

/// What the headers of an answer say.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub(super) allowed: bool,
    limit: u32,
    remaining: u64,
    reset: u64,
}

impl Limits {
    pub(super) fn new(now: Duration) -> Self {
        let buckets = [(GLOBAL, ENTERPRISE), (REGISTER, REGISTRATION)];
        Self(
            buckets
                .map(|(route, rate)| (route.to_owned(), Bucket::new(rate, now)))
                .into(),
        )
    }

    pub(super) fn set(&mut self, route: &str, rate: Rate, now: Duration) {
        self.0.insert(route.to_owned(), Bucket::new(rate, now));
    }

    /// Takes one from each of these buckets that exists, or from none. The headers speak of the tightest.
    pub(super) fn take(&mut self, routes: &[&str], now: Duration) -> Option<Standing> {
        for route in routes {
            if let Some(bucket) = self.0.get_mut(*route) {
                bucket.refill(now);
            }
        }
        let found = || routes.iter().filter_map(|route| self.0.get(*route));
        let allowed = found().all(|bucket| bucket.left >= 1.0);
        if allowed {
            for route in routes {
                if let Some(bucket) = self.0.get_mut(*route) {
                    bucket.left -= 1.0;
                }
            }
        }
        let found = routes.iter().filter_map(|route| self.0.get(*route));
        let tightest = found.min_by(|one, other| one.left.total_cmp(&other.left))?;
        let reset = now.as_secs_f64() + tightest.wait();
        Some(Standing {
            allowed,
            limit: tightest.rate.burst,
            remaining: whole(tightest.left.floor()),
            reset: whole(reset.ceil()),
        })
    }
}

/// A number that is whole and not negative.
fn whole(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds of Unix time and sizes of buckets are small and not negative"
    )]
    let whole = number.max(0.0) as u64;
    whole
}

impl Standing {
    /// Puts `x-ratelimit-limit`, `-remaining` and `-reset` (seconds of Unix time) on an answer.
    pub(super) fn mark(self, answer: Answer) -> Answer {
        answer
            .with(
                HeaderName::from_static("x-ratelimit-limit"),
                &self.limit.to_string(),
            )
            .with(
                HeaderName::from_static("x-ratelimit-remaining"),
                &self.remaining.to_string(),
            )
            .with(
                HeaderName::from_static("x-ratelimit-reset"),
                &self.reset.to_string(),
            )
    }
}

/// What a tenant holds only so many of (entity limit policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// Clients.
    Applications,
    /// Resource servers, without those of the system.
    Apis,
    /// Client grants.
    Grants,
    /// Connections.
    Connections,
    /// Token exchange profiles.
    ExchangeProfiles,
    /// Actions.
    Actions,
    /// Roles.
    Roles,
}

/// How many of each, for an Enterprise tenant unless a test says otherwise.
#[derive(Default)]
pub(super) struct Capacity(BTreeMap<Entity, usize>);

impl Capacity {
    pub(super) fn set(&mut self, entity: Entity, most: usize) {
        self.0.insert(entity, most);
    }

    pub(super) fn of(&self, entity: Entity) -> usize {
        self.0.get(&entity).copied().unwrap_or(match entity {
            Entity::ExchangeProfiles | Entity::Actions => 100,
            Entity::Roles => 1000,
            Entity::Applications | Entity::Apis | Entity::Grants | Entity::Connections => 100_000,
        })
    }
}
