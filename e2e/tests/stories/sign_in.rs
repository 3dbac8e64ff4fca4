//! Users sign in, and clients get exactly what they were granted, for as long as they are.

mod revocation;
mod rotation;
mod suspension;

use std::sync::Arc;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    oauth::{OAuthClient, Pkce},
    runner::Story,
    story::StoryEnv,
    world::World,
};
use secrecy::SecretString;
use serde_json::json;

use crate::{
    fixtures::{SOON, apply_all, native, open_server, ready, server, web},
    users::{App, Claims, alice, says},
};

const NOTES: &str = "https://notes.example.com/mcp";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("sign_in::a_public_client_gets_what_it_was_granted", public_client),
        Story::new("sign_in::offline_access_goes_with_refresh_token", offline_access),
        Story::new(
            "sign_in::a_confidential_client_needs_its_secret_and_no_consent",
            confidential_client,
        ),
        Story::new(
            "sign_in::access_that_is_not_asked_for_any_more_ends",
            revocation::entry_removed,
        ),
        Story::new(
            "sign_in::access_that_the_server_takes_back_ends",
            revocation::no_longer_allowed,
        ),
        Story::new(
            "sign_in::pausing_a_client_delays_no_revocation",
            revocation::paused,
        ),
        Story::new(
            "sign_in::a_suspended_client_gets_nothing_until_it_is_back",
            suspension::suspension,
        ),
        Story::new(
            "sign_in::a_credential_is_rotated_once_for_each_request",
            rotation::rotation,
        ),
    ]
}

/// Waits until an McpClient is Ready.
async fn client_ready(env: &StoryEnv, name: &str) -> anyhow::Result<()> {
    ready(env, ("McpClient", env.namespace(), name), SOON).await
}

async fn public_client(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "sign-in-public").await?;
    let sub = alice(&env).await?;
    let operator = env.start_operator().await?;
    let mut desktop = native(&env, "desktop", &["notes"]);
    desktop["spec"]["accessTokenLifetime"] = json!("7m");
    let objects = [
        env.authorization_server("main"),
        server(&env, "notes"),
        open_server(&env, "archive"),
        desktop,
    ];
    apply_all(&env, &objects).await?;
    client_ready(&env, "desktop").await?;
    ready(&env, ("McpServer", env.namespace(), "archive"), SOON).await?;

    let app = App::native(&env, "desktop", "notes").await?;
    let code = app.sign_in("notes:use").await?;
    let asked = code.consent.clone().context("nobody was asked for consent")?;
    ensure!(asked == ["Use notes"], "{asked:?}");
    let tokens = app.issuer.redeem(&app.client, &code).await?.granted()?;
    let claims = Claims {
        audience: Some(NOTES),
        scopes: &["notes:use"],
        azp: app.client.id(),
        sub: &sub,
        lifetime: 420,
    };
    claims.check(&app.issuer, &tokens.access_token).await?;
    ensure!(
        (419..=420).contains(&tokens.expires_in) && tokens.scope == "notes:use" && tokens.id_token.is_none(),
        "{} s, scope {:?}",
        tokens.expires_in,
        tokens.scope
    );
    let again = app.refresh(&tokens).await?.granted()?;
    claims.check(&app.issuer, &again.access_token).await?;

    without_pkce_nothing(&app).await?;
    only_where_it_was_registered(&app).await?;
    // Another server's scope, one that exists nowhere, and the operator's own API at Keycloak.
    for other in ["archive:use", "notes:use archive:use", "no:such", "roles"] {
        let refusal = app.refused(other).await?;
        says(&refusal, "invalid_scope", &format!("Invalid scopes: {other}"))?;
    }
    operator.stop().await
}

/// Neither a login without PKCE nor one with the verifier in the open is begun.
async fn without_pkce_nothing(app: &App) -> anyhow::Result<()> {
    for (pkce, why) in [
        (Pkce::Missing, "Missing parameter: code_challenge_method"),
        (
            Pkce::Plain,
            "Invalid parameter: code challenge method is not matching the configured one",
        ),
    ] {
        let login = app.login("notes:use");
        let refusal = app
            .issuer
            .sign_in_with(&app.client, &login, pkce)
            .await?
            .refused()?;
        says(&refusal, "invalid_request", why)?;
    }
    Ok(())
}

