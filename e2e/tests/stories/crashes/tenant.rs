//! Clients at the stand-in for Auth0, which chooses their ids and has room for one secret of each.

use std::{collections::BTreeSet, fmt, sync::Arc};

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{
    auth0::Auth0,
    oauth::Issuer,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::{
    matrix::{Harm, Stage},
    method::{self, AuthMethod, RESOURCE},
    rig::{Rig, Side},
    scene::notes,
    steps::{Step, is_ready},
};
use crate::{
    auth0::{
        operator::scene::{authorization_server, credentials, for_itself, set_for_mcp, tenant},
        others::{is_untouched, remains},
    },
    fixtures::{SOON, annotate, apply_all, ready},
    inventory::{becomes, kept, published},
    rotation::authenticated,
};

/// What the operator makes there for a client.
const MADE: [&str; 2] = ["clients", "client_grants"];

/// Clients that authenticate in this way.
#[derive(Clone, Copy)]
pub(super) struct By(pub(super) AuthMethod);

impl fmt::Display for By {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at the stand-in for Auth0", self.0)
    }
}

/// The parts, and what there was before any client.
pub(super) struct Tenant {
    rig: Rig,
    method: AuthMethod,
    auth0: Auth0,
    issuer: Issuer,
    before: Value,
}

impl Stage for Tenant {
    type Kind = By;
    /// The credential.
    type Known = Option<String>;

    async fn start(world: &Arc<World>, name: &str, By(method): By) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, name).await?;
        let (auth0, proxy) = tenant(world).await?;
        set_for_mcp(&auth0).await?;
        let objects = [
            credentials(&env, &auth0),
            authorization_server(&env, &auth0, &proxy, "main"),
            notes(&env),
        ];
        let rig = Rig::start(env, Some(Arc::new(proxy)), |_| {}).await?;
        apply_all(&rig.env, &objects).await?;
        ready(&rig.env, ("McpServer", rig.env.namespace(), "notes"), SOON).await?;
        let issuer = Issuer::discover(&auth0.issuer(), world.authority()).await?;
        Ok(Self {
            before: auth0.dashboard().everything(),
            rig,
            method,
            auth0,
            issuer,
        })
    }

    fn word(By(method): By) -> &'static str {
        match method {
            AuthMethod::PrivateKeyJwt => "tenant-key",
            _ => "tenant",
        }
    }

    fn rig(&self) -> &Rig {
        &self.rig
    }

    fn into_rig(self) -> Rig {
        self.rig
    }

    fn steps(&self) -> &'static [Step] {
        self.method.steps()
    }

    /// Nothing that goes wrong may show here afterwards.
    async fn take(
        &self,
        name: &str,
        step: Step,
        known: &mut Option<String>,
        _: &Harm<'_>,
    ) -> anyhow::Result<()> {
        self.rig.forget();
        self.ask(name, step).await?;
        if step == Step::Delete {
            let env = &self.rig.env;
            env.wait_gone("mcpclient", env.namespace(), name, SOON).await?;
            self.rig.quiet(name).await;
            return self.gone(name).await;
        }
        self.done(name, step).await?;
        self.rig.quiet(name).await;
        self.right(name, step, known).await
    }
}

impl Tenant {
    /// What the user does.
    async fn ask(&self, name: &str, step: Step) -> anyhow::Result<()> {
        let env = &self.rig.env;
        match step {
            Step::Create => env.apply(&self.client(name, "first", &["notes:use"])).await,
            Step::Update => {
                let client = self.client(name, "second", &["notes:use", "notes:share"]);
                env.apply(&client).await
            }
            Step::Rotate => annotate(env, name, "mcpauth.dev/rotate-requested-at", "please").await,
            Step::Revoke => annotate(env, name, "mcpauth.dev/revoke-requested-at", "please").await,
            Step::Delete => {
                let arguments = ["delete", "mcpclient", name, "-n", env.namespace(), "--wait=false"];
                env.kubectl().must(&arguments).await.map(drop)
            }
        }
    }

