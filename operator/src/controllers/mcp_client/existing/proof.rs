//! What is to be proved of a client that somebody else registers, and what is known from before. Pure.

use std::collections::BTreeSet;

use mcp_auth_crds::{
    condition::{self, Status, types},
    v1alpha1::{ExistingClient, GrantType, McpClient},
};

use super::{
    super::{desired::Granted, status::access_report},
    claim::Claim,
    status::granted,
};
use crate::{
    policy::names,
    provider::{Credential, Proof},
};

/// What a pass wants to know at the token endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) client: &'a McpClient,
    pub(super) existing: &'a ExistingClient,
    pub(super) claim: &'a Claim,
    /// The secret that the authorization server tells.
    pub(super) at_server: Option<&'a Credential>,
    pub(super) access: &'a Granted,
}

impl Question<'_> {
    /// A token with everything that the servers allow, where the client gets one for itself, else a made-up code.
    pub(super) fn proof(&self) -> Option<Proof> {
        let (client_id, secret) = (self.claim.client_id.clone(), self.claim.secret.clone());
        if self.gets_tokens() {
            return Some(Proof::ClientCredentials {
                client_id,
                secret,
                scopes: self.access.scopes(),
                audiences: self.access.audiences(),
            });
        }
        Some(Proof::AuthorizationCode {
            client_id,
            secret,
            redirect_uri: self.existing.redirect_uri.clone()?,
        })
    }

    /// Whether a token shows that everything that was asked for is assigned.
    pub(super) fn shows_access(&self) -> bool {
        let allowed = access_report(self.access).status == Status::True;
        self.gets_tokens() && allowed && !self.access.decisions.is_empty()
    }

    /// Whether this very Secret was proved before, and nothing says that the client has another secret by now.
    fn is_known(&self) -> bool {
        self.claim.was_proved(self.client) && self.at_server.is_none_or(|secret| *secret == self.claim.secret)
    }

    /// Whether nothing is left to ask.
    pub(super) fn is_answered(&self) -> bool {
        let was_assigned = || {
            self.client.status.as_ref().is_some_and(|status| {
                condition::is_true(&status.conditions, types::ACCESS_GRANTED)
                    && status.granted == granted(self.access)
            })
        };
        self.is_known() && (!self.shows_access() || was_assigned())
    }

    /// What the answer depends on, as far as it is known. It tells nothing of the secrets. `connection` is what the
    /// connection was made from.
    pub(super) fn fingerprint(&self, connection: &str) -> String {
        let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
        let parts = [
            connection,
            &self.claim.version,
            self.at_server.map(Credential::expose).unwrap_or_default(),
            self.existing.redirect_uri.as_deref().unwrap_or_default(),
            if self.gets_tokens() { "tokens" } else { "" },
            &list(self.access.scopes()),
            &list(self.access.audiences()),
        ];
        names::hash(parts.join("\n").as_bytes(), 16)
    }

    fn gets_tokens(&self) -> bool {
        self.existing.grant_types.contains(&GrantType::ClientCredentials)
    }
}
