//! An operator with a server at a Keycloak of which it is the administrator.

use std::sync::Arc;

use mcp_auth_e2e::{operator::OperatorOptions, story::StoryEnv, world::World};
use serde_json::{Value, json};

use super::{
    matrix::{Harm, Stage},
    method::AuthMethod,
    rig::Rig,
    steps::{Step, Subject},
};
use crate::{
    fixtures::{SOON, apply_all, ready, server},
    inventory::Realm,
};

/// The parts, and what there was before any client.
pub(super) struct Scene {
    pub(super) rig: Rig,
    /// How clients authenticate.
    pub(super) method: AuthMethod,
    pub(super) before: Realm,
}

impl Scene {
    /// In a realm and namespaces of this name, with changed options.
    pub(super) async fn start_with(
        world: &Arc<World>,
        name: &str,
        method: AuthMethod,
        change: impl FnOnce(&mut OperatorOptions),
    ) -> anyhow::Result<Self> {
        let env = StoryEnv::with_operator_roles(world, name, method.roles()).await?;
        let rig = Rig::start(env, None, change).await?;
        let env = &rig.env;
        let mut authorization_server = env.authorization_server("main");
        method.allow(&mut authorization_server);
        apply_all(env, &[authorization_server, notes(env)]).await?;
        ready(env, ("McpServer", env.namespace(), "notes"), SOON).await?;
        Ok(Self {
            before: Realm::read(env).await?,
            rig,
            method,
        })
    }
}

impl Stage for Scene {
    type Kind = AuthMethod;
    /// The credential.
    type Known = Option<String>;

    async fn start(world: &Arc<World>, name: &str, method: AuthMethod) -> anyhow::Result<Self> {
        Self::start_with(world, name, method, |_| {}).await
    }

    fn word(method: AuthMethod) -> &'static str {
        method.word()
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
        secret: &mut Option<String>,
        _: &Harm<'_>,
    ) -> anyhow::Result<()> {
        Subject { scene: self, name }.take(step, secret).await
    }
}

/// A server with two scopes.
pub(super) fn notes(env: &StoryEnv) -> Value {
    let mut object = server(env, "notes");
    object["spec"]["scopes"] = json!([
        { "name": "notes:use", "description": "Use notes" },
        { "name": "notes:share", "description": "Share notes" },
    ]);
    object
}
