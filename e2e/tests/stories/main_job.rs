//! The main job: the shipped samples turn Ready, and what they made works.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{runner::Story, samples, stand::Stand, story::StoryEnv, world::World};
use serde_json::{Value, json};

use crate::fixtures::{SOON, because, ready};

const READY: Duration = Duration::from_secs(90);

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "main_job::the_samples_turn_ready_and_their_tokens_are_as_declared",
        samples_work,
    )]
}

async fn samples_work(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, samples::PLATFORM).await?;
    env.kubectl()
        .run(&["apply", "-f", "config/samples/namespaces.yaml"])
        .await?;
    for namespace in samples::TEAMS {
        env.kubectl().run(&["create", "namespace", namespace]).await?;
    }
    // With pods where this run has a node, and else as far as it goes without.
    let stand = Stand::prepare(&world).await?;
    let mut options = samples::operator_options(&env);
    stand.allow(&mut options, &env, Some("mcp-auth-gate:none"))?;
    let operator = env.start_operator_with(&options).await?;
    let began = Instant::now();
    samples::apply(&env, &stand, &env.authorization_server("company")).await?;
    samples::wait_until_ready(&env, &stand, READY, |_, _| {}).await?;
    world.note(format!(
        "the samples were Ready {:.1} s after kubectl apply began",
        began.elapsed().as_secs_f64()
    ));

    every_condition_is_in_place(&env).await?;
    let table = env.kubectl().must(&["get", "mcp-auth", "-A"]).await?;
    let ready = samples::OBJECTS.len() - usize::from(!stand.has_pods());
    ensure!(table.matches("True").count() >= ready, "{table}");
    tokens_are_as_declared(&env).await?;
    strangers_may_register(&env).await?;
    operator.stop().await
}

/// The sample that is added to the others: both doors are open, and the server that it opens is in force.
async fn strangers_may_register(env: &StoryEnv) -> anyhow::Result<()> {
    samples::apply_self_registration(env).await?;
    let company = ("AuthorizationServer", samples::PLATFORM, "company");
    because(env, company, ("Accepted", "True", "Proved")).await?;
    ready(env, ("McpServer", "team-b", "handbook"), SOON).await?;
    ready(env, company, SOON).await?;
    let company = env
        .get("AuthorizationServer", samples::PLATFORM, "company")
        .await?;
    let status = company.context("it is gone")?["status"]["clientRegistration"].clone();
    ensure!(
        status["open"] == true && status["scopes"] == json!(["documents:handbook.read"]),
        "{status}"
    );
    Ok(())
}

/// The fine conditions of each kind.
async fn every_condition_is_in_place(env: &StoryEnv) -> anyhow::Result<()> {
    for (kind, namespace, name) in samples::OBJECTS {
        let types: &[&str] = match kind {
            "AuthorizationServer" => &["MetadataDiscovered", "CredentialsValid"],
            "McpServer" => &["Accepted", "Registered", "MetadataPublished"],
            "McpClient" => &["Accepted", "Registered", "AccessGranted", "CredentialsReady"],
            _ => &["Accepted", "Programmed"],
        };
        for type_ in types {
            env.wait_condition((kind, namespace, name), (type_, "True"), Duration::from_secs(1))
                .await?;
        }
    }
    let enforced = ("McpServer", "team-b", "documents");
    let condition = env
        .wait_condition(enforced, ("Enforced", "Unknown"), Duration::from_secs(1))
        .await?;
    ensure!(condition["reason"] == "ServerValidates", "{condition}");
    Ok(())
}

async fn tokens_are_as_declared(env: &StoryEnv) -> anyhow::Result<()> {
    let issuer = env.issuer().await?;
    let reporter = samples::oauth_client(env, "team-a", "reporter-mcp-client").await?;
    let scope = samples::secret(env, "team-a", "reporter-mcp-client")
        .await?
        .remove("scope")
        .context("no scope")?;
    ensure!(scope == "documents:read", "{scope}");
    let tokens = issuer
        .client_credentials(&reporter, Some(&scope))
        .await?
        .granted()?;
    let token = issuer.verify(&tokens.access_token).await?;
    ensure!(token.typ.as_deref() == Some("at+jwt"), "{:?}", token.typ);
    ensure!(token.text("iss") == env.realm().issuer(), "{}", token.claims);
    ensure!(
        token.audiences() == ["https://documents.team-b.mcp.example.com/mcp"],
        "{}",
        token.claims
    );
    ensure!(
        token.scopes() == BTreeSet::from(["documents:read".to_owned()]),
        "{}",
        token.claims
    );
    ensure!(token.lifetime()? == 600, "{}", token.claims);

    for other in [
        "documents:write",
        "tickets:read",
        "mcp.team-a.assistant",
        "orders-api:read",
    ] {
        let refused = issuer
            .client_credentials(&reporter, Some(other))
            .await?
            .refused()?;
        ensure!(refused.error == "invalid_scope", "{other}: {refused}");
    }
    let scheduler = samples::secret(env, "team-a", "scheduler-oauth").await?;
    let scheduler = mcp_auth_e2e::oauth::OAuthClient::confidential(
        &scheduler["OAUTH_CLIENT_ID"],
        scheduler["OAUTH_CLIENT_SECRET"].clone().into(),
    );
    let tokens = issuer
        .client_credentials(&scheduler, Some("mcp.team-a.assistant"))
        .await?
        .granted()?;
    let other = issuer.verify(&tokens.access_token).await?;
    ensure!(
        other.audiences() == ["https://assistant.mcp.example.com/mcp"],
        "{}",
        other.claims
    );
    ensure!(
        token.audiences() != other.audiences(),
        "a token for one server is not one for another"
    );
    // Without a scope there is no audience at all, so such a token works nowhere.
    let bare = issuer.client_credentials(&scheduler, None).await?.granted()?;
    let bare = issuer.verify(&bare.access_token).await?;
    ensure!(
        bare.audiences().is_empty() && bare.claims.get("aud").is_none_or(Value::is_null),
        "{}",
        bare.claims
    );
    Ok(())
}
