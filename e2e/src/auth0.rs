//! A stand-in for a tenant of Auth0, because none can be reached from tests: the Management API (v2) and the
//! authorization server, over https, with everything in memory and real signed tokens.
//!
//! It is strict. It takes what the vendor's documentation and recorded traffic of live tenants show, with the defaults and
//! status codes that those show, and refuses the rest; where neither says how a tenant behaves, it does what is harder on
//! its callers, and the item says that this is a choice. A program that works here may still fail at a live tenant; one
//! that fails here relies on something that nobody has promised.
//!
//! ```text
//!   operator ──► RecordingProxy ──► Auth0 ── /api/v2            routes, management
//!                (faults, records)    ▲  ├── /authorize, /u/…   authorize: login and consent pages
//!   clients, gates, browsers ─────────┘  ├── /oauth/token       token: codes, refresh, exchange
//!                                        └── /oidc/register     registration
//! ```
//!
//! A story starts one, makes what a platform team has before it installs anything, and hands the rest to the operator:
//!
//! ```no_run
//! # use mcp_auth_e2e::{auth0::{Auth0, Setup}, oauth::Issuer, pki::Authority, proxy::RecordingProxy};
//! # async fn story() -> anyhow::Result<()> {
//! let authority = Authority::new()?;                      // its `pem()` is what `caBundleRef` needs
//! let auth0 = Auth0::start(&authority, Setup::default()).await?;
//! let domain = auth0.domain();                            // `127.0.0.1:port`; the issuer is `https://{domain}/`
//! let machine = auth0.operator();                         // client id and secret of the operator's own application
//! let alice = auth0.add_user("alice", &"hunter2".into());
//! let foreign = auth0.dashboard().everything();            // what must be as it was in the end
//! let proxy = RecordingProxy::start(&auth0.url(), &authority)?;  // what `endpoints` names; faults are injected here
//! let issuer = Issuer::discover(&auth0.issuer(), &authority).await?;
//! # Ok(()) }
//! ```
//!
//! What goes wrong on the way (slow, cut, 429, 500, a reply that is lost at the n-th call) is the proxy's part. What a
//! tenant itself can do is set here: [`Auth0::limit`] (rate limits by route), [`Auth0::hold`] (entity limits),
//! [`Auth0::give_operator`] (missing scopes), [`Auth0::answer_with_unknown_fields`], [`Auth0::advance`] (its clock),
//! [`Auth0::publish`] (client metadata documents), [`Auth0::set_action`] (what an action decides).
//!
//! There are users with a password in one database connection, which is promoted to domain level unless the setup says
//! otherwise. Organizations, MFA, rules and the token vault are not imitated.

mod access;
mod actions;
mod authorize;
mod cimd;
mod clients;
mod clock;
mod connections;
mod dashboard;
mod errors;
mod exchange_profiles;
mod grants;
mod keys;
mod limits;
mod management;
mod metadata;
mod pages;
mod registration;
mod remote;
mod resource_servers;
mod roles;
mod routes;
mod schema;
mod server;
mod sessions;
mod settings;
mod table;
mod tenant;
#[cfg(test)]
mod tests;
mod token;
mod web;
mod wire;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use secrecy::SecretString;
use serde_json::json;
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_rustls::TlsAcceptor;

use self::{
    clients::{Client, credentials::Credential},
    clock::Clock,
    connections::Connection,
    keys::Keys,
    limits::Limits,
    server::{Core, Shared},
    tenant::{Place, Tenant, User, random_id},
    web::Web,
    wire::{Object, object, text},
};
use crate::pki::Authority;

pub use actions::{Event, Rule, Verdict};
pub use dashboard::Dashboard;
pub use limits::{Entity, Rate};
pub use remote::{Remote, bears};

/// A tenant. It ends when it is dropped.
pub struct Auth0 {
    shared: Arc<Shared>,
    serving: AbortHandle,
    operator: Machine,
    connection: String,
}

/// An application that calls in its own name.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its client id.
    pub client_id: String,
    /// Its secret, for `client_secret_post`.
    pub client_secret: SecretString,
}

