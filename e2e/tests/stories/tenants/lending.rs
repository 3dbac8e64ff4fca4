//! Scopes that a server keeps to itself.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{samples, story::StoryEnv, world::World};
use serde_json::{Value, json};

use super::{claiming, named, of};
use crate::{
    fixtures::{SOON, apply_all, because, machine, ready, server},
    inventory::token_for,
};

/// A client, what its `AccessGranted` says, and what it gets and does not get.
struct Asker<'a> {
    client: Value,
    condition: (&'a str, &'a str),
    message: String,
    gets: &'a [&'a str],
    lacks: &'a [&'a str],
}

/// Its token endpoint is asked for everything that it gets, and for everything that it does not.
async fn check(env: &StoryEnv, asker: &Asker<'_>) -> anyhow::Result<()> {
    let (kind, namespace, name) = named(&asker.client);
    let (status, reason) = asker.condition;
    let condition = because(env, (kind, namespace, name), ("AccessGranted", status, reason)).await?;
    ensure!(condition["message"] == asker.message.as_str(), "{condition}");
    because(
        env,
        (kind, namespace, name),
        ("CredentialsReady", "True", "Proved"),
    )
    .await?;
    let secret = format!("{name}-mcp-client");
    let scope = samples::secret(env, namespace, &secret)
        .await?
        .remove("scope")
        .context("no scope")?;
    ensure!(
        scope == asker.gets.join(" "),
        "{name} is told the scope {scope:?}"
    );
    if reason == "NotAllowed" {
        let status = env.get(kind, namespace, name).await?.unwrap_or_default();
        ensure!(status["status"]["granted"].is_null(), "{}", status["status"]);
    }

    let client = samples::oauth_client(env, namespace, &secret).await?;
    let registered = env.realm().find_client(client.id()).await?.context("no client")?;
    let scopes = |field: &str| -> BTreeSet<String> {
        let list = registered[field].as_array().into_iter().flatten();
        list.filter_map(|scope| scope.as_str().map(str::to_owned))
            .collect()
    };
    let texts = |list: &[&str]| {
        list.iter()
            .map(|text| (*text).to_owned())
            .collect::<BTreeSet<_>>()
    };
    ensure!(
        scopes("optionalClientScopes") == texts(asker.gets),
        "{name} has {:?}",
        scopes("optionalClientScopes")
    );
    ensure!(
        scopes("defaultClientScopes") == texts(&["basic", "service_account"]),
        "{name} has {:?}",
        scopes("defaultClientScopes")
    );
    let issuer = env.issuer().await?;
    for scope in asker.gets {
        token_for(env, &client, scope, RESOURCE).await?;
    }
    for scope in asker.lacks {
        let refused = issuer.client_credentials(&client, Some(scope)).await?.refused()?;
        ensure!(
            refused.error == "invalid_scope",
            "{name} asks for {scope}: {refused}"
        );
    }
    let bare = issuer.client_credentials(&client, None).await?.granted()?;
    let bare = issuer.verify(&bare.access_token).await?;
    ensure!(bare.audiences().is_empty(), "{}", bare.claims);
    Ok(())
}

/// Of the server `victim`.
const RESOURCE: &str = "https://victim.example.com/mcp";

pub(super) async fn kept_to_itself(world: Arc<World>) -> anyhow::Result<()> {
    let mut env = StoryEnv::new(&world, "tenants-lending").await?;
    let tenant = env.add_namespace("tenant").await?;
    let operator = env.start_operator_with(&env.operator_options()).await?;
    let mut home = env.authorization_server("main");
    home["spec"]["grants"] = json!([{
        "namespaces": { "from": "All" },
        "servers": { "hosts": ["*"], "scopePrefixes": [""] },
        "clients": {},
    }]);
    let own = |server: Value| of(env.namespace(), (env.namespace(), "main"), server);
    let mut victim = claiming(
        own(server(&env, "victim")),
        RESOURCE,
        &["victim:read", "victim:write"],
    );
    victim["spec"]["allowedClients"] = json!([{
        "namespaces": {
            "from": "Selector",
            "selector": { "matchLabels": { "kubernetes.io/metadata.name": tenant } },
        },
        "names": ["friend"],
        "scopes": ["victim:read"],
    }]);
    let closed = own(server(&env, "closed"));
    let first = [home, victim, closed];
    apply_all(&env, &first).await?;
    for object in &first {
        ready(&env, named(object), SOON).await?;
    }

    let askers = askers(&env, &tenant);
    let mut objects: Vec<_> = askers.iter().map(|asker| asker.client.clone()).collect();
    objects.push(lender(&env, &tenant));
    apply_all(&env, &objects).await?;
    let lender = because(
        &env,
        ("McpServer", &tenant, "lender"),
        ("Accepted", "False", "AlreadyHeld"),
    )
    .await?;
    ensure!(
        lender["message"] == "The scope closed:use is held by another namespace: choose another name",
        "{lender}"
    );
    for asker in &askers {
        check(&env, asker).await?;
    }
    let audience = env.realm().find_client("https://lender.example.com/mcp").await?;
    ensure!(audience.is_none(), "the lender is at Keycloak");
    opened(&env, &tenant).await?;
    operator.stop().await
}

