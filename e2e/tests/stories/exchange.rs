//! Servers exchange their callers' tokens as policies say, and no further.

mod ending;
mod targets;
mod waking;

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::{
    oauth::{Answer, Exchange, Issuer, OAuthClient, Tokens},
    runner::Story,
    samples,
    story::StoryEnv,
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    fixtures::{SOON, apply_all, machine, native, open_server, policy, ready, server},
    inventory::credential,
    users::{App, Claims, alice, resource, says},
};

const NOTES: &str = "https://notes.example.com/mcp";
const ARCHIVE: &str = "https://archive.example.com/mcp";

/// The audience of the internal API `orders`.
const ORDERS: &str = "https://orders.internal.example.com";

/// What Keycloak says when a client exchanges that may not at all.
const NOT_ENABLED: &str = "Standard token exchange is not enabled for the requested client";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "exchange::a_users_token_is_exchanged_as_the_policy_says_and_no_further",
            exchange,
        ),
        Story::new(
            "exchange::what_no_target_allows_leaves_no_trace_at_keycloak",
            targets::refused,
        ),
        Story::new("exchange::an_internal_api_is_a_target", targets::api),
        Story::new("exchange::each_policy_ends_by_itself", ending::policies),
        Story::new(
            "exchange::a_paused_server_keeps_no_policy_from_ending",
            ending::paused_server,
        ),
        Story::new(
            "exchange::a_policy_that_lists_less_is_ready_when_the_rest_is_gone",
            ending::shorter_list,
        ),
        Story::new(
            "exchange::a_paused_policy_gives_no_more_and_may_give_less",
            ending::paused_policy,
        ),
        Story::new(
            "exchange::a_policy_that_names_another_server_ends_what_the_first_had",
            ending::other_server,
        ),
        Story::new(
            "exchange::a_target_that_withdraws_ends_it_and_may_come_back",
            ending::target_withdraws,
        ),
        Story::new(
            "exchange::a_policy_wakes_when_its_target_appears",
            waking::target_appears,
        ),
    ]
}

/// A token of alice, and the server `notes` that was called with it.
struct Call {
    issuer: Issuer,
    notes: OAuthClient,
    tokens: Tokens,
    sub: String,
}

impl Call {
    /// Signs alice in with the McpClient `desktop`, which calls `notes`, once a policy gave that its Secret.
    async fn begin(env: &StoryEnv) -> anyhow::Result<Self> {
        let sub = alice(env).await?;
        ready(env, ("McpClient", env.namespace(), "desktop"), SOON).await?;
        let app = App::native(env, "desktop", "notes").await?;
        Ok(Self {
            notes: server_credential(env, "notes").await?,
            tokens: app.tokens("notes:use").await?,
            issuer: app.issuer,
            sub,
        })
    }

    /// `notes` exchanges it for a scope.
    async fn exchange(&self, scope: &str) -> anyhow::Result<Answer> {
        self.exchange_as(&self.notes, scope).await
    }

    async fn exchange_as(&self, client: &OAuthClient, scope: &str) -> anyhow::Result<Answer> {
        let exchange = Exchange {
            subject_token: &self.tokens.access_token,
            scope: Some(scope),
            audience: None,
        };
        self.issuer.exchange(client, &exchange).await
    }

    /// `notes` exchanges it for the scope `<target>:use` and gets a token for exactly that.
    async fn reaches(&self, target: &str) -> anyhow::Result<()> {
        let scope = format!("{target}:use");
        let tokens = self.exchange(&scope).await?.granted()?;
        let claims = Claims {
            audience: Some(&resource(target)),
            scopes: &[&scope],
            ..self.claims()
        };
        claims.check(&self.issuer, &tokens.access_token).await.map(drop)
    }

    /// `notes` exchanges it for the API's scope that the policy lists, and for no other.
    async fn reaches_orders(&self) -> anyhow::Result<()> {
        let tokens = self.exchange("orders:read").await?.granted()?;
        let claims = Claims {
            audience: Some(ORDERS),
            scopes: &["orders:read"],
            ..self.claims()
        };
        claims.check(&self.issuer, &tokens.access_token).await?;
        let refusal = self.exchange("orders:write").await?.refused()?;
        says(&refusal, "invalid_scope", "Invalid scopes: orders:write")
    }

    /// What every token says that `notes` gets by exchange.
    fn claims(&self) -> Claims<'_> {
        Claims {
            audience: None,
            scopes: &[],
            azp: NOTES,
            sub: &self.sub,
            lifetime: 300,
        }
    }
}

/// The credential with which a server exchanges by itself.
async fn server_credential(env: &StoryEnv, server: &str) -> anyhow::Result<OAuthClient> {
    samples::oauth_client(env, env.namespace(), &format!("{server}-mcp-auth")).await
}

async fn policy_ready(env: &StoryEnv, name: &str) -> anyhow::Result<()> {
    ready(env, ("TokenExchangePolicy", env.namespace(), name), SOON).await
}

/// Makes a pass of a server happen that has nothing to do at Keycloak, and waits for it: what it saw before it has
/// considered by then.
async fn considered(env: &StoryEnv, server: &Value) -> anyhow::Result<()> {
    let mut server = server.clone();
    server["spec"]["rules"] =
        json!([{ "kind": "Tool", "match": "*", "scopes": [server["spec"]["scopes"][0]["name"]] }]);
    env.apply(&server).await?;
    let text = |field: &str| server["metadata"][field].as_str().unwrap_or_default();
    ready(env, ("McpServer", text("namespace"), text("name")), SOON).await
}

