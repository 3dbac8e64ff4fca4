//! Reading, with the least work: what many ask for is read once for all, and what was read a moment ago is not read
//! again.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    Keycloak,
    admin::{Get, ROLE},
    mark::{client_holder, text},
    memory::{ClientList, Known, Recall},
    overlap,
    render::{AUTHENTICATOR, BY_SECRET},
};
use crate::provider::{
    Credential, ObservedClient, ObservedLimits, ObservedScopes, Presence, ProviderError, Read,
    http::{LIST, ONE},
};

/// How many clients are asked for at a time.
const PAGE: usize = 100;

/// More pages than any realm has; who answers with more never ends.
const MOST_PAGES: usize = 2000;

/// For how long having seen any client proves that the operator sees clients at all.
const SIGHT: Duration = Duration::from_secs(10);

/// Since when a question may have been sent whose answer will do; `None`: any time.
pub(super) fn since(read: Read) -> Option<Instant> {
    match read {
        Read::Fresh => Some(Instant::now()),
        // Further back than the clock reaches.
        Read::Within(age) | Read::Alone(age) => Instant::now().checked_sub(age),
    }
}

impl Keycloak {
    pub(super) async fn client(&self, client_id: &str, read: Read) -> Result<ObservedClient, ProviderError> {
        let known = match read {
            Read::Fresh => self.ask_for_client(client_id, Duration::ZERO).await?,
            Read::Within(_) | Read::Alone(_) => match self.recall_client(client_id, read).await? {
                Some(known) => known,
                None => self.ask_for_client(client_id, SIGHT).await?,
            },
        };
        Ok(self.observed(known))
    }

    /// From memory; the list of our clients is renewed for that if it is too old, which takes seconds where there are
    /// thousands.
    async fn recall_client(&self, client_id: &str, read: Read) -> Result<Option<Known>, ProviderError> {
        let since = since(read);
        let recall = || self.clients().recall(client_id, since);
        let known = recall();
        let may_be_listed = client_id.starts_with(&self.client_ids) && !matches!(read, Read::Alone(_));
        if known.is_some() || !may_be_listed {
            return Ok(known);
        }
        let _one_at_a_time = self.listing_clients.lock().await;
        if !self.clients().has_list(since) {
            self.list_clients().await?;
        }
        Ok(recall())
    }

    /// All clients of the realm, whosever they are.
    pub(super) async fn all_clients(&self) -> Result<Vec<Value>, ProviderError> {
        let (mut clients, mut known) = (Vec::new(), HashSet::new());
        let add = |page: Vec<Value>| {
            let before = clients.len();
            clients.extend(page.into_iter().filter(|client| {
                let id = text(client, "id").unwrap_or_default();
                known.insert(id.to_owned())
            }));
            clients.len() > before
        };
        self.pages(&[], add).await?;
        Ok(clients)
    }

    async fn list_clients(&self) -> Result<(), ProviderError> {
        let mut list = ClientList::new(Instant::now());
        let ours = [("clientId", self.client_ids.as_str()), ("search", "true")];
        self.pages(&ours, |page| list.add(&page)).await?;
        self.clients().keep_list(list);
        Ok(())
    }

    /// Gives the clients that a query finds to `add`, page by page; that says whether a page brought anything new.
    async fn pages(
        &self,
        query: &[(&str, &str)],
        mut add: impl FnMut(Vec<Value>) -> bool + Send,
    ) -> Result<(), ProviderError> {
        let most = PAGE.to_string();
        for page in 0..MOST_PAGES {
            let first = (page * PAGE).to_string();
            let part = [("first", first.as_str()), ("max", most.as_str())];
            let found = self
                .find_clients("list_clients", &[query, &part].concat())
                .await?;
            let full = found.len() >= PAGE;
            // A page that brings nothing new is one of a server that does not know of pages.
            if !add(found) || !full {
                return Ok(());
            }
        }
        Err(ProviderError::Malformed {
            operation: "list_clients",
            why: "it does not end",
        })
    }

    /// Asks for exactly one client. That there is none is believed only if the operator has seen any client within
    /// `sight`: who may only query clients is answered by an empty list, not by a refusal.
    async fn ask_for_client(&self, client_id: &str, sight: Duration) -> Result<Known, ProviderError> {
        let asked = Instant::now();
        let mut found = self.find_client(client_id).await?;
        let renamed = self.clients().renamed(client_id);
        if let (None, Some(id)) = (&found, renamed) {
            found = self.read_one("read_client", &format!("/clients/{id}")).await?;
        }
        if found.is_none() && !self.has_seen_clients_within(sight) && !self.sees_itself().await? {
            // Roles are those of the token's issue time.
            self.admin.tokens.forget_any().await;
            if !self.sees_itself().await? {
                return Err(ProviderError::Forbidden {
                    operation: "read_client",
                    permission: ROLE,
                });
            }
            found = self.find_client(client_id).await?;
        }
        self.clients().keep(client_id, asked, found.as_ref());
        Ok(found)
    }

    /// The client with exactly this client id.
    pub(super) async fn find_client(&self, client_id: &str) -> Result<Option<Value>, ProviderError> {
        let found = self
            .find_clients("read_client", &[("clientId", client_id)])
            .await?;
        Ok(found
            .into_iter()
            .find(|client| text(client, "clientId") == Some(client_id)))
    }

