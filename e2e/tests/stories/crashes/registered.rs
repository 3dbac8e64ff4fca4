//! Clients at authorization servers at which one can only register, where a lost answer loses a registration: what must be
//! true of them all the same.

mod checks;

use std::{fmt, sync::Arc};

use anyhow::Context;
use mcp_auth_e2e::{
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::{
    matrix::{Harm, Stage},
    method::AuthMethod,
    rig::Rig,
    steps::{Step, is_ready},
};
use crate::{
    dynamic::registrar::{Registrar, Which},
    fixtures::{SOON, annotate, apply_all, ready},
};
use checks::Known;

/// So many clients may be registered in one realm.
const MANY: u32 = 10_000;

/// A server, and how clients authenticate there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    server: Which,
    method: AuthMethod,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [
        Self {
            server: Which::OidcProvider,
            method: AuthMethod::ClientSecret,
        },
        Self {
            server: Which::OidcProvider,
            method: AuthMethod::None,
        },
        Self {
            server: Which::Keycloak,
            method: AuthMethod::ClientSecret,
        },
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} registered at {:?}", self.method, self.server)
    }
}

/// The parts.
pub(super) struct Registered {
    rig: Rig,
    kind: Kind,
    server: Registrar,
}

impl Stage for Registered {
    type Kind = Kind;
    type Known = Known;

    async fn start(world: &Arc<World>, name: &str, kind: Kind) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, name).await?;
        let (server, objects) = Registrar::start(&env, kind.server, MANY).await?;
        let rig = Rig::start(env, server.proxy().cloned(), |_| {}).await?;
        apply_all(&rig.env, &objects).await?;
        let main = ("AuthorizationServer", rig.env.namespace(), "main");
        ready(&rig.env, main, SOON).await?;
        Ok(Self { rig, kind, server })
    }

    fn word(kind: Kind) -> &'static str {
        match (kind.server, kind.method) {
            (Which::Keycloak, _) => "keycloak-registered",
            (Which::OidcProvider, AuthMethod::None) => "registered-public",
            (Which::OidcProvider, _) => "registered",
        }
    }

    fn rig(&self) -> &Rig {
        &self.rig
    }

    fn into_rig(self) -> Rig {
        self.rig
    }

    fn steps(&self) -> &'static [Step] {
        self.kind.method.steps()
    }

    async fn take(&self, name: &str, step: Step, known: &mut Known, harm: &Harm<'_>) -> anyhow::Result<()> {
        self.rig.forget();
        self.ask(name, step).await?;
        if step == Step::Delete {
            let env = &self.rig.env;
            env.wait_gone("mcpclient", env.namespace(), name, SOON).await?;
            self.rig.quiet(name).await;
            return self.gone(name, known).await;
        }
        let status = self.done(name, step).await?;
        self.rig.quiet(name).await;
        self.right(name, step, &status, known, harm).await
    }
}

impl Registered {
    /// What the user does.
    async fn ask(&self, name: &str, step: Step) -> anyhow::Result<()> {
        let env = &self.rig.env;
        match step {
            Step::Create => env.apply(&self.client(name, "first")).await,
            Step::Update => env.apply(&self.client(name, "second")).await,
            Step::Rotate => annotate(env, name, "mcpauth.dev/rotate-requested-at", "please").await,
            Step::Revoke => annotate(env, name, "mcpauth.dev/revoke-requested-at", "please").await,
            Step::Delete => {
                let arguments = ["delete", "mcpclient", name, "-n", env.namespace(), "--wait=false"];
                env.kubectl().must(&arguments).await.map(drop)
            }
        }
    }

    fn client(&self, name: &str, path: &str) -> Value {
        let mut client = json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": { "namespace": self.rig.env.namespace(), "name": name },
            "spec": {
                "authorizationServerRef": { "name": "main" },
                "managed": {
                    "displayName": name,
                    "grantTypes": ["client_credentials", "authorization_code"],
                    "applicationType": "web",
                    "redirectUris": [redirect_uri(name, path)],
                },
            },
        });
        self.kind.method.put(&mut client);
        client
    }

    /// Waits until the status says that the operator has done it, and no registration is left that it can reach but one.
    /// Gives the status.
    async fn done(&self, name: &str, step: Step) -> anyhow::Result<Value> {
        let env = &self.rig.env;
        let what = format!("the end of {step} of {name}");
        let has_credential = self.kind.method.held_as().is_some();
        wait_for(&what, SOON, async || {
            let found = env.get("McpClient", env.namespace(), name).await?;
            let found = found.context("no such client")?;
            let status = &found["status"];
            let said = is_ready(&found)
                && (!has_credential || status["rotation"]["phase"] == "Settled")
                && (step < Step::Rotate || status["lastHandledRotateRequest"] == "please")
                && (step < Step::Revoke || status["lastHandledRevokeRequest"] == "please");
            let made = self.server.made(env, name).await?;
            let is_alone = made.len() <= 1 + checks::unreachable(status)?;
            Ok(if said && is_alone {
                Seen::Done(status.clone())
            } else {
                Seen::NotYet(format!("{made:?} {status}"))
            })
        })
        .await
    }
}

fn redirect_uri(name: &str, path: &str) -> String {
    format!("https://{name}.example.com/{path}")
}
