//! Putting the keys of a client in force. Auth0 stores two at most, chooses an id for each, and takes those ids where a client
//! says which it uses: so it is done in steps, each of which can be repeated.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Auth0, diff,
    mark::text,
    plan::KEYS,
    render::{AUTH_METHOD, METHODS},
};
use crate::provider::{Call, ProviderError, Verb};

/// How many keys a client can have stored.
const MOST: usize = 2;

/// The keys of one client while they are changed.
struct Keys<'a> {
    auth0: &'a Auth0,
    call: &'a Call,
    client: &'a str,
    stored: Vec<Value>,
}

impl Auth0 {
    /// Carries out a call that puts exactly the keys of its body in force. Those that are missing are stored, then all of them
    /// become valid at once and others invalid, which are removed last.
    pub(super) async fn put_keys(&self, call: &Call) -> Result<(), ProviderError> {
        let wanted = call.body.as_ref().map_or(&Value::Null, |body| &body["keys"]);
        let kids: BTreeSet<&str> = diff::list(wanted).iter().map(|key| text(key, "kid")).collect();
        let is_wanted = |key: &Value| kids.contains(text(key, "kid"));
        let mut keys = Keys {
            auth0: self,
            call,
            client: call.path.trim_end_matches(KEYS),
            stored: self.stored_keys(&call.path).await?,
        };
        for key in diff::list(wanted) {
            if !keys
                .stored
                .iter()
                .any(|stored| text(stored, "kid") == text(key, "kid"))
            {
                keys.make_room(&is_wanted).await?;
                keys.store(key).await?;
            }
        }
        let valid: Vec<String> = keys.stored.iter().filter(|key| is_wanted(key)).map(id).collect();
        keys.use_only(&valid).await?;
        while let Some(place) = keys.stored.iter().position(|key| !is_wanted(key)) {
            keys.remove(place).await?;
        }
        Ok(())
    }

    /// The keys that a client has stored; Auth0 answers with a bare list.
    pub(super) async fn stored_keys(&self, path: &str) -> Result<Vec<Value>, ProviderError> {
        match self.admin.get("list_client_keys", path, &[]).await? {
            Some(Value::Array(keys)) => Ok(keys),
            Some(_) => Err(ProviderError::Malformed {
                operation: "list_client_keys",
                why: "it is no list",
            }),
            None => Err(ProviderError::Gone {
                operation: "list_client_keys",
            }),
        }
    }
}

fn id(key: &Value) -> String {
    text(key, "id").to_owned()
}

impl Keys<'_> {
    /// Removes one if there is no room for another, at best one that is out of use. None that is out of use is taken into use.
    async fn make_room(&mut self, is_wanted: &(dyn Fn(&Value) -> bool + Sync)) -> Result<(), ProviderError> {
        if self.stored.len() < MOST {
            return Ok(());
        }
        let client = self.auth0.admin.get("read_client", self.client, &[]).await?;
        let used = client.unwrap_or_default()[METHODS]["private_key_jwt"]["credentials"].take();
        let is_used = |key: &Value| diff::list(&used).iter().any(|used| id(used) == id(key));
        let stored = &self.stored;
        let unused = stored.iter().position(|key| !is_wanted(key) && !is_used(key));
        let Some(place) = unused.or_else(|| stored.iter().position(|key| !is_wanted(key))) else {
            return Ok(());
        };
        if unused.is_none() {
            let gone = id(&stored[place]);
            let rest: Vec<String> = stored.iter().map(id).filter(|key| *key != gone).collect();
            self.use_only(&rest).await?;
        }
        self.remove(place).await
    }

    async fn store(&mut self, key: &Value) -> Result<(), ProviderError> {
        let call = self.step(Verb::Post, self.call.path.clone(), Some(key.clone()));
        self.stored.push(self.auth0.admin.write(&call).await?);
        Ok(())
    }

    async fn use_only(&self, ids: &[String]) -> Result<(), ProviderError> {
        let credentials: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        // A secret and keys exclude each other.
        let body = json!({METHODS: {"private_key_jwt": {"credentials": credentials}}, AUTH_METHOD: null});
        let call = self.step(Verb::Patch, self.client.to_owned(), Some(body));
        self.auth0.admin.write(&call).await?;
        Ok(())
    }

    async fn remove(&mut self, place: usize) -> Result<(), ProviderError> {
        let path = format!("{}/{}", self.call.path, id(&self.stored[place]));
        self.auth0
            .admin
            .write(&self.step(Verb::Delete, path, None))
            .await?;
        self.stored.remove(place);
        Ok(())
    }

    fn step(&self, verb: Verb, path: String, body: Option<Value>) -> Call {
        Call {
            verb,
            path,
            body,
            ..self.call.clone()
        }
    }
}
