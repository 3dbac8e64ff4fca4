//! A workload that asks for a token every 50 ms at the issuer that its Secret names, and reads its Secret late.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use mcp_auth_e2e::{oauth::Issuer, story::StoryEnv};
use tokio::{sync::OnceCell, time::MissedTickBehavior};

use super::scene::{READER, lag};
use crate::rotation;

const EVERY: Duration = Duration::from_millis(50);

/// What is in the Secret.
pub(super) type Content = BTreeMap<String, String>;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// How many tokens each issuer gave.
    pub(super) granted: BTreeMap<String, usize>,
    /// Refusals, in words.
    pub(super) refused: Vec<String>,
}

impl Outcome {
    /// Fails unless nothing was refused.
    pub(super) fn unbroken(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.refused.is_empty(),
            "{} requests were refused, {:?} were not; the first: {:?}",
            self.refused.len(),
            self.granted,
            self.refused.first()
        );
        Ok(())
    }

    /// Fails unless each of these issuers gave tokens.
    pub(super) fn both(&self, issuers: &[&str]) -> anyhow::Result<()> {
        for issuer in issuers {
            let count = self.granted.get(*issuer).copied().unwrap_or_default();
            anyhow::ensure!(count > 5, "{self:?}");
        }
        Ok(())
    }
}

/// Reads the client's Secret, as one thing.
pub(super) async fn read(env: &StoryEnv) -> anyhow::Result<Content> {
    let secrets: Api<Secret> = Api::namespaced(env.client(), env.namespace());
    let found = secrets.get(&format!("{READER}-mcp-client")).await?;
    let data = found.data.unwrap_or_default().into_iter();
    data.map(|(key, value)| Ok((key, String::from_utf8(value.0)?)))
        .collect()
}

/// The credential among it.
pub(super) fn credential(content: &Content) -> String {
    let held = content
        .get("client-secret")
        .or_else(|| content.get("client-key.pem"));
    held.cloned().unwrap_or_default()
}

/// Asks for a token with what is in the Secret.
pub(super) async fn token(env: &StoryEnv, content: &Content) -> anyhow::Result<()> {
    let text = |key: &str| content.get(key).cloned().unwrap_or_default();
    let issuer = Issuer::discover(&text("issuer"), env.world().authority()).await?;
    ask(&issuer, content).await
}

async fn ask(issuer: &Issuer, content: &Content) -> anyhow::Result<()> {
    let text = |key: &str| content.get(key).cloned().unwrap_or_default();
    let client = rotation::authenticated(issuer, &text("client-id"), credential(content))?.with_basic();
    let form = [
        ("grant_type", "client_credentials".to_owned()),
        ("scope", text("scope")),
        ("resource", text("resource")),
    ];
    let form = form.into_iter().filter(|(_, value)| !value.is_empty());
    let form = form.map(|(name, value)| (name.to_owned(), value)).collect();
    issuer.token(&client, form).await?.granted().map(drop)
}

/// Runs the workload while `meanwhile` runs.
pub(super) async fn during<T>(
    env: &StoryEnv,
    issuers: &[&str],
    meanwhile: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(Outcome, T)> {
    let mut known = BTreeMap::new();
    for issuer in issuers {
        let cell = OnceCell::new();
        cell.set(Issuer::discover(issuer, env.world().authority()).await?)
            .ok();
        known.insert((*issuer).to_owned(), cell);
    }
    let seen = Mutex::new(VecDeque::from([(Instant::now(), read(env).await?)]));
    let outcome = Mutex::new(Outcome::default());
    let workload = async {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let content = as_of(&seen, Instant::now().checked_sub(lag()));
            let at = content.get("issuer").cloned().unwrap_or_default();
            let answer = match known.get(&at).and_then(OnceCell::get) {
                Some(issuer) => ask(issuer, &content).await,
                None => Err(anyhow::anyhow!("an issuer that nobody knows")),
            };
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(()) => *outcome.granted.entry(at).or_default() += 1,
                Err(error) => outcome.refused.push(format!("{at}: {error:#}")),
            }
        }
    };
    let reading = async {
        loop {
            if let Ok(content) = read(env).await {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.back().is_none_or(|(_, last)| *last != content) {
                    seen.push_back((Instant::now(), content));
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    let done = tokio::select! {
        done = meanwhile => done?,
        () = workload => anyhow::bail!("the workload ended"),
        () = reading => anyhow::bail!("the reader ended"),
    };
    let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((outcome, done))
}

/// What was there at that time; the first if that was before.
fn as_of(seen: &Mutex<VecDeque<(Instant, Content)>>, time: Option<Instant>) -> Content {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let known = seen
        .iter()
        .rev()
        .find(|(since, _)| time.is_some_and(|time| *since <= time));
    let known = known.or_else(|| seen.front());
    known.map(|(_, content)| content.clone()).unwrap_or_default()
}
