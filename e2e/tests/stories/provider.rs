//! The Keycloak provider as a library, without the operator around it: every call that it makes, and every rule of
//! Keycloak that its plans rely on, against a real server.
//!
//! Its credential has the one role that the documentation asks for, so that every step also shows that it is enough.

mod changes;
mod connection;
mod drift;
mod lists;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use anyhow::ensure;
use mcp_auth_crds::v1alpha1::Endpoints;
use mcp_auth_e2e::{runner::Story, story::StoryEnv, world::World};
use mcp_auth_operator::{
    clock::{Clock as _, SystemClock},
    egress::{Audience, Egress, EgressPolicy},
    lease::Leadership,
    metrics::Metrics,
    provider::{
        Authentication, ClientSpec, Credential, Credentials, ExchangeActions, Grant, LimitSettings, Mark,
        Plan, Proof, Provider as _, Read, RealmRegistry, ResourceSpec, SignIn, Subjects,
        discovery::discover,
        keycloak::{Keycloak, Settings},
    },
};
use secrecy::ExposeSecret as _;

/// What the operator needs at Keycloak, and no more.
const ROLE: &str = "manage-clients";

/// Any answer that the memory still has.
const REMEMBERED: Read = Read::Within(Duration::from_hours(1));

const SECRET: &str = "a secret of the agent's";

pub(crate) fn stories() -> Vec<Story> {
    let mut stories = changes::stories();
    stories.extend(connection::stories());
    stories.extend(drift::stories());
    stories.extend(lists::stories());
    stories.extend(trouble::stories());
    stories
}

/// A realm with an operator that has only [`ROLE`], and a connection to it.
struct Scene {
    env: StoryEnv,
    keycloak: Keycloak,
}

impl Scene {
    async fn new(world: &Arc<World>, name: &str) -> anyhow::Result<Self> {
        let env = StoryEnv::with_operator_roles(world, name, &[ROLE]).await?;
        let keycloak = connect(&env).await?;
        Ok(Self { env, keycloak })
    }

    /// Brings a resource about as a reconciler does.
    async fn put_resource(&self, want: &ResourceSpec, read: Read) -> anyhow::Result<Plan> {
        let observed = self.keycloak.observe_resource(&want.resource, read).await?;
        let scopes = self.keycloak.observe_scopes(read).await?;
        let plan = self
            .keycloak
            .plan_resource(want, &observed, &scopes, Some(&Credential::new(SECRET)));
        self.keycloak.execute(&plan).await?;
        Ok(plan)
    }

    /// Brings a client about as a reconciler does.
    async fn put_client(&self, want: &ClientSpec, read: Read) -> anyhow::Result<Plan> {
        let observed = self.keycloak.observe_client(&want.client_id, read).await?;
        let scopes = self.keycloak.observe_scopes(read).await?;
        let credentials = Credentials::only(Credential::new(SECRET));
        let plan = self
            .keycloak
            .plan_client(want, &observed, &scopes, Some(&credentials), SystemClock.now());
        self.keycloak.execute(&plan).await?;
        Ok(plan)
    }

    /// Nothing is left to do, whether the server is asked or the memory.
    async fn settled(&self, server: &ResourceSpec, client: &ClientSpec) -> anyhow::Result<()> {
        for read in [REMEMBERED, Read::Fresh] {
            let plan = self.put_resource(server, read).await?;
            ensure!(plan.is_empty(), "{read:?}: {plan:?}");
            let plan = self.put_client(client, read).await?;
            ensure!(plan.is_empty(), "{read:?}: {plan:?}");
        }
        Ok(())
    }

    /// A token of the client has exactly what it should have.
    async fn prove(&self, client: &ClientSpec, audience: &str) -> anyhow::Result<()> {
        let proof = credentials_proof(client, SECRET, &["orders:read"], &[audience]);
        Ok(self.keycloak.prove(&proof, SystemClock.now()).await?)
    }
}

