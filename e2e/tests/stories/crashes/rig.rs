//! One operator between two proxies, which may be killed at any moment and is started again.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use mcp_auth_e2e::{
    operator::{Operator, OperatorOptions},
    proxy::{Call, Point, RecordingProxy},
    story::StoryEnv,
};
use tokio::sync::Mutex;

/// After so long without a write nothing more comes.
const QUIET: Duration = Duration::from_millis(400);

/// The side of the operator on which a call goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Side {
    AuthorizationServer,
    ApiServer,
}

/// An operator, and what stands between it and both sides.
pub(super) struct Rig {
    pub(super) env: StoryEnv,
    /// In front of an authorization server that is not the story's Keycloak.
    other: Option<Arc<RecordingProxy>>,
    api_server: RecordingProxy,
    options: OperatorOptions,
    /// None while it is being started again, and when it was handed over.
    operator: Mutex<Option<Operator>>,
}

impl Rig {
    /// Starts the operator with changed options.
    pub(super) async fn start(
        env: StoryEnv,
        other: Option<Arc<RecordingProxy>>,
        change: impl FnOnce(&mut OperatorOptions),
    ) -> anyhow::Result<Self> {
        let api_server = env.api_server_proxy()?;
        let mut options = env.operator_options();
        options.api_server = Some(api_server.url());
        change(&mut options);
        let operator = env.start_operator_with(&options).await?;
        Ok(Self {
            env,
            other,
            api_server,
            options,
            operator: Mutex::new(Some(operator)),
        })
    }

    pub(super) fn proxy(&self, side: Side) -> &RecordingProxy {
        match side {
            Side::AuthorizationServer => self.other.as_deref().unwrap_or_else(|| self.env.proxy()),
            Side::ApiServer => &self.api_server,
        }
    }

    /// What was sent to either side since [`Rig::forget`], in the order in which it was sent.
    pub(super) fn calls(&self) -> Vec<(Side, Call)> {
        let mut calls: Vec<_> = [Side::AuthorizationServer, Side::ApiServer]
            .into_iter()
            .flat_map(|side| self.proxy(side).calls().into_iter().map(move |call| (side, call)))
            .collect();
        calls.sort_by_key(|(_, call)| call.at);
        calls
    }

    pub(super) fn forget(&self) {
        self.proxy(Side::AuthorizationServer).clear();
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
        self.proxy(Side::AuthorizationServer).heal()?;
        self.proxy(Side::ApiServer).heal()
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        match self.operator.into_inner() {
            Some(operator) => operator.stop().await,
            None => Ok(()),
        }
    }
}
