//! The proof that who registers himself gets nothing that is closed. Only a user could show what a sign-in gives; what is
//! shown without one: that a client which registers like any other is a strict third-party one, as whom Auth0 lets nobody
//! at an API without a grant; that it was given no grant; and that the token endpoint refuses it one of our APIs and the
//! Management API in its own name.

use std::sync::PoisonError;

use k8s_openapi::jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Auth0,
    admin::rejected,
    mark::text,
    observe::{escaped, since},
    registration::{is_probe, probe_name, probe_removal},
};
use crate::provider::{
    Credential, Holder, ProviderError, Read, Registering, SettingsSpec,
    http::{Body, Effect, ONE, Request, Shown},
    token_endpoint::unproved,
};

/// What metrics call it.
const OPERATION: &str = "register_probe";

/// No user is ever sent there: the name leads nowhere (RFC 6761 section 6.4).
const CALLBACK: &str = "https://probe.invalid/callback";

/// When something was asked for, and what was shown.
pub(super) type Outcome = (Instant, Result<(), ProviderError>);

/// A client that registered itself.
struct Probe {
    id: String,
    secret: Credential,
}

impl Auth0 {
    /// See [`crate::provider::Provider::prove_closed`].
    pub(super) async fn closed_is_refused(&self, read: Read, now: Timestamp) -> Result<(), ProviderError> {
        let open = SettingsSpec {
            registration: Some(Registering::Open),
            ..SettingsSpec::default()
        };
        if !self.settings(open, read).await?.is_empty() {
            return Err(unproved(
                "the tenant does not let clients register themselves, or not as strict ones",
            ));
        }
        // Each costs the tenant a client for a moment, so it is not done again while the settings stay what they are.
        let asked = Instant::now();
        if let Some(shown) = self.recall_shown(read) {
            return shown;
        }
        let probe = self.register_probe().await?;
        let shown = self.is_held_off(&probe, read, now).await;
        let removal = probe_removal(&probe.id);
        let removed = self.admin.write(&removal).await;
        self.note(&removal, &removed);
        if is_answer(&shown) {
            self.show(Some((asked, shown.clone())));
        }
        shown?;
        removed.map(drop)
    }

    /// What was shown before: for good that it is refused, for a while that it is not.
    fn recall_shown(&self, read: Read) -> Option<Result<(), ProviderError>> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, shown) = shown.as_ref()?;
        (shown.is_ok() || Some(*asked) >= since(read)).then(|| shown.clone())
    }

    /// Remembers what was shown, or that nothing of it counts any more.
    pub(super) fn show(&self, shown: Option<Outcome>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// Registers one as anybody can, asking for more than it is to get.
    async fn register_probe(&self) -> Result<Probe, ProviderError> {
        let body = json!({
            "client_name": probe_name(&self.ours.installation),
            "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "client_secret_post",
            "grant_types": ["authorization_code", "client_credentials"],
            "response_types": ["code"],
        });
        let request = Request {
            operation: OPERATION,
            method: Method::POST,
            url: self.registration_endpoint.clone(),
            effect: Effect::Create,
            shown: Shown::Nothing,
            body: Body::Json(&body),
            limit: ONE,
        };
        let answer = self.admin.http.create(&request).await.map_err(|failure| {
            if failure.may_exist {
                self.memory().probes.may_have_made(Instant::now());
            }
            failure.error
        })?;
        if answer.status != StatusCode::CREATED {
            return Err(rejected(OPERATION, &answer));
        }
        let answer: Value = answer.json(OPERATION).unwrap_or_default();
        let (id, secret) = (text(&answer, "client_id"), text(&answer, "client_secret"));
        if id.is_empty() || secret.is_empty() {
            // Whatever the answer looks like, there is one.
            self.memory().probes.may_have_made(Instant::now());
            return Err(ProviderError::Malformed {
                operation: OPERATION,
                why: "it names no client with a secret",
            });
        }
        self.memory().probes.add(id);
        Ok(Probe {
            id: id.to_owned(),
            secret: Credential::new(secret),
        })
    }

    async fn is_held_off(&self, probe: &Probe, read: Read, now: Timestamp) -> Result<(), ProviderError> {
        let path = format!("/clients/{}", escaped(&probe.id));
        let client = self.admin.get("read_client", &path, &[]).await?;
        let client = client.ok_or(ProviderError::Gone { operation: OPERATION })?;
        if !is_strict(&client) {
            return Err(unproved(
                "a client that registers itself is no strict third-party client",
            ));
        }
        let grants = self.ask_for_grants(&[("client_id", &probe.id)]).await?;
        if !grants.is_empty() {
            return Err(unproved("a client that registers itself has a grant of its own"));
        }
        let prover = self.prover(now);
        for audience in [self.management_audience()]
            .iter()
            .chain(&self.one_of_ours(read).await?)
        {
            prover.refuses(&probe.id, &probe.secret, audience).await?;
        }
        Ok(())
    }

    fn management_audience(&self) -> String {
        format!("{}api/v2/", self.realm)
    }

    /// An API of ours, if there is one: no client that registers itself gets a token for it in its own name.
    async fn one_of_ours(&self, read: Read) -> Result<Option<String>, ProviderError> {
        let scopes = self.scopes(read).await?;
        let is_ours = |holder: &Holder| matches!(holder, Holder::Marked(mark) if mark.installation == self.ours.installation);
        let mut apis = scopes.iter().filter(|(key, _)| !key.contains(' '));
        let ours = apis.find(|(_, owner)| is_ours(&owner.holder));
        Ok(ours.map(|(identifier, _)| identifier.clone()))
    }

    /// What is left of proofs that did not come to their end.
    pub(super) async fn probes(&self, read: Read) -> Result<Vec<String>, ProviderError> {
        self.list_clients(since(read), None).await?;
        let known = |auth0: &Self| {
            let memory = auth0.memory();
            memory.probes.ids().map(|ids| ids.iter().cloned().collect())
        };
        if let Ok(ids) = known(self) {
            return Ok(ids);
        }
        self.list_clients(Some(Instant::now()), None).await?;
        known(self).map_err(|_| ProviderError::Gone { operation: OPERATION })
    }

    pub(super) fn is_probe(&self, client: &Value) -> bool {
        is_probe(client, &self.ours.installation)
    }
}

/// Whether something was shown, be it that nothing is refused; anything else may be otherwise the next time.
fn is_answer(shown: &Result<(), ProviderError>) -> bool {
    matches!(
        shown,
        Ok(()) | Err(ProviderError::Unproved { .. } | ProviderError::Ungranted { .. })
    )
}

/// Whether a client is one that Auth0 lets at nothing without a grant.
fn is_strict(client: &Value) -> bool {
    client["is_first_party"] == false && text(client, "third_party_security_mode") == "strict"
}
