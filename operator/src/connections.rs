//! The authorization servers that the operator is connected to.
//!
//! The controller of AuthorizationServer makes and drops connections; all others look them up, and are woken when
//! one changes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::Stream;
use kube::runtime::reflector::ObjectRef;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, DiscoveredMetadata};
use mcp_auth_gate_core::document::{ExchangeBy, TokenType};
use tokio::time::Instant;

use crate::{
    provider::{Access, Provider, discovery::Discovered, registration::Registrar},
    wakes::Wakes,
};

/// Longer than any check is believed.
const LONG: Duration = Duration::from_hours(24);

/// What can be done at an authorization server.
#[derive(Clone)]
pub enum Side {
    /// It is administered: clients and resources can be found, made, changed and removed.
    Administered(Arc<dyn Provider>),
    /// One can register there, and nothing else.
    Registering(Arc<dyn Registrar>),
}

/// A connection to an authorization server, checked at least once.
pub struct Connection {
    /// UID of the AuthorizationServer: one of the same name that comes later is another.
    pub server: Option<String>,
    /// What to ask and tell it.
    pub side: Side,
    /// What it says of itself, as others need it.
    pub metadata: DiscoveredMetadata,
    /// All that it says of itself.
    pub discovered: Discovered,
    /// What the operator may do there.
    pub access: Access,
    /// Authorities that are trusted for it besides the built-in ones, in PEM.
    pub ca_bundle: Option<String>,
    /// What the connection was made from: while it stays the same, so does the connection.
    pub made_from: String,
    /// When metadata and access were checked last.
    pub checked: Mutex<Instant>,
}

impl Connection {
    /// The way to administer it, if there is one.
    pub fn provider(&self) -> Option<&dyn Provider> {
        match &self.side {
            Side::Administered(provider) => Some(&**provider),
            Side::Registering(_) => None,
        }
    }

    /// The way to register, where there is no other.
    pub fn registrar(&self) -> Option<&dyn Registrar> {
        match &self.side {
            Side::Administered(_) => None,
            Side::Registering(registrar) => Some(&**registrar),
        }
    }

    /// The realm or tenant, by the one spelling that all who mean it share.
    pub fn realm(&self) -> &str {
        match &self.side {
            Side::Administered(provider) => provider.realm(),
            Side::Registering(registrar) => registrar.realm(),
        }
    }

    /// What access tokens of this server call themselves, and nothing else that it issues does. Of a server that we know
    /// nothing of, that is what RFC 9068 section 2.1 has for it.
    pub fn token_types(&self) -> Vec<TokenType> {
        match &self.side {
            Side::Administered(provider) => provider.token_types(),
            Side::Registering(_) => vec![TokenType {
                header: "at+jwt".to_owned(),
                payload: None,
            }],
        }
    }

    /// What `aud` of such tokens may name besides the resource.
    pub fn other_audiences(&self) -> BTreeSet<String> {
        self.provider().map(Provider::other_audiences).unwrap_or_default()
    }

    /// How it is asked for exchanged tokens.
    pub fn exchange_by(&self) -> ExchangeBy {
        self.provider().map(Provider::exchange_by).unwrap_or_default()
    }

    /// Whether it was checked less than `age` ago.
    pub fn is_fresh(&self, now: Instant, age: Duration) -> bool {
        now.duration_since(*self.checked.lock().unwrap_or_else(PoisonError::into_inner)) < age
    }

    /// Notes that something may be other than it was found: it is not fresh any more.
    pub fn doubt(&self, now: Instant) {
        if let Some(long_ago) = now.checked_sub(LONG) {
            self.confirm(long_ago);
        }
    }

    /// Notes a check that found everything as it was.
    pub fn confirm(&self, now: Instant) {
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// All connections.
#[derive(Default)]
pub struct Connections {
    by_server: Mutex<HashMap<ObjectRef<AuthorizationServer>, Arc<Connection>>>,
    wakes: Wakes<AuthorizationServer>,
}

impl Connections {
    /// The connection of an AuthorizationServer.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Connection>> {
        self.lock().get(&ObjectRef::new(name).within(namespace)).cloned()
    }

    /// Sets the connection of an AuthorizationServer and wakes those who wait for it.
    pub fn set(&self, namespace: &str, name: &str, connection: Arc<Connection>) {
        let server = ObjectRef::new(name).within(namespace);
        self.lock().insert(server.clone(), connection);
        self.wakes.wake(&server);
    }

    /// Drops the connection of an AuthorizationServer.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.lock().remove(&ObjectRef::new(name).within(namespace));
    }

    /// Drops the connections for which `exists`, asked with the UID of the AuthorizationServer, says no.
    pub fn retain(&self, exists: impl Fn(Option<&str>) -> bool) {
        self.lock()
            .retain(|_, connection| exists(connection.server.as_deref()));
    }

    /// The AuthorizationServers whose connection is set from now on.
    pub fn subscribe(&self) -> impl Stream<Item = ObjectRef<AuthorizationServer>> + Send + use<> {
        self.wakes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef<AuthorizationServer>, Arc<Connection>>> {
        // Nothing in the critical sections can leave the map half-changed.
        self.by_server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
