//! What a call leaves to be read anew.

use std::sync::{Arc, PoisonError};

use serde_json::Value;
use tokio::time::Instant;

use super::{Auth0, mark, mark::text, settings};
use crate::provider::{Call, ProviderError, Verb};

impl Auth0 {
    /// Forgets what a call touched, also after a failure: it may have been carried out. What was created is remembered.
    pub(super) fn note(&self, call: &Call, result: &Result<Value, ProviderError>) {
        let now = Instant::now();
        let body = call.body.as_ref().unwrap_or(&Value::Null);
        let mut memory = self.memory();
        let mut path = call.path.trim_start_matches('/').split('/');
        match (path.next(), path.next()) {
            (Some("clients"), None) => {
                memory.apis.wrote(text(body, "resource_server_identifier"), now);
                match result {
                    Ok(client) => {
                        let id = text(client, "client_id").to_owned();
                        let client = Some(Arc::new(client.clone()));
                        memory.keep_client(&id, now, client, &self.ours);
                    }
                    Err(_) => {
                        if let Some(derived) = mark::derived_client_id(body, &self.ours) {
                            memory.may_have_made(&derived, now);
                        }
                    }
                }
            }
            (Some("clients"), Some("cimd")) => {
                self.documents().registered(text(body, "external_client_id"), now);
            }
            (Some("clients"), Some(id)) => {
                self.documents().wrote(id);
                memory.clients.wrote(id, now);
                memory.keys.wrote(id, now);
                if call.verb == Verb::Delete {
                    if result.is_ok() {
                        memory.probes.remove(id);
                    }
                    memory.grants.wrote(id, now);
                    memory.unlinked(id, now);
                }
            }
            (Some("client-grants"), None) => memory.grants.wrote(text(body, "client_id"), now),
            (Some("client-grants"), Some(id)) => memory.wrote_grant(id, now),
            (Some("resource-servers"), None) => memory.apis.wrote(text(body, "identifier"), now),
            (Some("resource-servers"), Some(id)) => memory.wrote_api(id, now),
            (Some("token-exchange-profiles"), _) => {
                *self.profiles.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            (Some("tenants"), _) => {
                *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = None;
                if settings::decides_who_registers(body) {
                    self.show(None);
                }
            }
            _ => {}
        }
    }
}
