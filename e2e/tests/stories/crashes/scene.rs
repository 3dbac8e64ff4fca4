//! One operator between two proxies, which may be killed at any moment and is started again.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use mcp_auth_e2e::{
    operator::{Operator, OperatorOptions},
    proxy::{Call, Point, RecordingProxy},
    story::StoryEnv,
    world::World,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::method::AuthMethod;
use crate::{
    fixtures::{SOON, apply_all, ready, server},
    inventory::Realm,
};

/// After so long without a write nothing more comes.
const QUIET: Duration = Duration::from_millis(400);

/// The side of the operator on which a call goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Side {
    Keycloak,
    ApiServer,
}

/// An operator with a server, and what there was before any client.
pub(super) struct Scene {
    pub(super) env: StoryEnv,
    /// How clients authenticate.
    pub(super) method: AuthMethod,
    pub(super) before: Realm,
    api_server: RecordingProxy,
    options: OperatorOptions,
    /// None while it is being started again, and when it was handed over.
    operator: Mutex<Option<Operator>>,
}

impl Scene {
    /// In a realm and namespaces of this name.
    pub(super) async fn start(world: &Arc<World>, name: &str, method: AuthMethod) -> anyhow::Result<Self> {
        Self::start_with(world, name, method, |_| {}).await
    }

    /// The same with changed options.
    pub(super) async fn start_with(
        world: &Arc<World>,
        name: &str,
        method: AuthMethod,
        change: impl FnOnce(&mut OperatorOptions),
    ) -> anyhow::Result<Self> {
        let env = StoryEnv::with_operator_roles(world, name, method.roles()).await?;
        let api_server = env.api_server_proxy()?;
        let mut options = env.operator_options();
        options.api_server = Some(api_server.url());
        change(&mut options);
        let operator = env.start_operator_with(&options).await?;
        let mut authorization_server = env.authorization_server("main");
        method.allow(&mut authorization_server);
        apply_all(&env, &[authorization_server, notes(&env)]).await?;
        ready(&env, ("McpServer", env.namespace(), "notes"), SOON).await?;
        Ok(Self {
            before: Realm::read(&env).await?,
            env,
            method,
            api_server,
            options,
            operator: Mutex::new(Some(operator)),
        })
    }

    pub(super) fn proxy(&self, side: Side) -> &RecordingProxy {
        match side {
            Side::Keycloak => self.env.proxy(),
            Side::ApiServer => &self.api_server,
        }
    }

    /// What was sent to either side since [`Scene::forget`], in the order in which it was sent.
    pub(super) fn calls(&self) -> Vec<(Side, Call)> {
        let mut calls: Vec<_> = [Side::Keycloak, Side::ApiServer]
            .into_iter()
            .flat_map(|side| self.proxy(side).calls().into_iter().map(move |call| (side, call)))
            .collect();
        calls.sort_by_key(|(_, call)| call.at);
        calls
    }

    pub(super) fn forget(&self) {
        self.proxy(Side::Keycloak).clear();
        self.proxy(Side::ApiServer).clear();
    }

    /// The writes on behalf of a client among these calls.
    pub(super) fn points(&self, client: &str) -> Vec<(Side, Point)> {
        let calls = self.calls().into_iter();
        calls
            .filter_map(|(side, call)| Some((side, Point::of(&call, self.env.namespace(), client)?)))
            .collect()
    }

    /// Waits until nothing is written any more.
    pub(super) async fn quiet(&self, client: &str) {
        let mut seen = self.points(client).len();
        loop {
            tokio::time::sleep(QUIET).await;
            let now = self.points(client).len();
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    /// How its operators are run.
    pub(super) fn options(&self) -> &OperatorOptions {
        &self.options
    }

    /// Hands the operator over.
    pub(super) async fn take_operator(&self) -> anyhow::Result<Operator> {
        self.operator.lock().await.take().context("there is no operator")
    }

    /// Kills the operator where it is, and starts another.
    pub(super) async fn restart(&self) -> anyhow::Result<()> {
        let mut operator = self.operator.lock().await;
        let killed = operator.take().context("there is no operator")?;
        killed.kill_hard().await?;
        self.heal()?;
        // It would be waited for: replacing a leader is another story.
        let lease = ["delete", "lease", &self.options.lease_name, "-n"];
        let arguments = [&lease[..], &[self.env.operator_namespace()]].concat();
        self.env.kubectl().must(&arguments).await?;
        let next = self.env.launch_operator(&self.options).await?;
        next.wait_until_ready().await?;
        *operator = Some(next);
        Ok(())
    }

    pub(super) fn heal(&self) -> anyhow::Result<()> {
        self.proxy(Side::Keycloak).heal()?;
        self.proxy(Side::ApiServer).heal()
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        match self.operator.into_inner() {
            Some(operator) => operator.stop().await,
            None => Ok(()),
        }
    }
}

/// A server with two scopes.
fn notes(env: &StoryEnv) -> Value {
    let mut object = server(env, "notes");
    object["spec"]["scopes"] = json!([
        { "name": "notes:use", "description": "Use notes" },
        { "name": "notes:share", "description": "Share notes" },
    ]);
    object
}
