//! What goes wrong on the way to a tenant, and many things at once.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use mcp_auth_e2e::{auth0::Rate, progress, proxy::Fault};
use mcp_auth_operator::{
    policy::names,
    provider::{ClientSpec, Credential, Grant, Provider as _, ProviderError, Read, ResourceSpec},
};
use serde_json::json;

use super::scene::{REMEMBERED, SECRET, Scene};

/// More than two pages.
const MANY: usize = 250;

/// Whatever call breaks, before or after it was carried out: the next pass converges, without a second client or API.
pub(super) async fn half_failed() -> anyhow::Result<()> {
    for lost in [false, true] {
        let mut at = 1;
        loop {
            let mut scene = Scene::new().await?;
            let fault = if lost {
                Fault::lose_reply()
            } else {
                Fault::disconnect()
            };
            let is_write = |call: &mcp_auth_e2e::proxy::Call| {
                call.path().starts_with("/api/v2") && call.method != Method::GET
            };
            let hits = scene.proxy.inject(fault.on(is_write).at(at));
            let mut failed = 0;
            // As after a crash, nothing is remembered in every second trial.
            for again in 0..6 {
                let resource = scene.put_resource(&scene.orders(), Read::Fresh).await;
                let client = scene.put_client(&scene.agent(), Read::Fresh).await;
                if resource.is_ok() && client.is_ok() {
                    break;
                }
                failed += 1;
                ensure!(again < 5, "{resource:?} {client:?}");
                tokio::time::sleep(Duration::from_millis(1300)).await;
                if at % 2 == 0 {
                    scene.restart().await?;
                }
            }
            scene.put_client(&scene.agent(), Read::Fresh).await?;
            scene.prove(&scene.agent(), &Credential::new(SECRET)).await?;
            let (clients, apis) = (
                scene.remains("clients").await?,
                scene.remains("resource_servers").await?,
            );
            ensure!(
                clients.len() == 2 && apis.len() == 1,
                "call {at}, {failed}: {clients:?} {apis:?}"
            );
            scene.is_others_untouched().await?;
            if hits.count() == 0 {
                break;
            }
            at += 1;
        }
        ensure!(at > 8, "only {} calls were broken", at - 1);
    }
    Ok(())
}

/// A tenant that takes two calls a second gets no more, and everything comes to be without a single refusal.
pub(super) async fn rate_limited() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let free = Rate {
        burst: 2,
        per_second: 2.0,
    };
    scene.stand_in()?.limit("", free);
    let begun = Instant::now();
    scene.put_resource(&scene.orders(), REMEMBERED).await?;
    scene.put_client(&scene.agent(), REMEMBERED).await?;
    let calls = scene.proxy.calls();
    let refused = calls
        .iter()
        .filter(|call| call.status == Some(StatusCode::TOO_MANY_REQUESTS));
    let (calls, refused) = (calls.len(), refused.count());
    progress::say(&format!(
        "{calls} calls in {:?}, {refused} refused",
        begun.elapsed()
    ));
    ensure!(refused == 0, "{refused} of {calls} calls were refused");
    // Where others use the limit up, the tenant is left alone for as long as it says.
    let none = Rate {
        burst: 1,
        per_second: 0.01,
    };
    scene.stand_in()?.limit("GET /clients/{id}", none);
    let _first = scene.client(&scene.agent()).await;
    let second = scene.client(&scene.agent()).await;
    let Err(error) = second else {
        anyhow::bail!("the limit does not count");
    };
    let wait = error
        .downcast_ref::<ProviderError>()
        .and_then(ProviderError::retry_after);
    ensure!(
        wait.is_some_and(|wait| wait > Duration::from_secs(15)),
        "{error:?}"
    );
    Ok(())
}

