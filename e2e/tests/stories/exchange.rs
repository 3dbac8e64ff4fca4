//! Users sign in, their tokens are exchanged, and what is taken back is gone.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{
    oauth::{Exchange, LoginRequest},
    runner::Story,
    samples,
    story::StoryEnv,
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(40);

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "exchange::a_users_token_is_exchanged_as_the_policy_says_and_no_further",
            exchange,
        ),
        Story::new(
            "exchange::revoked_access_gives_no_audience_at_the_next_refresh",
            revoke,
        ),
        Story::new("deletion::each_kind_leaves_nothing_behind", deletion),
        Story::new(
            "tenants::a_namespace_without_a_grant_is_refused_and_nothing_is_written",
            tenants,
        ),
    ]
}

fn server(env: &StoryEnv, name: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": env.namespace(), "name": name},
        "spec": {"authorizationServerRef": {"name": "main"}, "resource": format!("https://{name}.example.com/mcp"),
                 "enforcement": {"mode": "External"}, "scopes": [{"name": format!("{name}:use"), "description": format!("Use {name}")}]},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn desktop(env: &StoryEnv, access: &Value) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
        "metadata": {"namespace": env.namespace(), "name": "desktop"},
        "spec": {
            "authorizationServerRef": {"name": "main"},
            "managed": {"grantTypes": ["authorization_code", "refresh_token"], "applicationType": "native",
                        "redirectUris": ["http://127.0.0.1/callback"], "authentication": {"method": "None"}},
            "access": access,
        },
    })
}

fn policy(env: &StoryEnv) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
        "metadata": {"namespace": env.namespace(), "name": "notes-to-archive"},
        "spec": {"serverRef": {"name": "notes"}, "mcpServerRef": {"name": "archive"},
                 "scopes": [{"name": "archive:use"}], "delivery": "Secret"},
    })
}

fn login(scope: &str, resource: &str) -> LoginRequest {
    LoginRequest {
        redirect_uri: "http://127.0.0.1:41234/callback".to_owned(),
        scope: scope.to_owned(),
        resource: Some(resource.to_owned()),
        username: "alice".to_owned(),
        password: SecretString::from("correct horse battery staple".to_owned()),
    }
}

async fn ready(env: &StoryEnv, kind: &str, name: &str) -> anyhow::Result<()> {
    env.wait_condition((kind, env.namespace(), name), ("Ready", "True"), SOON)
        .await
        .map(drop)
}

/// Two servers, of which `notes` may exchange for `archive`, and a client of `notes`.
async fn two_servers(world: &Arc<World>, name: &str) -> anyhow::Result<StoryEnv> {
    let env = StoryEnv::new(world, name).await?;
    env.realm()
        .create_user("alice", "correct horse battery staple")
        .await?;
    let open =
        json!({"allowedClients": [{"namespaces": {"from": "Same"}, "names": ["notes"], "exchange": true}]});
    for object in [
        env.authorization_server("main"),
        server(&env, "notes", &json!({})),
        server(&env, "archive", &open),
        desktop(&env, &json!([{"server": {"name": "notes"}}])),
    ] {
        env.apply(&object).await?;
    }
    Ok(env)
}

