//! What is taken away together with a grant.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{oauth::OAuthClient, samples, story::StoryEnv, world::World};
use serde_json::{Value, json};

use super::{claiming, in_order, named, of};
use crate::{
    fixtures::{Named, SOON, apply_all, because, machine, policy, ready, server},
    inventory::{Realm, becomes, token_for},
};

const NOTES: &str = "https://notes.example.com/mcp";
const API: &str = "https://orders.internal.example.com";

/// A tenant with all that a grant can give, and a client of the platform's own that uses the tenant's server.
struct Tenant {
    env: StoryEnv,
    namespace: String,
}

/// What must be the same again once the grant is given back.
struct Registered {
    realm: Realm,
    secrets: Vec<BTreeMap<String, String>>,
}

impl Tenant {
    async fn new(world: &Arc<World>) -> anyhow::Result<Self> {
        let mut env = StoryEnv::new(world, "tenants-loss").await?;
        let namespace = env.add_namespace("tenant").await?;
        let tenant = Self { env, namespace };
        tenant.label("tier=paid").await?;
        Ok(tenant)
    }

    async fn label(&self, label: &str) -> anyhow::Result<()> {
        self.env
            .kubectl()
            .must(&["label", "namespace", &self.namespace, label, "--overwrite"])
            .await
            .map(drop)
    }

    /// The AuthorizationServer with grants of these kinds for the tenant.
    fn home(&self, kinds: &[&str]) -> Value {
        let mut grant = json!({
            "namespaces": { "from": "Selector", "selector": { "matchLabels": { "tier": "paid" } } },
        });
        for kind in kinds {
            grant[*kind] = match *kind {
                "servers" => json!({ "hosts": ["notes.example.com"], "scopePrefixes": ["notes:"] }),
                "clients" => json!({}),
                _ => json!({ "apis": ["orders"] }),
            };
        }
        let mut home = self.env.authorization_server("main");
        home["spec"]["grants"] = json!([grant]);
        home["spec"]["apis"] = json!([{
            "name": "orders", "audience": API, "manage": true, "scopes": [{ "name": "orders-api:read" }],
        }]);
        home
    }

    fn objects(&self) -> [Value; 5] {
        let (env, namespace) = (&self.env, self.namespace.as_str());
        let of = |object: Value| of(namespace, (env.namespace(), "main"), object);
        let notes_of_tenant = json!([{ "server": { "namespace": namespace, "name": "notes" } }]);
        let mut notes = claiming(of(server(env, "notes")), NOTES, &["notes:use"]);
        notes["spec"]["allowedClients"] = json!([{ "namespaces": { "from": "All" } }]);
        let mut worker = of(machine(env, "worker", &[]));
        worker["spec"]["access"] = notes_of_tenant.clone();
        let mut outsider = machine(env, "outsider", &[]);
        outsider["spec"]["access"] = notes_of_tenant;
        let mut exchange = of(policy(env, "notes-to-orders", "notes", "unused"));
        if let Some(spec) = exchange["spec"].as_object_mut() {
            spec.remove("mcpServerRef");
            spec.insert("apiRef".to_owned(), json!({ "name": "orders" }));
            spec.insert("scopes".to_owned(), json!([{ "name": "orders-api:read" }]));
        }
        [self.home(&ALL), notes, worker, outsider, exchange]
    }

    async fn all_ready(&self) -> anyhow::Result<()> {
        for object in self.objects() {
            ready(&self.env, named(&object), SOON).await?;
        }
        Ok(())
    }