    async fn find_clients(
        &self,
        operation: &'static str,
        query: &[(&str, &str)],
    ) -> Result<Vec<Value>, ProviderError> {
        let found = self
            .list(&Get {
                operation,
                path: "/clients",
                query,
                limit: LIST,
            })
            .await?;
        if !found.is_empty() {
            *self
                .saw_clients
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
        }
        Ok(found)
    }

    fn has_seen_clients_within(&self, sight: Duration) -> bool {
        let saw = *self
            .saw_clients
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        !sight.is_zero() && saw.is_some_and(|saw| saw.elapsed() < sight)
    }

    async fn sees_itself(&self) -> Result<bool, ProviderError> {
        Ok(self
            .find_client(&self.admin.tokens.identity.client_id)
            .await?
            .is_some())
    }

    pub(super) async fn scopes(&self, read: Read) -> Result<ObservedScopes, ProviderError> {
        // Of those who want the list of this moment and wait for one another, the second reads for all the others.
        let since = since(read);
        let recall = || self.known_scopes().recall(since);
        if let Recall::Known(scopes) = recall() {
            return Ok(scopes);
        }
        let _one_at_a_time = self.listing_scopes.lock().await;
        match recall() {
            Recall::Known(scopes) => return Ok(scopes),
            Recall::All => {}
            Recall::Few(ids) => {
                for id in ids {
                    let asked = Instant::now();
                    let scope = self
                        .read_one("read_scope", &format!("/client-scopes/{id}"))
                        .await?;
                    self.known_scopes().keep(&id, asked, scope);
                }
                if let Recall::Known(scopes) = recall() {
                    return Ok(scopes);
                }
            }
        }
        self.list_scopes().await
    }

    async fn list_scopes(&self) -> Result<ObservedScopes, ProviderError> {
        let asked = Instant::now();
        let get = Get {
            operation: "list_scopes",
            path: "/client-scopes",
            query: &[],
            limit: LIST,
        };
        let mut scopes = self.list(&get).await?;
        // Every realm has some. Who may only query clients is shown none.
        if scopes.is_empty() && !self.sees_itself().await? {
            self.admin.tokens.forget_any().await;
            if !self.sees_itself().await? {
                return Err(ProviderError::Forbidden {
                    operation: "list_scopes",
                    permission: ROLE,
                });
            }
            scopes = self.list(&get).await?;
        }
        Ok(self.known_scopes().keep_list(asked, scopes))
    }

    async fn list(&self, get: &Get<'_>) -> Result<Vec<Value>, ProviderError> {
        match self.admin.get(get).await? {
            Some(Value::Array(found)) => Ok(found),
            Some(_) => Err(ProviderError::Malformed {
                operation: get.operation,
                why: "it is no list",
            }),
            // The realm itself is missing.
            None => Err(ProviderError::Rejected {
                operation: get.operation,
                status: 404,
                code: String::new(),
            }),
        }
    }

    pub(super) async fn read_one(
        &self,
        operation: &'static str,
        path: &str,
    ) -> Result<Option<Value>, ProviderError> {
        self.admin
            .get(&Get {
                operation,
                path,
                query: &[],
                limit: ONE,
            })
            .await
    }

    /// What a client's representation says. A scope on it that the list of scopes does not have means that the list is
    /// old: the next who needs scopes reads it again.
    fn observed(&self, known: Known) -> ObservedClient {
        let Some(raw) = known else {
            return ObservedClient {
                presence: Presence::Absent,
                client_id: None,
                secret: None,
                is_public: false,
                secret_expires: None,
                keys: BTreeSet::new(),
                raw: None,
                limits: ObservedLimits::Unmarked,
            };
        };
        let names = ["defaultClientScopes", "optionalClientScopes"];
        let mut known_scopes = self.known_scopes();
        if !known_scopes.knows(
            names
                .into_iter()
                .flat_map(|list| super::diff::texts(raw.get(list))),
        ) {
            known_scopes.forget();
        }
        let by_secret = text(&raw, AUTHENTICATOR).is_none_or(|by| by == BY_SECRET);
        ObservedClient {
            presence: Presence::Held(client_holder(&raw, |id| self.admin.http.limits.is_operator(id))),
            client_id: text(&raw, "clientId").map(str::to_owned),
            // Keycloak keeps one that a client had before, and makes one up for a client that has none.
            secret: text(&raw, "secret").filter(|_| by_secret).map(Credential::new),
            is_public: raw["publicClient"] == true,
            secret_expires: overlap::expires(&raw),
            keys: overlap::keys(&raw),
            raw: Some(raw),
            limits: ObservedLimits::Unmarked,
        }
    }
}

/// What of a client matters to a plan, where its representation came with something else.
pub(super) fn seen(raw: &Value) -> ObservedClient {
    let there = !raw.is_null();
    ObservedClient {
        presence: if there {
            Presence::Held(client_holder(raw, |_| false))
        } else {
            Presence::Absent
        },
        client_id: text(raw, "clientId").map(str::to_owned),
        secret: None,
        is_public: false,
        secret_expires: None,
        keys: BTreeSet::new(),
        raw: there.then(|| raw.clone()),
        limits: ObservedLimits::Unmarked,
    }
}
