//! What a client meets at the gate.

use anyhow::{Context, ensure};
use http::StatusCode;
use serde_json::{Value, json};

use super::{print, say};
use crate::{
    caller::{Caller, Reply},
    oauth::Issuer,
    samples,
    stand::Stand,
    story::StoryEnv,
};

/// A tool that everybody may call who may call the server, and one that needs a scope more.
const TOOL: &str = "echo";
const GUARDED: &str = "get-env";

/// From a refusal that says where to get a token to a call that needs a better one.
pub(super) async fn show(env: &StoryEnv, issuer: &Issuer, stand: &Stand) -> anyhow::Result<()> {
    let resource = stand.edge().resource();
    say(&format!(
        "McpServer team-b/everything: server-everything, which knows nothing of tokens, behind its gate at {resource}"
    ));
    let http = env.world().authority().http_client()?.no_proxy().build()?;
    let caller = Caller::new(http.clone(), &resource);
    let reply = caller.call("tools/list", json!({})).await?;
    told("tools/list without a token", &reply, StatusCode::UNAUTHORIZED)?;

    let metadata = reply
        .challenged("resource_metadata")
        .context("the challenge names no metadata")?;
    let document: Value = http.get(metadata).send().await?.json().await?;
    ensure!(document["resource"] == resource, "another resource: {document}");
    say("the metadata to which that leads (RFC 9728)");
    print(&format!("      {document}"));

    let agent = samples::oauth_client(env, "team-b", "agent-mcp-client").await?;
    let token = async |scope: &str| {
        let answer = issuer.client_credentials(&agent, Some(scope)).await?;
        anyhow::Ok(answer.granted()?.access_token)
    };
    let scope = scopes(&reply)?;
    say(&format!(
        "McpClient team-b/agent gets a token for what the challenge names: {scope}"
    ));
    let mut caller = caller.with_token(&token(scope).await?);
    caller.begin().await?;
    let tools = caller.tools().await?;
    ensure!(!tools.contains(&GUARDED.to_owned()), "{GUARDED} is listed");
    say(&format!(
        "tools/list, without what it may not call: {}",
        tools.join(" ")
    ));
    let reply = caller.tool(TOOL, json!({ "message": "hello" })).await?;
    ensure!(reply.message["result"]["content"].is_array(), "{reply}");
    told(&format!("tools/call {TOOL}"), &reply, StatusCode::OK)?;

    let reply = caller.tool(GUARDED, json!({})).await?;
    told(&format!("tools/call {GUARDED}"), &reply, StatusCode::FORBIDDEN)?;
    let scope = scopes(&reply)?;
    let reply = caller
        .with_token(&token(scope).await?)
        .tool(GUARDED, json!({}))
        .await?;
    ensure!(reply.message["result"]["content"].is_array(), "{reply}");
    told(
        &format!("the same with a token for {scope}"),
        &reply,
        StatusCode::OK,
    )
}

fn scopes(reply: &Reply) -> anyhow::Result<&str> {
    reply.challenged("scope").context("the challenge names no scope")
}

/// Shows an answer, which is to have this status.
fn told(what: &str, reply: &Reply, expected: StatusCode) -> anyhow::Result<()> {
    ensure!(reply.status == expected, "{what}: {reply}");
    say(&format!("{what}: {}", reply.status));
    if let Some(challenge) = reply.challenge() {
        print(&format!("      WWW-Authenticate: {challenge}"));
    }
    Ok(())
}
