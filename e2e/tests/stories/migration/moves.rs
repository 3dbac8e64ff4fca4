//! From one authorization server to another, to the end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use mcp_auth_e2e::{
    oidc_provider::{OidcProvider, Options},
    proxy::RecordingProxy,
    story::StoryEnv,
    world::World,
};
use serde_json::{Value, json};

use super::{
    scene::{Scene, kept_from, lag},
    workload,
};
use crate::{
    clients::setup::scripts,
    dynamic,
    fixtures::{SOON, apply_all, ready, server},
};

/// With a secret, and with a private key: no request fails through the change, the late ones at the old realm included.
pub(super) async fn from_realm_to_realm(world: Arc<World>) -> anyhow::Result<()> {
    for method in ["ClientSecret", "PrivateKeyJwt"] {
        let name = format!("migration-{}", method.to_lowercase());
        let (scene, operator) = Scene::at_work(&world, &name, method).await?;
        let before = workload::read(&scene.env).await?;
        let issuers = [scene.env.realm().issuer(), scene.next.issuer()];
        let change = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            scene.env.apply(&scene.reader("next", method)).await?;
            let both = scene.moved().await?;
            let previous = &both["previous"][0];
            let id = previous["clientId"].as_str().unwrap_or_default();
            ensure!(
                previous["issuer"] == issuers[0] && id.ends_with(&scene.id()),
                "{previous}"
            );
            // The old one is not removed while the workload may use it.
            tokio::time::sleep(lag() + Duration::from_millis(500)).await;
            scene.only_at("next").await?;
            Ok(())
        };
        let (outcome, ()) = workload::during(&scene.env, &issuers, change).await?;
        outcome.unbroken()?;
        outcome.both(&issuers)?;
        let after = workload::read(&scene.env).await?;
        for key in ["issuer", "token-endpoint", "scope", "resource"] {
            ensure!(after.get(key) != before.get(key), "{key} is as before");
        }
        ensure!(
            workload::token(&scene.env, &before).await.is_err(),
            "what it had works still"
        );
        scene.told_apart(&[workload::credential(&before)])?;
        operator.stop().await?;
    }
    Ok(())
}

/// To the other realm's own registration endpoint, where a client of another id is made, and back.
pub(super) async fn to_registration_and_back(world: Arc<World>) -> anyhow::Result<()> {
    let (scene, operator) = Scene::at_work(&world, "migration-registration", "ClientSecret").await?;
    let env = &scene.env;
    let wanted = json!({ "expiration": 600, "count": 5 });
    let made = scene
        .next
        .admin()
        .post("/clients-initial-access", &wanted)
        .await?;
    let token = made["token"].as_str().context("no initial access token")?;
    env.apply(&json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "namespace": env.namespace(), "name": "initial" },
        "stringData": { "initial-access-token": token } }))
        .await?;
    env.apply(&registering(&scene)?).await?;
    let clients = async || {
        let all = scene.next.admin().get("/clients?max=1000").await?;
        Ok::<_, anyhow::Error>(all.as_array().map_or(0, Vec::len))
    };
    let empty = clients().await?;
    let before = workload::read(env).await?;
    let issuers = [env.realm().issuer(), scene.next.issuer()];
    let there = async {
        env.apply(&scene.reader("open", "ClientSecret")).await?;
        scene.moved().await?;
        scene.only_at_main(false).await
    };
    let (outcome, ()) = workload::during(env, &issuers, there).await?;
    outcome.unbroken()?;
    let registered = workload::read(env).await?;
    ensure!(
        !registered["client-id"].ends_with(&scene.id()),
        "the server chooses the id"
    );
    ensure!(clients().await? == empty + 1);
    workload::token(env, &registered).await?;

    let back = async {
        env.apply(&scene.reader("main", "ClientSecret")).await?;
        scene.moved().await?;
        scene.only_at("main").await
    };
    let (outcome, ()) = workload::during(env, &issuers, back).await?;
    outcome.unbroken()?;
    ensure!(clients().await? == empty, "its registration is left");
    let object = env
        .get("McpClient", env.namespace(), "reader")
        .await?
        .unwrap_or_default();
    ensure!(object["status"]["registration"].is_null(), "{}", object["status"]);
    let id = object["status"]["clientId"].as_str().unwrap_or_default();
    ensure!(id.ends_with(&scene.id()), "{}", object["status"]);
    scene.told_apart(&[workload::credential(&before)])?;
    operator.stop().await
}

