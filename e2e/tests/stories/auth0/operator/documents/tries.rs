//! What others try, or suffer: documents that change, that belong to somebody else, that nobody can read; and a killed operator.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use http::Method;
use mcp_auth_e2e::{proxy::Fault, world::World};
use serde_json::json;

use super::{
    CALLBACK, DOCUMENTS, EVIL, OTHER,
    lab::{Lab, callbacks, grant_types, start},
};
use crate::fixtures::{SOON, apply_all, native, ready};

/// A callback that the namespace was not granted, an unsafe one, and a grant type that no document may name: at first, after
/// a change, and between the look at the document and the registration.
pub(super) async fn leaves(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Lab::start(&world, "auth0-document-leaves").await?;
    let env = &lab.scene.env;
    let url = lab.publish("app", &[CALLBACK, EVIL], &json!({}));
    env.apply(&lab.client("app", &url)?).await?;
    lab.because("app", ("Accepted", "False", "RedirectHostNotGranted"))
        .await?;
    lab.publish("app", &[CALLBACK, "http://app.example.com/callback"], &json!({}));
    lab.because("app", ("Accepted", "False", "RedirectUriRefused"))
        .await?;
    let machine = json!({ "grant_types": ["authorization_code", "client_credentials"] });
    lab.publish("app", &[CALLBACK], &machine);
    lab.because("app", ("Registered", "False", "DocumentInvalid"))
        .await?;
    ensure!(lab.registered(&url).is_none(), "{:?}", lab.registered(&url));

    lab.publish("app", &[CALLBACK], &json!({}));
    lab.ready("app").await?;
    ensure!(lab.grants(&url).len() == 1);
    lab.publish("app", &[CALLBACK], &machine);
    lab.because("app", ("Registered", "False", "DocumentInvalid"))
        .await?;
    let kept = lab.registered(&url).context("it is gone")?;
    ensure!(
        !grant_types(&kept).to_string().contains("client_credentials"),
        "{kept}"
    );

    lab.publish("app", &[CALLBACK, EVIL], &json!({}));
    is_stripped(&lab, &url).await?;
    let now = lab.registered(&url).context("it is gone")?;
    ensure!(*callbacks(&now) == json!([CALLBACK]), "{now}");

    lab.publish("app", &[CALLBACK], &json!({}));
    lab.ready("app").await?;
    // The second reading is that of the registration.
    let changed = lab.documents.of(&url).context("no document")?;
    let mut fair = changed.clone();
    fair["redirect_uris"] = json!([CALLBACK, OTHER]);
    let mut foul = changed;
    foul["redirect_uris"] = json!([EVIL]);
    lab.documents.publish_once(&url, fair, foul);
    is_stripped(&lab, &url).await?;
    ensure!(lab.documents.reads(&url) > 1);
    lab.scene.is_others_untouched()?;
    lab.operator.stop().await
}

/// Nothing of what the client could get tokens by is left.
async fn is_stripped(lab: &Lab, url: &str) -> anyhow::Result<()> {
    lab.because("app", ("Accepted", "False", "RedirectHostNotGranted"))
        .await?;
    lab.until("no grant types", url, |client| *grant_types(client) == json!([]))
        .await?;
    ensure!(lab.grants(url).is_empty(), "{:?}", lab.grants(url));
    let status = lab.status("app").await?;
    ensure!(status["granted"].is_null(), "{status}");
    Ok(())
}

/// What another administrator registered is theirs, until the AuthorizationServer gives it away; of two that want one
/// document one gets it, and the other when that is gone.
pub(super) async fn others(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Lab::start(&world, "auth0-document-others").await?;
    let (scene, env) = (&lab.scene, &lab.scene.env);
    let dashboard = scene.auth0.dashboard();
    let theirs = lab.publish("theirs", &[CALLBACK], &json!({}));
    let body = json!({ "external_client_id": theirs });
    dashboard.post("clients/cimd/register", body).await?;
    let before = lab.registered(&theirs).context("it is not registered")?;
    env.apply(&lab.client("theirs", &theirs)?).await?;
    let said = lab.because("theirs", ("Accepted", "False", "NotAdopted")).await?;
    ensure!(said["message"].to_string().contains("adoption"), "{said}");
    ensure!(lab.registered(&theirs) == Some(before.clone()));
    // Nor does it go with the McpClient.
    lab.delete("theirs").await?;
    ensure!(lab.registered(&theirs) == Some(before));

    let shared = lab.publish("shared", &[CALLBACK], &json!({}));
    env.apply(&lab.client("first", &shared)?).await?;
    lab.ready("first").await?;
    env.apply(&lab.client("second", &shared)?).await?;
    lab.because("second", ("Accepted", "False", "AlreadyHeld"))
        .await?;
    ensure!(lab.status("second").await?["clientId"].is_null());
    lab.delete("second").await?;
    ensure!(lab.registered(&shared).is_some(), "it went with the wrong one");
    env.apply(&lab.client("second", &shared)?).await?;
    lab.delete("first").await?;
    lab.ready("second").await?;

    let mut main = lab.authorization_server();
    main["spec"]["adoption"] =
        json!([{ "kind": "Client", "id": theirs, "namespace": lab.team, "name": "theirs" }]);
    env.apply(&main).await?;
    env.apply(&lab.client("theirs", &theirs)?).await?;
    lab.ready("theirs").await?;
    lab.operator.stop().await
}