/// An AuthorizationServer with the internal API `orders`, which the operator manages.
fn home_with_api(env: &StoryEnv) -> Value {
    let mut home = env.authorization_server("main");
    home["spec"]["apis"] = json!([{
        "name": "orders",
        "audience": ORDERS,
        "manage": true,
        "scopes": [{ "name": "orders:read", "description": "Read orders" }, { "name": "orders:write" }],
    }]);
    home
}

/// A TokenExchangePolicy by which a server exchanges for that API, of whose two scopes it lists one.
fn api_policy(namespace: &str, server: &str) -> Value {
    json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "TokenExchangePolicy",
        "metadata": { "namespace": namespace, "name": format!("{server}-to-orders") },
        "spec": {
            "serverRef": { "name": server },
            "apiRef": { "name": "orders" },
            "scopes": [{ "name": "orders:read" }],
            "delivery": "Secret",
        },
    })
}

/// `notes` exchanges for `archive`, of whose two scopes the policy lists one; `archive` for `search`.
fn chain(env: &StoryEnv) -> Vec<Value> {
    let (mut notes, mut archive) = (server(env, "notes"), open_server(env, "archive"));
    notes["spec"]["exchangeTokenLifetime"] = json!("7m");
    archive["spec"]["scopes"] = json!([{ "name": "archive:use" }, { "name": "archive:purge" }]);
    vec![
        env.authorization_server("main"),
        notes,
        archive,
        open_server(env, "search"),
        native(env, "desktop", &["notes"]),
        machine(env, "worker", &["notes"]),
        policy(env, "notes-to-archive", "notes", "archive"),
        policy(env, "archive-to-search", "archive", "search"),
    ]
}

async fn exchange(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "exchange").await?;
    let operator = env.start_operator().await?;
    apply_all(&env, &chain(&env)).await?;
    policy_ready(&env, "notes-to-archive").await?;
    policy_ready(&env, "archive-to-search").await?;
    ready(&env, ("McpClient", env.namespace(), "worker"), SOON).await?;
    let call = Call::begin(&env).await?;

    let for_archive = Claims {
        audience: Some(ARCHIVE),
        scopes: &["archive:use"],
        lifetime: 420,
        ..call.claims()
    };
    let tokens = call.exchange("archive:use").await?.granted()?;
    for_archive.check(&call.issuer, &tokens.access_token).await?;
    // The token says exactly 420 s; the answer what is left of them, in whose second it is made.
    ensure!(
        tokens.refresh_token.is_none() && (419..=420).contains(&tokens.expires_in),
        "{} s",
        tokens.expires_in
    );
    no_further(&call).await?;
    nobody_else(&env, &call).await?;

    // What `archive` was called with in turn, it exchanges by its own policy.
    let archive = server_credential(&env, "archive").await?;
    let next = Exchange {
        subject_token: &tokens.access_token,
        scope: Some("search:use"),
        audience: None,
    };
    let tokens = call.issuer.exchange(&archive, &next).await?.granted()?;
    let for_search = Claims {
        audience: Some(&resource("search")),
        scopes: &["search:use"],
        azp: ARCHIVE,
        lifetime: 300,
        ..call.claims()
    };
    for_search.check(&call.issuer, &tokens.access_token).await?;
    operator.stop().await
}

/// Not for a target without policy, nor for a scope that the policy does not list, whatever else is asked for.
async fn no_further(call: &Call) -> anyhow::Result<()> {
    for scope in [
        "search:use",
        "archive:purge",
        "archive:use archive:purge",
        "notes:use",
        "offline_access",
    ] {
        let refusal = call.exchange(scope).await?.refused()?;
        says(&refusal, "invalid_scope", &format!("Invalid scopes: {scope}"))?;
    }
    let elsewhere = Exchange {
        subject_token: &call.tokens.access_token,
        scope: Some("archive:use"),
        audience: Some("https://search.example.com/mcp"),
    };
    let refusal = call.issuer.exchange(&call.notes, &elsewhere).await?.refused()?;
    says(
        &refusal,
        "invalid_request",
        "Requested audience not available: https://search.example.com/mcp",
    )?;
    // Without a scope there is no audience, so such a token works nowhere.
    let bare = Exchange {
        scope: None,
        audience: None,
        ..elsewhere
    };
    let tokens = call.issuer.exchange(&call.notes, &bare).await?.granted()?;
    let claims = Claims {
        lifetime: 420,
        ..call.claims()
    };
    claims.check(&call.issuer, &tokens.access_token).await.map(drop)
}

/// Not a server that was not called with the token, nor a client.
async fn nobody_else(env: &StoryEnv, call: &Call) -> anyhow::Result<()> {
    let archive = server_credential(env, "archive").await?;
    let refusal = call.exchange_as(&archive, "search:use").await?.refused()?;
    says(
        &refusal,
        "access_denied",
        "Client is not within the token audience",
    )?;
    // Neither a client without a secret nor one with; both have access to `notes`.
    for client in ["desktop", "worker"] {
        let client = credential(env, client).await?;
        let refusal = call.exchange_as(&client, "notes:use").await?.refused()?;
        says(&refusal, "invalid_request", NOT_ENABLED)?;
    }
    let thief = OAuthClient::confidential(NOTES, SecretString::from("wrong"));
    let refusal = call.exchange_as(&thief, "archive:use").await?.refused()?;
    says(
        &refusal,
        "unauthorized_client",
        "Invalid client or Invalid client credentials",
    )
}
