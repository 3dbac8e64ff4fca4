//! The life of a client, step by step, and what must be true after each.

use std::{collections::BTreeSet, fmt};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use mcp_auth_e2e::wait::{Seen, wait_for};
use serde_json::{Value, json};

use super::{method, rig::Side, scene::Scene};
use crate::{
    fixtures::{SOON, annotate},
    inventory::{Realm, becomes, kept, published},
    rotation::authenticated,
};

/// What a user does with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Create,
    Update,
    Rotate,
    Revoke,
    Delete,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::Delete => "delete",
        })
    }
}

/// One client of a scene.
pub(super) struct Subject<'a> {
    pub(super) scene: &'a Scene,
    pub(super) name: &'a str,
}

impl Subject<'_> {
    /// Takes the step, waits until the operator has done it and nothing more comes, and checks what came of it. `secret` is
    /// the credential before it, and the one after it from here on.
    pub(super) async fn take(&self, step: Step, secret: &mut Option<String>) -> anyhow::Result<()> {
        self.scene.rig.forget();
        self.ask(step).await?;
        self.done(step).await?;
        self.scene.rig.quiet(self.name).await;
        if step == Step::Delete {
            return self.gone().await;
        }
        let now = self.works(step).await?;
        let replaced = secret.as_ref() != Some(&now);
        ensure!(
            replaced == (step != Step::Update),
            "the credential was {}",
            if replaced { "replaced" } else { "kept" }
        );
        let known: BTreeSet<&String> = secret.iter().chain([&now]).collect();
        let sent = self.credentials_sent()?;
        let others = sent.iter().filter(|sent| !known.contains(sent)).count();
        ensure!(
            others == 0,
            "{others} more credentials were put in force on the way"
        );
        let keys = self.keys_sent()?.len();
        ensure!(keys <= known.len(), "{keys} keys were put in force on the way");
        if let Some(old) = secret.as_ref().filter(|_| replaced) {
            ensure!(!self.accepted(old).await?, "the old credential still works");
        }
        *secret = Some(now);
        Ok(())
    }

    /// What the user does.
    async fn ask(&self, step: Step) -> anyhow::Result<()> {
        let env = &self.scene.rig.env;
        let kubectl = env.kubectl();
        let here = ["mcpclient", self.name, "-n", env.namespace()];
        match step {
            Step::Create => {
                self.scene.method.prepare(env, self.name).await?;
                env.apply(&self.client("first", &["notes:use"])).await
            }
            Step::Update => {
                let client = self.client("second", &["notes:use", "notes:share"]);
                env.apply(&client).await
            }
            Step::Rotate => self.annotate("mcpauth.dev/rotate-requested-at", "please").await,
            Step::Revoke => self.annotate("mcpauth.dev/revoke-requested-at", "please").await,
            Step::Delete => {
                let arguments = [&["delete"], &here[..], &["--wait=false"]].concat();
                kubectl.must(&arguments).await.map(drop)
            }
        }
    }

    pub(super) async fn annotate(&self, annotation: &str, value: &str) -> anyhow::Result<()> {
        annotate(&self.scene.rig.env, self.name, annotation, value).await
    }

    fn client(&self, path: &str, scopes: &[&str]) -> Value {
        let mut client = json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": { "namespace": self.scene.rig.env.namespace(), "name": self.name },
            "spec": {
                "authorizationServerRef": { "name": "main" },
                "managed": {
                    "grantTypes": ["client_credentials", "authorization_code"],
                    "applicationType": "web",
                    "redirectUris": [format!("https://{}.example.com/{path}", self.name)],
                },
                "access": [{ "server": { "name": "notes" }, "scopes": scopes }],
            },
        });
        self.scene.method.put(&mut client);
        client
    }

    /// Waits until the status says that the operator has done it.
    async fn done(&self, step: Step) -> anyhow::Result<()> {
        let env = &self.scene.rig.env;
        let what = format!("the end of {step} of {}", self.name);
        let has_credential = self.scene.method.held_as().is_some();
        wait_for(&what, SOON, async || {
            let found = env.get("McpClient", env.namespace(), self.name).await?;
            if step == Step::Delete {
                return Ok(found.map_or(Seen::Done(()), |_| Seen::NotYet("it is there".to_owned())));
            }
            let found = found.context("no such client")?;
            let status = &found["status"];
            let right = is_ready(&found)
                && (has_credential == (status["rotation"]["phase"] == "Settled"))
                && (step < Step::Rotate || status["lastHandledRotateRequest"] == "please")
                && (step < Step::Revoke || status["lastHandledRevokeRequest"] == "please");
            Ok(if right {
                Seen::Done(())
            } else {
                Seen::NotYet(status.to_string())
            })
        })
        .await
    }

    /// One client, with a credential in the Secret that works and is the one in the journal, if it has one. Gives it.
    pub(super) async fn works(&self, step: Step) -> anyhow::Result<String> {
        let env = &self.scene.rig.env;
        let realm = Realm::read(env).await?;
        let made: Vec<&String> = realm
            .clients
            .keys()
            .filter(|id| !self.scene.before.clients.contains_key(*id))
            .collect();
        ensure!(
            made.len() == 1 && made[0].ends_with(&format!(".{}", self.name)),
            "clients at Keycloak: {made:?}"
        );
        ensure!(realm.scopes == self.scene.before.scopes, "{:?}", realm.scopes);
        let path = if step == Step::Create { "first" } else { "second" };
        let client = env.realm().find_client(made[0]).await?.context("no client")?;
        ensure!(
            client["redirectUris"] == json!([format!("https://{}.example.com/{path}", self.name)]),
            "{}",
            client["redirectUris"]
        );

        let scope = if step == Step::Create {
            "notes:use"
        } else {
            "notes:share"
        };
        self.scene.method.works(env, self.name, made[0], scope).await
    }

    /// Nothing of the client is left.
    async fn gone(&self) -> anyhow::Result<()> {
        let env = &self.scene.rig.env;
        becomes("nothing left at Keycloak", &self.scene.before, SOON, async || {
            Realm::read(env).await
        })
        .await?;
        let told = format!("/{}-mcp-client", self.name);
        let journal = method::journal(env, self.name);
        becomes(
            "no Secret, ConfigMap or journal",
            &(false, false),
            SOON,
            async || {
                let published = published(env, env.namespace()).await?;
                Ok((
                    published.iter().any(|name| name.ends_with(&told)),
                    kept(env).await?.contains_key(&journal),
                ))
            },
        )
        .await
    }

    pub(super) async fn accepted(&self, secret: &str) -> anyhow::Result<bool> {
        let env = &self.scene.rig.env;
        let name = format!("{}-mcp-client", self.name);
        let id = env.secret_value(env.namespace(), &name, "client-id").await?;
        let issuer = env.issuer().await?;
        let client = authenticated(&issuer, &id, secret.to_owned())?;
        Ok(issuer.client_credentials(&client, None).await?.granted().is_ok())
    }

    /// Every credential that reached Keycloak as a client's secret, or a journal, since the step began.
    pub(super) fn credentials_sent(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut sent = BTreeSet::new();
        for (side, call) in self.scene.rig.calls() {
            if !call.arrived || !call.is_write() || call.body.is_empty() {
                continue;
            }
            match side {
                Side::AuthorizationServer if call.path().contains("/clients") => {
                    let body: Value = call.json()?;
                    sent.extend(body["secret"].as_str().map(str::to_owned));
                }
                Side::ApiServer if call.path().contains("/secrets") => {
                    let body: Value = call.json()?;
                    let kept = ["current", "pending", "previous"].into_iter();
                    for value in kept.filter_map(|key| body["data"][key].as_str()) {
                        sent.insert(String::from_utf8(STANDARD.decode(value)?)?);
                    }
                }
                _ => {}
            }
        }
        Ok(sent)
    }

    /// The ids of all public keys that reached Keycloak as a client's since the step began.
    fn keys_sent(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut sent = BTreeSet::new();
        for (side, call) in self.scene.rig.calls() {
            if side == Side::AuthorizationServer
                && call.arrived
                && call.is_write()
                && call.path().contains("/clients")
                && !call.body.is_empty()
                && let Some(set) = call.json::<Value>()?["attributes"]["jwks.string"].as_str()
                // It is taken away by an empty one.
                && !set.is_empty()
            {
                let set: Value = serde_json::from_str(set)?;
                let keys = set["keys"].as_array().into_iter().flatten();
                sent.extend(keys.filter_map(|key| Some(key["kid"].as_str()?.to_owned())));
            }
        }
        Ok(sent)
    }
}

/// Whether it is Ready as it is wanted now.
pub(super) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == "Ready"
            && condition["status"] == "True"
            && condition["observedGeneration"] == object["metadata"]["generation"]
    })
}
