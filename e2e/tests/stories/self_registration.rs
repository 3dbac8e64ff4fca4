//! Clients that register themselves at a Keycloak that the operator has set up: what they get, and above all what not.

pub(crate) mod setup;

mod elsewhere;
mod ending;
mod posing;

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, bail, ensure};
use http::{Method, StatusCode};
use mcp_auth_e2e::{
    mcp::{Identity, Inspector, Said, Sdk},
    oauth::OAuthClient,
    runner::Story,
    world::World,
};
use serde_json::json;

use crate::{
    clients::{
        gave, only_login, rules,
        setup::{READ, WRITE, found_its_way},
        tool_names,
    },
    fixtures::{SOON, ready, server},
};
use setup::{ALLOWED, CLOSED, NOT_ALLOWED, Scene};

/// RFC 8628.
pub(crate) const DEVICE_FLOW: &str = "urn:ietf:params:oauth:grant-type:device_code";

pub(crate) fn stories() -> Vec<Story> {
    let mut stories = vec![
        Story::new(
            "self_registration::the_typescript_sdk_registers_itself_both_ways",
            sdk,
        ),
        Story::new(
            "self_registration::the_inspector_registers_itself_both_ways",
            inspector,
        ),
        Story::new("self_registration::closed_scopes_stay_closed", closed),
        Story::new(
            "self_registration::a_new_scope_is_closed_before_it_gives_anything",
            new_scope,
        ),
    ];
    stories.extend(elsewhere::stories());
    stories.extend(ending::stories());
    stories.extend(posing::stories());
    stories
}

/// Told the address of the server and nothing else, a client registers itself, signs a user in, and calls a tool through
/// the gate; and so does one that has a document.
async fn sdk(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "selfreg-sdk", &rules("echo", "get-sum")).await?;
    let lab = &scene.lab;
    let steps = json!([["call", "echo", { "message": "hello" }]]);
    let (url, login_page) = (lab.front.resource(), lab.login_page());
    let mut ids = BTreeSet::new();
    for version in [1, 2] {
        let name = format!("client-{version}");
        let document = scene
            .documents
            .publish(ALLOWED, &name, &scene.callback, &json!({}));
        for identity in [Identity::Nobody, Identity::Document(&document)] {
            lab.front.clear();
            let sdk = Sdk {
                scripts: &lab.scripts,
                version,
                pin: None,
                url: &url,
                client: (identity, &scene.callback),
                login_page: &login_page,
            };
            let (ended, said) = sdk.run(&steps, &lab.browser()?).await?;
            let [Said::Granted(scopes), called] = &said[..] else {
                bail!("{version} {identity:?}: {said:#?} {}", ended.printed);
            };
            // Without `scope` in its document it gets what the realm gives every client besides.
            let usual = scopes
                .iter()
                .all(|scope| [READ, "profile", "email"].contains(&scope.as_str()));
            ensure!(scopes.contains(READ) && usual, "{scopes:?}");
            ensure!(*called == gave("call echo", json!("Echo: hello")), "{called:?}");
            let login = only_login(&ended)?;
            ensure!(
                login.consent.as_ref().is_some_and(|asked| !asked.is_empty()),
                "{version} {identity:?}: the user was not asked: {login:?}"
            );
            found_its_way(&lab.front)?;
            ids.insert(login.asked("client_id").to_owned());
        }
    }
    ensure!(ids.len() == 4, "{ids:?}");
    scene.lab.finish().await
}

/// The same with an Inspector, which remembers who it is from one run to the next.
async fn inspector(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "selfreg-inspector", &rules("echo", "get-sum")).await?;
    let lab = &scene.lab;
    let document = scene
        .documents
        .publish(ALLOWED, "inspector", &scene.callback, &json!({}));
    let (url, login_page) = (lab.front.resource(), lab.login_page());
    for (home, identity) in [
        ("registered", Identity::Nobody),
        ("documented", Identity::Document(&document)),
    ] {
        let client = (identity, scene.callback.as_str());
        let inspector = Inspector::of(&lab.scripts, home, &url, client, &login_page)?;
        let (ended, tools) = inspector
            .run("list", &["--method", "tools/list"], &lab.browser()?)
            .await?;
        let login = only_login(&ended)?;
        ensure!(
            login.consent.as_ref().is_some_and(|asked| !asked.is_empty()),
            "{home}: the user was not asked: {login:?}"
        );
        let is_document = login.asked("client_id") == document;
        ensure!(is_document == (home == "documented"), "{home}: {login:?}");
        ensure!(tool_names(&tools) == ["echo"], "{tools}");
        let (ended, answer) = inspector
            .run("echo", &call("echo", "message=hello"), &lab.browser()?)
            .await?;
        ensure!(
            ended.code == Some(0) && answer["content"][0]["text"] == "Echo: hello",
            "{}",
            ended.printed
        );
        // It is not even told that there is another.
        let (ended, _) = inspector
            .run("sum", &call("get-sum", "a=2"), &lab.browser()?)
            .await?;
        ensure!(
            ended.code == Some(5) && ended.printed.contains("tool_not_found"),
            "{}",
            ended.printed
        );
        found_its_way(&lab.front)?;
        lab.front.clear();
    }
    scene.lab.finish().await
}