    fn notes(&self) -> Named<'_> {
        ("McpServer", &self.namespace, "notes")
    }

    fn worker(&self) -> Named<'_> {
        ("McpClient", &self.namespace, "worker")
    }

    /// The credential of the worker, and of the platform's own client.
    async fn credentials(&self) -> anyhow::Result<[OAuthClient; 2]> {
        let env = &self.env;
        Ok([
            samples::oauth_client(env, &self.namespace, "worker-mcp-client").await?,
            samples::oauth_client(env, env.namespace(), "outsider-mcp-client").await?,
        ])
    }

    /// Clients and scopes have the ids that they had, and Secrets hold what they held.
    async fn is_as_before(&self, before: &Registered) -> anyhow::Result<()> {
        let now = self.registered().await?;
        ensure!(now.realm == before.realm, "{:?}", now.realm);
        ensure!(now.secrets == before.secrets, "a credential is another one");
        Ok(())
    }

    async fn registered(&self) -> anyhow::Result<Registered> {
        let env = &self.env;
        let mut secrets = Vec::new();
        for (namespace, name) in [
            (self.namespace.as_str(), "worker-mcp-client"),
            (self.namespace.as_str(), "notes-mcp-auth"),
            (env.namespace(), "outsider-mcp-client"),
        ] {
            secrets.push(samples::secret(env, namespace, name).await?);
        }
        Ok(Registered {
            realm: Realm::read(env).await?,
            secrets,
        })
    }

    /// What a client at Keycloak can do: whether it is enabled, whether it can exchange, and its optional scopes.
    async fn powers(&self, client_id: &str) -> anyhow::Result<(Value, Value, Value)> {
        let client = self.env.realm().find_client(client_id).await?;
        let client = client.with_context(|| format!("{client_id} is gone"))?;
        Ok((
            client["enabled"].clone(),
            client["attributes"]["standard.token.exchange.enabled"].clone(),
            client["optionalClientScopes"].clone(),
        ))
    }

    async fn has_powers(
        &self,
        client_id: &str,
        enabled: bool,
        exchanges: &str,
        scopes: &[&str],
    ) -> anyhow::Result<()> {
        let expected = (json!(enabled), json!(exchanges), json!(scopes));
        becomes(
            &format!("the powers of {client_id}"),
            &expected,
            SOON,
            async || self.powers(client_id).await,
        )
        .await
    }

    /// Waits until a condition says so in exactly these words.
    async fn is_told(
        &self,
        object: Named<'_>,
        condition: (&str, &str, &str),
        message: &str,
    ) -> anyhow::Result<()> {
        let condition = because(&self.env, object, condition).await?;
        ensure!(condition["message"] == message, "{condition}");
        Ok(())
    }

    async fn is_refused(&self, client: &OAuthClient, error: &str) -> anyhow::Result<()> {
        let issuer = self.env.issuer().await?;
        let refused = issuer
            .client_credentials(client, Some("notes:use"))
            .await?
            .refused()?;
        ensure!(refused.error == error, "{} is refused by {refused}", client.id());
        Ok(())
    }

    /// What the objects of the tenant get when everything is granted.
    async fn everything_works(&self) -> anyhow::Result<()> {
        self.all_ready().await?;
        let clients = self.credentials().await?;
        for client in &clients {
            self.has_powers(client.id(), true, "false", &["notes:use"])
                .await?;
            token_for(&self.env, client, "notes:use", NOTES).await?;
        }
        self.has_powers(NOTES, true, "true", &["orders-api:read"]).await
    }
}

const ALL: [&str; 3] = ["servers", "clients", "tokenExchange"];

pub(super) async fn lost_and_given_back(world: Arc<World>) -> anyhow::Result<()> {
    let tenant = Tenant::new(&world).await?;
    let env = &tenant.env;
    let operator = env.start_operator_with(&env.operator_options()).await?;
    apply_all(env, &tenant.objects()).await?;
    tenant.everything_works().await?;
    let before = tenant.registered().await?;

    tenant.label("tier=free").await?;
    everything_is_taken(&tenant, &before).await?;
    tenant.label("tier=paid").await?;
    tenant.everything_works().await?;
    tenant.is_as_before(&before).await?;

    one_grant_is_taken(&tenant).await?;
    env.apply(&tenant.home(&ALL)).await?;
    tenant.everything_works().await?;
    tenant.is_as_before(&before).await?;

    scopes_go_without_their_client(&tenant, false).await?;
    tenant.label("tier=paid").await?;
    tenant.everything_works().await?;
    scopes_go_without_their_client(&tenant, true).await?;
    operator.stop().await
}