/// What a tenant is like before anybody touches it.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Where it listens.
    pub host: Ipv4Addr,
    /// Whether it had third-party clients before April 2026: then clients are permissive unless they say otherwise.
    pub legacy: bool,
    /// Whether its connection is promoted to domain level, so that users can sign in at third-party clients.
    pub domain_connection: bool,
    /// Whether it has a custom domain, which is `localhost`.
    pub custom_domain: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST,
            legacy: false,
            domain_connection: true,
            custom_domain: false,
        }
    }
}

impl Auth0 {
    /// Starts one on a port of its own, with a certificate of `authority`, and with an application for the operator that
    /// has every scope of the Management API.
    pub async fn start(authority: &Authority, setup: Setup) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((setup.host, 0)).await?;
        let address = listener.local_addr()?;
        let domain = address.to_string();
        let place = Place {
            domain: domain.clone(),
            host: domain.clone(),
        };
        let certificate = authority.server_certificate_at(&setup.host.to_string())?;
        let tls = TlsAcceptor::from(certificate.tls_config()?);
        let clock = Clock::start();
        let mut tenant = Tenant::new(&place, setup.legacy);
        let connection = Connection::new(
            "Username-Password-Authentication",
            "auth0",
            setup.domain_connection,
        );
        let connection_id = connection.id().to_owned();
        tenant.connections.insert(connection);
        let operator = machine();
        let credentials = Machine {
            client_id: operator.id().to_owned(),
            client_secret: SecretString::from(operator.secret.current()),
        };
        tenant.clients.insert(operator);
        let shared = Arc::new(Shared::new(Core {
            custom_domain: setup
                .custom_domain
                .then(|| format!("localhost:{}", address.port())),
            domain,
            keys: Keys::new()?,
            limits: Mutex::new(Limits::new(clock.now())),
            clock,
            web: Web::new(authority.trust()),
            tenant: Mutex::new(tenant),
            unknown_fields: AtomicBool::new(false),
            lists_none: AtomicBool::new(false),
        }));
        let serving = tokio::spawn(server::serve(listener, tls, Arc::clone(&shared))).abort_handle();
        let tenant = Self {
            shared,
            serving,
            operator: credentials,
            connection: connection_id,
        };
        tenant.give_operator_all_but("");
        Ok(tenant)
    }

    /// Its domain, with the port.
    pub fn domain(&self) -> &str {
        &self.shared.domain
    }

    /// Its custom domain, with the port, if it has one.
    pub fn custom_domain(&self) -> Option<&str> {
        self.shared.custom_domain.as_deref()
    }

    /// `https://` and its domain.
    pub fn url(&self) -> String {
        format!("https://{}", self.domain())
    }

    /// `iss` of tokens that were got at its canonical domain, with a slash at the end.
    pub fn issuer(&self) -> String {
        self.shared.place.issuer()
    }

    /// The audience of the Management API.
    pub fn management_audience(&self) -> String {
        self.shared.place.management()
    }

    /// The operator's application.
    pub fn operator(&self) -> &Machine {
        &self.operator
    }

    /// From now on new tokens of the operator have these scopes of the Management API, and no other.
    pub fn give_operator(&self, scopes: &[&str]) {
        let audience = self.management_audience();
        let mut tenant = self.shared.tenant();
        let own = |grant: &Object| {
            text(grant, "client_id") == self.operator.client_id && text(grant, "audience") == audience
        };
        tenant.grants.remove(own);
        tenant.grants.insert(object(json!({
            "id": random_id("cgr_", 16), "client_id": self.operator.client_id, "audience": audience,
            "scope": scopes, "subject_type": "client",
        })));
    }

    /// The same for all scopes but one.
    pub fn give_operator_all_but(&self, missing: &str) {
        let scopes = tenant::management_scopes();
        let scopes: Vec<&str> = scopes
            .iter()
            .map(String::as_str)
            .filter(|scope| *scope != missing)
            .collect();
        self.give_operator(&scopes);
    }

    /// From now on the operator's application authenticates with this public key (in PEM) only, under this id.
    pub fn authenticate_operator_with(&self, pem: &str, kid: &str) -> anyhow::Result<()> {
        let body = object(json!({"credential_type": "public_key", "pem": pem, "alg": "RS256", "kid": kid}));
        let key = Credential::new(&body, self.shared.clock.now());
        let key =
            key.map_err(|_| anyhow::anyhow!("this is no public RSA key with an id of 10 to 64 letters"))?;
        let mut tenant = self.shared.tenant();
        let operator = tenant
            .clients
            .find_mut(|client| client.id() == self.operator.client_id);
        let operator = operator.context("the operator's application is gone")?;
        operator.fields.remove("token_endpoint_auth_method");
        operator.use_keys(&[key.id().to_owned()]);
        operator.credentials = vec![key];
        Ok(())
    }

    /// Another administrator, to make what is somebody else's, to drift, and to look.
    pub fn dashboard(&self) -> Dashboard {
        Dashboard::new(&self.shared)
    }

    /// Somebody who can sign in; the id, which is `sub` of tokens.
    pub fn add_user(&self, username: &str, password: &SecretString) -> String {
        let id = random_id("auth0|", 24);
        self.shared.tenant().users.insert(User {
            id: id.clone(),
            username: username.to_owned(),
            password: password.clone(),
            connection: self.connection.clone(),
            roles: std::collections::BTreeSet::new(),
        });
        id
    }

    /// The id of the connection that users are in.
    pub fn connection(&self) -> &str {
        &self.connection
    }

    /// Limits a route of the Management API (`GET /clients/{id}`), all of it (an empty route), or another endpoint
    /// (`POST /oauth/token`).
    pub fn limit(&self, route: &str, rate: Rate) {
        let now = self.shared.clock.now();
        self.shared.limits().set(route, rate, now);
    }

    /// How many of these the tenant holds at most.
    pub fn hold(&self, entity: Entity, most: usize) {
        self.shared.tenant().capacity.set(entity, most);
    }

    /// Moves the tenant's clock on. It ends tokens and codes, fills buckets, and finishes what takes time.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// For how long the secret before the present one goes on being accepted; not at all unless this is set. A live
    /// tenant takes up to 30 seconds to forget it.
    pub fn overlap_secrets(&self, by: Duration) {
        self.shared.tenant().secret_overlap = by;
    }

    /// Whether answers hold fields that no documentation of today names.
    pub fn answer_with_unknown_fields(&self, yes: bool) {
        self.shared.unknown_fields.store(yes, Ordering::SeqCst);
    }

    /// Whether metadata lists `none` among the ways of authentication at the token endpoint.
    pub fn list_none(&self, yes: bool) {
        self.shared.lists_none.store(yes, Ordering::SeqCst);
    }

    /// What the action with this name decides about subject tokens.
    pub fn set_action(&self, name: &str, rule: impl Fn(&Event) -> Verdict + Send + Sync + 'static) {
        self.shared.tenant().rules.insert(name.to_owned(), Arc::new(rule));
    }

    /// Lets the tenant find a host of the web at this address; others do not exist for it. The port is that of the URL.
    pub fn publish(&self, host: &str, address: SocketAddr) {
        self.shared.web.publish(host, address);
    }

    /// The secret of a client, to look for where none may be.
    pub fn secret_of(&self, client_id: &str) -> anyhow::Result<SecretString> {
        let tenant = self.shared.tenant();
        let client = tenant.clients.find(|client| client.id() == client_id);
        let client = client.with_context(|| format!("there is no client {client_id}"))?;
        Ok(SecretString::from(client.secret.current()))
    }
}

impl Drop for Auth0 {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The application that a platform team makes by hand for the operator.
fn machine() -> Client {
    let fields = object(json!({
        "name": "operator", "app_type": "non_interactive", "is_first_party": true, "oidc_conformant": true,
        "grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_post",
        "jwt_configuration": {"secret_encoded": false, "alg": "RS256"},
    }));
    Client::new(fields, Object::new())
}
