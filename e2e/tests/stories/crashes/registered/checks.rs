//! What must be true after each step: one registration that can be reached and whose credential is in the Secret, and of
//! those that cannot no more than answers were lost, each counted and named.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    oauth::OAuthClient,
    wait::{Seen, wait_for},
};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Registered, redirect_uri};
use crate::{
    crashes::{
        matrix::Harm,
        method::{self, refuses_codes},
        rig::Side,
        steps::Step,
        trials::{Break, Trial},
    },
    fixtures::SOON,
    inventory::{becomes, kept, published},
};

/// What is known of a client from step to step.
#[derive(Default)]
pub(in crate::crashes) struct Known {
    held: Option<Held>,
    /// The client ids of those that nobody can reach.
    left: BTreeSet<String>,
    /// How often it was asked to be registered.
    asked: usize,
}

/// What the workload has.
#[derive(Clone, PartialEq, Eq)]
struct Held {
    id: String,
    secret: Option<String>,
}

/// How many registrations the status counts that nobody can reach.
pub(super) fn unreachable(status: &Value) -> anyhow::Result<usize> {
    Ok(usize::try_from(
        status["registration"]["unreachable"].as_u64().unwrap_or_default(),
    )?)
}

/// Whether it concerns a journal.
fn is_journal(trial: &Trial) -> bool {
    let point = trial.place.point.to_string();
    trial.place.side == Side::ApiServer
        && (point.contains("/secrets/mcpclient.") || point.ends_with("-operator/secrets"))
}

/// Whether the operator lives, and does not know what is in the journal.
fn is_unwritten(trial: &Trial) -> bool {
    is_journal(trial) && !trial.what.kills()
}

/// Whether it can cost a registration: the answer to one, or to what replaces its token, did not get into the journal.
fn may_lose(trial: &Trial) -> bool {
    let (point, lost) = (trial.place.point.to_string(), trial.what != Break::KilledBefore);
    match trial.place.side {
        // Whoever lives knows what it could not write.
        Side::ApiServer => is_journal(trial) && trial.what.kills(),
        Side::AuthorizationServer if point.ends_with("/token") => false,
        // What was about to be sent is taken for sent.
        Side::AuthorizationServer if point.starts_with("POST ") => true,
        Side::AuthorizationServer if point.starts_with("PUT ") => lost,
        // What is read stays as it is, and so does the token by which it is.
        Side::AuthorizationServer => false,
    }
}

impl Registered {
    /// Everything after a step other than the last.
    pub(super) async fn right(
        &self,
        name: &str,
        step: Step,
        status: &Value,
        known: &mut Known,
        harm: &Harm<'_>,
    ) -> anyhow::Result<()> {
        known.asked += usize::from(step != Step::Update);
        let held = self.held(name, status).await?;
        let path = if step == Step::Create { "first" } else { "second" };
        let mut made = self.server.made(&self.rig.env, name).await?;
        let uris = made.remove(&held.id).context("it is not at the server")?;
        ensure!(uris == json!([redirect_uri(name, path)]), "{uris}");
        let counted = unreachable(status)?;
        let most = usize::from(harm.so_far().is_some_and(may_lose));
        ensure!(
            made.len() <= counted && counted <= most,
            "{counted} are counted that nobody can reach, {} are there, and {most} could have been lost",
            made.len()
        );
        self.named(name, status, counted).await?;
        // A number that was only announced is not used again.
        let announced = harm.so_far().is_some_and(is_unwritten);
        let number = status["registration"]["number"].as_u64().unwrap_or_default();
        ensure!(
            usize::try_from(number)? <= known.asked + counted.max(usize::from(announced)),
            "it was registered {number} times instead of {}, and {counted} were lost",
            known.asked
        );
        ensure!(
            self.works(&held).await?,
            "the credential in the Secret does not work"
        );
        self.journaled(name, &held).await?;

        let left: BTreeSet<String> = made.into_keys().collect();
        if let Some(before) = known.held.replace(held.clone()) {
            let replaced = before.id != held.id;
            let lost = left.len() > known.left.len() || counted > known.left.len();
            ensure!(
                replaced == (step != Step::Update) || lost,
                "the registration was {}",
                if replaced { "replaced" } else { "kept" }
            );
            if replaced && !left.contains(&before.id) {
                ensure!(!self.works(&before).await?, "the old credential still works");
            }
        }
        known.left = left;
        Ok(())
    }