/// Killed at each write of a client that comes to be, before the operator hears of it: it goes on with its own, although
/// nothing in the tenant says yet that it is.
pub(super) async fn killed(world: Arc<World>) -> anyhow::Result<()> {
    let mut lab = Lab::start(&world, "auth0-document-killed").await?;
    let mut at = 1;
    loop {
        let name = format!("app{at}");
        let url = lab.publish(&name, &[CALLBACK], &json!({}));
        let is_write = |call: &mcp_auth_e2e::proxy::Call| {
            let path = call.path();
            path.starts_with("/api/v2") && call.method != Method::GET && !path.ends_with("preview")
        };
        let hits = lab.scene.proxy.inject(Fault::keep_reply().on(is_write).at(at));
        lab.scene.env.apply(&lab.client(&name, &url)?).await?;
        tokio::select! {
            () = hits.first() => {}
            ready = lab.ready(&name) => ready?,
        }
        let has_struck = hits.count() > 0;
        if has_struck {
            let next = start(&lab.scene, at);
            lab.operator.kill_hard().await?;
            lab.scene.proxy.heal()?;
            lab.operator = next.await?;
            lab.ready(&name).await?;
        }
        ensure!(lab.grants(&url).len() == 1, "{:?}", lab.grants(&url));
        lab.delete(&name).await?;
        ensure!(lab.registered(&url).is_none(), "something is left of it");
        if !has_struck {
            break;
        }
        at += 1;
    }
    // It is registered, marked and granted.
    ensure!(at > 3, "there were {} writes", at - 1);
    lab.scene.is_others_untouched()?;
    lab.operator.stop().await
}

/// Whoever publishes a document can let the tenant wait for it. Nobody else waits.
pub(super) async fn slow(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Lab::start(&world, "auth0-document-slow").await?;
    let env = &lab.scene.env;
    let names = ["one", "two", "three", "four", "five", "six"];
    for name in names {
        let url = lab.publish(name, &[CALLBACK], &json!({}));
        lab.documents.hang(&url);
        env.apply(&lab.client(name, &url)?).await?;
    }
    for name in names {
        lab.because(name, ("Registered", "Unknown", "DocumentUnreachable"))
            .await?;
    }
    let desktop = native(env, "desktop", &["notes"]);
    env.apply(&desktop).await?;
    ready(env, ("McpClient", env.namespace(), "desktop"), SOON).await?;
    lab.operator.stop().await
}

/// A tenant says that it takes documents only once one is registered: until then, programs that have one would use it, and
/// be refused, instead of registering themselves. It goes on saying so.
pub(super) async fn lets_in(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Lab::bare(&world, "auth0-document-let-in").await?;
    let (scene, env) = (&lab.scene, &lab.scene.env);
    let says = || scene.auth0.dashboard().everything()["settings"][DOCUMENTS].clone();
    let url = lab.publish("app", &[CALLBACK], &json!({}));
    env.apply(&lab.client("app", &url)?).await?;
    let said = ("CredentialsReady", "False", "DocumentsNotSupported");
    lab.because("app", said).await?;
    ensure!(says() == json!(false), "it was not told to");
    lab.delete("app").await?;

    let mut main = lab.authorization_server();
    main["spec"]["auth0"]["manageTenantSettings"] = json!(true);
    env.apply(&main).await?;
    let desktop = native(env, "desktop", &["notes"]);
    // One that may not be registered changes nothing for others.
    let evil = lab.publish("evil", &[EVIL], &json!({}));
    apply_all(env, &[desktop, lab.client("evil", &evil)?]).await?;
    ready(env, ("McpClient", env.namespace(), "desktop"), SOON).await?;
    lab.because("evil", ("Accepted", "False", "RedirectHostNotGranted"))
        .await?;
    ready(env, ("AuthorizationServer", env.namespace(), "main"), SOON).await?;
    ensure!(says() == json!(false), "nobody wants it");

    env.apply(&lab.client("app", &url)?).await?;
    lab.ready("app").await?;
    ensure!(says() == json!(true));
    let server = env.get("AuthorizationServer", env.namespace(), "main").await?;
    let noted = server.unwrap_or_default()["status"]["tenantSettings"].take();
    let before = json!({ "name": DOCUMENTS, "previous": "false" });
    ensure!(
        noted.as_array().is_some_and(|all| all.contains(&before)),
        "{noted}"
    );
    lab.delete("app").await?;
    env.apply(&lab.client("evil", &evil)?).await?;
    ensure!(says() == json!(true));
    lab.operator.stop().await
}