async fn connect(env: &StoryEnv) -> anyhow::Result<Keycloak> {
    connect_with(env, env.realm().operator_client_secret().expose_secret()).await
}

async fn connect_with(env: &StoryEnv, secret: &str) -> anyhow::Result<Keycloak> {
    let spec = env.authorization_server("main")["spec"].clone();
    let endpoints: Endpoints = serde_json::from_value(spec["endpoints"].clone())?;
    let egress = Egress::new(EgressPolicy {
        insecure_allow_loopback: true,
        ..EgressPolicy::default()
    });
    let ca_bundle = env.world().authority().pem().as_bytes();
    let client = egress.client(Audience::AuthorizationServer, Some(ca_bundle))?;
    let discovered = discover(&client, env.realm().issuer(), &endpoints).await?;
    let rate = NonZeroU32::new(1000).unwrap_or(NonZeroU32::MIN);
    Ok(Keycloak::new(Settings {
        manages_trust: false,
        self_registration: false,
        realm: env.realm().name(),
        endpoints: &endpoints,
        discovered: &discovered,
        client_id: env.realm().operator_client_id().to_owned(),
        sign_in: SignIn::Secret(Credential::new(secret)),
        token_files: &[],
        clock: SystemClock::shared(),
        ca_bundle: Some(ca_bundle),
        installation: "prod",
        client_ids: "prod.".to_owned(),
        realms: &RealmRegistry::new(LimitSettings::new(rate, Duration::from_secs(30))),
        egress: &egress,
        metrics: Metrics::default(),
        leadership: Leadership::uncontested(),
    })?)
}

fn mark(kind: &str, name: &str) -> Mark {
    Mark {
        installation: "prod".to_owned(),
        kind: kind.to_owned(),
        namespace: "team".to_owned(),
        name: name.to_owned(),
        uid: "uid-1".to_owned(),
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Scopes for which everybody's tokens may be exchanged.
fn exchanging(scopes: &[&str]) -> BTreeMap<String, Subjects> {
    scopes
        .iter()
        .map(|scope| ((*scope).to_owned(), Subjects::Any))
        .collect()
}

fn orders() -> ResourceSpec {
    ResourceSpec {
        mark: mark("McpServer", "orders"),
        resource: "https://mcp.example.com/orders".to_owned(),
        display_name: "orders".to_owned(),
        scopes: [
            (
                "orders:read".to_owned(),
                "Read <orders> & ${more}, bitte schön".to_owned(),
            ),
            ("orders:write".to_owned(), String::new()),
        ]
        .into(),
        exchange_scopes: BTreeMap::new(),
        exchange_audiences: BTreeMap::new(),
        exchange_actions: ExchangeActions::default(),
        exchange_token_lifetime: Duration::from_mins(5),
        adopt: false,
        adopt_scopes: BTreeSet::new(),
    }
}

fn agent() -> ClientSpec {
    ClientSpec {
        mark: mark("McpClient", "agent"),
        client_id: "prod.team.agent".to_owned(),
        display_name: "Agent \"№ 1\"".to_owned(),
        enabled: true,
        grants: [
            Grant::AuthorizationCode,
            Grant::RefreshToken,
            Grant::ClientCredentials,
        ]
        .into(),
        redirect_uris: set(&["https://app.example.com/cb", "http://127.0.0.1/cb"]),
        authentication: Authentication::ClientSecret,
        consent: true,
        token_lifetime: Duration::from_mins(2),
        scopes: set(&["orders:read"]),
        audiences: [("https://mcp.example.com/orders".to_owned(), set(&["orders:read"]))].into(),
        adopt: false,
    }
}

fn credentials_proof(client: &ClientSpec, secret: &str, scopes: &[&str], audiences: &[&str]) -> Proof {
    Proof::ClientCredentials {
        client_id: client.client_id.clone(),
        secret: Credential::new(secret),
        scopes: set(scopes),
        audiences: set(audiences),
    }
}
