//! The operator itself signs in without a secret.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::{story::StoryEnv, world::World};
use serde_json::json;

use super::credentials::{
    KEYED, at_operators_home, federated, home_by_key, home_by_token, key, key_secret, keyed, put_token,
    read_tokens,
};
use crate::fixtures::{SOON, apply_all, because, machine, ready, server};

pub(super) async fn by_key(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::with_operator_roles(&world, "keys-own-key", &[]).await?;
    let pem = keyed(&env).await?;
    let operator = env.start_operator().await?;
    let objects = [
        home_by_key(&env),
        key_secret(&env, "none"),
        server(&env, "notes"),
        machine(&env, "reader", &["notes"]),
    ];
    apply_all(&env, &objects).await?;
    let named = ("AuthorizationServer", env.namespace(), "main");
    because(&env, named, ("Ready", "False", "SecretIncomplete")).await?;
    let (other, _) = key()?;
    env.apply(&key_secret(&env, &other)).await?;
    because(&env, named, ("Ready", "False", "CredentialsRefused")).await?;
    env.apply(&key_secret(&env, &pem)).await?;
    ready(&env, ("McpClient", env.namespace(), "reader"), SOON).await?;
    // What it made goes by the key that it kept.
    let kubectl = env.kubectl();
    kubectl
        .must(&["delete", "secret", KEYED, "-n", env.namespace()])
        .await?;
    operator.stop().await?;
    let operator = env.start_operator().await?;
    let namespace = ["-n", env.namespace()];
    kubectl
        .must(
            &[
                &["delete", "authorizationserver", "main", "--wait=false"][..],
                &namespace,
            ]
            .concat(),
        )
        .await?;
    kubectl
        .must(&[&["delete", "mcpclient,mcpserver", "--all"][..], &namespace].concat())
        .await?;
    env.wait_gone("authorizationserver", env.namespace(), "main", SOON)
        .await?;
    ensure!(
        env.realm()
            .find_client("keys-own-key.keys-own-key.reader")
            .await?
            .is_none(),
        "the client is left over"
    );
    operator.stop().await
}

pub(super) async fn by_token(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::with_operator_roles(&world, "keys-own-token", &[]).await?;
    let own = env.operator_namespace();
    federated(&env).await?;
    let mut options = env.operator_options();
    let file = env.authority_file()?.with_file_name("token");
    read_tokens(&env, &mut options, &file);
    let operator = env.start_operator_with(&options).await?;

    let home = home_by_token(&env);
    let mut elsewhere = home.clone();
    elsewhere["metadata"]["namespace"] = json!(env.namespace());
    let objects = [
        env.ca_config_map(own),
        elsewhere,
        home,
        at_operators_home(&env, server(&env, "notes")),
        at_operators_home(&env, machine(&env, "reader", &["notes"])),
    ];
    apply_all(&env, &objects).await?;
    let stranger = ("AuthorizationServer", env.namespace(), "main");
    because(&env, stranger, ("Ready", "False", "NotInOperatorNamespace")).await?;
    let named = ("AuthorizationServer", own, "main");
    because(&env, named, ("Ready", "False", "ServiceAccountTokenMissing")).await?;
    put_token(&env, &file, "https://other.example.com").await?;
    because(&env, named, ("Ready", "False", "ServiceAccountTokenMissing")).await?;
    ensure!(
        env.proxy()
            .calls()
            .iter()
            .all(|call| call.form("client_assertion").is_none()),
        "a token for somebody else was shown to Keycloak"
    );
    put_token(&env, &file, env.realm().issuer()).await?;
    ready(&env, ("McpClient", env.namespace(), "reader"), SOON).await?;
    operator.stop().await
}
