//! Clients as others made them, unmodified, that come from where nobody is let in, and after the doors are shut.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{
    mcp::{Ended, Identity, Inspector, Said, Sdk},
    runner::Story,
    world::World,
};
use serde_json::{Value, json};

use super::{
    ending,
    setup::{ALLOWED, NOT_ALLOWED, Scene, both_ways},
};
use crate::{
    clients::{rules, tool_names},
    fixtures::SOON,
};

/// What Keycloak says to who registers from elsewhere, or for a page elsewhere.
const NOT_TRUSTED: &str = "Trusted Hosts";
/// What it says whichever of its policies refuses. When the doors are shut several do, in no order.
const REFUSED: &str = "rejected request to client-registration service";

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "self_registration::real_clients_from_elsewhere_are_refused_both_ways",
        elsewhere,
    )]
}

/// Neither by a document at another domain nor with users to be sent to another host; and once registration is switched
/// off, from nowhere.
async fn elsewhere(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "selfreg-elsewhere", &rules("echo", "get-sum")).await?;
    let document = |host, name| scene.documents.publish(host, name, &scene.callback, &json!({}));
    let (stranger, friend) = (document(NOT_ALLOWED, "stranger"), document(ALLOWED, "friend"));
    let before = clients(&scene).await?;
    let evil = scene.callback.replace("127.0.0.1", "evil.example.com");
    for version in [1, 2] {
        let end = sdk(&scene, version, Identity::Document(&stranger), &scene.callback).await;
        at_a_page(end)?;
        let end = sdk(&scene, version, Identity::Nobody, &evil).await?;
        not_registered(&end, NOT_TRUSTED)?;
    }
    at_a_page(inspector(&scene, "by-document", Identity::Document(&stranger)).await)?;
    // It names its page at GitHub.
    let mut narrow = both_ways();
    narrow["dynamic"]["trustedRedirectHosts"] = json!(["127.0.0.1", "localhost"]);
    says(&scene, &narrow).await?;
    let (end, _) = inspector(&scene, "by-itself", Identity::Nobody).await?;
    not_registered(&end, NOT_TRUSTED)?;
    ensure!(clients(&scene).await? == before, "somebody was registered");

    // It is where they come from, and nothing else.
    says(&scene, &both_ways()).await?;
    let (end, tools) = inspector(&scene, "let-in", Identity::Nobody).await?;
    ensure!(
        end.code == Some(0) && tool_names(&tools) == ["echo"],
        "{}",
        end.printed
    );
    let end = sdk(&scene, 2, Identity::Document(&friend), &scene.callback).await?;
    ensure!(end.code == Some(0), "{}", end.printed);

    ending::registration(&scene, &Value::Null).await?;
    ending::is_over(&scene).await?;
    let before = clients(&scene).await?;
    for version in [1, 2] {
        let end = sdk(&scene, version, Identity::Document(&friend), &scene.callback).await;
        at_a_page(end)?;
        let end = sdk(&scene, version, Identity::Nobody, &scene.callback).await?;
        not_registered(&end, REFUSED)?;
    }
    at_a_page(inspector(&scene, "shut", Identity::Document(&friend)).await)?;
    let (end, _) = inspector(&scene, "too-late", Identity::Nobody).await?;
    not_registered(&end, REFUSED)?;
    ensure!(clients(&scene).await? == before, "somebody was registered");
    scene.lab.finish().await
}

/// Changes what the AuthorizationServer says, and waits until that is in force.
async fn says(scene: &Scene, registration: &Value) -> anyhow::Result<()> {
    ending::registration(scene, registration).await?;
    let env = scene.env();
    let main = ("AuthorizationServer", env.namespace(), "main");
    env.wait_condition(main, ("Accepted", "True"), SOON)
        .await
        .map(drop)
}

async fn sdk(scene: &Scene, version: u8, identity: Identity<'_>, callback: &str) -> anyhow::Result<Ended> {
    let lab = &scene.lab;
    let (url, login_page) = (lab.front.resource(), lab.login_page());
    let sdk = Sdk {
        scripts: &lab.scripts,
        version,
        pin: None,
        url: &url,
        client: (identity, callback),
        login_page: &login_page,
    };
    let steps = json!([["call", "echo", { "message": "hello" }]]);
    let (ended, said) = sdk.run(&steps, &lab.browser()?).await?;
    let granted = said.iter().any(|said| matches!(said, Said::Granted(_)));
    ensure!(granted == (ended.code == Some(0)), "{said:?}");
    Ok(ended)
}

async fn inspector(scene: &Scene, home: &str, identity: Identity<'_>) -> anyhow::Result<(Ended, Value)> {
    let lab = &scene.lab;
    let (url, login_page) = (lab.front.resource(), lab.login_page());
    let client = (identity, scene.callback.as_str());
    let inspector = Inspector::of(&lab.scripts, home, &url, client, &login_page)?;
    inspector
        .run("list", &["--method", "tools/list"], &lab.browser()?)
        .await
}

/// The user sees why, and the client nothing.
fn at_a_page<T>(end: anyhow::Result<T>) -> anyhow::Result<()> {
    let error = end.err().context("it was let in")?;
    let words: Vec<String> = error.chain().map(ToString::to_string).collect();
    ensure!(
        words
            .iter()
            .any(|words| words.contains("the login ends at a page")),
        "{error:#}"
    );
    Ok(())
}

/// The client was told so when it registered itself, and asked nobody to sign in.
fn not_registered(end: &Ended, why: &str) -> anyhow::Result<()> {
    ensure!(
        end.code != Some(0) && end.logins.is_empty() && end.printed.contains(why),
        "{:?} {}",
        end.code,
        end.printed
    );
    Ok(())
}

/// The clients of the realm, by their ids.
async fn clients(scene: &Scene) -> anyhow::Result<BTreeSet<String>> {
    let found = scene.env().realm().admin().get("/clients?max=1000").await?;
    let found = found.as_array().context("no list")?;
    let ids = found.iter().filter_map(|client| client["clientId"].as_str());
    Ok(ids.map(str::to_owned).collect())
}