/// A server that declares the scope of another one as its own.
fn lender(env: &StoryEnv, tenant: &str) -> Value {
    let server = of(tenant, (env.namespace(), "main"), server(env, "lender"));
    claiming(server, "https://lender.example.com/mcp", &["closed:use"])
}

fn askers<'a>(env: &StoryEnv, tenant: &str) -> Vec<Asker<'a>> {
    let space = env.namespace();
    let asking = |name: &str, namespace: &str, server: &str, scopes: &[&str]| {
        let mut client = of(tenant, (space, "main"), machine(env, name, &[]));
        let server = json!({ "namespace": namespace, "name": server });
        client["spec"]["access"] = json!([{ "server": server, "scopes": scopes }]);
        client
    };
    let refused = |server: &str, scopes: &str| {
        format!(
            "McpServer {space}/{server} does not allow {scopes}: ask its team for an entry in allowedClients"
        )
    };
    // Whether it exists or not.
    let closed = |server: &str, scopes: &str| {
        format!(
            "Nobody lets this client use McpServer {space}/{server} ({scopes}) at this AuthorizationServer: ask its team for an entry in allowedClients"
        )
    };
    vec![
        Asker {
            client: asking("friend", space, "victim", &["victim:read", "victim:write"]),
            condition: ("False", "ScopesRefused"),
            message: refused("victim", "victim:write"),
            gets: &["victim:read"],
            lacks: &["victim:write", "closed:use", "victim:read victim:write"],
        },
        Asker {
            client: asking("stranger", space, "victim", &["victim:read", "victim:write"]),
            condition: ("False", "NotAllowed"),
            message: closed("victim", "victim:read, victim:write"),
            gets: &[],
            lacks: &["victim:read", "victim:write"],
        },
        Asker {
            client: asking("greedy", space, "closed", &["closed:use"]),
            condition: ("False", "NotAllowed"),
            message: closed("closed", "closed:use"),
            gets: &[],
            lacks: &["closed:use", "offline_access", "profile", "microprofile-jwt"],
        },
        Asker {
            client: asking("early", space, "later", &["later:use"]),
            condition: ("False", "NotAllowed"),
            message: closed("later", "later:use"),
            gets: &[],
            lacks: &["later:use"],
        },
        Asker {
            client: asking("borrower", tenant, "lender", &["closed:use"]),
            condition: ("Unknown", "ServerNotReady"),
            message: format!("McpServer {tenant}/lender has not registered closed:use yet"),
            gets: &[],
            lacks: &["closed:use"],
        },
    ]
}

/// Once its server opens it, or comes to be and is open, the scope is there: nothing else stood in the way. Nobody else
/// gets it by that.
async fn opened(env: &StoryEnv, tenant: &str) -> anyhow::Result<()> {
    for (name, client) in [("closed", "greedy"), ("later", "early")] {
        let mut opened = of(env.namespace(), (env.namespace(), "main"), server(env, name));
        opened["spec"]["allowedClients"] = json!([{ "namespaces": { "from": "All" }, "names": [client] }]);
        env.apply(&opened).await?;
        ready(env, ("McpClient", tenant, client), SOON).await?;
        let client = samples::oauth_client(env, tenant, &format!("{client}-mcp-client")).await?;
        let resource = format!("https://{name}.example.com/mcp");
        token_for(env, &client, &format!("{name}:use"), &resource).await?;
    }
    let borrower = samples::oauth_client(env, tenant, "borrower-mcp-client").await?;
    let issuer = env.issuer().await?;
    let refused = issuer
        .client_credentials(&borrower, Some("closed:use"))
        .await?
        .refused()?;
    ensure!(refused.error == "invalid_scope", "{refused}");
    Ok(())
}
