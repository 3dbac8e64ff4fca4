//! Exchange by an action of the tenant, at the stand-in: its profiles, in front of the provider as a library.

use anyhow::ensure;
use mcp_auth_operator::provider::{Provider as _, Read};
use serde_json::{Value, json};

use super::{
    conformance::text,
    scene::{REMEMBERED, Scene, set},
};

/// A server that exchanges by an action of the tenant has a profile for it, while it may; those of others stay.
pub(super) async fn actions() -> anyhow::Result<()> {
    let mut scene = Scene::new().await?;
    let dashboard = scene.stand_in()?.dashboard();
    let action = json!({"name": "swap", "code": "exports.onExecuteCustomTokenExchange = async () => {};",
        "runtime": "node22", "supported_triggers": [{"id": "custom-token-exchange", "version": "v1"}]});
    let action = dashboard.post("actions/actions", action).await?;
    let path = format!("actions/actions/{}", text(&action, "id"));
    let mut want = scene.orders();
    want.exchange_actions.names = set(&["swap"]);
    want.exchange_actions.only = true;
    scene.put_resource(&want, REMEMBERED).await?;
    ensure!(profiles(&scene).await?.is_empty(), "nothing is deployed");

    dashboard.get(&path).await?;
    dashboard.post(&format!("{path}/deploy"), json!({})).await?;
    let foreign = json!({"name": "theirs", "subject_token_type": "urn:acme:legacy", "action_id": action["id"],
        "type": "custom_authentication"});
    dashboard.post("token-exchange-profiles", foreign).await?;
    scene.put_resource(&want, Read::Fresh).await?;
    let [profile] = &ours(&scene).await?[..] else {
        anyhow::bail!("{:?}", profiles(&scene).await?);
    };
    let observed = scene.tenant.observe_resource(&want.resource, REMEMBERED).await?;
    let in_force = scene.tenant.exchange_actions(&want.mark, &observed);
    ensure!(in_force["swap"] == text(profile, "id"), "{in_force:?}");

    // Somebody takes it away: it is made again.
    dashboard
        .delete(&format!("token-exchange-profiles/{}", text(profile, "id")))
        .await?;
    scene.put_resource(&want, Read::Fresh).await?;
    ensure!(ours(&scene).await?.len() == 1);
    // Nor is it forgotten over a restart.
    scene.restart().await?;
    scene.put_resource(&scene.orders(), Read::Fresh).await?;
    ensure!(ours(&scene).await?.is_empty(), "{:?}", profiles(&scene).await?);
    scene.put_resource(&want, Read::Fresh).await?;
    let observed = scene.tenant.observe_resource(&want.resource, Read::Fresh).await?;
    let scopes = scene.tenant.observe_scopes(REMEMBERED).await?;
    let removal = scene.tenant.plan_resource_removal(&want.mark, &observed, &scopes);
    scene.tenant.execute(&removal).await?;
    ensure!(ours(&scene).await?.is_empty() && profiles(&scene).await?.len() == 1);
    scene.is_others_untouched().await
}

async fn profiles(scene: &Scene) -> anyhow::Result<Vec<Value>> {
    scene.remains("token_exchange_profiles").await
}

/// Without the one that another administrator made meanwhile.
async fn ours(scene: &Scene) -> anyhow::Result<Vec<Value>> {
    let mut all = profiles(scene).await?;
    all.retain(|profile| text(profile, "name") != "theirs");
    Ok(all)
}