async fn exchange(world: Arc<World>) -> anyhow::Result<()> {
    let env = two_servers(&world, "exchange").await?;
    let operator = env.start_operator().await?;
    env.apply(&policy(&env)).await?;
    for (kind, name) in [
        ("McpClient", "desktop"),
        ("TokenExchangePolicy", "notes-to-archive"),
    ] {
        ready(&env, kind, name).await?;
    }
    let issuer = env.issuer().await?;
    let desktop = samples::oauth_client(&env, env.namespace(), "desktop-mcp-client").await?;
    let code = issuer
        .sign_in(&desktop, &login("notes:use", "https://notes.example.com/mcp"))
        .await?
        .granted()?;
    ensure!(
        code.consent
            .as_ref()
            .is_some_and(|asked| asked.iter().any(|text| text.contains("Use notes"))),
        "{:?}",
        code.consent
    );
    let tokens = issuer.redeem(&desktop, &code).await?.granted()?;
    let user = issuer.verify(&tokens.access_token).await?;
    ensure!(user.typ.as_deref() == Some("at+jwt"), "{:?}", user.typ);
    ensure!(
        user.audiences() == ["https://notes.example.com/mcp"],
        "{}",
        user.claims
    );

    let notes = samples::oauth_client(&env, env.namespace(), "notes-mcp-auth").await?;
    let ask = |scope| Exchange {
        subject_token: &tokens.access_token,
        scope: Some(scope),
        audience: None,
    };
    let exchanged = issuer.exchange(&notes, &ask("archive:use")).await?.granted()?;
    let exchanged = issuer.verify(&exchanged.access_token).await?;
    ensure!(
        exchanged.audiences() == ["https://archive.example.com/mcp"],
        "{}",
        exchanged.claims
    );
    ensure!(
        exchanged.scopes() == BTreeSet::from(["archive:use".to_owned()]),
        "{}",
        exchanged.claims
    );
    ensure!(exchanged.text("sub") == user.text("sub"), "another user");
    let refused = issuer.exchange(&notes, &ask("notes:use")).await?.refused()?;
    ensure!(
        refused.error == "invalid_scope",
        "a target without policy: {refused}"
    );

    env.kubectl()
        .must(&[
            "delete",
            "tokenexchangepolicy",
            "notes-to-archive",
            "-n",
            env.namespace(),
            "--timeout=30s",
        ])
        .await?;
    let over = issuer.exchange(&notes, &ask("archive:use")).await?.refused()?;
    ensure!(!over.error.is_empty(), "the exchange has ended");
    env.wait_gone("secret", env.namespace(), "notes-mcp-auth", SOON)
        .await?;
    operator.stop().await
}

async fn revoke(world: Arc<World>) -> anyhow::Result<()> {
    let env = two_servers(&world, "revoke").await?;
    let operator = env.start_operator().await?;
    ready(&env, "McpClient", "desktop").await?;
    let issuer = env.issuer().await?;
    let client = samples::oauth_client(&env, env.namespace(), "desktop-mcp-client").await?;
    let resource = "https://notes.example.com/mcp";
    let code = issuer
        .sign_in(&client, &login("notes:use", resource))
        .await?
        .granted()?;
    let tokens = issuer.redeem(&client, &code).await?.granted()?;
    let Some(refresh) = tokens.refresh_token else {
        anyhow::bail!("no refresh token")
    };
    let again = issuer
        .refresh(&client, &refresh, Some(resource))
        .await?
        .granted()?;
    ensure!(
        issuer.verify(&again.access_token).await?.audiences() == [resource],
        "refresh works"
    );
    let refresh = again.refresh_token.unwrap_or(refresh);

    env.apply(&desktop(&env, &json!([]))).await?;
    let condition = env
        .wait_condition(
            ("McpClient", env.namespace(), "desktop"),
            ("AccessGranted", "True"),
            SOON,
        )
        .await?;
    ensure!(condition["reason"] == "NothingRequested", "{condition}");
    let after = issuer.refresh(&client, &refresh, Some(resource)).await?;
    if let Ok(tokens) = after.granted() {
        let token = issuer.verify(&tokens.access_token).await?;
        ensure!(
            token.audiences().is_empty() && !token.scopes().contains("notes:use"),
            "{}",
            token.claims
        );
    }
    operator.stop().await
}

async fn deletion(world: Arc<World>) -> anyhow::Result<()> {
    let env = two_servers(&world, "deletion").await?;
    let operator = env.start_operator().await?;
    env.apply(&policy(&env)).await?;
    ready(&env, "TokenExchangePolicy", "notes-to-archive").await?;
    ready(&env, "McpClient", "desktop").await?;
    let id = samples::secret(&env, env.namespace(), "desktop-mcp-client").await?["client-id"].clone();
    // The AuthorizationServer first: it stays until nothing refers to it any more, and then goes by itself.
    env.kubectl()
        .must(&[
            "delete",
            "authorizationserver",
            "main",
            "-n",
            env.namespace(),
            "--wait=false",
        ])
        .await?;
    env.wait_condition(
        ("AuthorizationServer", env.namespace(), "main"),
        ("Ready", "Unknown"),
        SOON,
    )
    .await?;
    for kind in ["tokenexchangepolicy", "mcpclient", "mcpserver"] {
        env.kubectl()
            .must(&["delete", kind, "--all", "-n", env.namespace(), "--timeout=40s"])
            .await?;
    }
    env.wait_gone("authorizationserver", env.namespace(), "main", SOON)
        .await?;
    for gone in [
        id.as_str(),
        "https://notes.example.com/mcp",
        "https://archive.example.com/mcp",
    ] {
        ensure!(
            env.realm().find_client(gone).await?.is_none(),
            "{gone} is left at Keycloak"
        );
    }
    let scopes = env.realm().admin().get("/client-scopes").await?;
    ensure!(
        !scopes.to_string().contains("archive:use"),
        "a scope is left at Keycloak"
    );
    let journals = env
        .kubectl()
        .must(&["get", "secrets", "-n", env.operator_namespace(), "-o", "name"])
        .await?;
    ensure!(
        !journals.contains("mcpclient.")
            && !journals.contains("mcpserver.")
            && !journals.contains("authorizationserver."),
        "{journals}"
    );
    operator.stop().await
}

