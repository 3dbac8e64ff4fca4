//! The decisions of the core, with the policy, the keys and the time that they need.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use mcp_auth_gate_core::{
    answer::Answer,
    decide::{self, Admitted, Allowed, Body, Head, Stop},
    policy::Policy,
    token::{Claims, TokenError, Verifier},
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    changes::{Changes, Listener},
    clock::SharedClock,
    keys::{KeyStore, Refetched},
};

#[cfg(test)]
mod tests;

/// Decides for every face. Shared by them all.
#[derive(Debug)]
pub struct Authorizer {
    policy: ArcSwapOption<Policy>,
    keys: Arc<KeyStore>,
    changes: Changes,
    clock: SharedClock,
}

impl Authorizer {
    /// Refuses everything until it has a policy.
    pub fn new(keys: Arc<KeyStore>, clock: SharedClock) -> Self {
        Self {
            policy: ArcSwapOption::empty(),
            changes: keys.changes().clone(),
            keys,
            clock,
        }
    }

    /// The policy of the moment.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.load_full()
    }

    /// Decides by this policy from now on.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        // The keys go first: no token is verified with keys of an issuer that the policy no longer names.
        self.keys.follow(&policy);
        self.policy.store(Some(policy));
        self.changes.tell();
    }

    /// Hears when decisions may have to be made anew: there is another policy, or there are other keys.
    pub fn listen(&self) -> Listener {
        self.changes.listen()
    }

    /// Whether a token that was accepted still is. It is not if its client was suspended, the policy takes no such
    /// tokens any more, or the key that signed it was withdrawn. That it expired is no answer here, nor that no key is
    /// known at the moment.
    ///
    /// # Errors
    /// [`TokenError`]: why it is not accepted any more.
    pub fn recheck(&self, token: &SecretString, claims: &Claims) -> Result<(), TokenError> {
        let Some(policy) = self.policy() else {
            return Ok(());
        };
        claims.check(&policy, self.clock.now().min(claims.expires))?;
        let issuer = &policy.authorization_server.issuer;
        match self.keys.verify(token.expose_secret(), issuer) {
            Ok(_) | Err(TokenError::NoKeys) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The keys that tokens are verified with.
    pub fn keys(&self) -> &Arc<KeyStore> {
        &self.keys
    }

    /// The clock that decisions go by.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// Decides who calls, from the head alone; with the policy that it was decided by, to judge the body by.
    ///
    /// # Errors
    /// The answer that the gate gives by itself.
    pub async fn admit(&self, head: &Head<'_>) -> Result<(Arc<Policy>, Admitted), Box<Answer>> {
        let first = self.policy().ok_or_else(|| Box::new(Answer::not_ready()))?;
        match decide::admit(head, &first, &*self.keys, self.clock.now()) {
            Ok(admitted) => return Ok((first, admitted)),
            Err(Stop::Answer(answer)) => return Err(answer),
            Err(Stop::UnknownKey(_)) => {}
        }
        let refetched = self.keys.refetch().await;
        // Both may have changed while the keys were on their way.
        let policy = self.policy().unwrap_or(first);
        let now = self.clock.now();
        let again = match refetched {
            Refetched::Yes => decide::admit(head, &policy, &*self.keys, now),
            Refetched::No => decide::admit(head, &policy, &Unavailable, now),
        };
        match again {
            Ok(admitted) => Ok((policy, admitted)),
            Err(Stop::Answer(answer) | Stop::UnknownKey(answer)) => Err(answer),
        }
    }

    /// Decides about a whole request.
    ///
    /// # Errors
    /// The answer that the gate gives by itself.
    pub async fn decide(
        &self,
        head: &Head<'_>,
        body: Body<'_>,
    ) -> Result<(Arc<Policy>, Allowed), Box<Answer>> {
        let (policy, admitted) = self.admit(head).await?;
        match admitted.judge(head, body, &policy) {
            Ok(allowed) => Ok((policy, allowed)),
            Err(answer) => Err(Box::new(answer)),
        }
    }
}

/// Stands for keys that could not be fetched: nothing can be said about tokens then, good or bad.
struct Unavailable;

impl Verifier for Unavailable {
    fn verify(&self, _: &str, _: &str) -> Result<Arc<Claims>, TokenError> {
        Err(TokenError::NoKeys)
    }
}
