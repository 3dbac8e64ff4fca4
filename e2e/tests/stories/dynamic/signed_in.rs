//! Who calls the server behind the gate with a token of oidc-provider: jobs, and users who sign in there.

use anyhow::{Context as _, ensure};
use http::StatusCode;
use mcp_auth_e2e::{
    caller::{Caller, Reply},
    oauth::{LoginRequest, OAuthClient, Tokens},
    samples,
};
use secrecy::SecretString;
use serde_json::json;

use super::samples::{ASSISTANT, Company, READY, USER, status};

const USE: &str = "everything:use";
const ENVIRONMENT: &str = "everything:environment";
const CALLBACK: &str = "http://127.0.0.1/callback";

/// A job gets a token with what is in its Secret, for what was granted to it and nothing else.
pub(super) async fn machines(company: &Company) -> anyhow::Result<()> {
    let (env, issuer) = (&company.env, &company.issuer);
    let everything = company.stand.edge().resource();
    let agent = samples::oauth_client(env, &company.team(1), "agent-mcp-client")
        .await?
        .with_basic();
    let data = samples::secret(env, &company.team(1), "agent-mcp-client").await?;
    ensure!(
        data["issuer"] == issuer.url() && data["resource"] == everything,
        "{:?}",
        data.keys()
    );
    ensure!(status(company, "McpClient", 1, "agent").await?["clientId"] == agent.id());
    let ask = async |scope: &str, resource: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", scope),
            ("resource", resource),
        ];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
        issuer.token(&agent, form.to_vec()).await
    };
    let token = ask(USE, &everything).await?.granted()?.access_token;
    is_for(company, &token, &everything, &[USE]).await?;
    may_use(company, &token).await?;
    let refused = ask("documents:read", &everything).await?.refused()?;
    ensure!(refused.error == "invalid_scope", "{refused}");
    // The server lets anybody have tokens of any audience, as long as there is nothing in them.
    let of_another = ask("", ASSISTANT).await?.granted()?.access_token;
    refuses(company, &of_another).await?;

    // The names in its Secret are those that its program expects.
    let data = samples::secret(env, &company.team(0), "scheduler-oauth").await?;
    let secret = SecretString::from(data["OAUTH_CLIENT_SECRET"].clone());
    let scheduler = OAuthClient::confidential(&data["OAUTH_CLIENT_ID"], secret).with_basic();
    let scope = format!("mcp.{}.assistant", company.team(0));
    let form = [
        ("grant_type", "client_credentials"),
        ("scope", &scope),
        ("resource", ASSISTANT),
    ];
    let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let token = issuer.token(&scheduler, form.to_vec()).await?.granted()?;
    is_for(company, &token.access_token, ASSISTANT, &[&scope]).await?;
    refuses(company, &token.access_token).await
}

/// Users sign in through clients that the operator has registered.
pub(super) async fn users(company: &Company) -> anyhow::Result<()> {
    let (team, everything) = (company.team(1), company.stand.edge().resource());
    // What no sample is: a program of users for the server behind the gate.
    let console = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
        "metadata": { "namespace": team, "name": "console" },
        "spec": {
            "authorizationServerRef": { "name": "company", "namespace": company.env.namespace() },
            "managed": {
                "applicationType": "native",
                "grantTypes": ["authorization_code", "refresh_token"],
                "redirectUris": [CALLBACK],
                "authentication": { "method": "None" },
            },
            "access": [{ "server": { "name": "everything" }, "scopes": [USE, ENVIRONMENT] }],
        },
    });
    company.env.apply(&console).await?;
    let named = ("McpClient", &*team, "console");
    company
        .env
        .wait_condition(named, ("Ready", "True"), READY)
        .await?;
    let console = samples::oauth_client(&company.env, &team, "console-mcp-client").await?;

    let tokens = signs_in(company, &console, USE, Some(&everything)).await?;
    let verified = is_for(company, &tokens.access_token, &everything, &[USE]).await?;
    ensure!(verified == USER.0, "{verified}");
    let mut caller = may_use(company, &tokens.access_token).await?;

    // The challenge says what to ask for, and with that the very same call succeeds.
    let reply = caller.tool("get-env", json!({})).await?;
    let wanted = reply.challenged("scope").context("no scope to ask for")?;
    let more = signs_in(company, &console, &format!("{USE} {wanted}"), Some(&everything)).await?;
    is_for(company, &more.access_token, &everything, &[USE, ENVIRONMENT]).await?;
    caller = caller.with_token(&more.access_token);
    let reply = caller.tool("get-env", json!({})).await?;
    ensure!(
        reply.status == StatusCode::OK && reply.message["result"].is_object(),
        "{reply}"
    );

    elsewhere(company, &console).await?;
    let arguments = ["delete", "mcpclient", "console", "-n", &team];
    company.env.kubectl().must(&arguments).await.map(drop)
}

