//! Signing in, roles that come and go, and a server that is away.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use mcp_auth_crds::v1alpha1::Endpoints;
use mcp_auth_e2e::{runner::Story, world::World};
use mcp_auth_operator::{
    egress::{Audience, Egress, EgressError, EgressPolicy, TlsProblem},
    provider::{
        Capability, Provider as _, ProviderError, Read,
        discovery::{DiscoveryError, discover},
    },
};
use serde_json::json;

use super::{REMEMBERED, ROLE, Scene, agent, connect_with, orders};

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new("provider::the_one_role_is_enough_and_its_loss_is_noticed", roles),
        Story::new("provider::a_lightweight_token_is_as_good", lightweight),
        Story::new(
            "provider::a_server_that_is_away_is_left_alone_and_found_again",
            away,
        ),
        Story::new(
            "provider::metadata_is_believed_only_from_whom_it_should_come",
            metadata,
        ),
    ]
}

fn forbidden(error: Option<&ProviderError>) -> anyhow::Result<()> {
    let named = matches!(error, Some(ProviderError::Forbidden { permission: ROLE, .. }));
    ensure!(named, "{error:?}");
    Ok(())
}

async fn roles(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-roles").await?;
    let (keycloak, realm) = (&scene.keycloak, scene.env.realm());
    let access = keycloak.check_access().await?;
    ensure!(
        access.missing.is_empty() && access.capabilities.contains(&Capability::TokenExchange),
        "{access:?}"
    );
    let client = agent();
    scene.put_resource(&orders(), REMEMBERED).await?;
    scene.put_client(&client, REMEMBERED).await?;

    // Who may only query is shown empty lists: nothing of ours may seem to be gone.
    realm.grant_operator_role("query-clients").await?;
    keycloak.check_access().await?;
    realm.revoke_operator_role(ROLE).await?;
    forbidden(
        keycloak
            .observe_client(&client.client_id, Read::Fresh)
            .await
            .as_ref()
            .err(),
    )?;
    forbidden(keycloak.observe_scopes(Read::Fresh).await.as_ref().err())?;
    let changed = mcp_auth_operator::provider::ClientSpec {
        consent: false,
        ..agent()
    };
    let refused = scene
        .put_client(&changed, REMEMBERED)
        .await
        .err()
        .context("it was allowed")?;
    forbidden(refused.downcast_ref())?;
    ensure!(keycloak.check_access().await?.missing == [ROLE]);
    realm.grant_operator_role("view-clients").await?;
    ensure!(
        keycloak.check_access().await?.missing == [ROLE],
        "seeing is not enough"
    );

    // What is granted works at once, although the cached token is from before.
    realm.grant_operator_role(ROLE).await?;
    scene.put_client(&changed, Read::Fresh).await?;
    scene.settled(&orders(), &changed).await?;
    ensure!(keycloak.check_access().await?.missing.is_empty());

    // One role more is needed to limit exchange, and nobody has to give it. Seeing is not enough here either.
    let limits = Capability::SubjectClients;
    for (role, withheld) in [(ROLE, true), ("view-realm", true), ("manage-realm", false)] {
        realm.grant_operator_role(role).await?;
        let access = keycloak.check_access().await?;
        let named = access.withheld.get(&limits) == Some(&"manage-realm");
        ensure!(
            named == withheld && access.capabilities.contains(&limits) != withheld,
            "{role}: {access:?}"
        );
    }

    let wrong = connect_with(&scene.env, "not the secret").await?;
    let error = wrong.check_access().await.err();
    let expected = ProviderError::Unauthenticated {
        code: "unauthorized_client".to_owned(),
    };
    ensure!(error == Some(expected), "{error:?}");
    Ok(())
}

