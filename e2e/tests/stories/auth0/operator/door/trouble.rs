//! What others do to the tenant, and what the operator may not do there.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use http::Method;
use mcp_auth_e2e::{proxy::Call, runner::Story, world::World};
use serde_json::{Value, json};

use super::scene::{Door, NOTES, VAULT};
use crate::fixtures::SOON;

const MODE: &str = "dynamic_client_registration_security_mode";

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new("auth0::operator_mends_what_others_open", mends),
        Story::new("auth0::operator_mends_the_mode_of_an_old_tenant", mends_mode),
        Story::new("auth0::operator_names_what_it_lacks_to_open", lacks),
    ]
}

/// More in the grant, a shut door: drift. A grant that somebody else made at one of the operator's APIs: named, left alone,
/// and nothing is open beside it.
async fn mends(world: Arc<World>) -> anyhow::Result<()> {
    let door = Door::new(&world, "auth0-mends", false).await?;
    let (env, dashboard) = (door.env(), door.scene.auth0.dashboard());
    env.apply(&door.main()).await?;
    door.opened().await?;

    let grant = door.default_grants().pop().context("no grant")?;
    let path = format!("client-grants/{}", grant["id"].as_str().context("no id")?);
    let more = json!({ "scope": ["notes:use", "notes:write"] });
    dashboard.patch(&path, more).await?;
    door.grants_become(&[("notes:use", NOTES)]).await?;

    let off = json!({ "flags": { "enable_dynamic_client_registration": false } });
    dashboard.patch("tenants/settings", off).await?;
    door.until("an open door", async || Ok((door.is_open(), String::new())))
        .await?;
    door.accepted("True").await?;

    let theirs = json!({ "default_for": "third_party_clients", "audience": VAULT, "scope": ["vault:use"],
        "subject_type": "user" });
    let theirs = dashboard.post("client-grants", theirs).await?;
    let told = door.accepted("False").await?;
    let message = told["message"].as_str().unwrap_or_default();
    ensure!(
        told["reason"] == "DefaultGrantHeld" && message.contains(VAULT),
        "{told}"
    );
    door.grants_become(&[("vault:use", VAULT)]).await?;
    door.until("a shut door", async || Ok((!door.is_open(), String::new())))
        .await?;
    // What they give stands in nobody's way when none is to register.
    let mut main = door.main();
    main["spec"]
        .as_object_mut()
        .context("no spec")?
        .remove("clientRegistration");
    env.apply(&main).await?;
    door.until("the end of it", async || {
        let status = door.status().await?;
        Ok((status["clientRegistration"].is_null(), status.to_string()))
    })
    .await?;
    ensure!(door.default_grants() == [theirs.clone()], "it was touched");
    env.apply(&door.main()).await?;
    let told = door.accepted("False").await?;
    ensure!(told["reason"] == "DefaultGrantHeld", "{told}");
    let path = format!("client-grants/{}", theirs["id"].as_str().context("no id")?);
    dashboard.delete(&path).await?;
    door.grants_become(&[("notes:use", NOTES)]).await?;
    ensure!(door.is_open(), "{}", door.settings());
    door.is_others_untouched()?;
    door.operator.stop().await
}