/// A login that would lead elsewhere ends at Keycloak: nothing goes there, not even the error.
async fn only_where_it_was_registered(app: &App) -> anyhow::Result<()> {
    for elsewhere in [
        "https://evil.example.com/callback",
        "http://127.0.0.1:41234/other",
        "http://localhost:41234/callback",
        "http://127.0.0.1.evil.example.com/callback",
    ] {
        let mut login = app.login("notes:use");
        elsewhere.clone_into(&mut login.redirect_uri);
        let read = app.dead_end(&login).await?;
        ensure!(
            read.contains("Invalid parameter: redirect_uri"),
            "{elsewhere}: {read}"
        );
    }
    Ok(())
}

async fn offline_access(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "sign-in-offline").await?;
    let sub = alice(&env).await?;
    let operator = env.start_operator().await?;
    let mut kiosk = native(&env, "kiosk", &["notes"]);
    kiosk["spec"]["managed"]["grantTypes"] = json!(["authorization_code"]);
    let objects = [
        env.authorization_server("main"),
        server(&env, "notes"),
        native(&env, "desktop", &["notes"]),
        kiosk,
    ];
    apply_all(&env, &objects).await?;
    client_ready(&env, "desktop").await?;
    client_ready(&env, "kiosk").await?;

    let app = App::native(&env, "desktop", "notes").await?;
    let tokens = app.tokens("notes:use offline_access").await?;
    let claims = Claims {
        audience: Some(NOTES),
        scopes: &["notes:use", "offline_access"],
        azp: app.client.id(),
        sub: &sub,
        lifetime: 300,
    };
    claims.check(&app.issuer, &tokens.access_token).await?;
    let again = app.refresh(&tokens).await?.granted()?;
    claims.check(&app.issuer, &again.access_token).await?;

    let app = App::native(&env, "kiosk", "notes").await?;
    let refusal = app.refused("notes:use offline_access").await?;
    says(
        &refusal,
        "invalid_scope",
        "Invalid scopes: notes:use offline_access",
    )?;
    let tokens = app.tokens("notes:use").await?;
    let claims = Claims {
        scopes: &["notes:use"],
        azp: app.client.id(),
        ..claims
    };
    claims.check(&app.issuer, &tokens.access_token).await?;
    ensure!(
        tokens.refresh_token.is_none(),
        "a refresh token without its grant"
    );
    operator.stop().await
}

async fn confidential_client(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "sign-in-web").await?;
    let sub = alice(&env).await?;
    let operator = env.start_operator().await?;
    let mut portal = web(&env, "portal", &["notes"]);
    portal["spec"]["managed"]["consent"] = json!("Skip");
    let objects = [env.authorization_server("main"), server(&env, "notes"), portal];
    apply_all(&env, &objects).await?;
    client_ready(&env, "portal").await?;

    let app = App::web(&env, "portal", "notes").await?;
    let code = app.sign_in("notes:use").await?;
    ensure!(
        code.consent.is_none(),
        "alice was asked for consent: {:?}",
        code.consent
    );
    let wrong = OAuthClient::confidential(app.client.id(), SecretString::from("wrong"));
    let none = OAuthClient::public(app.client.id());
    for client in [&wrong, &wrong.clone().with_basic(), &none] {
        let refusal = app.issuer.redeem(client, &code).await?.refused()?;
        says(
            &refusal,
            "unauthorized_client",
            "Invalid client or Invalid client credentials",
        )?;
    }
    let claims = Claims {
        audience: Some(NOTES),
        scopes: &["notes:use"],
        azp: app.client.id(),
        sub: &sub,
        lifetime: 300,
    };
    let tokens = app.issuer.redeem(&app.client, &code).await?.granted()?;
    claims.check(&app.issuer, &tokens.access_token).await?;
    let again = app
        .issuer
        .refresh(
            &app.client.clone().with_basic(),
            tokens.refresh_token.as_ref().context("no refresh token")?,
            Some(NOTES),
        )
        .await?
        .granted()?;
    claims.check(&app.issuer, &again.access_token).await?;

    // The grant was not declared.
    let refusal = app
        .issuer
        .client_credentials(&app.client, Some("notes:use"))
        .await?
        .refused()?;
    says(
        &refusal,
        "unauthorized_client",
        "Client not enabled to retrieve service account",
    )?;
    operator.stop().await
}
