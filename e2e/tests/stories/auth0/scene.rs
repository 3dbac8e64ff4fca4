//! A tenant with an operator's application, the stand-in or a live one, and a connection to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use mcp_auth_crds::v1alpha1::Endpoints;
use mcp_auth_e2e::{
    auth0::{Auth0, Remote, Setup, bears},
    pki::Authority,
    proxy::RecordingProxy,
};
use mcp_auth_operator::{
    clock::{Clock as _, SystemClock},
    egress::{Audience, Egress, EgressPolicy},
    lease::Leadership,
    metrics::Metrics,
    policy::names,
    provider::{
        Authentication, ClientSpec, Credential, Credentials, ExchangeActions, Grant, LimitSettings, Mark,
        ObservedClient, Plan, Proof, Provider as _, ProviderError, Read, RealmRegistry, ResourceSpec, SignIn,
        auth0::{Auth0 as Tenant, Settings},
        discovery::discover,
    },
};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::others::{added, is_same, occupy_with};

pub(super) const SECRET: &str = "a secret of the agent's, which nobody guesses";

/// Any answer that the memory still has.
pub(super) const REMEMBERED: Read = Read::Within(Duration::from_hours(1));

/// As often as reconcilers make a plan anew before they say that the server does not follow.
const ROUNDS: usize = 3;

/// How long a live tenant may take to do as it was told: it goes on accepting an old secret for up to 30 s.
const LIVE_PATIENCE: Duration = Duration::from_mins(1);

/// Before the runner gives up, so that nothing stays in a live tenant.
const LONGEST: Duration = Duration::from_mins(8);

pub(super) struct Scene {
    /// In every name of what is made here, so that it is told from what others have.
    pub(super) name: String,
    /// Unless the tenant is a live one.
    stand_in: Option<Auth0>,
    /// Another administrator of the tenant.
    pub(super) desk: Arc<Remote>,
    pub(super) proxy: RecordingProxy,
    pub(super) tenant: Tenant,
    /// What others have there.
    foreign: Value,
}

/// Goes through a story at a live tenant, or at a stand-in of its own, and leaves nothing in the live one.
pub(super) async fn at<S>(live: Option<Arc<Remote>>, story: S) -> anyhow::Result<()>
where
    S: AsyncFnOnce(&mut Scene) -> anyhow::Result<()>,
{
    let mut scene = match live {
        None => return story(&mut Scene::new().await?).await,
        Some(live) => Scene::before(None, live).await?,
    };
    let told = tokio::time::timeout(LONGEST, async {
        scene.occupied().await?;
        story(&mut scene).await
    })
    .await;
    let left = scene.desk.remove_all_of(&scene.name).await;
    let told = told.context("not over in time").flatten();
    match (told, left) {
        (told, Ok(())) => told,
        (Ok(()), Err(left)) => Err(left),
        (Err(error), Err(left)) => Err(error.context(format!("{left:#}"))),
    }
}

impl Scene {
    /// At a stand-in.
    pub(super) async fn new() -> anyhow::Result<Self> {
        mcp_auth_e2e::use_aws_lc();
        let authority = Authority::new()?;
        let auth0 = Auth0::start(&authority, Setup::default()).await?;
        let desk = Remote::new(authority, auth0.domain(), auth0.operator().clone())?;
        let mut scene = Self::before(Some(auth0), Arc::new(desk)).await?;
        scene.occupied().await?;
        Ok(scene)
    }

    /// Before others have anything there.
    async fn before(stand_in: Option<Auth0>, desk: Arc<Remote>) -> anyhow::Result<Self> {
        let name = format!("mcp-auth-test-{:08x}", rand::random::<u32>());
        let proxy = RecordingProxy::start(&desk.url(), desk.authority())?;
        let secret = Credential::new(desk.machine().client_secret.expose_secret());
        let tenant = connect(&desk, &proxy, &name, SignIn::Secret(secret), stand_in.is_some()).await?;
        let missing = tenant.check_access().await?.missing;
        ensure!(
            missing.is_empty(),
            "the application has not all scopes: {missing:?}"
        );
        Ok(Self {
            name,
            stand_in,
            desk,
            proxy,
            tenant,
            foreign: Value::Null,
        })
    }

    /// With what others have.
    async fn occupied(&mut self) -> anyhow::Result<()> {
        occupy_with(&self.name, async |path, body| self.desk.post(path, body).await).await?;
        self.foreign = self.everything().await?;
        self.proxy.clear();
        Ok(())
    }