async fn tenants(world: Arc<World>) -> anyhow::Result<()> {
    let mut env = StoryEnv::new(&world, "tenants").await?;
    let tenant = env.add_namespace("stranger").await?;
    let mut home = env.authorization_server("main");
    home["spec"]["grants"] = json!([{"namespaces": {"from": "All"}, "clients": {"redirectHosts": ["app.example.com"]},
        "servers": {"hosts": ["ours.example.com"], "scopePrefixes": ["ours:"]}}]);
    env.apply(&home).await?;
    let operator = env.start_operator().await?;
    ready(&env, "AuthorizationServer", "main").await?;
    env.apply(&server(&env, "victim", &json!({}))).await?;
    ready(&env, "McpServer", "victim").await?;
    env.proxy().clear();

    let reference = json!({"namespace": env.namespace(), "name": "main"});
    let strangers = |kind: &str, name: &str, mut spec: Value| {
        spec["authorizationServerRef"] = reference.clone();
        if kind == "McpServer" {
            spec["enforcement"] = json!({"mode": "External"});
        }
        json!({"apiVersion": "mcpauth.dev/v1alpha1", "kind": kind, "metadata": {"namespace": tenant, "name": name}, "spec": spec})
    };
    let web = |uri: &str| json!({"managed": {"grantTypes": ["authorization_code"], "redirectUris": [uri]}});
    let cases = [
        (
            "McpServer",
            "host",
            json!({"resource": "https://theirs.example.com/mcp", "scopes": [{"name": "ours:x"}]}),
            "HostNotGranted",
            "grants[].servers.hosts",
        ),
        (
            "McpServer",
            "scope",
            json!({"resource": "https://ours.example.com/mcp", "scopes": [{"name": "theirs:x"}]}),
            "ScopeNotGranted",
            "scopePrefixes",
        ),
        (
            "McpClient",
            "redirect",
            web("https://evil.example.com/cb"),
            "RedirectHostNotGranted",
            "redirectHosts",
        ),
    ];
    for (kind, name, spec, reason, ask) in cases {
        env.apply(&strangers(kind, name, spec)).await?;
        let condition = env
            .wait_condition((kind, &tenant, name), ("Accepted", "False"), SOON)
            .await?;
        ensure!(condition["reason"] == reason, "{condition}");
        ensure!(
            condition["message"]
                .as_str()
                .is_some_and(|message| message.contains(ask)),
            "{condition}"
        );
    }
    ensure!(
        env.proxy().writes().is_empty(),
        "{:?}",
        env.proxy()
            .writes()
            .iter()
            .map(|call| call.target.clone())
            .collect::<Vec<_>>()
    );

    // Asking for a scope that its server keeps to itself gives a client without it.
    let spec = json!({"managed": {"grantTypes": ["client_credentials"]},
        "access": [{"server": {"namespace": env.namespace(), "name": "victim"}, "scopes": ["victim:use"]}]});
    env.apply(&strangers("McpClient", "greedy", spec)).await?;
    let condition = env
        .wait_condition(("McpClient", &tenant, "greedy"), ("AccessGranted", "False"), SOON)
        .await?;
    ensure!(
        condition["message"]
            .as_str()
            .is_some_and(|message| message.contains("victim:use")),
        "{condition}"
    );
    let id = samples::secret(&env, &tenant, "greedy-mcp-client").await?["client-id"].clone();
    let client = env.realm().find_client(&id).await?.unwrap_or_default();
    ensure!(
        !client["optionalClientScopes"].to_string().contains("victim:use"),
        "the scope was lent"
    );
    operator.stop().await
}
