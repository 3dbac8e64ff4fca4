//! Reading APIs and their scopes, and the clients that are linked to them; see the module [`super::observe`].

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Auth0,
    admin::{List, Pages},
    diff, grants,
    mark::{api_holder, may_have_profiles, text},
    memory::Known,
    observe::{absent, escaped, observed, since},
    profiles,
};
use crate::provider::{
    Call, Holder, ObservedClient, ObservedScopes, Presence, ProviderError, Read, ScopeOwner, Scopes,
    scope_key,
};

impl Auth0 {
    /// See [`crate::provider::Provider::observe_resource`].
    pub(super) async fn resource(&self, resource: &str, read: Read) -> Result<ObservedClient, ProviderError> {
        if self.is_address_of_tenant(resource) {
            return Ok(ObservedClient {
                presence: Presence::Held(Holder::BuiltIn),
                ..absent()
            });
        }
        let since = since(read);
        let Some(api) = self.one_api(resource, read).await? else {
            return Ok(absent());
        };
        if matches!(read, Read::Within(_)) {
            self.list_clients(since, None).await?;
        }
        let client = match text(&api, "client_id") {
            "" => None,
            id => self.one_client(id, since).await?,
        };
        let grants = match &client {
            Some(client) => self.grants(text(client, "client_id"), read).await?,
            None => Value::Null,
        };
        let client = client.map_or(Value::Null, |client| (*client).clone());
        let holder = api_holder(&api, &client, &self.ours, |id| self.is_operator(id));
        let mut raw = json!({"api": *api, "client": client, "grants": grants});
        if self.exchanges_by_action || may_have_profiles(&client) {
            let mut known = self.profiles(read).await?;
            for name in ["profiles", "actions"] {
                raw[name] = known[name].take();
            }
        }
        Ok(observed(&client, holder, raw))
    }

    /// Whether it is an address of the tenant itself: Auth0 keeps those for its own APIs, makes some of them when somebody
    /// first asks, and puts its userinfo endpoint into the audience of tokens for others.
    fn is_address_of_tenant(&self, resource: &str) -> bool {
        [&self.realm, &self.issuer]
            .iter()
            .any(|own| resource.starts_with(own.as_str()))
    }

    /// An API by its identifier.
    async fn one_api(&self, identifier: &str, read: Read) -> Result<Known, ProviderError> {
        let since = since(read);
        if matches!(read, Read::Within(_)) {
            self.list_apis(since).await?;
        }
        let known = self.memory().apis.recall(identifier, since);
        // Pages by number can miss one while others are deleted: what they do not have is asked for.
        if let Some(Some(api)) = known {
            return Ok(Some(api));
        }
        let asked = Instant::now();
        let path = format!("/resource-servers/{}", escaped(identifier));
        let api = self.admin.get("read_resource_server", &path, &[]).await?;
        // An id is as good as an identifier there.
        let api = api
            .filter(|api| text(api, "identifier") == identifier)
            .map(Arc::new);
        self.memory().apis.keep(identifier, asked, api.clone());
        Ok(api)
    }

    /// Reads the list of APIs, unless another has while this waited.
    async fn list_apis(&self, since: Option<Instant>) -> Result<(), ProviderError> {
        let _one_at_a_time = self.listing.lock().await;
        if self.memory().apis.is_listed(since) {
            return Ok(());
        }
        let asked = Instant::now();
        let apis = self
            .admin
            .list(&List {
                operation: "list_resource_servers",
                path: "/resource-servers",
                name: "resource_servers",
                pages: Pages::Offset,
                query: &[],
            })
            .await?;
        let rows = apis
            .into_iter()
            .map(|api| (text(&api, "identifier").to_owned(), api));
        self.memory().apis.keep_list(asked, rows);
        Ok(())
    }

    /// Profiles of this installation's servers, and the actions that profiles can name.
    async fn profiles(&self, read: Read) -> Result<Value, ProviderError> {
        let since = since(read);
        // Many ask at once when an operator starts.
        let _one_at_a_time = self.listing.lock().await;
        let known = self
            .profiles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .filter(|(asked, _)| Some(*asked) >= since)
            .map(|(_, known)| known.clone());
        if let Some(known) = known {
            return Ok(known);
        }
        let asked = Instant::now();
        let found = self
            .admin
            .list(&List {
                operation: "list_token_exchange_profiles",
                path: profiles::PROFILES,
                name: "token_exchange_profiles",
                pages: Pages::Checkpoint,
                query: &[],
            })
            .await?;
        let actions = self
            .admin
            .list(&List {
                operation: "list_actions",
                path: profiles::ACTIONS,
                name: "actions",
                pages: Pages::Numbered,
                query: &[("triggerId", profiles::TRIGGER)],
            })
            .await?;
        let read = profiles::known_of(&found, &actions);
        *self.profiles.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, read.clone()));
        Ok(read)
    }

    /// See [`crate::provider::Provider::observe_scopes`].
    pub(super) async fn scopes(&self, read: Read) -> Result<ObservedScopes, ProviderError> {
        let since = since(read);
        self.list_apis(since).await?;
        self.list_clients(since, None).await?;
        let written = self.memory().apis.outdated();
        for identifier in written {
            self.one_api(&identifier, Read::Alone(Duration::MAX)).await?;
        }
        let version = {
            let memory = self.memory();
            (memory.apis.version(), memory.linked_version())
        };
        let mut made = self.scopes.lock().await;
        if let Some((_, scopes)) = made.as_ref().filter(|(of, _)| *of == version) {
            return Ok(Arc::clone(scopes));
        }
        let scopes = Arc::new(Scopes::of_audiences(self.build_scopes().await?));
        *made = Some((version, Arc::clone(&scopes)));
        Ok(scopes)
    }

    /// An API itself is among them by its identifier alone.
    async fn build_scopes(&self) -> Result<BTreeMap<String, Arc<ScopeOwner>>, ProviderError> {
        let apis: Vec<Arc<Value>> = self
            .memory()
            .apis
            .rows()
            .map(|(_, api)| Arc::clone(api))
            .collect();
        let mut scopes = BTreeMap::new();
        for api in apis {
            let client = match text(&api, "client_id") {
                "" => None,
                id => self.one_client(id, None).await?,
            };
            let client = client.as_deref().unwrap_or(&Value::Null);
            let holder = api_holder(&api, client, &self.ours, |id| self.is_operator(id));
            let identifier = text(&api, "identifier");
            let of_it = Arc::new(ScopeOwner {
                holder: holder.clone(),
                raw: Value::Null,
            });
            for scope in diff::list(&api["scopes"]) {
                scopes.insert(scope_key(identifier, text(scope, "value")), Arc::clone(&of_it));
            }
            let raw = json!({"api": *api, "client": client});
            scopes.insert(identifier.to_owned(), Arc::new(ScopeOwner { holder, raw }));
        }
        Ok(scopes)
    }

    /// Removes an API, and before it all its grants, whoever's they are: they would count again for whoever uses the
    /// identifier next.
    pub(super) async fn remove_api(&self, call: &Call) -> Result<(), ProviderError> {
        let identifier = call.body.as_ref().map_or("", |body| text(body, "identifier"));
        let grants = self.ask_for_grants(&[("audience", identifier)]).await?;
        for call in grants::removal(&Value::Array(grants)) {
            let result = self.admin.write(&call).await;
            self.note(&call, &result);
            result?;
        }
        let call = Call {
            body: None,
            ..call.clone()
        };
        self.admin.write(&call).await?;
        Ok(())
    }
}