/// The arguments with which an Inspector calls a tool.
fn call<'a>(tool: &'a str, argument: &'a str) -> [&'a str; 6] {
    [
        "--method",
        "tools/call",
        "--tool-name",
        tool,
        "--tool-arg",
        argument,
    ]
}

/// Whatever a document or a registration says, and whenever it is read: only what is open can be had.
async fn closed(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "selfreg-closed", &json!([])).await?;
    let everything = [&CLOSED[..], &[READ, WRITE]].concat().join(" ");
    let greedy = json!({ "scope": everything });
    let document = scene
        .documents
        .publish(ALLOWED, "greedy", &scene.callback, &greedy);
    scene.must_get(&document, READ).await?;
    let refused = async || {
        for scope in CLOSED.iter().chain(&[WRITE]) {
            scene.must_not_get(&document, scope).await?;
            scene.must_not_get(&document, &format!("{READ} {scope}")).await?;
        }
        anyhow::Ok(())
    };
    refused().await?;
    ensure!(
        scene.documents.reads(&document) == 1,
        "it was read again too early"
    );
    let realm = scene.env().realm();
    let client = realm.find_client(&document).await?.context("no client")?;
    let has = client["optionalClientScopes"].to_string();
    ensure!(
        CLOSED.iter().all(|scope| has.contains(scope)),
        "the premise of this story: {has}"
    );

    // One that asked for nothing asks for everything when it is read again.
    let modest = scene
        .documents
        .publish(ALLOWED, "modest", &scene.callback, &json!({}));
    let tokens = scene.must_get(&modest, READ).await?;
    let refresh = tokens.refresh_token.context("it got no refresh token")?;
    scene
        .documents
        .publish(ALLOWED, "modest", &scene.callback, &greedy);
    for id in [&document, &modest] {
        scene.expire(id).await?;
        scene.must_get(id, READ).await?;
        ensure!(scene.documents.reads(id) == 2, "{id} was not read again");
    }
    refused().await?;
    for scope in CLOSED {
        scene.must_not_get(&modest, scope).await?;
        scene.refreshed_gains_nothing(&modest, &refresh, scope).await?;
    }
    // Who names no scope gets none of these either.
    for id in [&document, &modest] {
        scene.gets_no_more_than_is_open(id).await?;
    }

    not_let_in(&scene).await?;
    by_hand(&scene).await?;
    for scope in CLOSED {
        let mut client = scene.native();
        client["scope"] = json!(scope);
        let (status, answer) = scene.register("openid-connect", &client).await?;
        ensure!(status == StatusCode::FORBIDDEN, "{scope}: {status} {answer}");
    }
    scene.lab.operator.stop().await
}

/// Who comes from elsewhere, wants to send users elsewhere, or wants a grant that nobody looks into.
async fn not_let_in(scene: &Scene) -> anyhow::Result<()> {
    let realm = scene.env().realm();
    let device = json!({ "grant_types": ["authorization_code", DEVICE_FLOW] });
    let elsewhere = json!({ "redirect_uris": [scene.callback, "https://evil.example.com/callback"] });
    for (host, name, more) in [
        (NOT_ALLOWED, "stranger", json!({})),
        (ALLOWED, "device", device.clone()),
        (ALLOWED, "elsewhere", elsewhere),
    ] {
        let id = scene.documents.publish(host, name, &scene.callback, &more);
        let error = scene
            .tokens(&id, READ)
            .await
            .err()
            .with_context(|| format!("{name} was let in"))?;
        ensure!(
            error.to_string().contains("the login ends at a page"),
            "{name}: {error:#}"
        );
        ensure!(realm.find_client(&id).await?.is_none(), "{name} is there");
    }
    let mut by_device = scene.native();
    by_device["grant_types"] = device["grant_types"].clone();
    let mut evil = scene.native();
    evil["redirect_uris"] = json!(["https://evil.example.com/callback"]);
    for (client, expected) in [
        (by_device, StatusCode::BAD_REQUEST),
        (evil, StatusCode::FORBIDDEN),
    ] {
        let (status, answer) = scene.register("openid-connect", &client).await?;
        ensure!(status == expected, "{client}: {status} {answer}");
    }
    Ok(())
}

