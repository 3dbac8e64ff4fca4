//! The demo: the main job on real parts, told as it happens.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use secrecy::SecretString;

use crate::{
    interrupt,
    oauth::{Exchange, Issuer, LoginRequest, OAuthClient, VerifiedToken},
    progress, samples,
    story::StoryEnv,
    world::World,
};

const READY: Duration = Duration::from_secs(90);
const USER: &str = "alice";

/// Starts everything, shows the main job, and stays up until Ctrl-C unless `once`.
///
/// # Errors
/// When anything does not work as the demo says it does.
pub async fn run(once: bool) -> anyhow::Result<()> {
    let world = Arc::new(World::start().await?);
    let shown = show(&world, once).await;
    let stopped = world.stop().await;
    shown.and(stopped)
}

async fn show(world: &Arc<World>, once: bool) -> anyhow::Result<()> {
    let env = StoryEnv::new(world, samples::PLATFORM).await?;
    for team in samples::TEAMS {
        env.kubectl().must(&["create", "namespace", team]).await?;
    }
    say("starting the operator under the shipped roles");
    let operator = env.start_operator_with(&samples::operator_options(&env)).await?;
    say("kubectl apply of config/samples (the address of the authorization server is this Keycloak's)");
    samples::apply(&env).await?;
    samples::wait_until_ready(&env, READY, |object, after| {
        say(&format!("Ready after {:4.1} s  {object}", after.as_secs_f64()));
    })
    .await?;
    print(&format!(
        "\n$ kubectl get mcp-auth -A\n{}",
        env.kubectl().must(&["get", "mcp-auth", "-A"]).await?
    ));

    let issuer = env.issuer().await?;
    machine_client(&env, &issuer).await?;
    user_and_exchange(&env, &issuer).await?;
    metadata(&env).await?;
    say("verdict: everything above is as declared");
    if !once {
        print(&format!(
            "\nIt stays up for you to look around:\n  export KUBECONFIG={}\n  kubectl get mcp-auth -A; kubectl explain mcpclient.spec\n  Keycloak: {}\nCtrl-C stops everything.",
            env.cluster().kubeconfig().display(),
            world.keycloak().url(),
        ));
        interrupt::requested().await?;
    }
    operator.stop().await
}

/// A client without a user: its token, and a scope that it does not get.
async fn machine_client(env: &StoryEnv, issuer: &Issuer) -> anyhow::Result<()> {
    say("McpClient team-a/reporter: a token with the credential in Secret team-a/reporter-mcp-client");
    let reporter = samples::oauth_client(env, "team-a", "reporter-mcp-client").await?;
    let tokens = issuer
        .client_credentials(&reporter, Some("documents:read"))
        .await?
        .granted()?;
    let token = issuer.verify(&tokens.access_token).await?;
    claims(&token);
    ensure!(
        token.audiences() == ["https://documents.team-b.mcp.example.com/mcp"],
        "another audience"
    );
    let refused = issuer
        .client_credentials(&reporter, Some("documents:write"))
        .await?
        .refused()?;
    say(&format!(
        "the same client asks for documents:write, which it was not granted: {}",
        refused.error
    ));
    Ok(())
}

/// A user signs in, and the server that they call exchanges their token.
async fn user_and_exchange(env: &StoryEnv, issuer: &Issuer) -> anyhow::Result<()> {
    let password = "correct horse battery staple";
    env.realm().create_user(USER, password).await?;
    say("McpClient team-a/desktop: a user signs in on Keycloak's own pages (PKCE, consent)");
    let desktop = samples::oauth_client(env, "team-a", "desktop-mcp-client").await?;
    let request = LoginRequest {
        redirect_uri: "http://127.0.0.1:33418/callback".to_owned(),
        scope: "mcp.team-a.assistant".to_owned(),
        resource: Some("https://assistant.mcp.example.com/mcp".to_owned()),
        username: USER.to_owned(),
        password: SecretString::from(password.to_owned()),
    };
    let code = issuer.sign_in(&desktop, &request).await?.granted()?;
    let tokens = issuer.redeem(&desktop, &code).await?.granted()?;
    claims(&issuer.verify(&tokens.access_token).await?);

    let server = samples::oauth_client(env, "team-a", "assistant-mcp-auth").await?;
    for (policy, scope, audience) in [
        (
            "assistant-orders",
            "orders-api:read",
            "https://orders.internal.example.com",
        ),
        (
            "assistant-documents",
            "documents:read",
            "https://documents.team-b.mcp.example.com/mcp",
        ),
    ] {
        say(&format!(
            "TokenExchangePolicy team-a/{policy}: the assistant exchanges that token for {scope}"
        ));
        let exchanged = exchange(issuer, &server, &tokens.access_token, scope).await?;
        claims(&exchanged);
        ensure!(exchanged.audiences() == [audience], "another audience");
    }
    Ok(())
}

async fn exchange(
    issuer: &Issuer,
    server: &OAuthClient,
    subject: &SecretString,
    scope: &str,
) -> anyhow::Result<VerifiedToken> {
    let exchange = Exchange {
        subject_token: subject,
        scope: Some(scope),
        audience: None,
    };
    let tokens = issuer.exchange(server, &exchange).await?.granted()?;
    issuer.verify(&tokens.access_token).await
}

/// The published document, as any MCP client reads it.
async fn metadata(env: &StoryEnv) -> anyhow::Result<()> {
    say(
        "ConfigMap team-b/tickets-mcp-metadata, of the McpServer that the annotated Service became (RFC 9728)",
    );
    let path = "jsonpath={.data.oauth-protected-resource}";
    let document = env
        .kubectl()
        .must(&[
            "get",
            "configmap",
            "tickets-mcp-metadata",
            "-n",
            "team-b",
            "-o",
            path,
        ])
        .await?;
    let parsed: serde_json::Value = serde_json::from_str(&document).context("the document is not JSON")?;
    ensure!(
        parsed["authorization_servers"][0] == env.realm().issuer(),
        "another issuer"
    );
    print(&document);
    Ok(())
}

/// The claims that matter; never the token.
fn claims(token: &VerifiedToken) {
    let lifetime = token
        .lifetime()
        .map_or_else(|_| "?".to_owned(), |seconds| format!("{seconds} s"));
    print(&format!(
        "      typ   {}\n      iss   {}\n      sub   {}\n      azp   {}\n      aud   {}\n      scope {}\n      valid {lifetime}",
        token.typ.as_deref().unwrap_or("-"),
        token.text("iss"),
        token.text("sub"),
        token.text("azp"),
        token.audiences().join(" "),
        token.text("scope"),
    ));
}

fn say(line: &str) {
    progress::say(line);
}

#[expect(clippy::print_stdout, reason = "the demo shows what was made")]
fn print(text: &str) {
    println!("{text}");
}
