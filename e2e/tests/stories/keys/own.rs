//! The operator itself signs in without a secret.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use mcp_auth_e2e::{operator::SERVICE_ACCOUNT, story::StoryEnv, world::World};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::accounts::token;
use crate::fixtures::{SOON, apply_all, because, machine, ready, server};

/// A client of the realm that an operator can be, by other means than a secret.
async fn client(env: &StoryEnv, id: &str, authentication: &Value) -> anyhow::Result<()> {
    env.realm().add_operator_client(id, &["manage-clients"]).await?;
    let client = env.realm().find_client(id).await?.context("no such client")?;
    let path = format!("/clients/{}", client["id"].as_str().unwrap_or_default());
    env.realm().admin().put(&path, authentication).await.map(drop)
}

/// A private key, and the set of its public half alone.
fn key() -> anyhow::Result<(String, String)> {
    let pem = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?.serialize_pem();
    let public = Jwk::from_encoding_key(&EncodingKey::from_rsa_pem(pem.as_bytes())?, Algorithm::RS256)?;
    let mut public = serde_json::to_value(public)?;
    for (field, value) in [("kid", "the-operator"), ("use", "sig"), ("alg", "RS256")] {
        public[field] = json!(value);
    }
    Ok((pem, json!({ "keys": [public] }).to_string()))
}

pub(super) async fn by_key(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::with_operator_roles(&world, "keys-own-key", &[]).await?;
    let (pem, public) = key()?;
    let by_key = json!({
        "clientId": "keyed", "clientAuthenticatorType": "client-jwt",
        "attributes": { "use.jwks.string": "true", "jwks.string": public },
    });
    client(&env, "keyed", &by_key).await?;
    let secret = |key: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "namespace": env.namespace(), "name": "keyed" },
            "stringData": { "client-id": "keyed", "client-key.pem": key },
        })
    };
    let mut home = env.authorization_server("main");
    home["spec"]["credentials"] = json!({ "privateKeyJwtRef": { "name": "keyed" } });
    let operator = env.start_operator().await?;
    let reader = machine(&env, "reader", &["notes"]);
    apply_all(&env, &[home, secret("none"), server(&env, "notes"), reader]).await?;
    let named = ("AuthorizationServer", env.namespace(), "main");
    because(&env, named, ("Ready", "False", "SecretIncomplete")).await?;
    let (other, _) = key()?;
    env.apply(&secret(&other)).await?;
    because(&env, named, ("Ready", "False", "CredentialsRefused")).await?;
    env.apply(&secret(&pem)).await?;
    ready(&env, ("McpClient", env.namespace(), "reader"), SOON).await?;
    // What it made goes by the key that it kept.
    let kubectl = env.kubectl();
    kubectl
        .must(&["delete", "secret", "keyed", "-n", env.namespace()])
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
    let trust = json!({
        "alias": "cluster", "providerId": "kubernetes", "enabled": true,
        "config": { "issuer": env.cluster().address(), "fedClientAssertionMaxExp": "3600" },
    });
    env.realm()
        .admin()
        .create("/identity-provider/instances", &trust)
        .await?;
    let by_token = json!({
        "clientId": "pod", "clientAuthenticatorType": "federated-jwt",
        "attributes": {
            "jwt.credential.issuer": "cluster",
            "jwt.credential.sub": format!("system:serviceaccount:{own}:{SERVICE_ACCOUNT}"),
        },
    });
    client(&env, "pod", &by_token).await?;
    let mut options = env.operator_options();
    options.watch_namespaces.push(own.to_owned());
    let file = env.authority_file()?.with_file_name("token");
    options
        .extra
        .push(format!("--service-account-token-file={}", file.display()));
    let operator = env.start_operator_with(&options).await?;

    let mut elsewhere = env.authorization_server("main");
    elsewhere["spec"]["credentials"] = json!({ "serviceAccountToken": { "clientId": "pod" } });
    let mut home = elsewhere.clone();
    home["metadata"]["namespace"] = json!(own);
    home["spec"]["grants"] = json!([{
        "namespaces": { "from": "All" }, "clients": {}, "servers": { "hosts": ["*"], "scopePrefixes": [""] },
    }]);
    let mut objects = vec![
        env.ca_config_map(own),
        elsewhere,
        home,
        server(&env, "notes"),
        machine(&env, "reader", &["notes"]),
    ];
    for object in &mut objects[3..] {
        object["spec"]["authorizationServerRef"] = json!({ "namespace": own, "name": "main" });
    }
    apply_all(&env, &objects).await?;
    let stranger = ("AuthorizationServer", env.namespace(), "main");
    because(&env, stranger, ("Ready", "False", "NotInOperatorNamespace")).await?;
    let named = ("AuthorizationServer", own, "main");
    because(&env, named, ("Ready", "False", "ServiceAccountTokenMissing")).await?;
    put(&env, &file, "https://other.example.com").await?;
    because(&env, named, ("Ready", "False", "ServiceAccountTokenMissing")).await?;
    ensure!(
        env.proxy()
            .calls()
            .iter()
            .all(|call| call.form("client_assertion").is_none()),
        "a token for somebody else was shown to Keycloak"
    );
    put(&env, &file, env.realm().issuer()).await?;
    ready(&env, ("McpClient", env.namespace(), "reader"), SOON).await?;
    operator.stop().await
}

/// Puts a token of the operator's ServiceAccount for this audience where a kubelet would.
async fn put(env: &StoryEnv, file: &Path, audience: &str) -> anyhow::Result<()> {
    let token = token(env, env.operator_namespace(), SERVICE_ACCOUNT, audience).await?;
    fs::write(file, token.expose_secret())?;
    Ok(())
}