/// Fields that nobody documented change nothing.
pub(super) async fn unknown_fields() -> anyhow::Result<()> {
    let mut scene = Scene::new().await?;
    scene.stand_in()?.answer_with_unknown_fields(true);
    scene.put_resource(&scene.orders(), REMEMBERED).await?;
    scene.put_client(&scene.agent(), REMEMBERED).await?;
    scene.prove(&scene.agent(), &Credential::new(SECRET)).await?;
    scene.restart().await?;
    ensure!(scene.put_resource(&scene.orders(), REMEMBERED).await? == 0);
    ensure!(scene.put_client(&scene.agent(), REMEMBERED).await? == 0);
    scene.is_others_untouched().await
}

/// A slow tenant is waited for.
pub(super) async fn slow() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let _hits = scene.proxy.inject(Fault::delay(Duration::from_millis(700)));
    scene.put_resource(&scene.orders(), REMEMBERED).await?;
    scene.proxy.heal()?;
    scene.put_client(&scene.agent(), REMEMBERED).await?;
    scene
        .prove(&scene.agent(), &Credential::new(SECRET))
        .await
        .map_err(Into::into)
}

fn numbered(scene: &Scene, n: usize) -> (ResourceSpec, ClientSpec) {
    let resource = ResourceSpec {
        mark: scene.mark("McpServer", &format!("s{n}")),
        resource: format!("https://{}.example.com/s{n}", scene.name),
        ..scene.orders()
    };
    let client = ClientSpec {
        mark: scene.mark("McpClient", &format!("c{n}")),
        client_id: names::client_id(&scene.name, &scene.name, &format!("c{n}")),
        grants: [Grant::AuthorizationCode].into(),
        audiences: [(resource.resource.clone(), scene.agent().scopes)].into(),
        ..scene.agent()
    };
    (resource, client)
}

/// Two hundred and fifty servers and clients: found again by their marks after a restart, by as few reads as there are pages.
pub(super) async fn pages() -> anyhow::Result<()> {
    let mut scene = Scene::new().await?;
    let unlimited = Rate {
        burst: 1_000_000,
        per_second: 1e6,
    };
    scene.stand_in()?.limit("", unlimited);
    let together = &scene;
    let begun = Instant::now();
    stream::iter((0..MANY).map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(8, |n| async move {
            let (resource, client) = numbered(together, n);
            together.put_resource(&resource, REMEMBERED).await?;
            together.put_client(&client, REMEMBERED).await?;
            Ok(())
        })
        .await?;
    let took = begun.elapsed();
    // A decoy with a mark of another installation, which is nobody's here.
    let decoy = json!({"name": "decoy", "client_metadata": {"mcpauth_installation": "other",
        "mcpauth_object": format!("McpClient/{}/c1", scene.name), "mcpauth_uid": "uid-1"}});
    scene.stand_in()?.dashboard().post("clients", decoy).await?;
    scene.restart().await?;
    scene.proxy.clear();
    let unchanged = stream::iter(0..MANY)
        .map(|n| {
            let scene = &scene;
            async move {
                let (resource, client) = numbered(scene, n);
                let rounds = scene.put_resource(&resource, REMEMBERED).await?
                    + scene.put_client(&client, REMEMBERED).await?;
                Ok::<_, anyhow::Error>(rounds)
            }
        })
        .buffer_unordered(8)
        .try_collect::<Vec<_>>()
        .await?;
    ensure!(unchanged.into_iter().all(|rounds| rounds == 0));
    let calls = scene.proxy.calls();
    let reads = calls.iter().filter(|call| call.method == Method::GET).count();
    progress::say(&format!(
        "{MANY} servers and clients made in {took:?}, found again with {reads} reads"
    ));
    // 503 clients, 251 APIs, 252 grants with those of others, and one page each of profiles and actions.
    ensure!(reads == 6 + 3 + 3 + 2, "{reads} reads");
    ensure!(scene.tenant.observe_scopes(REMEMBERED).await?.size() > 2 * MANY);
    Ok(())
}