/// Tokens that are for something else, and those who may have none for the server.
async fn elsewhere(company: &Company, console: &OAuthClient) -> anyhow::Result<()> {
    let (env, everything) = (&company.env, company.stand.edge().resource());
    let desktop = samples::oauth_client(env, &company.team(0), "desktop-mcp-client").await?;
    let scope = format!("mcp.{}.assistant", company.team(0));
    let assistant = signs_in(company, &desktop, &scope, Some(ASSISTANT)).await?;
    is_for(company, &assistant.access_token, ASSISTANT, &[&scope]).await?;
    refuses(company, &assistant.access_token).await?;

    // It asks for what another team gave to its own clients: it may not, and without that it can do nothing there.
    let refused = company
        .issuer
        .sign_in(&desktop, &request(USE, Some(&everything)))
        .await?
        .refused()?;
    ensure!(refused.error == "invalid_scope", "{refused}");
    let bare = signs_in(company, &desktop, &scope, Some(&everything)).await?;
    is_for(company, &bare.access_token, &everything, &[]).await?;
    let reply = caller(company)?
        .with_token(&bare.access_token)
        .call("tools/list", json!({}))
        .await?;
    lacks(&reply, USE)?;

    // Without a resource a token is no JWT, and says nothing of whom it is for.
    let opaque = signs_in(company, console, USE, None).await?;
    ensure!(company.issuer.verify(&opaque.access_token).await.is_err());
    refuses(company, &opaque.access_token).await?;

    let stranger = LoginRequest {
        password: SecretString::from("a guess"),
        ..request(USE, Some(&everything))
    };
    let end = company.issuer.sign_in(console, &stranger).await;
    let end = end.err().context("somebody signed in with a guess")?;
    ensure!(end.to_string().contains("Wrong name or password"), "{end:#}");
    Ok(())
}

fn request(scope: &str, resource: Option<&str>) -> LoginRequest {
    LoginRequest {
        redirect_uri: CALLBACK.to_owned(),
        scope: scope.to_owned(),
        resource: resource.map(str::to_owned),
        username: USER.0.to_owned(),
        password: SecretString::from(USER.1),
    }
}

/// A user signs in, is asked for consent, and the client redeems the code.
async fn signs_in(
    company: &Company,
    client: &OAuthClient,
    scope: &str,
    resource: Option<&str>,
) -> anyhow::Result<Tokens> {
    let code = company
        .issuer
        .sign_in(client, &request(scope, resource))
        .await?
        .granted()?;
    ensure!(code.consent.is_some(), "nobody was asked");
    company.issuer.redeem(client, &code).await?.granted()
}

/// The token is for this resource with these scopes. Gives whom it is about.
async fn is_for(
    company: &Company,
    token: &SecretString,
    resource: &str,
    scopes: &[&str],
) -> anyhow::Result<String> {
    let token = company.issuer.verify(token).await?;
    ensure!(token.typ.as_deref() == Some("at+jwt"), "{:?}", token.typ);
    ensure!(token.audiences() == [resource], "{}", token.claims);
    let expected = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    ensure!(token.scopes() == expected, "{}", token.claims);
    Ok(token.text("sub").to_owned())
}

fn caller(company: &Company) -> anyhow::Result<Caller> {
    let http = company
        .env
        .world()
        .authority()
        .http_client()?
        .no_proxy()
        .build()?;
    Ok(Caller::new(http, company.stand.edge().resource()))
}

/// With this token one tool can be called, and the one that needs another scope cannot. Gives the session.
async fn may_use(company: &Company, token: &SecretString) -> anyhow::Result<Caller> {
    let mut caller = caller(company)?.with_token(token);
    caller.begin().await?;
    let reply = caller.tool("echo", json!({ "message": "hello" })).await?;
    ensure!(
        reply.status == StatusCode::OK && reply.message["result"]["content"][0]["text"] == "Echo: hello",
        "{reply}"
    );
    lacks(&caller.tool("get-env", json!({})).await?, ENVIRONMENT)?;
    Ok(caller)
}

/// The call was refused for want of this scope.
fn lacks(reply: &Reply, scope: &str) -> anyhow::Result<()> {
    let wanted = reply.challenged("scope").unwrap_or_default();
    ensure!(
        reply.status == StatusCode::FORBIDDEN
            && reply.challenged("error") == Some("insufficient_scope")
            && wanted.split(' ').any(|wanted| wanted == scope),
        "{reply}"
    );
    Ok(())
}

/// The token is good for nothing here.
async fn refuses(company: &Company, token: &SecretString) -> anyhow::Result<()> {
    let reply = caller(company)?
        .with_token(token)
        .call("tools/list", json!({}))
        .await?;
    ensure!(
        reply.status == StatusCode::UNAUTHORIZED && reply.challenged("error") == Some("invalid_token"),
        "{reply}"
    );
    Ok(())
}
