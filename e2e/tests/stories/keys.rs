//! Clients that authenticate with something else than a secret.

mod accounts;
pub(crate) mod credentials;
mod own;
mod rotating;

use std::{process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{
    leaks::Known,
    oauth::{Issuer, OAuthClient},
    operator::Operator,
    runner::Story,
    story::StoryEnv,
    tools::NpmTools,
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    fixtures::{SOON, apply_all, ready, server, web},
    rotation::{authenticated, named, reader, value},
};

pub(crate) use accounts::{account, token as service_account_token};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("keys::a_client_signs_in_with_its_key", signs_in),
        Story::new(
            "keys::nobody_is_refused_through_ten_rotations",
            rotating::nobody_is_refused,
        ),
        Story::new(
            "keys::a_change_of_the_method_ends_what_was_before",
            rotating::another_method,
        ),
        Story::new(
            "keys::a_lost_key_is_found_in_the_secret_or_replaced",
            rotating::lost,
        ),
        Story::new(
            "keys::tokens_of_a_service_account_stand_for_one_client",
            accounts::stand_for_one,
        ),
        Story::new(
            "keys::trust_in_service_accounts_needs_a_role_and_ends",
            accounts::trust,
        ),
        Story::new("keys::the_operator_signs_in_with_a_key", own::by_key),
        Story::new(
            "keys::the_operator_signs_in_with_its_service_account",
            own::by_token,
        ),
    ]
}

const PEM: &str = "client-key.pem";

/// The client `reader` with this method.
fn by(env: &StoryEnv, method: &str, overlap: Duration) -> Value {
    let mut client = reader(env, overlap);
    client["spec"]["managed"]["authentication"] = json!({ "method": method });
    client
}

/// An operator with a server, the client `reader`, which is Ready, and what else is wanted.
async fn at_work(
    env: &StoryEnv,
    method: &str,
    overlap: Duration,
    others: &[Value],
) -> anyhow::Result<Operator> {
    let operator = env.start_operator().await?;
    let objects = [
        env.authorization_server("main"),
        server(env, "notes"),
        by(env, method, overlap),
    ];
    apply_all(env, &[&objects, others].concat()).await?;
    ready(env, named(env), SOON).await?;
    Ok(operator)
}

async fn signs_in(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "keys-sign-in").await?;
    let mut portal = web(&env, "portal", &["notes"]);
    portal["spec"]["managed"]["authentication"] = json!({ "method": "PrivateKeyJwt" });
    let operator = at_work(&env, "PrivateKeyJwt", Duration::from_mins(1), &[portal]).await?;
    // It gets no tokens for itself, so it was proved by a made-up code.
    ready(&env, ("McpClient", env.namespace(), "portal"), SOON).await?;
    let issuer = env.issuer().await?;
    let (id, pem) = (value(&env, "client-id").await?, value(&env, PEM).await?);
    let jwk: Value = serde_json::from_str(&value(&env, "client-key.jwk").await?)?;
    ensure!(jwk["kid"] == json!(value(&env, "key-id").await?), "another id");
    ensure!(
        value(&env, "client-secret").await.is_err(),
        "there is a secret as well"
    );
    token(&issuer, &authenticated(&issuer, &id, pem.clone())?).await?;
    let signed = sign_with_node(&env, &jwk, &id, issuer.url()).await?;
    token(&issuer, &OAuthClient::asserting(&id, signed.clone())).await?;

    let portal_key = env
        .secret_value(env.namespace(), "portal-mcp-client", PEM)
        .await?;
    let found = env.realm().find_client(&id).await?.context("no client")?;
    let left = found["secret"].as_str().unwrap_or("none").to_owned();
    for (what, client) in [
        (
            "an assertion that was used before",
            OAuthClient::asserting(&id, signed),
        ),
        (
            "an assertion for somebody else",
            OAuthClient::signing(&id, &SecretString::from(pem.clone()), "https://other.example.com")?,
        ),
        ("another client's key", authenticated(&issuer, &id, portal_key)?),
        ("a secret", OAuthClient::confidential(&id, left.into())),
        ("nothing", OAuthClient::public(&id)),
    ] {
        let answer = issuer.client_credentials(&client, Some("notes:use")).await?;
        let refusal = answer.refused().context(what)?;
        ensure!(
            ["invalid_client", "unauthorized_client"].contains(&refusal.error.as_str()),
            "{what}: {refusal}"
        );
    }
    nowhere_to_be_seen(&env, &operator, &pem, &jwk).await?;
    operator.stop().await
}

/// The client gets a token with its scope.
async fn token(issuer: &Issuer, client: &OAuthClient) -> anyhow::Result<()> {
    let answer = issuer.client_credentials(client, Some("notes:use")).await?;
    let scope = answer.granted()?.scope;
    ensure!(scope.split(' ').any(|scope| scope == "notes:use"), "{scope}");
    Ok(())
}

/// Signs an assertion with the JWK, by the cryptography of Node.js.
async fn sign_with_node(
    env: &StoryEnv,
    jwk: &Value,
    id: &str,
    audience: &str,
) -> anyhow::Result<SecretString> {
    const SCRIPT: &str = "
        const crypto = require('crypto');
        const { jwk, id, audience } = JSON.parse(require('fs').readFileSync(0));
        const part = (object) => Buffer.from(JSON.stringify(object)).toString('base64url');
        const now = Math.floor(Date.now() / 1000);
        const text = part({ alg: 'RS256', kid: jwk.kid }) + '.' + part({
            iss: id, sub: id, aud: audience, jti: crypto.randomUUID(), iat: now, exp: now + 60 });
        const key = crypto.createPrivateKey({ key: jwk, format: 'jwk' });
        process.stdout.write(text + '.' + crypto.sign('sha256', text, key).toString('base64url'));";
    let npm = NpmTools::prepare(env.world().folder().path()).await?;
    let mut node = Command::new(npm.node())
        .args(["-e", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("node does not start")?;
    let input = json!({ "jwk": jwk, "id": id, "audience": audience }).to_string();
    let mut stdin = node.stdin.take().context("no way in")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = node.wait_with_output().await?;
    ensure!(output.status.success(), "node failed");
    Ok(SecretString::from(String::from_utf8(output.stdout)?))
}

/// Nothing of the key is in the log, in the metrics, or in what everybody may read in the cluster; and Keycloak has the
/// public half alone.
async fn nowhere_to_be_seen(
    env: &StoryEnv,
    operator: &Operator,
    pem: &str,
    jwk: &Value,
) -> anyhow::Result<()> {
    let mut known = Known::default();
    for number in ["d", "p", "q", "dp", "dq", "qi"] {
        known.add(number, jwk[number].as_str().context("no such number")?);
    }
    // The last lines are all private.
    let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    for line in lines.iter().rev().take(8) {
        known.add("a line of the PEM", line);
    }
    let search = known.search()?;
    ensure!(!search.found_in(pem).is_empty(), "the search finds nothing");
    search.must_miss("the operator's log", operator.log()?)?;
    search.must_miss("its metrics", operator.metrics().await?)?;
    search
        .must_miss_cluster(&env.client(), Some(env.namespace()))
        .await?;
    let client = env.realm().find_client(&value(env, "client-id").await?).await?;
    search.must_miss("the client at Keycloak", client.unwrap_or_default().to_string())
}
