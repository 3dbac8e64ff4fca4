//! Clients that register themselves at a tenant that the operator has set up: what they get, and above all what not.

mod kills;
mod scene;
mod trouble;

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use mcp_auth_e2e::{
    caller::Caller,
    gate::{
        process::{self, GateProcess},
        upstream::Upstream,
    },
    runner::Story,
    samples,
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use self::scene::{Door, INTERNAL, NOTES, RESYNC, VAULT};
use super::scene::for_itself;
use crate::fixtures::{SOON, native, ready};

pub(super) fn stories() -> Vec<Story> {
    let mut stories = vec![
        Story::new("auth0::operator_lets_clients_register", lets_register),
        Story::new("auth0::operator_keeps_closed_scopes_closed", keeps_closed),
        Story::new("auth0::operator_shuts_the_door", shuts),
    ];
    stories.extend(trouble::stories());
    stories.extend(kills::stories());
    stories
}

/// Nothing is set unless it may be set; then clients register themselves, and one that does signs its user in, calls a tool
/// through the gate, and stays signed in.
async fn lets_register(world: Arc<World>) -> anyhow::Result<()> {
    let door = Door::new(&world, "auth0-door", false).await?;
    let env = door.env();
    let untouched = door.settings();
    let mut main = door.main();
    main["spec"]["auth0"]["manageTenantSettings"] = json!(false);
    env.apply(&main).await?;
    let told = door.accepted("False").await?;
    ensure!(told["reason"] == "TenantSettingsNeeded", "{told}");
    ensure!(door.settings() == untouched, "{}", door.settings());

    env.apply(&door.main()).await?;
    door.opened().await?;
    let mut expected = untouched.clone();
    expected["resource_parameter_profile"] = json!("compatibility");
    expected["authorization_response_iss_parameter_supported"] = json!(true);
    expected["dynamic_client_registration_security_mode"] = json!("strict");
    expected["flags"]["enable_dynamic_client_registration"] = json!(true);
    ensure!(door.settings() == expected, "{}", door.settings());
    let noted = door.status().await?["tenantSettings"].to_string();
    let previous = json!({ "name": "flags.enable_dynamic_client_registration", "previous": "false" });
    ensure!(noted.contains(&previous.to_string()), "{noted}");
    ensure!(door.registered().is_empty(), "what proved it is still there");
    let open = json!([format!("{NOTES} notes:use")]);
    door.until("what is open", async || {
        let status = door.status().await?;
        Ok((status["clientRegistration"]["scopes"] == open, status.to_string()))
    })
    .await?;

    // What is right is left alone: the proof is not made again.
    door.scene.proxy.clear();
    tokio::time::sleep(3 * RESYNC).await;
    let writes = trouble::writes(&door);
    ensure!(
        writes.is_empty() && !door.scene.proxy.calls().is_empty(),
        "{writes:?}"
    );

    let (upstream, gate) = gate(&door).await?;
    let client = door.register().await?;
    let tokens = door
        .sign_in(&client, "notes:use offline_access", NOTES)
        .await?
        .context("refused")?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let caller = Caller::new(http, format!("http://{}/mcp", gate.faces().proxy));
    let calls = async |token: &SecretString| {
        let reply = caller
            .clone()
            .with_token(token)
            .call("tools/call", json!({ "name": "look", "arguments": {} }))
            .await?;
        ensure!(reply.status == StatusCode::OK, "{reply}\n{}", gate.log()?);
        anyhow::Ok(())
    };
    calls(&tokens.access_token).await?;
    ensure!(upstream.requests().len() == 1, "{:?}", upstream.requests());
    let refresh = tokens.refresh_token.context("no refresh token")?;
    let tokens = door.issuer.refresh(&client, &refresh, None).await?.granted()?;
    calls(&tokens.access_token).await?;
    door.operator.stop().await
}

/// A gate with the policy that the operator gave it, and a server behind it.
async fn gate(door: &Door) -> anyhow::Result<(Upstream, GateProcess)> {
    let upstream = Upstream::start().await?;
    let policy = door.gate_policy().await?;
    let folder = door.env().world().folder().subfolder("auth0-door-gate")?;
    let at = format!("--upstream-address={}", upstream.address());
    let key = STANDARD.encode(rand::random::<[u8; 32]>());
    let credentials = BTreeMap::from([("session-keys", key)]);
    let gate = GateProcess::start(&folder, process::faces()?, Some(&policy), &credentials, &[&at])?;
    gate.wait_until_ready().await?;
    Ok((upstream, gate))
}

/// Whatever a client asks for, whoever it says it is: it gets what is open, for users, and nothing else; and clients of the
/// operator have exactly what they were given.
async fn keeps_closed(world: Arc<World>) -> anyhow::Result<()> {
    let door = Door::new(&world, "auth0-closed", false).await?;
    let env = door.env();
    env.apply(&door.main()).await?;
    door.opened().await?;
    let client = door.register().await?;
    let tokens = door
        .sign_in(&client, "notes:use notes:write", NOTES)
        .await?
        .context("refused")?;
    ensure!(tokens.scope == "notes:use", "{}", tokens.scope);
    for (scope, audience) in [
        ("vault:use", VAULT),
        ("ledger:read", INTERNAL),
        ("orders:read", "https://foreign.example.com/"),
        ("read:clients", &door.scene.auth0.management_audience()),
    ] {
        let given = door.sign_in(&client, scope, audience).await?;
        ensure!(
            given.is_none(),
            "{audience} was given: {}",
            given.map(|given| given.scope).unwrap_or_default()
        );
    }

    // In its own name it gets nothing, not even what users may give it.
    let machine = door.register_machine().await?;
    for audience in [NOTES, VAULT, INTERNAL, &door.scene.auth0.management_audience()] {
        let refused = door
            .issuer
            .token(&machine, for_itself(None, audience))
            .await?
            .refused()?;
        ensure!(refused.error == "unauthorized_client", "{audience}: {refused}");
    }

    // What one of the operator's clients was granted counts, and not what everybody has.
    let mut desktop = native(env, "desktop", &["notes"]);
    desktop["spec"]["access"][0]["scopes"] = json!(["notes:write"]);
    env.apply(&desktop).await?;
    ready(env, ("McpClient", env.namespace(), "desktop"), SOON).await?;
    let desktop = samples::oauth_client(env, env.namespace(), "desktop-mcp-client").await?;
    let tokens = door
        .sign_in_at(
            &desktop,
            "notes:use notes:write",
            NOTES,
            "http://127.0.0.1/callback",
        )
        .await?
        .context("refused")?;
    ensure!(tokens.scope == "notes:write", "{}", tokens.scope);
    door.is_others_untouched()?;
    door.operator.stop().await
}

/// A scope that is closed again is so at once; a door that nobody wants any more is shut, and what came by it gets nothing.
async fn shuts(world: Arc<World>) -> anyhow::Result<()> {
    let door = Door::new(&world, "auth0-shut", false).await?;
    let env = door.env();
    env.apply(&door.main()).await?;
    door.opened().await?;
    let client = door.register().await?;
    let tokens = door
        .sign_in(&client, "notes:use offline_access", NOTES)
        .await?
        .context("refused")?;
    let refresh = tokens.refresh_token.context("no refresh token")?;

    let mut notes = door.notes();
    notes["spec"]["allowedClients"] = json!([{ "namespaces": { "from": "Same" } }]);
    env.apply(&notes).await?;
    door.grants_become(&[]).await?;
    ensure!(
        door.sign_in(&client, "notes:use", NOTES).await?.is_none(),
        "it is open"
    );
    ensure!(door.is_open(), "nobody said that none may register");
    env.apply(&door.notes()).await?;
    door.grants_become(&[("notes:use", NOTES)]).await?;

    let mut main = door.main();
    let spec = main["spec"].as_object_mut().context("no spec")?;
    spec.remove("clientRegistration");
    env.apply(&main).await?;
    door.grants_become(&[]).await?;
    door.until("a shut door", async || {
        let status = door.status().await?;
        Ok((
            !door.is_open() && status["clientRegistration"].is_null(),
            status.to_string(),
        ))
    })
    .await?;
    ensure!(door.try_register().await? == StatusCode::NOT_FOUND, "it is open");
    ensure!(
        door.sign_in(&client, "notes:use", NOTES).await?.is_none(),
        "it is open"
    );
    let refused = door.issuer.refresh(&client, &refresh, None).await?.outcome();
    ensure!(refused.is_err(), "it stays signed in");
    let noted = door.status().await?["tenantSettings"].to_string();
    ensure!(!noted.contains("enable_dynamic_client_registration"), "{noted}");
    let notes: Vec<Value> = door.clients_with("mcpauth_default_grant");
    ensure!(notes.is_empty(), "{notes:?}");
    door.operator.stop().await
}