    fn client(&self, name: &str, path: &str, scopes: &[&str]) -> Value {
        let mut client = json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": { "namespace": self.rig.env.namespace(), "name": name },
            "spec": {
                "authorizationServerRef": { "name": "main" },
                "managed": {
                    "grantTypes": ["client_credentials", "authorization_code"],
                    "applicationType": "web",
                    "redirectUris": [redirect_uri(name, path)],
                },
                "access": [{ "server": { "name": "notes" }, "scopes": scopes }],
            },
        });
        self.method.put(&mut client);
        client
    }

    /// Waits until the status says that the operator has done it.
    async fn done(&self, name: &str, step: Step) -> anyhow::Result<()> {
        let env = &self.rig.env;
        wait_for(&format!("the end of {step} of {name}"), SOON, async || {
            let found = env.get("McpClient", env.namespace(), name).await?;
            let found = found.context("no such client")?;
            let status = &found["status"];
            let right = is_ready(&found)
                && status["rotation"]["phase"] == "Settled"
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

    /// There is one application, as it is wanted, with the credential that the workload and the journal have.
    async fn right(&self, name: &str, step: Step, known: &mut Option<String>) -> anyhow::Result<()> {
        let made = remains(&self.auth0, &self.before, "clients");
        let [application] = &made[..] else {
            anyhow::bail!("{} applications", made.len());
        };
        let application = &application["fields"];
        let path = if step == Step::Create { "first" } else { "second" };
        ensure!(
            application["callbacks"] == json!([redirect_uri(name, path)]),
            "{}",
            application["callbacks"]
        );
        let id = application["client_id"].as_str().context("no id")?;
        let now = self.held(name, id).await?;
        ensure!(
            self.accepts(id, &now, step).await?,
            "the credential does not work"
        );
        let replaced = known.as_ref() != Some(&now);
        ensure!(
            replaced == (step != Step::Update),
            "the credential was {}",
            if replaced { "replaced" } else { "kept" }
        );
        let sent = self.secrets_sent()?;
        let ours: BTreeSet<&String> = known.iter().chain([&now]).collect();
        let others = sent.iter().filter(|sent| !ours.contains(sent)).count();
        ensure!(others == 0, "{others} more secrets were put in force on the way");
        if let Some(old) = known.as_ref().filter(|_| replaced) {
            ensure!(
                !self.accepts(id, old, step).await?,
                "the old credential still works"
            );
        }
        *known = Some(now);
        is_untouched(&self.auth0, &self.before)
    }

    /// What the workload has, which is in the journal too and belongs to this application.
    async fn held(&self, name: &str, id: &str) -> anyhow::Result<String> {
        let env = &self.rig.env;
        let secret = format!("{name}-mcp-client");
        let told = env.secret_value(env.namespace(), &secret, "client-id").await?;
        ensure!(told == id, "the Secret has {told}, and the tenant {id}");
        let key = self.method.held_as().context("no credential")?;
        let now = env.secret_value(env.namespace(), &secret, key).await?;
        let journal = method::journal(env, name);
        let journals = kept(env).await?;
        let keys = journals.get(&journal).context("no journal")?;
        ensure!(
            !keys.contains("pending") && !keys.contains("previous"),
            "the journal is not settled: {keys:?}"
        );
        let journaled = env
            .secret_value(env.operator_namespace(), &journal, "current")
            .await?;
        ensure!(journaled == now, "the journal has another credential");
        Ok(now)
    }

    /// Whether the application gets a token with a credential, for what it may do after a step and no more.
    async fn accepts(&self, id: &str, credential: &str, step: Step) -> anyhow::Result<bool> {
        let client = authenticated(&self.issuer, id, credential.to_owned())?;
        let answer = self.issuer.token(&client, for_itself(None, RESOURCE)).await?;
        let Ok(tokens) = answer.outcome() else {
            return Ok(false);
        };
        let token = self.issuer.verify(&tokens.access_token).await?;
        let expected: &[&str] = match step {
            Step::Create => &["notes:use"],
            _ => &["notes:share", "notes:use"],
        };
        ensure!(
            token.audiences() == [RESOURCE] && token.scopes().iter().eq(expected),
            "{}",
            token.claims
        );
        Ok(true)
    }

    /// Every secret that reached the tenant as an application's since the step began.
    fn secrets_sent(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut sent = BTreeSet::new();
        for (side, call) in self.rig.calls() {
            let is_there = side == Side::AuthorizationServer && call.arrived && call.is_write();
            if is_there && call.path().starts_with("/api/v2/clients") && !call.body.is_empty() {
                let body: Value = call.json()?;
                sent.extend(body["client_secret"].as_str().map(str::to_owned));
            }
        }
        Ok(sent)
    }

    /// Nothing of the client is left, and what others have is as it was.
    async fn gone(&self, name: &str) -> anyhow::Result<()> {
        let env = &self.rig.env;
        becomes("nothing left at the tenant", &0, SOON, async || {
            let left = MADE.map(|kind| remains(&self.auth0, &self.before, kind).len());
            Ok(left.iter().sum::<usize>())
        })
        .await?;
        let (told, journal) = (format!("/{name}-mcp-client"), method::journal(env, name));
        becomes("no Secret and no journal", &(false, false), SOON, async || {
            let published = published(env, env.namespace()).await?;
            Ok((
                published.iter().any(|object| object.ends_with(&told)),
                kept(env).await?.contains_key(&journal),
            ))
        })
        .await?;
        is_untouched(&self.auth0, &self.before)
    }
}

fn redirect_uri(name: &str, path: &str) -> String {
    format!("https://{name}.example.com/{path}")
}
