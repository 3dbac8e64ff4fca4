//! One operator between two recording proxies.

use std::time::Duration;

use serde_json::Value;

use super::record::{Sent, Side};
use crate::{
    operator::{Operator, OperatorOptions},
    proxy::RecordingProxy,
    story::StoryEnv,
};

/// What is measured, with what stands in front of it on both sides.
pub(super) struct Scene {
    pub(super) env: StoryEnv,
    /// In front of another authorization server than that of `env`, if there is one.
    server: Option<RecordingProxy>,
    pub(super) api_server: RecordingProxy,
    /// The namespace of the bare client.
    pub(super) bare: String,
}

impl Scene {
    pub(super) async fn new(mut env: StoryEnv) -> anyhow::Result<Self> {
        let api_server = env.api_server_proxy()?;
        let bare = env.add_namespace("bare").await?;
        Ok(Self {
            env,
            server: None,
            api_server,
            bare,
        })
    }

    /// With the authorization server at this address.
    pub(super) async fn in_front_of(env: StoryEnv, url: &str) -> anyhow::Result<Self> {
        let server = RecordingProxy::start(url, env.world().authority())?;
        Ok(Self {
            server: Some(server),
            ..Self::new(env).await?
        })
    }

    /// What stands in front of the authorization server.
    pub(super) fn server(&self) -> &RecordingProxy {
        self.server.as_ref().unwrap_or(self.env.proxy())
    }

    /// Lets the operator's account write in the namespace of the bare client, which the operator does not serve later.
    pub(super) async fn allow_bare_client(&self) -> anyhow::Result<()> {
        let both = self.env.operator_options();
        self.env.start_operator_with(&both).await?.stop().await
    }

    /// Starts an operator that calls the API server through the proxy.
    pub(super) async fn start(&self, resync: u32) -> anyhow::Result<Operator> {
        self.env.start_operator_with(&self.options(resync)).await
    }

    fn options(&self, resync: u32) -> OperatorOptions {
        let mut options = self.env.operator_options();
        options.watch_namespaces = vec![self.env.namespace().to_owned()];
        options.api_server = Some(self.api_server.url());
        options.resync_interval = format!("{resync}s");
        "warn".clone_into(&mut options.log_level);
        // The limit of calls is not what is measured.
        options.extra.push("--authorization-server-rate=10000".to_owned());
        options
    }

    /// Declares an AuthorizationServer called `main`, and waits until it is checked.
    pub(super) async fn connect(&self, server: &Value) -> anyhow::Result<()> {
        self.env.apply(server).await?;
        let main = ("AuthorizationServer", self.env.namespace(), "main");
        self.env
            .wait_condition(main, ("Ready", "True"), Duration::from_mins(1))
            .await?;
        Ok(())
    }

    /// The calls since the last time that somebody took them, watches excepted, in the order in which they were sent.
    pub(super) fn take(&self) -> Vec<Sent> {
        let sides = [
            (Side::AuthorizationServer, self.server()),
            (Side::ApiServer, &self.api_server),
        ];
        let mut sent: Vec<_> = sides
            .into_iter()
            .flat_map(|(side, proxy)| proxy.take().into_iter().map(move |call| Sent { side, call }))
            .filter(|sent| !sent.call.is_watch())
            .collect();
        sent.sort_by_key(|sent| sent.call.at);
        sent
    }
}
