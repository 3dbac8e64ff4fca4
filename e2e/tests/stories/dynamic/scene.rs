//! An oidc-provider, an operator, and a proxy between the two.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{
    oauth::{Issuer, OAuthClient},
    oidc_provider::{OidcProvider, Options},
    operator::{Operator, OperatorOptions},
    proxy::{Call, RecordingProxy},
    story::{CA_CONFIG_MAP, StoryEnv},
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    clients::setup::scripts,
    fixtures::{SOON, ready},
};

/// The client that most stories are about.
pub(super) const READER: &str = "reader";

/// The parts.
pub(super) struct Scene {
    pub(super) env: StoryEnv,
    pub(super) server: OidcProvider,
    pub(super) proxy: RecordingProxy,
    pub(super) operator: Operator,
}

impl Scene {
    /// Starts them, with an AuthorizationServer `main` for the server.
    pub(super) async fn start(world: &Arc<World>, name: &str, options: &Options) -> anyhow::Result<Self> {
        Self::start_with(world, name, options, &json!({})).await
    }

    /// The same with more in `dynamicRegistration`.
    pub(super) async fn start_with(
        world: &Arc<World>,
        name: &str,
        options: &Options,
        registration: &Value,
    ) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, name).await?;
        let scripts = scripts(&env).await?;
        let server = OidcProvider::start(&scripts, world.authority(), world.host(), options).await?;
        let proxy = RecordingProxy::start_at(world.host(), server.issuer(), world.authority())?;
        let operator = env.start_operator_with(&options_of(&env)).await?;
        let scene = Self {
            env,
            server,
            proxy,
            operator,
        };
        scene.env.apply(&scene.authorization_server(registration)).await?;
        Ok(scene)
    }

    /// The AuthorizationServer, reached through the proxy.
    pub(super) fn authorization_server(&self, registration: &Value) -> Value {
        authorization_server(&self.env, &self.server, &self.proxy, registration)
    }

    /// A client that gets tokens for itself, whose old credential is valid for two seconds more.
    pub(super) fn reader(&self) -> Value {
        self.machine(READER)
    }

    pub(super) fn machine(&self, name: &str) -> Value {
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": { "namespace": self.env.namespace(), "name": name },
            "spec": {
                "authorizationServerRef": { "name": "main" },
                "managed": { "grantTypes": ["client_credentials"] },
                "rotation": { "overlap": "2s" },
            },
        })
    }

    /// Applies the client and waits until it is Ready. Gives its client id.
    pub(super) async fn registered(&self, client: &Value) -> anyhow::Result<String> {
        self.env.apply(client).await?;
        let name = client["metadata"]["name"].as_str().unwrap_or_default();
        ready(&self.env, ("McpClient", self.env.namespace(), name), SOON).await?;
        self.value("client-id").await
    }

    /// A value of the Secret of the reader.
    pub(super) async fn value(&self, key: &str) -> anyhow::Result<String> {
        let name = format!("{READER}-mcp-client");
        self.env.secret_value(self.env.namespace(), &name, key).await
    }

    /// The reader as its Secret has it.
    pub(super) async fn credential(&self) -> anyhow::Result<OAuthClient> {
        let (id, secret) = (self.value("client-id").await?, self.value("client-secret").await?);
        Ok(OAuthClient::confidential(id, SecretString::from(secret)).with_basic())
    }

    /// Whether the server gives this client a token.
    pub(super) async fn works(&self, client: &OAuthClient) -> anyhow::Result<bool> {
        let issuer = Issuer::discover(self.server.issuer(), self.env.world().authority()).await?;
        let answer = issuer.client_credentials(client, None).await?;
        Ok(answer.granted().is_ok())
    }

    /// Fails unless the reader's Secret works.
    pub(super) async fn must_work(&self) -> anyhow::Result<()> {
        let client = self.credential().await?;
        ensure!(self.works(&client).await?, "{} does not work", client.id());
        Ok(())
    }

    /// The status of the reader, once it is right.
    pub(super) async fn status(&self, what: &str, right: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        wait_for(what, SOON, async || {
            let object = self
                .env
                .get("McpClient", self.env.namespace(), READER)
                .await?
                .unwrap_or_default();
            let status = &object["status"];
            Ok(if right(status) {
                Seen::Done(status.clone())
            } else {
                Seen::NotYet(status.to_string())
            })
        })
        .await
    }

    /// Waits until the server holds so many clients. Gives them.
    pub(super) async fn clients(&self, count: usize) -> anyhow::Result<Vec<Value>> {
        wait_for(&format!("{count} clients"), SOON, async || {
            let clients = self.server.clients().await?;
            Ok(if clients.len() == count {
                Seen::Done(clients)
            } else {
                Seen::NotYet(format!("{clients:?}"))
            })
        })
        .await
    }

    /// Puts an annotation on the reader.
    pub(super) async fn annotate(&self, annotation: &str, value: &str) -> anyhow::Result<()> {
        let assignment = format!("{annotation}={value}");
        let namespace = self.env.namespace();
        let arguments = [
            "annotate",
            "mcpclient",
            READER,
            "--overwrite",
            &assignment,
            "-n",
            namespace,
        ];
        self.env.kubectl().must(&arguments).await.map(drop)
    }

    /// Deletes an object and waits until it is gone.
    pub(super) async fn deleted(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        let namespace = self.env.namespace();
        let arguments = ["delete", kind, name, "-n", namespace, "--wait=false"];
        self.env.kubectl().must(&arguments).await?;
        self.env.wait_gone(kind, namespace, name, SOON).await
    }

    /// Waits for an Event with this reason on the reader or its AuthorizationServer. Gives its note.
    pub(super) async fn event(&self, reason: &str) -> anyhow::Result<String> {
        wait_for(&format!("an Event {reason}"), SOON, async || {
            let namespace = self.env.namespace();
            let arguments = ["get", "events.events.k8s.io", "-n", namespace, "-o", "json"];
            let found = self.env.kubectl().must(&arguments).await?;
            let list: Value = serde_json::from_str(&found).context("no JSON")?;
            let events = list["items"].as_array().cloned().unwrap_or_default();
            let found = events.iter().find(|event| event["reason"] == reason);
            Ok(match found {
                Some(event) => Seen::Done(event["note"].as_str().unwrap_or_default().to_owned()),
                None => Seen::NotYet(format!("{} others", events.len())),
            })
        })
        .await
    }

    /// The calls to the registration endpoint so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        let calls = self.proxy.calls().into_iter();
        calls.filter(|call| call.path().starts_with("/reg")).collect()
    }

    /// Kills the operator in the middle of whatever it does, heals the proxy and starts another, which does not wait for
    /// the lease of the dead one.
    pub(super) async fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        self.operator.kill_hard().await?;
        self.proxy.heal()?;
        let mut options = options_of(&self.env);
        options.lease_name = format!("lease-{number}");
        self.operator = self.env.start_operator_with(&options).await?;
        Ok(())
    }

    /// Ends it.
    pub(super) async fn finish(self) -> anyhow::Result<()> {
        self.operator.stop().await
    }
}

/// The AuthorizationServer `main` for an oidc-provider, reached through a proxy.
pub(crate) fn authorization_server(
    env: &StoryEnv,
    server: &OidcProvider,
    proxy: &RecordingProxy,
    registration: &Value,
) -> Value {
    let proxy = proxy.url();
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": { "name": "main", "namespace": env.namespace() },
        "spec": {
            "issuer": server.issuer(),
            "dynamicRegistration": registration,
            "caBundleRef": { "name": CA_CONFIG_MAP },
            "endpoints": {
                "discovery": format!("{proxy}/.well-known/openid-configuration"),
                "token": format!("{proxy}/token"),
                "registration": format!("{proxy}/reg"),
            },
        },
    })
}

/// Drift is to be seen within seconds.
fn options_of(env: &StoryEnv) -> OperatorOptions {
    let mut options = env.operator_options();
    "6s".clone_into(&mut options.resync_interval);
    options
}

/// The condition of this type.
pub(super) fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let conditions = status["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|found| found["type"] == type_));
    found.unwrap_or(&Value::Null)
}
