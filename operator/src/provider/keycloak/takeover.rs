//! Taking over from an operator that may still have a call on its way.
//!
//! A leader looks at its lease before each call. No lease reaches a process that is frozen right after that look, or a
//! call that the network holds back: either can arrive when another leads, and would put an older secret in force again.
//! But Keycloak looks at the token of a call when the call arrives, and takes none that was issued before the time
//! `notBefore` of the client that it was issued to. So whoever begins to lead moves that time on, before anything else is
//! written, and what was sent before it led is refused.

use serde_json::{Value, json};

use super::{Keycloak, mark::text, overlap};
use crate::provider::{
    Call, Change, ProviderError, SignIn, Verb,
    operator_token::{self, Token},
    realm::TakeOver,
};

/// So many seconds before our own token older ones end. The clocks of the servers of one realm may differ by as much; who
/// led before us was last sure of it a third of the lease before we began, which is longer.
const SLACK: i64 = 1;

/// A server that fails at this change is asked again as often, because it may be unwell; then that is its answer. Keycloak
/// fails where a client policy does.
const PATIENCE: u32 = 3;

impl Keycloak {
    /// See [`crate::provider::Provider::take_over`].
    pub(super) async fn end_older_tokens(&self) -> Result<(), ProviderError> {
        let identity = &self.admin.tokens.identity;
        let own = &identity.client_id;
        let mut all = self.admin.http.limits.taken_over.lock().await;
        let state = all.entry(own.clone()).or_insert(TakeOver::Failed(0));
        let TakeOver::Failed(times) = *state else {
            return Ok(());
        };
        let token = self.admin.tokens.current(&self.admin.http).await?;
        let client = self.find_client(own).await?;
        match client.map(|client| ending(&client, &identity.sign_in, &token)) {
            Some(Ok(Some(call))) => match self.admin.write(&call).await {
                Ok(()) => tracing::debug!(realm = self.realm, "what was sent before this replica led ends"),
                // What it is not told it cannot do, and everything else works without.
                Err(error) if is_final(&error) => warn(&self.realm, &error.to_string()),
                Err(error) if is_failure(&error) && times + 1 >= PATIENCE => {
                    warn(&self.realm, &error.to_string());
                }
                Err(error) => {
                    *state = TakeOver::Failed(if is_failure(&error) { times + 1 } else { 0 });
                    return Err(error);
                }
            },
            Some(Ok(None)) => {}
            Some(Err(why)) => warn(&self.realm, why),
            None => warn(&self.realm, "it does not show the operator's client"),
        }
        *state = TakeOver::Over;
        Ok(())
    }
}

fn warn(realm: &str, why: &str) {
    tracing::warn!(
        realm,
        why,
        "calls that another replica sent before this one led are accepted until their tokens expire"
    );
}

/// Whether asking again would not help.
fn is_final(error: &ProviderError) -> bool {
    matches!(
        error,
        ProviderError::Forbidden { .. } | ProviderError::Rejected { .. } | ProviderError::Gone { .. }
    )
}

/// Whether the server broke at the call, rather than being away or busy.
const fn is_failure(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Unavailable { status: 500, .. })
}

/// The call that ends the tokens that were issued before this one to the operator's own client. `None`: they have ended.
fn ending(own: &Value, sign_in: &SignIn, token: &Token) -> Result<Option<Call>, &'static str> {
    let by_secret = matches!(sign_in, SignIn::Secret(_));
    if by_secret && overlap::expires(own).is_some() {
        // A change of its client may replace a secret that is past its end, and nobody would know the new one.
        return Err("a client policy lets the secret of the operator's client expire");
    }
    let id = text(own, "id").ok_or("the operator's client has no id")?;
    let issued = operator_token::issued_at(token).ok_or("the operator's token is no JWT")?;
    let from = issued.saturating_sub(SLACK);
    if own["notBefore"].as_i64().is_some_and(|known| known >= from) {
        return Ok(None);
    }
    // Where origins are not said, Keycloak makes them up from the redirect URIs.
    let origins = own["webOrigins"].as_array().cloned().unwrap_or_default();
    let mut body = json!({"notBefore": from, "webOrigins": origins});
    if !by_secret {
        // None is changed. But where secrets expire, Keycloak 26.7 fails at a change that has no attributes. With a secret
        // that is as well: with them, its time would begin to run.
        body["attributes"] = json!({});
    }
    Ok(Some(Call {
        operation: "end_older_tokens",
        change: Change::Revoke,
        subject: "tokens of the operator from before it led".to_owned(),
        verb: Verb::Put,
        path: format!("/clients/{id}"),
        body: Some(body),
    }))
}
