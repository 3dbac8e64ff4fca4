//! Logins that are under way, and what came of those that are over.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What a client was given for a user.
#[derive(Clone, Debug)]
pub(super) struct Authorized {
    /// The client's id in the Management API.
    pub(super) client: String,
    pub(super) user: String,
    /// The API; empty for a token that is good for `/userinfo` only.
    pub(super) audience: String,
    /// What was asked for, without scopes of OpenID Connect; None if nothing was.
    pub(super) asked: Option<Vec<String>>,
    /// Whether `openid` was asked for and is served.
    pub(super) openid: bool,
    /// Whether a refresh token was asked for and may be had.
    pub(super) offline: bool,
}

/// A login that waits for its user.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) authorized: Authorized,
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
    pub(super) nonce: Option<String>,
    pub(super) challenge: Option<Challenge>,
    /// Whether the user must not be asked for anything (`prompt=none`).
    pub(super) silent: bool,
}

/// How a client bound a login to itself (RFC 7636).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Plain(String),
    S256(String),
}

/// A code that nobody has redeemed yet.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) login: Login,
    pub(super) until: Duration,
}

/// A refresh token.
#[derive(Clone, Debug)]
pub(super) struct Refresh {
    pub(super) authorized: Authorized,
    /// All tokens that came from one login, of which reuse of an old one ends all.
    pub(super) family: String,
    /// None: it does not expire.
    pub(super) until: Option<Duration>,
    /// Since when another has taken its place.
    pub(super) replaced: Option<Duration>,
}

#[derive(Default)]
pub(super) struct Sessions {
    /// By the `state` of the pages.
    pub(super) logins: BTreeMap<String, Login>,
    /// Ids of users, by the cookie of their browsers.
    pub(super) browsers: BTreeMap<String, String>,
    pub(super) codes: BTreeMap<String, Code>,
    pub(super) refresh_tokens: BTreeMap<String, Refresh>,
    /// What users agreed to: user, client, audience, scope.
    pub(super) consents: BTreeSet<[String; 4]>,
    /// Assertions that were used: client and `jti`.
    pub(super) assertions: BTreeSet<(String, String)>,
}

impl Sessions {
    /// A removed client has no logins and no refresh tokens any more.
    pub(super) fn forget_client(&mut self, client: &str) {
        self.logins.retain(|_, login| login.authorized.client != client);
        self.codes
            .retain(|_, code| code.login.authorized.client != client);
        self.refresh_tokens
            .retain(|_, token| token.authorized.client != client);
        self.consents.retain(|[_, consenting, ..]| consenting != client);
    }

    /// Ends every refresh token of a login.
    pub(super) fn end_family(&mut self, family: &str) {
        self.refresh_tokens.retain(|_, token| token.family != family);
    }
}