    /// What the workload has, which the status says too.
    async fn held(&self, name: &str, status: &Value) -> anyhow::Result<Held> {
        let env = &self.rig.env;
        let told = status["clientId"].as_str().context("no client id")?;
        let secret = format!("{name}-mcp-client");
        let secret = match self.kind.method.held_as() {
            None => None,
            Some(key) => {
                let id = env.secret_value(env.namespace(), &secret, "client-id").await?;
                ensure!(id == told, "the Secret has {id}, and the status {told}");
                Some(env.secret_value(env.namespace(), &secret, key).await?)
            }
        };
        Ok(Held {
            id: told.to_owned(),
            secret,
        })
    }

    /// The status names as many as it counts, and an Event each of these.
    async fn named(&self, name: &str, status: &Value, counted: usize) -> anyhow::Result<()> {
        let numbers = status["registration"]["unreachableNumbers"].as_array();
        let numbers: Vec<&Value> = numbers.into_iter().flatten().collect();
        ensure!(
            numbers.len() == counted,
            "{counted} are left, and named are {numbers:?}"
        );
        for number in numbers {
            let words = format!("{}.{name}, software_version {number})", self.rig.env.namespace());
            self.told(name, &words).await?;
        }
        Ok(())
    }

    /// Waits for an Event about registrations out of reach, on this object, with these words.
    async fn told(&self, about: &str, words: &str) -> anyhow::Result<()> {
        let env = &self.rig.env;
        wait_for(&format!("an Event that says {words}"), SOON, async || {
            let arguments = ["get", "events.events.k8s.io", "-n", env.namespace(), "-o", "json"];
            let found = env.kubectl().must(&arguments).await?;
            let list: Value = serde_json::from_str(&found).context("no JSON")?;
            let events = list["items"].as_array().cloned().unwrap_or_default();
            let is_it = |event: &&Value| {
                event["reason"] == "RegistrationUnreachable"
                    && event["regarding"]["name"] == about
                    && event["note"].as_str().is_some_and(|note| note.contains(words))
            };
            Ok(match events.iter().find(is_it) {
                Some(_) => Seen::Done(()),
                None => Seen::NotYet(format!("{} others", events.len())),
            })
        })
        .await
    }

    async fn works(&self, held: &Held) -> anyhow::Result<bool> {
        let issuer = self.server.issuer(&self.rig.env).await?;
        match &held.secret {
            Some(secret) => {
                let secret = SecretString::from(secret.clone());
                let client = OAuthClient::confidential(&held.id, secret).with_basic();
                Ok(issuer.client_credentials(&client, None).await?.granted().is_ok())
            }
            None => refuses_codes(&issuer, &held.id).await,
        }
    }

    /// The journal is settled, and has what the workload has.
    async fn journaled(&self, name: &str, held: &Held) -> anyhow::Result<()> {
        let env = &self.rig.env;
        let journal = method::journal(env, name);
        let text = env
            .secret_value(env.operator_namespace(), &journal, "registrations")
            .await?;
        let book: Value = serde_json::from_str(&text).context("no JSON")?;
        let current = &book["current"];
        ensure!(
            book["intent"].is_null() && book["fresh"].is_null() && book["old"] == json!([]),
            "the journal is not settled"
        );
        ensure!(
            current["clientId"] == held.id && current["secret"].as_str() == held.secret.as_deref(),
            "the journal has another registration than the workload"
        );
        Ok(())
    }

    /// Nothing of the client is left but what nobody can reach, and that is told once more.
    pub(super) async fn gone(&self, name: &str, known: &Known) -> anyhow::Result<()> {
        let env = &self.rig.env;
        let left: BTreeSet<String> = self.server.made(env, name).await?.into_keys().collect();
        ensure!(
            left == known.left,
            "at the server are {left:?} instead of {:?}",
            known.left
        );
        let (told, journal) = (format!("/{name}-mcp-client"), method::journal(env, name));
        becomes("no Secret and no journal", &(false, false), SOON, async || {
            let published = published(env, env.namespace()).await?;
            Ok((
                published.iter().any(|object| object.ends_with(&told)),
                kept(env).await?.contains_key(&journal),
            ))
        })
        .await?;
        if !left.is_empty() {
            let words = format!("McpClient {}/{name}: The client is deleted", env.namespace());
            self.told("main", &words).await?;
        }
        Ok(())
    }
}