    /// What only a stand-in lets itself be told.
    pub(super) fn stand_in(&self) -> anyhow::Result<&Auth0> {
        self.stand_in.as_ref().context("this tenant is a live one")
    }

    /// As after a restart: nothing is remembered.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        let secret = self.desk.machine().client_secret.expose_secret().to_owned();
        self.restart_with(SignIn::Secret(Credential::new(secret))).await
    }

    pub(super) async fn restart_with(&mut self, sign_in: SignIn) -> anyhow::Result<()> {
        self.tenant = connect(
            &self.desk,
            &self.proxy,
            &self.name,
            sign_in,
            self.stand_in.is_some(),
        )
        .await?;
        Ok(())
    }

    async fn everything(&self) -> anyhow::Result<Value> {
        match &self.stand_in {
            Some(stand_in) => Ok(stand_in.dashboard().everything()),
            None => self.desk.everything().await,
        }
    }

    /// What others have in the tenant is byte for byte what it was.
    pub(super) async fn is_others_untouched(&self) -> anyhow::Result<()> {
        is_same(self.everything().await?, &self.foreign)
    }

    /// What the operator has made there and not removed.
    pub(super) async fn remains(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        let mut made = added(&self.everything().await?, &self.foreign, kind);
        // A live tenant may get more by others meanwhile.
        made.retain(|thing| self.stand_in.is_some() || bears(thing, &self.name));
        Ok(made)
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
        self.proved(want, secret, Result::is_ok).await
    }

    /// The same where it should not.
    pub(super) async fn is_refused(
        &self,
        want: &ClientSpec,
        secret: &Credential,
    ) -> Result<(), ProviderError> {
        self.proved(want, secret, Result::is_err).await
    }

    /// A stand-in does at once as it was told; a live tenant may need some time.
    async fn proved(
        &self,
        want: &ClientSpec,
        secret: &Credential,
        expected: impl Fn(&Result<(), ProviderError>) -> bool,
    ) -> Result<(), ProviderError> {
        let proof = Proof::ClientCredentials {
            client_id: self.id(want).await.unwrap_or_default(),
            secret: secret.clone(),
            scopes: want.scopes.clone(),
            audiences: want.audiences.keys().cloned().collect(),
        };
        let begun = Instant::now();
        loop {
            let outcome = self.tenant.prove(&proof, SystemClock.now()).await;
            let is_last = self.stand_in.is_some() || begun.elapsed() > LIVE_PATIENCE;
            if expected(&outcome) || is_last {
                return outcome;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    pub(super) fn mark(&self, kind: &str, name: &str) -> Mark {
        Mark {
            installation: self.name.clone(),
            kind: kind.to_owned(),
            namespace: self.name.clone(),
            name: name.to_owned(),
            uid: "uid-1".to_owned(),
        }
    }

    /// An API of the operator's.
    pub(super) fn orders(&self) -> ResourceSpec {
        ResourceSpec {
            mark: self.mark("McpServer", "orders"),
            resource: format!("https://{}.example.com/orders", self.name),
            display_name: format!("orders {}", self.name),
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
    pub(super) fn agent(&self) -> ClientSpec {
        ClientSpec {
            mark: self.mark("McpClient", "agent"),
            client_id: names::client_id(&self.name, &self.name, "agent"),
            display_name: format!("Agent \"№ 1\" {}", self.name),
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
            audiences: [(self.orders().resource, set(&["orders:read"]))].into(),
            adopt: false,
        }
    }
}

async fn connect(
    desk: &Remote,
    proxy: &RecordingProxy,
    installation: &str,
    sign_in: SignIn,
    exchanges_by_action: bool,
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
    let ca_bundle = desk.authority().pem().as_bytes();
    let client = egress.client(Audience::AuthorizationServer, Some(ca_bundle))?;
    let discovered = discover(&client, &desk.issuer(), &endpoints).await?;
    let rate = NonZeroU32::new(1000).unwrap_or(NonZeroU32::MIN);
    Ok(Tenant::new(Settings {
        domain: desk.domain(),
        endpoints: &endpoints,
        discovered: &discovered,
        client_id: desk.machine().client_id.clone(),
        sign_in,
        clock: SystemClock::shared(),
        ca_bundle: Some(ca_bundle),
        installation,
        manages_settings: false,
        exchanges_by_action,
        adoption: BTreeMap::new(),
        realms: &RealmRegistry::new(LimitSettings::new(rate, Duration::from_secs(30))),
        egress: &egress,
        metrics: Metrics::default(),
        leadership: Leadership::uncontested(),
    })?)
}

pub(super) fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
