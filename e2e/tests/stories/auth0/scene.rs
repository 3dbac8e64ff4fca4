//! A tenant with an operator's application, and a connection to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use mcp_auth_crds::v1alpha1::Endpoints;
use mcp_auth_e2e::{
    auth0::{Auth0, Setup},
    pki::Authority,
    proxy::RecordingProxy,
};
use mcp_auth_operator::{
    clock::{Clock as _, SystemClock},
    egress::{Audience, Egress, EgressPolicy},
    lease::Leadership,
    metrics::Metrics,
    provider::{
        Authentication, ClientSpec, Credential, Credentials, ExchangeActions, Grant, LimitSettings, Mark,
        ObservedClient, Plan, Proof, Provider as _, ProviderError, Read, RealmRegistry, ResourceSpec, SignIn,
        auth0::{Auth0 as Tenant, Settings},
        discovery::discover,
    },
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

pub(super) const ORDERS: &str = "https://mcp.example.com/orders";
pub(super) const SECRET: &str = "a secret of the agent's, which nobody guesses";

/// Any answer that the memory still has.
pub(super) const REMEMBERED: Read = Read::Within(Duration::from_hours(1));

/// As often as reconcilers make a plan anew before they say that the server does not follow.
const ROUNDS: usize = 3;

pub(super) struct Scene {
    pub(super) auth0: Auth0,
    pub(super) proxy: RecordingProxy,
    pub(super) authority: Authority,
    pub(super) tenant: Tenant,
    /// What others have there.
    foreign: Value,
}

impl Scene {
    pub(super) async fn new() -> anyhow::Result<Self> {
        mcp_auth_e2e::use_aws_lc();
        let authority = Authority::new()?;
        let auth0 = Auth0::start(&authority, Setup::default()).await?;
        occupy(&auth0).await?;
        let proxy = RecordingProxy::start(&auth0.url(), &authority)?;
        let sign_in = SignIn::Secret(Credential::new(auth0.operator().client_secret.expose_secret()));
        let tenant = connect(&auth0, &proxy, &authority, sign_in).await?;
        let foreign = auth0.dashboard().everything();
        Ok(Self {
            auth0,
            proxy,
            authority,
            tenant,
            foreign,
        })
    }

    /// As after a restart: nothing is remembered.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        let secret = self.auth0.operator().client_secret.expose_secret().to_owned();
        self.restart_with(SignIn::Secret(Credential::new(secret))).await
    }

    pub(super) async fn restart_with(&mut self, sign_in: SignIn) -> anyhow::Result<()> {
        self.tenant = connect(&self.auth0, &self.proxy, &self.authority, sign_in).await?;
        Ok(())
    }

    /// What others have in the tenant is byte for byte what it was.
    pub(super) fn is_others_untouched(&self) -> anyhow::Result<()> {
        is_untouched(&self.auth0, &self.foreign)
    }

    /// What the operator has made there and not removed.
    pub(super) fn remains(&self, kind: &str) -> Vec<Value> {
        remains(&self.auth0, &self.foreign, kind)
    }

    /// Brings a resource about as a reconciler does: until nothing is left to do. How many rounds that took.
    pub(super) async fn put_resource(&self, want: &ResourceSpec, read: Read) -> anyhow::Result<usize> {
        let mut read = read;
        for round in 0..=ROUNDS {
            let plan = self.resource_plan(want, read).await?;
            ensure!(plan.conflicts.is_empty(), "{plan:?}");
            if plan.is_empty() {
                return Ok(round);
            }
            self.tenant.execute(&plan).await?;
            read = Read::Fresh;
        }
        anyhow::bail!("{:?}", self.resource_plan(want, Read::Fresh).await?)
    }

    pub(super) async fn resource_plan(&self, want: &ResourceSpec, read: Read) -> anyhow::Result<Plan> {
        let observed = self.tenant.observe_resource(&want.resource, read).await?;
        let scopes = self.tenant.observe_scopes(REMEMBERED).await?;
        let secret = Credential::new(SECRET);
        Ok(self.tenant.plan_resource(want, &observed, &scopes, Some(&secret)))
    }

    /// The same for a client.
    pub(super) async fn put_client(&self, want: &ClientSpec, read: Read) -> anyhow::Result<usize> {
        self.put_client_with(want, &Credentials::only(Credential::new(SECRET)), read)
            .await
    }

    pub(super) async fn put_client_with(
        &self,
        want: &ClientSpec,
        credentials: &Credentials,
        read: Read,
    ) -> anyhow::Result<usize> {
        let mut read = read;
        for round in 0..=ROUNDS {
            let plan = self.client_plan(want, credentials, read).await?;
            ensure!(plan.conflicts.is_empty(), "{plan:?}");
            if plan.is_empty() {
                return Ok(round);
            }
            self.tenant.execute(&plan).await?;
            read = Read::Fresh;
        }
        anyhow::bail!("{:?}", self.client_plan(want, credentials, Read::Fresh).await?)
    }

    pub(super) async fn client_plan(
        &self,
        want: &ClientSpec,
        credentials: &Credentials,
        read: Read,
    ) -> anyhow::Result<Plan> {
        let observed = self.tenant.observe_client(&want.client_id, read).await?;
        let scopes = self.tenant.observe_scopes(REMEMBERED).await?;
        let now = SystemClock.now();
        Ok(self
            .tenant
            .plan_client(want, &observed, &scopes, Some(credentials), now))
    }

    pub(super) async fn client(&self, want: &ClientSpec) -> anyhow::Result<ObservedClient> {
        Ok(self.tenant.observe_client(&want.client_id, Read::Fresh).await?)
    }

    /// The id that the tenant chose.
    pub(super) async fn id(&self, want: &ClientSpec) -> anyhow::Result<String> {
        self.client(want).await?.client_id.context("there is no client")
    }

    /// A machine's token has exactly what it should have.
    pub(super) async fn prove(&self, want: &ClientSpec, secret: &Credential) -> Result<(), ProviderError> {
        let id = self.id(want).await.unwrap_or_default();
        let proof = Proof::ClientCredentials {
            client_id: id,
            secret: secret.clone(),
            scopes: want.scopes.clone(),
            audiences: want.audiences.keys().cloned().collect(),
        };
        self.tenant.prove(&proof, SystemClock.now()).await
    }
}