/// The client of the server is deleted by hand just before, or replaced by another one of that id. The scopes of the
/// server go all the same.
async fn scopes_go_without_their_client(tenant: &Tenant, replaced: bool) -> anyhow::Result<()> {
    let env = &tenant.env;
    let admin = env.realm().admin();
    let [_, other] = tenant.credentials().await?;
    let notes = env.realm().find_client(NOTES).await?.context("no client")?;
    let path = format!("/clients/{}", notes["id"].as_str().unwrap_or_default());
    admin.delete(&path).await?;
    if replaced {
        let client = json!({ "clientId": NOTES, "protocol": "openid-connect" });
        admin.create("/clients", &client).await?;
    }
    let by_hand = env.realm().find_client(NOTES).await?.map(in_order);
    tenant.label("tier=free").await?;
    let refused = ("Accepted", "False", "NamespaceNotGranted");
    because(env, tenant.notes(), refused).await?;
    tenant.has_powers(other.id(), true, "false", &[]).await?;
    tenant.is_refused(&other, "invalid_scope").await?;
    let scopes = Realm::read(env).await?.scopes;
    ensure!(!scopes.contains_key("notes:use"), "the scope is left");
    let now = env.realm().find_client(NOTES).await?.map(in_order);
    ensure!(now == by_hand, "{now:?} instead of {by_hand:?}");
    Ok(())
}

/// The namespace is selected by no grant any more.
async fn everything_is_taken(tenant: &Tenant, before: &Registered) -> anyhow::Result<()> {
    let (env, namespace) = (&tenant.env, tenant.namespace.as_str());
    let home = format!("AuthorizationServer {}/main", env.namespace());
    let refused = ("Accepted", "False", "NamespaceNotGranted");
    let servers =
        format!("Namespace {namespace} may not register MCP servers: ask for a grant with servers in {home}");
    let clients =
        format!("Namespace {namespace} may not register clients: ask for a grant with clients in {home}");
    tenant.is_told(tenant.notes(), refused, &servers).await?;
    tenant.is_told(tenant.worker(), refused, &clients).await?;
    because(
        env,
        ("TokenExchangePolicy", namespace, "notes-to-orders"),
        ("Accepted", "False", "ApiNotGranted"),
    )
    .await?;
    let awaited = format!("McpServer {namespace}/notes has not registered notes:use yet");
    let outsider = ("McpClient", env.namespace(), "outsider");
    tenant
        .is_told(outsider, ("AccessGranted", "Unknown", "ServerNotReady"), &awaited)
        .await?;

    let [worker, other] = tenant.credentials().await?;
    tenant.has_powers(worker.id(), false, "false", &[]).await?;
    tenant.has_powers(other.id(), true, "false", &[]).await?;
    tenant.has_powers(NOTES, true, "false", &[]).await?;
    let realm = Realm::read(env).await?;
    ensure!(
        realm.clients == before.realm.clients,
        "clients are kept, without powers"
    );
    let mut scopes = before.realm.scopes.clone();
    scopes.remove("notes:use");
    ensure!(realm.scopes == scopes, "{:?}", realm.scopes);
    tenant.is_refused(&worker, "invalid_client").await?;
    tenant.is_refused(&other, "invalid_scope").await?;
    for (kind, namespace, name) in [tenant.notes(), tenant.worker()] {
        let object = env.get(kind, namespace, name).await?.unwrap_or_default();
        let list = if kind == "McpServer" { "scopes" } else { "granted" };
        ensure!(
            object["status"][list].as_array().is_none_or(Vec::is_empty),
            "{name} says that it has {}",
            object["status"][list]
        );
    }
    Ok(())
}

/// Only the grant for servers is left. A pause delays no loss.
async fn one_grant_is_taken(tenant: &Tenant) -> anyhow::Result<()> {
    let (env, namespace) = (&tenant.env, tenant.namespace.as_str());
    let paused = "mcpauth.dev/reconcile";
    let annotate = async |annotation: &str| {
        env.kubectl()
            .must(&["annotate", "mcpclient", "worker", "-n", namespace, annotation])
            .await
    };
    annotate(&format!("{paused}=paused")).await?;
    env.apply(&tenant.home(&["servers"])).await?;
    let api = ("TokenExchangePolicy", namespace, "notes-to-orders");
    because(env, tenant.worker(), ("Accepted", "False", "NamespaceNotGranted")).await?;
    because(env, api, ("Accepted", "False", "ApiNotGranted")).await?;
    let [worker, other] = tenant.credentials().await?;
    tenant.has_powers(worker.id(), false, "false", &[]).await?;
    tenant.has_powers(NOTES, true, "false", &[]).await?;
    tenant.is_refused(&worker, "invalid_client").await?;
    ready(env, tenant.notes(), SOON).await?;
    token_for(env, &other, "notes:use", NOTES).await?;
    annotate(&format!("{paused}-")).await.map(drop)
}