/// Such a token names no roles; the server looks them up.
async fn lightweight(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-lightweight").await?;
    let realm = scene.env.realm();
    let own = realm
        .find_client(realm.operator_client_id())
        .await?
        .context("the operator's client")?;
    let path = format!("/clients/{}", own["id"].as_str().unwrap_or_default());
    let light = json!({"attributes": {"client.use.lightweight.access.token.enabled": "true"}});
    realm.admin().put(&path, &light).await?;
    ensure!(scene.keycloak.check_access().await?.missing.is_empty());
    scene.put_resource(&orders(), REMEMBERED).await?;
    scene.put_client(&agent(), REMEMBERED).await?;
    scene.settled(&orders(), &agent()).await?;
    realm.revoke_operator_role(ROLE).await?;
    ensure!(scene.keycloak.check_access().await?.missing == [ROLE]);
    Ok(())
}

async fn away(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-away").await?;
    let keycloak = &scene.keycloak;
    keycloak.check_access().await?;
    scene.env.proxy().refuse_connections().await?;
    let ask = || keycloak.observe_client("prod.team.agent", Read::Fresh);
    let unreachable = |error: Option<ProviderError>| {
        ensure!(
            matches!(error, Some(ProviderError::Unreachable { .. })),
            "{error:?}"
        );
        Ok(error)
    };
    unreachable(ask().await.err())?;
    let begun = tokio::time::Instant::now();
    for _ in 0..20 {
        let refused = unreachable(ask().await.err())?;
        ensure!(
            refused.and_then(|error| error.retry_after()).is_some(),
            "no time to come back"
        );
    }
    ensure!(
        begun.elapsed() < Duration::from_millis(300),
        "it was asked all the same"
    );
    scene.env.proxy().heal()?;
    // What a person waits for does not wait for the pause, and ends it for all.
    keycloak.check_access().await?;
    ask().await?;
    Ok(())
}

async fn metadata(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-metadata").await?;
    let issuer = scene.env.realm().issuer();
    let egress = |loopback| {
        Egress::new(EgressPolicy {
            insecure_allow_loopback: loopback,
            ..EgressPolicy::default()
        })
    };
    let ca = Some(world.authority().pem().as_bytes());
    let trusting = egress(true).client(Audience::AuthorizationServer, ca)?;
    let none = Endpoints::default();
    let discovered = discover(&trusting, issuer, &none).await?;
    ensure!(discovered.metadata.issuer == issuer, "{discovered:?}");

    let inner = Endpoints {
        discovery: Some(format!("{issuer}/.well-known/openid-configuration")),
        ..Endpoints::default()
    };
    let refused = |result: Result<_, DiscoveryError>| result.err().context("it was believed");
    let other = refused(discover(&trusting, &format!("{issuer}/"), &inner).await)?;
    ensure!(other == DiscoveryError::IssuerMismatch, "{other}");
    let missing = refused(discover(&trusting, &format!("{issuer}x"), &none).await)?;
    ensure!(matches!(missing, DiscoveryError::NotFound { .. }), "{missing}");
    let page = Endpoints {
        discovery: Some(issuer.replace("/realms/", "/resources/")),
        ..Endpoints::default()
    };
    let no_metadata = refused(discover(&trusting, issuer, &page).await)?;
    ensure!(
        matches!(
            no_metadata,
            DiscoveryError::NotFound { .. } | DiscoveryError::NotMetadata { .. }
        ),
        "{no_metadata}"
    );

    let stranger = egress(true).client(Audience::AuthorizationServer, None)?;
    let untrusted = refused(discover(&stranger, issuer, &none).await)?;
    ensure!(
        untrusted == DiscoveryError::Egress(EgressError::Tls(TlsProblem::UnknownIssuer)),
        "{untrusted}"
    );
    let strict = egress(false).client(Audience::AuthorizationServer, ca)?;
    // Nobody listens there, which is not even found out.
    let refused = refused(discover(&strict, "https://127.0.0.1:1/realms/r", &none).await)?;
    ensure!(refused.reason() == "AddressRefused", "{refused}");
    Ok(())
}
