//! What the operator itself can sign in with instead of a secret, in the realm and in the cluster.

use std::{fs, path::Path};

use anyhow::Context as _;
use jsonwebtoken::{
    Algorithm, EncodingKey,
    jwk::{Jwk, ThumbprintHash},
};
use mcp_auth_e2e::{
    operator::{OperatorOptions, SERVICE_ACCOUNT},
    story::StoryEnv,
};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::accounts::token;

/// The client that the operator is by its key; the Secret with that key is called the same.
pub(crate) const KEYED: &str = "keyed";

/// The client that the operator is by its ServiceAccount.
pub(crate) const POD: &str = "pod";

/// A client of the realm that an operator can be, by other means than a secret.
async fn client(env: &StoryEnv, id: &str, authentication: &Value) -> anyhow::Result<()> {
    env.realm().add_operator_client(id, &["manage-clients"]).await?;
    let client = env.realm().find_client(id).await?.context("no such client")?;
    let path = format!("/clients/{}", client["id"].as_str().unwrap_or_default());
    env.realm().admin().put(&path, authentication).await.map(drop)
}

/// A private key, and the set of its public half alone.
pub(super) fn key() -> anyhow::Result<(String, String)> {
    let pem = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?.serialize_pem();
    let public = Jwk::from_encoding_key(&EncodingKey::from_rsa_pem(pem.as_bytes())?, Algorithm::RS256)?;
    let id = public.thumbprint(ThumbprintHash::SHA256)?;
    let mut public = serde_json::to_value(public)?;
    for (field, value) in [("kid", id.as_str()), ("use", "sig"), ("alg", "RS256")] {
        public[field] = json!(value);
    }
    Ok((pem, json!({ "keys": [public] }).to_string()))
}

/// The realm's client [`KEYED`]. Gives its key.
pub(crate) async fn keyed(env: &StoryEnv) -> anyhow::Result<String> {
    let (pem, public) = key()?;
    let by_key = json!({
        "clientId": KEYED, "clientAuthenticatorType": "client-jwt",
        "attributes": { "use.jwks.string": "true", "jwks.string": public },
    });
    client(env, KEYED, &by_key).await?;
    Ok(pem)
}

/// The Secret with this key.
pub(crate) fn key_secret(env: &StoryEnv, pem: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "namespace": env.namespace(), "name": KEYED },
        "stringData": { "client-id": KEYED, "client-key.pem": pem },
    })
}

/// An AuthorizationServer at which the operator is [`KEYED`].
pub(crate) fn home_by_key(env: &StoryEnv) -> Value {
    let mut home = env.authorization_server("main");
    home["spec"]["credentials"] = json!({ "privateKeyJwtRef": { "name": KEYED } });
    home
}

/// The realm's client [`POD`], and the realm's trust in the cluster.
pub(crate) async fn federated(env: &StoryEnv) -> anyhow::Result<()> {
    let trust = json!({
        "alias": "cluster", "providerId": "kubernetes", "enabled": true,
        "config": { "issuer": env.cluster().address(), "fedClientAssertionMaxExp": "3600" },
    });
    env.realm()
        .admin()
        .create("/identity-provider/instances", &trust)
        .await?;
    let account = format!(
        "system:serviceaccount:{}:{SERVICE_ACCOUNT}",
        env.operator_namespace()
    );
    let by_token = json!({
        "clientId": POD, "clientAuthenticatorType": "federated-jwt",
        "attributes": { "jwt.credential.issuer": "cluster", "jwt.credential.sub": account },
    });
    client(env, POD, &by_token).await
}

/// An AuthorizationServer at which the operator is [`POD`]: in the operator's namespace, and for all.
pub(crate) fn home_by_token(env: &StoryEnv) -> Value {
    let mut home = env.authorization_server("main");
    home["metadata"]["namespace"] = json!(env.operator_namespace());
    home["spec"]["credentials"] = json!({ "serviceAccountToken": { "clientId": POD } });
    home["spec"]["grants"] = json!([{
        "namespaces": { "from": "All" }, "clients": {}, "servers": { "hosts": ["*"], "scopePrefixes": [""] },
    }]);
    home
}

/// The same object, of the AuthorizationServer in the operator's namespace.
pub(crate) fn at_operators_home(env: &StoryEnv, mut object: Value) -> Value {
    object["spec"]["authorizationServerRef"] =
        json!({ "namespace": env.operator_namespace(), "name": "main" });
    object
}

/// Options of an operator that serves its own namespace, too, and finds tokens of its ServiceAccount in this file.
pub(crate) fn read_tokens(env: &StoryEnv, options: &mut OperatorOptions, file: &Path) {
    options.watch_namespaces.push(env.operator_namespace().to_owned());
    options
        .extra
        .push(format!("--service-account-token-file={}", file.display()));
}

/// Puts a token of the operator's ServiceAccount for this audience where a kubelet would. Gives it.
pub(crate) async fn put_token(env: &StoryEnv, file: &Path, audience: &str) -> anyhow::Result<SecretString> {
    let token = token(env, env.operator_namespace(), SERVICE_ACCOUNT, audience).await?;
    fs::write(file, token.expose_secret())?;
    Ok(token)
}
