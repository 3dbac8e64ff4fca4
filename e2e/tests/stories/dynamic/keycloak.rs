//! Keycloak's own registration endpoint, as one that knows nothing of us.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{
    oauth::OAuthClient,
    runner::Story,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::fixtures::{SOON, apply_all, ready};

pub(super) fn stories() -> Vec<Story> {
    vec![Story::new(
        "dynamic::keycloaks_own_registration_endpoint_does_as_well",
        registered_at_keycloak,
    )]
}

/// The realm as a server at which one can only register, and its initial access token, good for so many registrations.
pub(super) async fn authorization_server(env: &StoryEnv, count: u32) -> anyhow::Result<[Value; 2]> {
    let wanted = json!({ "expiration": 36_000, "count": count });
    let made = env
        .realm()
        .admin()
        .post("/clients-initial-access", &wanted)
        .await?;
    let token = made["token"].as_str().context("no initial access token")?;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "namespace": env.namespace(), "name": "initial" },
        "stringData": { "initial-access-token": token } });

    let mut server = env.authorization_server("main");
    let (proxy, realm) = (env.proxy().url(), env.realm().name());
    let registration = format!("{proxy}/realms/{realm}/clients-registrations/openid-connect");
    let spec = server["spec"].as_object_mut().context("no spec")?;
    spec.remove("keycloak");
    spec.remove("credentials");
    let initial = json!({ "initialAccessTokenRef": { "name": "initial" } });
    spec.insert("dynamicRegistration".to_owned(), initial);
    server["spec"]["endpoints"]["registration"] = json!(registration);
    Ok([secret, server])
}

/// Registered with an initial access token of the realm, changed, rotated, and gone.
async fn registered_at_keycloak(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "dynamic::keycloak").await?;
    let namespace = env.namespace();
    let client = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
        "metadata": { "namespace": namespace, "name": "reader" },
        "spec": {
            "authorizationServerRef": { "name": "main" },
            "managed": { "grantTypes": ["client_credentials"] },
            "rotation": { "overlap": "2s" },
        },
    });
    let operator = env.start_operator().await?;
    apply_all(&env, &authorization_server(&env, 5).await?).await?;
    env.apply(&client).await?;
    ready(&env, ("McpClient", namespace, "reader"), SOON).await?;
    let first = credential(&env).await?;
    ensure!(works(&env, &first).await?);
    ensure!(env.realm().find_client(first.id()).await?.is_some());

    // Each change takes the token along by which the server replaces the one before.
    let mut renamed = client.clone();
    for name in ["The reader", "Reader"] {
        renamed["spec"]["managed"]["displayName"] = json!(name);
        env.apply(&renamed).await?;
        wait_for("the new name", SOON, async || {
            let found = env.realm().find_client(first.id()).await?.unwrap_or_default();
            Ok(if found["name"] == name {
                Seen::Done(())
            } else {
                Seen::NotYet(found.to_string())
            })
        })
        .await?;
    }
    let rotate = "mcpauth.dev/rotate-requested-at=1";
    let arguments = ["annotate", "mcpclient", "reader", "-n", namespace, rotate];
    env.kubectl().must(&arguments).await?;
    wait_for("the end of the old client", SOON, async || {
        Ok(match env.realm().find_client(first.id()).await? {
            None => Seen::Done(()),
            Some(_) => Seen::NotYet("it is there".to_owned()),
        })
    })
    .await?;
    let second = credential(&env).await?;
    ensure!(first.id() != second.id());
    ensure!(works(&env, &second).await? && !works(&env, &first).await?);

    let arguments = ["delete", "mcpclient", "reader", "-n", namespace, "--wait=false"];
    env.kubectl().must(&arguments).await?;
    env.wait_gone("mcpclient", namespace, "reader", SOON).await?;
    ensure!(env.realm().find_client(second.id()).await?.is_none());
    operator.stop().await
}

/// The client as its Secret has it.
async fn credential(env: &StoryEnv) -> anyhow::Result<OAuthClient> {
    let name = "reader-mcp-client";
    let id = env.secret_value(env.namespace(), name, "client-id").await?;
    let secret = env.secret_value(env.namespace(), name, "client-secret").await?;
    Ok(OAuthClient::confidential(id, SecretString::from(secret)).with_basic())
}

async fn works(env: &StoryEnv, client: &OAuthClient) -> anyhow::Result<bool> {
    let answer = env.issuer().await?.client_credentials(client, None).await?;
    Ok(answer.granted().is_ok())
}