/// A client that an administrator made and gave a closed scope has it only as one whom he trusts.
async fn by_hand(scene: &Scene) -> anyhow::Result<()> {
    let admin = scene.env().realm().admin();
    let client = json!({
        "clientId": "by-hand", "protocol": "openid-connect", "publicClient": true, "redirectUris": [scene.callback],
        "fullScopeAllowed": false, "defaultClientScopes": ["basic"], "optionalClientScopes": ["vault:use"],
    });
    let id = admin.create("/clients", &client).await?;
    scene.must_not_get("by-hand", "vault:use").await?;
    let trusted = json!({ "attributes": { "mcpauth.trusted": "true" } });
    admin.put(&format!("/clients/{id}"), &trusted).await?;
    scene
        .tokens("by-hand", "vault:use")
        .await?
        .context("it is trusted")
        .map(drop)
}

/// Keycloak takes no policy that names a scope which does not exist. So a scope comes to be without its audience, is
/// closed, and only then gets that; a document that names it long before gains nothing.
async fn new_scope(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "selfreg-new-scope", &json!([])).await?;
    let env = scene.env();
    let early = json!({ "scope": format!("{READ} later:use") });
    let document = scene.documents.publish(ALLOWED, "early", &scene.callback, &early);
    scene.must_get(&document, READ).await?;
    env.proxy().clear();
    env.apply(&server(env, "later")).await?;
    let later = ("McpServer", env.namespace(), "later");
    ready(env, later, SOON).await?;
    let scope_and_policy =
        |path: &str| path.contains("/client-scopes") || path.ends_with("/client-policies/policies");
    let writes: Vec<_> = env
        .proxy()
        .calls()
        .into_iter()
        .filter(|call| {
            call.method != Method::GET && scope_and_policy(call.path()) && !call.path().contains("/clients/")
        })
        .collect();
    let kinds: Vec<_> = writes
        .iter()
        .map(|call| {
            (
                call.method.as_str(),
                call.path().rsplit('/').next().unwrap_or_default(),
            )
        })
        .collect();
    ensure!(
        kinds.starts_with(&[("POST", "client-scopes"), ("PUT", "policies"), ("POST", "models")]),
        "{kinds:?}"
    );
    scene.expire(&document).await?;
    scene.must_get(&document, READ).await?;
    scene.must_not_get(&document, "later:use").await?;

    // Opened, it can be had; closed again, it cannot.
    let mut open = server(env, "later");
    open["spec"]["allowedClients"] = json!([{ "selfRegistered": true }]);
    env.apply(&open).await?;
    status_lists(&scene, "later:use", true).await?;
    let tokens = scene
        .tokens(&document, "later:use")
        .await?
        .context("it is open")?;
    let token = scene.issuer.verify(&tokens.access_token).await?;
    ensure!(
        token.audiences() == ["https://later.example.com/mcp"],
        "{:?}",
        token.claims
    );
    env.apply(&server(env, "later")).await?;
    // What apply does not mention stays.
    env.kubectl()
        .must(&[
            "patch",
            "mcpserver",
            "later",
            "--namespace",
            env.namespace(),
            "--type=json",
            "--patch",
            r#"[{"op":"replace","path":"/spec/allowedClients","value":[]}]"#,
        ])
        .await?;
    status_lists(&scene, "later:use", false).await?;
    scene.must_not_get(&document, "later:use").await?;
    let refresh = tokens.refresh_token.context("it got no refresh token")?;
    let client = OAuthClient::public(&document);
    let refusal = scene.issuer.refresh(&client, &refresh, None).await?.refused()?;
    ensure!(refusal.error_description == "Request not allowed", "{refusal}");

    env.kubectl()
        .must(&["delete", "mcpserver", "later", "--namespace", env.namespace()])
        .await?;
    env.wait_gone("mcpserver", env.namespace(), "later", SOON).await?;
    let policies = env.realm().admin().get("/client-policies/policies").await?;
    ensure!(!policies.to_string().contains("later:use"), "{policies}");
    env.realm()
        .admin()
        .put(
            "/client-policies/policies",
            &json!({ "policies": policies["policies"] }),
        )
        .await?;
    scene.lab.operator.stop().await
}

/// Waits until the AuthorizationServer says that a scope is open, or not.
async fn status_lists(scene: &Scene, scope: &str, listed: bool) -> anyhow::Result<()> {
    use mcp_auth_e2e::wait::{Seen, wait_for};
    let env = scene.env();
    wait_for(&format!("{scope} to be listed: {listed}"), SOON, async || {
        let main = env
            .get("AuthorizationServer", env.namespace(), "main")
            .await?
            .unwrap_or_default();
        let scopes = &main["status"]["clientRegistration"]["scopes"];
        let has = scopes
            .as_array()
            .is_some_and(|scopes| scopes.contains(&json!(scope)));
        Ok(if has == listed {
            Seen::Done(())
        } else {
            Seen::NotYet(main["status"].to_string())
        })
    })
    .await
}
