//! Access that ends: what was issued before lives to its end, and nothing new comes.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::{
    oauth::Tokens,
    samples,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::{NOTES, client_ready};
use crate::{
    fixtures::{SOON, apply_all, because, native, ready, server},
    users::{App, Claims, alice, says},
};

/// The client of [`begin`], with the tokens of a session and of one that outlives it.
struct Before {
    app: App,
    sub: String,
    online: Tokens,
    offline: Tokens,
}

/// Makes `desktop`, a client of `notes`, and signs alice in with it, twice.
async fn begin(env: &StoryEnv) -> anyhow::Result<Before> {
    let sub = alice(env).await?;
    let objects = [
        env.authorization_server("main"),
        server(env, "notes"),
        native(env, "desktop", &["notes"]),
    ];
    apply_all(env, &objects).await?;
    client_ready(env, "desktop").await?;
    let app = App::native(env, "desktop", "notes").await?;
    let online = app.tokens("notes:use").await?;
    let offline = app.tokens("notes:use offline_access").await?;
    Ok(Before {
        app,
        sub,
        online,
        offline,
    })
}

impl Before {
    fn claims(&self) -> Claims<'_> {
        Claims {
            audience: Some(NOTES),
            scopes: &["notes:use"],
            azp: self.app.client.id(),
            sub: &self.sub,
            lifetime: 300,
        }
    }

    /// Refreshes both sessions, which then are worth nothing at any server, and asks for the scope anew.
    async fn is_over(&self) -> anyhow::Result<()> {
        for (tokens, scopes) in [(&self.online, &[][..]), (&self.offline, &["offline_access"])] {
            let after = self.app.refresh(tokens).await?.granted()?;
            let claims = Claims {
                audience: None,
                scopes,
                ..self.claims()
            };
            claims.check(&self.app.issuer, &after.access_token).await?;
        }
        let refusal = self.app.refused("notes:use").await?;
        says(&refusal, "invalid_scope", "Invalid scopes: notes:use")
    }

    /// The sessions were never ended: what is granted again is in their next tokens again.
    async fn is_back(&self) -> anyhow::Result<()> {
        let after = self.app.refresh(&self.online).await?.granted()?;
        self.claims().check(&self.app.issuer, &after.access_token).await?;
        let new = self.app.tokens("notes:use").await?;
        self.claims()
            .check(&self.app.issuer, &new.access_token)
            .await
            .map(drop)
    }
}

/// Fails if the workload is still told of a scope.
async fn secret_names_no_scope(env: &StoryEnv) -> anyhow::Result<()> {
    let secret = samples::secret(env, env.namespace(), "desktop-mcp-client").await?;
    ensure!(secret["scope"].is_empty(), "{}", secret["scope"]);
    Ok(())
}

/// The client's team removes the entry from `access`.
pub(super) async fn entry_removed(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "sign-in-removed").await?;
    let operator = env.start_operator().await?;
    let before = begin(&env).await?;
    let desktop = ("McpClient", env.namespace(), "desktop");

    env.apply(&native(&env, "desktop", &[])).await?;
    because(&env, desktop, ("AccessGranted", "True", "NothingRequested")).await?;
    client_ready(&env, "desktop").await?;
    before.is_over().await?;
    secret_names_no_scope(&env).await?;
    let status = env
        .get(desktop.0, desktop.1, desktop.2)
        .await?
        .unwrap_or_default();
    ensure!(status["status"]["granted"].is_null(), "{}", status["status"]);

    env.apply(&native(&env, "desktop", &["notes"])).await?;
    because(&env, desktop, ("AccessGranted", "True", "Granted")).await?;
    before.is_back().await?;
    operator.stop().await
}

/// The server's team no longer selects the client.
pub(super) async fn no_longer_allowed(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "sign-in-disallowed").await?;
    let operator = env.start_operator().await?;
    let before = begin(&env).await?;
    let space = env.namespace();
    let desktop = ("McpClient", space, "desktop");

    let mut notes = server(&env, "notes");
    notes["spec"]["allowedClients"] = json!([{ "namespaces": { "from": "Same" }, "names": ["laptop"] }]);
    env.apply(&notes).await?;
    let said = because(&env, desktop, ("Ready", "False", "ScopesRefused")).await?;
    let wanted = format!(
        "McpServer {space}/notes does not allow notes:use: ask its team for an entry in allowedClients"
    );
    ensure!(said["message"] == wanted, "{said}");
    before.is_over().await?;
    secret_names_no_scope(&env).await?;

    env.apply(&server(&env, "notes")).await?;
    because(&env, desktop, ("Ready", "True", "Ready")).await?;
    before.is_back().await?;
    operator.stop().await
}

/// Waits until the client at Keycloak is as `expected` says.
async fn at_keycloak(
    env: &StoryEnv,
    before: &Before,
    what: &str,
    expected: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    wait_for(what, SOON, async || {
        let client = env.realm().find_client(before.app.client.id()).await?;
        let client = client.unwrap_or_default();
        Ok(if expected(&client) {
            Seen::Done(())
        } else {
            Seen::NotYet(client["optionalClientScopes"].to_string())
        })
    })
    .await
}

/// Pausing a client holds back what gives it more, and nothing that takes something away.
pub(super) async fn paused(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "sign-in-paused").await?;
    let operator = env.start_operator().await?;
    env.apply(&server(&env, "archive")).await?;
    let before = begin(&env).await?;
    ready(&env, ("McpServer", env.namespace(), "archive"), SOON).await?;
    let desktop = ("McpClient", env.namespace(), "desktop");
    let paused = |servers: &[&str]| {
        let mut client = native(&env, "desktop", servers);
        client["metadata"]["annotations"] = json!({ "mcpauth.dev/reconcile": "paused" });
        client
    };

    // One server for another: only the end of the first comes into force.
    env.apply(&paused(&["archive"])).await?;
    at_keycloak(&env, &before, "the end of notes:use", |client| {
        client["optionalClientScopes"] == json!(["offline_access"])
    })
    .await?;
    before.is_over().await?;
    let mut suspended = paused(&["archive"]);
    suspended["spec"]["suspended"] = json!(true);
    env.apply(&suspended).await?;
    at_keycloak(&env, &before, "the suspension", |client| {
        client["enabled"] == false
    })
    .await?;
    because(&env, desktop, ("Ready", "False", "Suspended")).await?;
    let status = env
        .get(desktop.0, desktop.1, desktop.2)
        .await?
        .unwrap_or_default();
    ensure!(status["status"]["granted"].is_null(), "{}", status["status"]);
    let refusal = before.app.refresh(&before.online).await?.refused()?;
    says(
        &refusal,
        "invalid_client",
        "Invalid client or Invalid client credentials",
    )?;

    env.apply(&native(&env, "desktop", &["archive"])).await?;
    because(&env, desktop, ("AccessGranted", "True", "Granted")).await?;
    client_ready(&env, "desktop").await?;
    let app = App::native(&env, "desktop", "archive").await?;
    let tokens = app.tokens("archive:use").await?;
    let claims = Claims {
        audience: Some(&app.resource),
        scopes: &["archive:use"],
        ..before.claims()
    };
    claims.check(&app.issuer, &tokens.access_token).await?;
    operator.stop().await
}
