//! Clients that would pass for others, or get past what looks at them.

use std::sync::Arc;

use anyhow::{Context, ensure};
use http::StatusCode;
use mcp_auth_e2e::{
    oauth::{Answer, OAuthClient},
    runner::Story,
    world::World,
};
use serde_json::{Value, json};

use super::{
    DEVICE_FLOW,
    setup::{ALLOWED, Scene},
};
use crate::{
    clients::setup::READ,
    fixtures::{SOON, because, machine, ready},
    users::browser,
};

/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "self_registration::a_document_may_name_the_device_flow_where_nobody_has_it",
            device_flow,
        ),
        Story::new(
            "self_registration::nobody_passes_for_a_client_of_the_operator",
            forged,
        ),
    ]
}

/// As that of VS Code does. What is asked for by that flow no policy sees, so it is refused to all, closed scopes or not.
async fn device_flow(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "selfreg-device-flow", &json!([])).await?;
    let env = scene.env();
    let television = json!({
        "clientId": "television", "protocol": "openid-connect", "publicClient": true, "fullScopeAllowed": false,
        "defaultClientScopes": ["basic"], "optionalClientScopes": [READ],
        "attributes": { "oauth2.device.authorization.grant.enabled": "true" },
    });
    env.realm().admin().create("/clients", &television).await?;
    by_device(&scene, "television", READ).await?.granted()?;

    let main = ("AuthorizationServer", env.namespace(), "main");
    let patch = r#"{"spec":{"clientRegistration":{"refuseDeviceFlow":true}}}"#;
    let name = [
        "patch",
        "authorizationserver",
        "main",
        "--namespace",
        env.namespace(),
    ];
    let how = ["--type=merge", "--patch", patch];
    env.kubectl().must(&[&name[..], &how].concat()).await?;
    env.wait_condition(main, ("Accepted", "True"), SOON).await?;
    let more = json!({
        "scope": format!("{READ} vault:use"),
        "grant_types": ["authorization_code", DEVICE_FLOW],
    });
    let document = scene.documents.publish(ALLOWED, "code", &scene.callback, &more);
    scene.must_get(&document, READ).await?;
    scene.must_not_get(&document, "vault:use").await?;
    for (client, scope) in [(document.as_str(), "vault:use"), ("television", READ)] {
        let refusal = by_device(&scene, client, scope).await?.refused()?;
        ensure!(
            refusal.error_description == "Request not allowed",
            "{client}: {refusal}"
        );
    }
    scene.lab.operator.stop().await
}

/// What a device gets for which alice opens the page, signs in, and consents.
async fn by_device(scene: &Scene, client_id: &str, scope: &str) -> anyhow::Result<Answer> {
    let env = scene.env();
    let http = env.world().authority().http_client()?.build()?;
    let url = format!("{}/protocol/openid-connect/auth/device", scene.issuer.url());
    let form = [
        ("client_id", client_id),
        ("scope", scope),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let asked: Value = http.post(url).form(&form).send().await?.json().await?;
    let text = |name: &str| {
        asked[name]
            .as_str()
            .with_context(|| format!("no {name}: {asked}"))
    };
    browser(env)?.follow(text("verification_uri_complete")?).await?;
    let form = [
        ("grant_type", DEVICE_FLOW),
        ("device_code", text("device_code")?),
        ("code_verifier", VERIFIER),
    ];
    let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let client = OAuthClient::public(client_id);
    scene.issuer.token(&client, form.to_vec()).await
}

/// Keycloak's own endpoint lets a client choose its id, its internal id and its attributes. A mark of the operator it
/// refuses; and who takes the place of a client that is yet to come has nothing of it afterwards.
async fn forged(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "selfreg-forged", &json!([])).await?;
    let env = scene.env();
    let id = format!("{}.{}.victim", env.namespace(), env.namespace());
    let forged = |attributes: Value| {
        json!({
            "clientId": id, "protocol": "openid-connect", "redirectUris": [scene.callback], "attributes": attributes,
        })
    };
    let mark = json!({
        "mcpauth.managed": "true", "mcpauth.installation": env.namespace(), "mcpauth.kind": "McpClient",
        "mcpauth.object": format!("{}/victim", env.namespace()),
    });
    let (status, answer) = scene.register("default", &forged(mark)).await?;
    ensure!(status == StatusCode::BAD_REQUEST, "{status} {answer}");
    let trusted = forged(json!({ "mcpauth.trusted": "true" }));
    let (status, answer) = scene.register("default", &trusted).await?;
    ensure!(status == StatusCode::BAD_REQUEST, "{status} {answer}");
    ensure!(env.realm().find_client(&id).await?.is_none(), "it is there");

    // Without a mark it is somebody else's, and in the way.
    let (status, answer) = scene.register("default", &forged(json!({}))).await?;
    ensure!(status == StatusCode::CREATED, "{status} {answer}");
    let token = answer["registrationAccessToken"]
        .as_str()
        .context("no token")?
        .to_owned();
    env.apply(&machine(env, "victim", &["vault"])).await?;
    let victim = ("McpClient", env.namespace(), "victim");
    because(env, victim, ("Accepted", "False", "NotAdopted")).await?;

    // With the platform's consent it becomes the operator's, and the token by which it registered ends.
    let read = async || {
        let url = format!("{}/clients-registrations/default/{id}", scene.issuer.url());
        let http = env.world().authority().http_client()?.build()?;
        anyhow::Ok(http.get(url).bearer_auth(&token).send().await?.status())
    };
    ensure!(read().await? == StatusCode::OK, "the premise of this story");
    let consent = json!([{ "kind": "Client", "id": id, "namespace": env.namespace(), "name": "victim" }]);
    let patch = json!({ "spec": { "adoption": consent } }).to_string();
    env.kubectl()
        .must(&[
            "patch",
            "authorizationserver",
            "main",
            "--namespace",
            env.namespace(),
            "--type=merge",
            "--patch",
            &patch,
        ])
        .await?;
    ready(env, victim, SOON).await?;
    let status = read().await?;
    ensure!(
        status == StatusCode::UNAUTHORIZED,
        "it still reads the client: {status}"
    );
    scene.lab.operator.stop().await
}