/// To an oidc-provider whose administrator has made a resource, and back: the credential of each goes nowhere but there.
pub(super) async fn to_oidc_provider_and_back(world: Arc<World>) -> anyhow::Result<()> {
    let (scene, operator) = Scene::at_work(&world, "migration-oidc-provider", "ClientSecret").await?;
    let env = &scene.env;
    let (server, proxy) = partner(env).await?;
    let at_main = workload::read(env).await?;
    let issuers = [env.realm().issuer(), server.issuer()];

    let there = async {
        env.apply(&scene.reader("partner", "ClientSecret")).await?;
        let both = scene.moved().await?;
        let previous = &both["previous"][0];
        ensure!(previous["issuer"] == env.realm().issuer(), "{previous}");
        ensure!(both["registeredAt"]["issuer"] == server.issuer(), "{both}");
        tokio::time::sleep(lag() + Duration::from_millis(500)).await;
        scene.only_at_main(false).await
    };
    let (outcome, ()) = workload::during(env, &issuers, there).await?;
    outcome.unbroken()?;
    outcome.both(&issuers)?;
    let at_partner = workload::read(env).await?;
    for key in ["client-id", "issuer", "token-endpoint", "scope", "resource"] {
        ensure!(at_partner.get(key) != at_main.get(key), "{key} is as before");
    }
    ensure!(at_partner["issuer"] == server.issuer() && at_partner["scope"] == "parcels:use");
    let [client] = &server.clients().await?[..] else {
        bail!("{:?}", server.clients().await?);
    };
    ensure!(client["client_id"] == at_partner["client-id"], "{client}");
    ensure!(
        workload::token(env, &at_main).await.is_err(),
        "what it had works still"
    );

    let back = async {
        env.apply(&scene.reader("main", "ClientSecret")).await?;
        let both = scene.moved().await?;
        ensure!(
            both["previous"][0]["clientId"] == at_partner["client-id"],
            "{both}"
        );
        tokio::time::sleep(lag() + Duration::from_millis(500)).await;
        ensure!(server.clients().await?.len() == 1, "it is removed too early");
        scene.only_at("main").await
    };
    let (outcome, ()) = workload::during(env, &issuers, back).await?;
    outcome.unbroken()?;
    outcome.both(&issuers)?;
    let back = workload::read(env).await?;
    let left = server.clients().await?;
    ensure!(left.is_empty(), "its registration is left: {left:?}");
    ensure!(workload::token(env, &at_partner).await.is_err());
    // It came back to another secret than the one that it had there: that one ended when it left.
    let [first, second, partner] = [&at_main, &back, &at_partner].map(workload::credential);
    ensure!(first != second && second != partner);
    kept_from(&proxy, &[first, second])?;
    kept_from(env.proxy(), &[partner])?;
    ensure!(
        proxy
            .calls()
            .iter()
            .any(|call| call.holds(&workload::credential(&at_partner))),
        "this story would not notice"
    );
    operator.stop().await
}

/// An oidc-provider that knows a resource, as the AuthorizationServer `partner`, and the McpServer that has it.
pub(super) async fn partner(env: &StoryEnv) -> anyhow::Result<(OidcProvider, RecordingProxy)> {
    let world = env.world();
    let mut parcels = server(env, "parcels");
    parcels["spec"]["authorizationServerRef"]["name"] = json!("partner");
    let resource = parcels["spec"]["resource"].as_str().context("no resource")?;
    let options = Options {
        resources: BTreeMap::from([(resource.to_owned(), "parcels:use".to_owned())]),
        ..Options::default()
    };
    let scripts = scripts(env).await?;
    let server = OidcProvider::start(&scripts, world.authority(), world.host(), &options).await?;
    let proxy = RecordingProxy::start_at(world.host(), server.issuer(), world.authority())?;
    let external = json!({ "resourceManagement": "External" });
    let mut partner = dynamic::authorization_server(env, &server, &proxy, &external);
    partner["metadata"]["name"] = json!("partner");
    apply_all(env, &[partner, parcels]).await?;
    ready(env, ("McpServer", env.namespace(), "parcels"), SOON).await?;
    Ok((server, proxy))
}

/// The realm `next` as a server at which one can only register.
fn registering(scene: &Scene) -> anyhow::Result<Value> {
    let mut server = scene.authorization_server();
    server["metadata"]["name"] = json!("open");
    let spec = server["spec"].as_object_mut().context("no spec")?;
    spec.remove("keycloak");
    spec.remove("credentials");
    let initial = json!({ "initialAccessTokenRef": { "name": "initial" } });
    spec.insert("dynamicRegistration".to_owned(), initial);
    let (proxy, realm) = (scene.proxy.url(), scene.next.name());
    let registration = format!("{proxy}/realms/{realm}/clients-registrations/openid-connect");
    server["spec"]["endpoints"]["registration"] = json!(registration);
    if let Some(endpoints) = server["spec"]["endpoints"].as_object_mut() {
        endpoints.remove("admin");
    }
    Ok(server)
}

impl Scene {
    /// Waits until the client is in the realm `main`, or is not.
    async fn only_at_main(&self, is_there: bool) -> anyhow::Result<()> {
        use mcp_auth_e2e::wait::{Seen, wait_for};
        wait_for(
            "the client's end in main",
            super::scene::overlap() + SOON,
            async || {
                Ok(if self.places().await?.contains("main") == is_there {
                    Seen::Done(())
                } else {
                    Seen::NotYet("it is as it was".to_owned())
                })
            },
        )
        .await?;
        ready(&self.env, ("McpClient", self.env.namespace(), "reader"), SOON).await
    }
}