/// Whether everything of a tenant that was there before is byte for byte what it was.
pub(super) fn is_untouched(auth0: &Auth0, before: &Value) -> anyhow::Result<()> {
    let mut now = auth0.dashboard().everything();
    // A tenant lets every new client of its own use every connection, unless a flag says otherwise.
    for connection in now["connections"].as_object_mut().into_iter().flatten() {
        if let Some(enabled) = connection.1["enabled_clients"].as_array_mut() {
            enabled.retain(|id| before["clients"][id.as_str().unwrap_or_default()].is_object());
        }
    }
    for (kind, before) in before.as_object().context("no tenant")? {
        for (id, thing) in before.as_object().into_iter().flatten() {
            ensure!(
                now[kind][id] == *thing,
                "{kind} {id}: {} was {thing}",
                now[kind][id]
            );
        }
    }
    Ok(())
}

/// What is in a tenant and was not before.
pub(super) fn remains(auth0: &Auth0, before: &Value, kind: &str) -> Vec<Value> {
    let now = auth0.dashboard().everything();
    let things = now[kind].as_object().cloned().unwrap_or_default();
    let made = things
        .into_iter()
        .filter(|(id, _)| before[kind].get(id).is_none());
    made.map(|(_, thing)| thing).collect()
}

/// What others have in a tenant: applications, APIs, grants, and clients that registered themselves.
pub(super) async fn occupy(auth0: &Auth0) -> anyhow::Result<()> {
    let dashboard = auth0.dashboard();
    let api = json!({"identifier": "https://foreign.example.com/", "name": "Foreign",
        "scopes": [{"value": "orders:read", "description": "Another one of that name"}]});
    dashboard.post("resource-servers", api).await?;
    let client = json!({"name": "Foreign", "callbacks": ["https://foreign.example.com/cb"],
        "client_metadata": {"team": "billing"}});
    let client = dashboard.post("clients", client).await?;
    let grant = json!({"client_id": client["client_id"], "audience": "https://foreign.example.com/",
        "scope": ["orders:read"], "subject_type": "client"});
    dashboard.post("client-grants", grant).await?;
    Ok(())
}

async fn connect(
    auth0: &Auth0,
    proxy: &RecordingProxy,
    authority: &Authority,
    sign_in: SignIn,
) -> anyhow::Result<Tenant> {
    let endpoints = Endpoints {
        admin: Some(proxy.url()),
        token: Some(format!("{}/oauth/token", proxy.url())),
        ..Endpoints::default()
    };
    let egress = Egress::new(EgressPolicy {
        insecure_allow_loopback: true,
        ..EgressPolicy::default()
    });
    let ca_bundle = authority.pem().as_bytes();
    let client = egress.client(Audience::AuthorizationServer, Some(ca_bundle))?;
    let discovered = discover(&client, &auth0.issuer(), &endpoints).await?;
    let rate = NonZeroU32::new(1000).unwrap_or(NonZeroU32::MIN);
    Ok(Tenant::new(Settings {
        domain: auth0.domain(),
        endpoints: &endpoints,
        discovered: &discovered,
        client_id: auth0.operator().client_id.clone(),
        sign_in,
        clock: SystemClock::shared(),
        ca_bundle: Some(ca_bundle),
        installation: "prod",
        manages_settings: false,
        exchanges_by_action: true,
        adoption: BTreeMap::new(),
        realms: &RealmRegistry::new(LimitSettings::new(rate, Duration::from_secs(30))),
        egress: &egress,
        metrics: Metrics::default(),
        leadership: Leadership::uncontested(),
    })?)
}

pub(super) fn mark(kind: &str, name: &str) -> Mark {
    Mark {
        installation: "prod".to_owned(),
        kind: kind.to_owned(),
        namespace: "team".to_owned(),
        name: name.to_owned(),
        uid: "uid-1".to_owned(),
    }
}

pub(super) fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn orders() -> ResourceSpec {
    ResourceSpec {
        mark: mark("McpServer", "orders"),
        resource: ORDERS.to_owned(),
        display_name: "orders".to_owned(),
        scopes: [
            ("orders:read".to_owned(), "Read <orders>, bitte schön".to_owned()),
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

/// A client by which users sign in, and which has a life of its own.
pub(super) fn agent() -> ClientSpec {
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
        token_lifetime: Duration::from_mins(5),
        scopes: set(&["orders:read"]),
        audiences: [(ORDERS.to_owned(), set(&["orders:read"]))].into(),
        adopt: false,
    }
}
