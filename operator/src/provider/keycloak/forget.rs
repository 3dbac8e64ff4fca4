//! What is no longer known once it was written.

use tokio::time::Instant;

use super::{Keycloak, mark, registration};
use crate::provider::{Call, ProviderError, Verb};

impl Keycloak {
    /// Forgets what a call touched. Also after a failure: it may have been carried out.
    pub(super) fn forget(&self, call: &Call, result: &Result<(), ProviderError>) {
        let now = Instant::now();
        if registration::concerns(call) {
            self.remember_registration(None);
        }
        let created = |field: &str| call.body.as_ref().and_then(|body| mark::text(body, field));
        let mut path = call.path.trim_start_matches('/').split('/');
        match (path.next(), path.next()) {
            (Some("clients"), Some(id)) => {
                self.clients().wrote_id(id, now);
                // …/{list}/{scope}: if that failed, the scope may be another by now.
                if let (Some(scope), true) = (path.nth(1), result.is_err()) {
                    self.known_scopes().wrote(scope, now);
                }
            }
            (Some("clients"), None) => {
                let (Some(client_id), Some(id)) = (created("clientId"), created("id")) else {
                    return;
                };
                self.clients().wrote(client_id, now);
                if matches!(result, Err(ProviderError::Conflict { .. })) {
                    self.clients().note_renamed(client_id, id);
                }
            }
            (Some("client-scopes"), Some(id)) => {
                self.known_scopes().wrote(id, now);
                // A scope that is deleted goes from every client that had it.
                if call.verb == Verb::Delete && path.next().is_none() {
                    self.clients().wrote_all(now);
                }
            }
            (Some("client-scopes"), None) => {
                // Somebody else's scope of this name has another id.
                if result.is_err() {
                    self.known_scopes().forget();
                } else if let Some(id) = created("id") {
                    self.known_scopes().wrote(id, now);
                }
            }
            (Some("identity-provider"), _) => self.remember_trust(None),
            _ => {}
        }
    }
}
