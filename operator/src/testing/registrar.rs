//! An authorization server in memory at which one can only register.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;

use super::Writes;
use crate::provider::{
    Credential, ProviderError,
    registration::{Asked, Demand, Information, Managed, Method, Offered, Registrar, Told, Unregistered},
};

/// A client there.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) secret: String,
    /// By which it is managed.
    pub(crate) token: String,
    /// What it is registered as.
    pub(crate) asked: Asked,
    /// When its secret ends.
    pub(crate) expires: Option<Timestamp>,
}

#[derive(Default)]
struct State {
    clients: BTreeMap<String, Registered>,
    /// How many ids, secrets and tokens were given.
    given: usize,
    unmanaged: bool,
    shown: Vec<String>,
    /// How many answers to writes are lost from now on, after what was asked for was done.
    loses: usize,
    /// What it makes of what it is asked for.
    alters: Option<fn(&mut Asked)>,
    expires: Option<Timestamp>,
}

/// The server.
#[derive(Clone, Default)]
pub(crate) struct FakeRegistrar {
    state: Arc<Mutex<State>>,
    offered: Offered,
    writes: Writes,
}

fn lost() -> ProviderError {
    ProviderError::Unreachable {
        why: "the answer is lost".into(),
        retry_after: None,
    }
}

impl FakeRegistrar {
    pub(crate) fn new(writes: Writes) -> Self {
        Self {
            writes,
            ..Self::default()
        }
    }

    /// All clients.
    pub(crate) fn clients(&self) -> BTreeMap<String, Registered> {
        self.lock().clients.clone()
    }

    /// The secrets that it gave, and those that it was shown.
    pub(crate) fn shown(&self) -> Vec<String> {
        let state = self.lock();
        let given = state.clients.values().map(|client| client.secret.clone());
        given.chain(state.shown.iter().cloned()).collect()
    }

    /// Changes a client behind our back.
    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut Registered)) {
        change(self.lock().clients.get_mut(id).unwrap());
    }

    /// Removes a client behind our back.
    pub(crate) fn forget(&self, id: &str) {
        self.lock().clients.remove(id);
    }

    /// It lets nobody manage anything.
    pub(crate) fn without_management(&self) {
        self.lock().unmanaged = true;
    }

    /// So many answers are lost.
    pub(crate) fn lose(&self, count: usize) {
        self.lock().loses = count;
    }

    /// What it makes of what it is asked for from now on.
    pub(crate) fn alter(&self, alters: Option<fn(&mut Asked)>) {
        self.lock().alters = alters;
    }

    /// When secrets end that it gives from now on.
    pub(crate) fn let_expire(&self, at: Timestamp) {
        self.lock().expires = Some(at);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn next(&mut self, what: &str) -> String {
        self.given += 1;
        format!("{what}-{}", self.given)
    }

    fn information(&self, id: &str) -> Information {
        let client = &self.clients[id];
        let is_public = client.asked.method == Method::None;
        Information {
            client_id: id.to_owned(),
            secret: (!is_public).then(|| Credential::new(client.secret.clone())),
            secret_expires: client.expires,
            managed: (!self.unmanaged).then(|| Managed {
                client_id: id.to_owned(),
                uri: Credential::new(format!("https://as.example/reg/{id}")),
                token: Credential::new(client.token.clone()),
            }),
            told: Told::of(&client.asked.document()),
        }
    }

    fn altered(&self, asked: &Asked) -> Asked {
        let mut asked = asked.clone();
        if let Some(alter) = self.alters {
            alter(&mut asked);
        }
        asked
    }

    fn is_lost(&mut self) -> bool {
        let is_lost = self.loses > 0;
        self.loses = self.loses.saturating_sub(1);
        is_lost
    }

    fn known(&self, managed: &Managed) -> Result<(), ProviderError> {
        let client = self.clients.get(&managed.client_id);
        match client.filter(|client| client.token == managed.token.expose()) {
            Some(_) => Ok(()),
            None => Err(ProviderError::Gone { operation: "test" }),
        }
    }
}

#[async_trait]
impl Registrar for FakeRegistrar {
    fn realm(&self) -> &'static str {
        "https://as.example/reg"
    }

    fn offered(&self) -> &Offered {
        &self.offered
    }

    async fn register(&self, asked: &Asked) -> Result<Information, Unregistered> {
        if !self.writes.happens() {
            return Err(Unregistered {
                error: ProviderError::NotLeading,
                may_exist: false,
            });
        }
        let mut state = self.lock();
        let (id, secret, token) = (state.next("id"), state.next("secret"), state.next("token"));
        let client = Registered {
            secret,
            token,
            asked: state.altered(asked),
            expires: state.expires,
        };
        state.clients.insert(id.clone(), client);
        if state.is_lost() {
            return Err(Unregistered {
                error: lost(),
                may_exist: true,
            });
        }
        Ok(state.information(&id))
    }

    async fn read(&self, managed: &Managed) -> Result<Information, ProviderError> {
        let state = self.lock();
        state.known(managed)?;
        Ok(state.information(&managed.client_id))
    }

    async fn update(
        &self,
        managed: &Managed,
        _: Option<&Credential>,
        asked: &Asked,
    ) -> Result<Information, ProviderError> {
        self.lock().known(managed)?;
        if !self.writes.happens() {
            return Err(ProviderError::NotLeading);
        }
        let mut state = self.lock();
        let (asked, token) = (state.altered(asked), state.next("token"));
        if let Some(client) = state.clients.get_mut(&managed.client_id) {
            (client.asked, client.token) = (asked, token);
        }
        if state.is_lost() {
            return Err(lost());
        }
        Ok(state.information(&managed.client_id))
    }

    async fn remove(&self, managed: &Managed) -> Result<(), ProviderError> {
        self.lock().known(managed)?;
        if !self.writes.happens() {
            return Err(ProviderError::NotLeading);
        }
        let mut state = self.lock();
        state.clients.remove(&managed.client_id);
        if state.is_lost() { Err(lost()) } else { Ok(()) }
    }

    /// Nothing is remembered, so that every pass reads.
    fn knows(&self, _: &str, _: Duration) -> bool {
        false
    }

    async fn accepts(&self, id: &str, secret: &Credential, _: Method) -> Result<bool, ProviderError> {
        self.lock().shown.push(secret.expose().to_owned());
        let clients = self.clients();
        let client = clients.get(id);
        Ok(client.is_some_and(|client| client.secret == secret.expose()))
    }

    async fn prove(
        &self,
        id: &str,
        secret: &Credential,
        method: Method,
        _: &Demand,
    ) -> Result<(), ProviderError> {
        if self.accepts(id, secret, method).await? {
            return Ok(());
        }
        Err(ProviderError::Unproved {
            why: "invalid_client".into(),
        })
    }
}