/// A tenant that registers permissive clients, first because nobody has said otherwise, and then because somebody has: what
/// is open is taken away, the door is shut, the mode is mended, and only after another proof is anything open again.
async fn mends_mode(world: Arc<World>) -> anyhow::Result<()> {
    let door = Door::new(&world, "auth0-mode", true).await?;
    let (env, dashboard) = (door.env(), door.scene.auth0.dashboard());
    let open = json!({ "flags": { "enable_dynamic_client_registration": true } });
    dashboard.patch("tenants/settings", open).await?;
    let untouched = door.settings();
    let mut main = door.main();
    main["spec"]["auth0"]["manageTenantSettings"] = json!(false);
    env.apply(&main).await?;
    let told = door.accepted("False").await?;
    ensure!(told["reason"] == "ClosedScopesUnproved", "{told}");
    ensure!(
        door.default_grants().is_empty() && door.registered().is_empty() && door.settings() == untouched,
        "{}",
        door.settings()
    );
    env.apply(&door.main()).await?;
    door.opened().await?;
    ensure!(door.settings()[MODE] == "strict", "{}", door.settings());

    door.scene.proxy.clear();
    dashboard
        .patch("tenants/settings", json!({ MODE: "permissive" }))
        .await?;
    let loose = door.register().await?;
    door.until("the strict mode", async || {
        let settings = door.settings();
        Ok((settings[MODE] == "strict" && door.is_open(), settings.to_string()))
    })
    .await?;
    door.grants_become(&[("notes:use", NOTES)]).await?;
    door.accepted("True").await?;
    let writes = writes(&door);
    let order = [
        "DELETE client-grants",
        "PATCH false",
        "PATCH strict",
        "PATCH true",
        "POST register",
        "DELETE clients",
        "POST client-grants",
    ];
    let mut left = writes.iter();
    for step in order {
        ensure!(left.any(|write| write == step), "{step}: {writes:?}");
    }
    // Who came meanwhile stays what he is, and gets what everybody has.
    let tokens = door
        .sign_in(&loose, "notes:use notes:write", NOTES)
        .await?
        .context("refused")?;
    ensure!(tokens.scope == "notes:use", "{}", tokens.scope);
    ensure!(
        door.sign_in(&loose, "vault:use", VAULT).await?.is_none(),
        "it is open"
    );

    // It was open before the operator came.
    let mut main = door.main();
    main["spec"]
        .as_object_mut()
        .context("no spec")?
        .remove("clientRegistration");
    env.apply(&main).await?;
    door.grants_become(&[]).await?;
    door.until("the end of it", async || {
        let status = door.status().await?;
        Ok((status["clientRegistration"].is_null(), status.to_string()))
    })
    .await?;
    ensure!(door.is_open(), "it was shut: {}", door.settings());
    door.operator.stop().await
}

/// What was written at the tenant, in short.
pub(super) fn writes(door: &Door) -> Vec<String> {
    let words = |call: &Call| -> Option<String> {
        if call.method == Method::GET || call.path().contains("/oauth/") {
            return None;
        }
        let last = match call.path().strip_prefix("/api/v2/") {
            Some(path) => path.split('/').next().unwrap_or_default(),
            None => "register",
        };
        if last != "tenants" {
            return Some(format!("{} {last}", call.method));
        }
        let body: Value = call.json().unwrap_or_default();
        let flag = &body["flags"]["enable_dynamic_client_registration"];
        let what = body[MODE]
            .as_str()
            .map_or_else(|| flag.to_string(), str::to_owned);
        Some(format!("{} {what}", call.method))
    };
    door.scene.proxy.calls().iter().filter_map(words).collect()
}

/// A scope of the Management API that is missing is named with what it blocks.
async fn lacks(world: Arc<World>) -> anyhow::Result<()> {
    let door = Door::new(&world, "auth0-unsettled", false).await?;
    let env = door.env();
    let without = |missing: &str| door.scene.auth0.give_operator_all_but(missing);
    without("read:tenant_settings");
    let mut main = door.main();
    main["spec"]["auth0"]["manageTenantSettings"] = json!(false);
    env.apply(&main).await?;
    let told = door.accepted("False").await?;
    let message = told["message"].as_str().unwrap_or_default();
    ensure!(
        told["reason"] == "PermissionMissing"
            && message.contains("read:tenant_settings for clientRegistration"),
        "{told}"
    );
    without("update:tenant_settings");
    env.apply(&door.main()).await?;
    let named = ("AuthorizationServer", env.namespace(), "main");
    let told = env
        .wait_condition(named, ("CredentialsValid", "False"), SOON)
        .await?;
    let message = told["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("update:tenant_settings (for auth0.manageTenantSettings)"),
        "{told}"
    );
    without("");
    door.opened().await?;
    door.operator.stop().await
}
