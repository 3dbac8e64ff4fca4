//! Clients at the stand-in for Auth0 whose metadata is a document of their own: they have no credential, and until the mark is
//! on them nothing but the journal says whose they are.

use std::{fmt, sync::Arc};

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{
    auth0::Auth0,
    documents::Documents,
    operator::OperatorOptions,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::{
    matrix::{Harm, Stage},
    method::{self, RESOURCE},
    rig::Rig,
    scene::notes,
    steps::{Step, is_ready},
};
use crate::{
    auth0::{
        operator::scene::{authorization_server, credentials, set_for_mcp, tenant},
        others::{is_untouched, remains},
    },
    fixtures::{SOON, apply_all, ready},
    inventory::{becomes, kept},
};

const HOST: &str = "client.example";

/// The only kind of them.
#[derive(Clone, Copy)]
pub(super) struct ByDocument;

impl fmt::Display for ByDocument {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("registered by a document at the stand-in for Auth0")
    }
}

/// The parts, and what there was before any client.
pub(super) struct Documented {
    rig: Rig,
    auth0: Auth0,
    documents: Documents,
    before: Value,
}

impl Stage for Documented {
    type Kind = ByDocument;
    type Known = ();

    async fn start(world: &Arc<World>, name: &str, _: ByDocument) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, name).await?;
        let (auth0, proxy) = tenant(world).await?;
        set_for_mcp(&auth0).await?;
        let takes_documents = json!({ "client_id_metadata_document_supported": true });
        auth0
            .dashboard()
            .patch("tenants/settings", takes_documents)
            .await?;
        let documents = Documents::start_for(world.authority(), &[HOST]).await?;
        auth0.publish(HOST, documents.address());
        let mut main = authorization_server(&env, &auth0, &proxy, "main");
        main["spec"]["grants"] = json!([{
            "namespaces": { "from": "All" },
            "clients": { "redirectHosts": ["app.example.com"] },
        }]);
        let objects = [credentials(&env, &auth0), main, notes(&env)];
        // Nothing tells that a document has changed.
        let looks_again = |options: &mut OperatorOptions| "3s".clone_into(&mut options.resync_interval);
        let rig = Rig::start(env, Some(Arc::new(proxy)), looks_again).await?;
        apply_all(&rig.env, &objects).await?;
        ready(&rig.env, ("McpServer", rig.env.namespace(), "notes"), SOON).await?;
        Ok(Self {
            before: auth0.dashboard().everything(),
            rig,
            auth0,
            documents,
        })
    }

    fn word(_: ByDocument) -> &'static str {
        "documented"
    }

    fn rig(&self) -> &Rig {
        &self.rig
    }

    fn into_rig(self) -> Rig {
        self.rig
    }

    fn steps(&self) -> &'static [Step] {
        &[Step::Create, Step::Update, Step::Delete]
    }

    /// Nothing that goes wrong may show here afterwards.
    async fn take(&self, name: &str, step: Step, (): &mut (), _: &Harm<'_>) -> anyhow::Result<()> {
        self.rig.forget();
        let env = &self.rig.env;
        if step == Step::Delete {
            let arguments = ["delete", "mcpclient", name, "-n", env.namespace(), "--wait=false"];
            env.kubectl().must(&arguments).await?;
            env.wait_gone("mcpclient", env.namespace(), name, SOON).await?;
            self.rig.quiet(name).await;
            return self.gone(name).await;
        }
        let url = self.documents.publish(HOST, name, &callback(step), &json!({}));
        env.apply(&self.client(name, &url, step)).await?;
        self.done(name, step).await?;
        self.rig.quiet(name).await;
        self.right(name, &url, step).await
    }
}

impl Documented {
    fn client(&self, name: &str, url: &str, step: Step) -> Value {
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": { "namespace": self.rig.env.namespace(), "name": name },
            "spec": {
                "authorizationServerRef": { "name": "main" },
                "metadataDocument": { "url": url },
                "access": [{ "server": { "name": "notes" }, "scopes": scopes(step) }],
            },
        })
    }

    /// Waits until the status says that the operator has done it, and the document has been read once more.
    async fn done(&self, name: &str, step: Step) -> anyhow::Result<()> {
        let env = &self.rig.env;
        wait_for(&format!("the end of {step} of {name}"), SOON, async || {
            let found = env.get("McpClient", env.namespace(), name).await?;
            let found = found.context("no such client")?;
            let made = remains(&self.auth0, &self.before, "clients");
            let is_read = |client: &Value| client["fields"]["callbacks"] == json!([callback(step)]);
            Ok(if is_ready(&found) && made.iter().any(is_read) {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{made:?} {}", found["status"]))
            })
        })
        .await
    }

    /// There is one application, as the document says, marked as this client's, with one grant for what it may do.
    async fn right(&self, name: &str, url: &str, step: Step) -> anyhow::Result<()> {
        let env = &self.rig.env;
        let made = remains(&self.auth0, &self.before, "clients");
        let [application] = &made[..] else {
            anyhow::bail!("{} applications", made.len());
        };
        ensure!(
            application["external"]["external_client_id"] == url,
            "{application}"
        );
        let fields = &application["fields"];
        ensure!(fields["callbacks"] == json!([callback(step)]), "{fields}");
        let mark = format!("McpClient/{}/{name}", env.namespace());
        ensure!(fields["client_metadata"]["mcpauth_object"] == mark, "{fields}");
        let made = remains(&self.auth0, &self.before, "client_grants");
        let [grant] = &made[..] else {
            anyhow::bail!("{} grants", made.len());
        };
        ensure!(
            grant["client_id"] == fields["client_id"]
                && grant["audience"] == RESOURCE
                && grant["subject_type"] == "user"
                && grant["scope"] == json!(scopes(step)),
            "{grant}"
        );
        let object = env.get("McpClient", env.namespace(), name).await?;
        let status = object.unwrap_or_default()["status"].take();
        ensure!(status["clientId"] == url, "{status}");
        self.nothing_is_kept(name).await?;
        is_untouched(&self.auth0, &self.before)
    }

    /// Nothing of the client is left, and what others have is as it was.
    async fn gone(&self, name: &str) -> anyhow::Result<()> {
        becomes("nothing left at the tenant", &0, SOON, async || {
            let left =
                ["clients", "client_grants"].map(|kind| remains(&self.auth0, &self.before, kind).len());
            Ok(left.iter().sum::<usize>())
        })
        .await?;
        self.nothing_is_kept(name).await?;
        is_untouched(&self.auth0, &self.before)
    }

    /// The journal says nothing any more.
    async fn nothing_is_kept(&self, name: &str) -> anyhow::Result<()> {
        let env = &self.rig.env;
        let journal = method::journal(env, name);
        becomes("no journal", &false, SOON, async || {
            Ok(kept(env).await?.contains_key(&journal))
        })
        .await
    }
}

fn callback(step: Step) -> String {
    let path = if step == Step::Create { "first" } else { "second" };
    format!("https://app.example.com/{path}")
}

/// Sorted, as the tenant has them.
fn scopes(step: Step) -> &'static [&'static str] {
    match step {
        Step::Create => &["notes:use"],
        _ => &["notes:share", "notes:use"],
    }
}
