//! Tokens for the server itself, in place of the caller's.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::try_join_all;
use mcp_auth_e2e::{gate::http1::Message, run_folder::RunFolder};
use serde_json::{Value, json};

use super::{
    case::PING,
    request::{post, status},
    scene::{Face, RESOURCE, Scene},
};

/// The claims of the token that the server got.
fn received(request: &Message) -> anyhow::Result<Value> {
    let header = request
        .value("authorization")
        .context("the server got no token")?;
    let payload = header
        .split('.')
        .nth(1)
        .context("the server got no token of three parts")?;
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?)
}

/// Through every face the server gets the exchanged token and never the caller's; one exchange serves all requests of a
/// token, and no other token.
pub(crate) async fn the_server_gets_its_own_token(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let exchange = json!({"exchanges": [{
        "name": "reports",
        "delivery": "Header",
        "audience": "https://reports.example",
        "scopes": [{"name": "reports:read"}, {"name": "reports:write", "requires": ["notes:write"]}],
    }]});
    let client = BTreeMap::from([
        ("client-id", RESOURCE.to_owned()),
        ("client-secret", format!("{:x}", rand::random::<u128>())),
    ]);
    let scene = Scene::start_as(&run, "exchange", &exchange, &[], &client).await?;
    for (number, face) in [Face::Proxy, Face::Envoy, Face::Traefik].into_iter().enumerate() {
        let front = scene.front(face).await?;
        let token = |scopes| scene.issuer.sign(&scene.issuer.claims(RESOURCE, scopes)?);
        let (reader, writer) = (token("mcp:use")?, token("mcp:use notes:write")?);
        let before = scene.upstream.requests().len();
        let requests = [post(&reader, &[], PING), post(&writer, &[], PING)];
        let many = (0..50).map(|n| status(front.address, &requests[n % 2]));
        let statuses = try_join_all(many).await?;
        ensure!(
            statuses.iter().all(|status| *status == 200),
            "{face:?}: {statuses:?}"
        );
        let exchanges = scene.issuer.exchanges();
        ensure!(
            exchanges.len() == 2 * (number + 1),
            "{face:?}: {} exchanges",
            exchanges.len()
        );
        for request in scene.upstream.requests().split_off(before) {
            let claims = received(&request)?;
            ensure!(claims["aud"] == "https://reports.example", "{face:?}: {claims}");
            let bytes = request.bytes();
            for caller in [&reader, &writer] {
                let signature = caller.rsplit('.').next().unwrap_or_default().as_bytes();
                let is_there = bytes.windows(signature.len()).any(|part| part == signature);
                ensure!(!is_there, "{face:?}: the server got the caller's token");
            }
        }
        let asked = exchanges.iter().flatten().filter(|(name, _)| name == "scope");
        let asked: Vec<&str> = asked.map(|(_, value)| value.as_str()).collect();
        ensure!(
            asked.contains(&"reports:read") && asked.contains(&"reports:read reports:write"),
            "{asked:?}"
        );
    }
    Ok(())
}
