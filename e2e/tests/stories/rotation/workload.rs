//! A workload that asks for a token every few milliseconds, and reads its Secret late, as one does whose kubelet
//! refreshes what is mounted.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mcp_auth_e2e::{oauth::Issuer, story::StoryEnv};
use tokio::time::{MissedTickBehavior, interval};

/// How often it asks for a token.
const EVERY: Duration = Duration::from_millis(20);
/// How often it looks into its Secret.
const LOOKS: Duration = Duration::from_millis(50);

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Tokens that were issued.
    pub(crate) granted: usize,
    /// Refusals: when, and what was said.
    pub(crate) refused: Vec<(Instant, String)>,
}

impl Outcome {
    /// The longest time in which nothing but refusals came, from the first to the last of them.
    pub(crate) fn gap(&self) -> Duration {
        let between = self.refused.first().zip(self.refused.last());
        between.map_or(Duration::ZERO, |((first, _), (last, _))| *last - *first)
    }
}

/// Runs the workload with what is under `key` in the client's Secret, `lag` late, while `meanwhile` runs.
pub(crate) async fn during<T>(
    env: &StoryEnv,
    key: &str,
    lag: Duration,
    meanwhile: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(Outcome, T)> {
    let issuer = env.issuer().await?;
    let seen = Seen::default();
    let client_id = env
        .secret_value(env.namespace(), "reader-mcp-client", "client-id")
        .await?;
    seen.note(&super::value(env, key).await?);
    let outcome = Arc::new(std::sync::Mutex::new(Outcome::default()));
    let asked = AtomicUsize::new(0);
    let workload = async {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            asked.fetch_add(1, Ordering::Relaxed);
            let secret = seen.as_of(Instant::now().checked_sub(lag));
            ask(&issuer, &client_id, secret, &outcome).await;
        }
    };
    let reading = async {
        loop {
            if let Ok(secret) = super::value(env, key).await {
                seen.note(&secret);
            }
            tokio::time::sleep(LOOKS).await;
        }
    };
    let done = tokio::select! {
        done = meanwhile => done?,
        () = workload => anyhow::bail!("the workload ended"),
        () = reading => anyhow::bail!("the reader ended"),
    };
    let outcome = outcome.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.clone();
    anyhow::ensure!(
        outcome.granted > 0,
        "not one token was issued: {:?}",
        outcome.refused
    );
    Ok((outcome, done))
}

/// Asks for a token with this secret.
async fn ask(issuer: &Issuer, client_id: &str, secret: String, outcome: &std::sync::Mutex<Outcome>) {
    let began = Instant::now();
    let answer = async {
        let client = super::authenticated(issuer, client_id, secret)?;
        issuer.client_credentials(&client, Some("notes:use")).await
    };
    let refusal = match answer.await.map(mcp_auth_e2e::oauth::Answer::granted) {
        Ok(Ok(_)) => None,
        Ok(Err(error)) | Err(error) => Some(format!("{error:#}")),
    };
    if let Ok(mut outcome) = outcome.lock() {
        match refusal {
            None => outcome.granted += 1,
            Some(refusal) => outcome.refused.push((began, refusal)),
        }
    }
}

/// The contents of the Secret, with when each was first seen.
#[derive(Default)]
struct Seen(std::sync::Mutex<VecDeque<(Instant, String)>>);

impl Seen {
    fn note(&self, secret: &str) {
        if let Ok(mut seen) = self.0.lock()
            && seen.back().is_none_or(|(_, last)| last != secret)
        {
            seen.push_back((Instant::now(), secret.to_owned()));
        }
    }

    /// What was there at that time; the first if that was before.
    fn as_of(&self, time: Option<Instant>) -> String {
        let Ok(seen) = self.0.lock() else {
            return String::new();
        };
        let known = seen
            .iter()
            .rev()
            .find(|(since, _)| time.is_some_and(|time| *since <= time));
        known
            .or_else(|| seen.front())
            .map(|(_, secret)| secret.clone())
            .unwrap_or_default()
    }
}
