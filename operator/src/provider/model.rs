//! The vocabulary between reconcilers and providers: what is wanted, what was observed, whose it is.

mod credential;
mod document;
mod registration;
mod scopes;
mod settings;
mod subjects;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub use credential::{
    Authentication, Credential, CredentialKind, Credentials, Previous, ServiceAccount, SignIn,
};
pub use document::{DocumentSpec, ObservedDocument, Reading};
pub use registration::{DocumentsSpec, Doors, DynamicSpec, ObservedRegistration, RegistrationSpec};
pub use scopes::{ObservedScopes, ScopeOwner, Scopes, scope_key};
pub use settings::{ObservedSettings, Registering, SettingsSpec};
pub use subjects::{ObservedLimits, ObservedOverlap, ObservedTrust, Subjects};

/// Whose an object at the authorization server is. Everything that we create carries one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The installation of the operator, so that two clusters can share one realm.
    pub installation: String,
    /// Kind of the Kubernetes object.
    pub kind: String,
    /// Namespace of the Kubernetes object.
    pub namespace: String,
    /// Name of the Kubernetes object.
    pub name: String,
    /// UID of the Kubernetes object. A dead UID under the same name is a restore or a re-creation: still ours.
    pub uid: String,
}

impl Mark {
    /// Whether both stand for the same Kubernetes object, in whichever incarnation.
    pub fn same_object(&self, other: &Self) -> bool {
        (&self.installation, &self.kind, &self.namespace, &self.name)
            == (&other.installation, &other.kind, &other.namespace, &other.name)
    }
}

/// Who holds something at the authorization server that we want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It carries this mark.
    Marked(Mark),
    /// It carries no mark. `adopter` is what its attribute says about who may take it over, as
    /// `<kind>/<namespace>/<name>`.
    Unmarked {
        /// Consent written on the object at the authorization server.
        adopter: Option<String>,
    },
    /// It belongs to the authorization server itself, or is the operator's own client.
    BuiltIn,
}

/// Whether something exists, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It does not exist.
    Absent,
    /// It exists.
    Held(Holder),
}

impl Presence {
    /// Whether the object that `mark` stands for may treat it as its own: it is absent, or ours in whichever
    /// incarnation, or unmarked with consent (there, or by `consent` of the AuthorizationServer).
    pub fn claimable(&self, mark: &Mark, consent: bool) -> bool {
        match self {
            Self::Absent => true,
            Self::Held(Holder::Marked(holder)) => holder.same_object(mark),
            Self::Held(Holder::Unmarked { adopter }) => {
                consent
                    || adopter.as_deref() == Some(&format!("{}/{}/{}", mark.kind, mark.namespace, mark.name))
            }
            Self::Held(Holder::BuiltIn) => false,
        }
    }
}

/// OAuth grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// RFC 6749 section 4.1, with PKCE.
    AuthorizationCode,
    /// RFC 6749 section 6.
    RefreshToken,
    /// RFC 6749 section 4.4.
    ClientCredentials,
}

/// A client as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpec {
    /// Whose it is.
    pub mark: Mark,
    /// Client id, chosen by us. Where the server chooses its own, that by which it is found ([`ObservedClient::client_id`]).
    pub client_id: String,
    /// What people see.
    pub display_name: String,
    /// False while suspended.
    pub enabled: bool,
    /// How it gets tokens.
    pub grants: BTreeSet<Grant>,
    /// Where users are sent back to.
    pub redirect_uris: BTreeSet<String>,
    /// How it authenticates.
    pub authentication: Authentication,
    /// Whether users are asked for consent.
    pub consent: bool,
    /// Lifetime of its access tokens.
    pub token_lifetime: Duration,
    /// Exactly the scopes that it may ask for (those that follow from `grants` aside).
    pub scopes: BTreeSet<String>,
    /// The same scopes by the audience that each is for. Not everywhere does the name of a scope tell.
    pub audiences: BTreeMap<String, BTreeSet<String>>,
    /// Whether the AuthorizationServer consents that an unmarked client of this id is taken over.
    pub adopt: bool,
}

impl ClientSpec {
    /// The same under the id by which it gets tokens, where the server has chosen that.
    #[must_use]
    pub fn known_as(&self, client_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            ..self.clone()
        }
    }
}

/// A client as it is.
#[derive(Clone)]
pub struct ObservedClient {
    /// Whether it exists, and whose it is.
    pub presence: Presence,
    /// The id by which it gets tokens, if it exists: some servers choose their own.
    pub client_id: Option<String>,
    /// Its secret, where the server tells it.
    pub secret: Option<Credential>,
    /// Whether the server takes it for who it says it is, without asking for its secret.
    pub is_public: bool,
    /// When the server lets that secret expire, if it does.
    pub secret_expires: Option<Timestamp>,
    /// Thumbprints of the public keys by which it may sign in.
    pub keys: BTreeSet<String>,
    /// The server's own representation, for the provider that read it. Holds secrets: never printed.
    pub raw: Option<Value>,
    /// Of a resource: its limits of exchange.
    pub limits: ObservedLimits,
}

impl fmt::Debug for ObservedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedClient")
            .field("presence", &self.presence)
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

/// A resource as it is; the same shape as a client, because on Keycloak it is one.
pub type ObservedResource = ObservedClient;

/// A scope with the audience that it puts into tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSpec {
    /// Name of the scope.
    pub name: String,
    /// What people are asked; the name when empty.
    pub description: String,
    /// The audience of tokens with this scope.
    pub audience: String,
}

/// An MCP server as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSpec {
    /// Whose it is.
    pub mark: Mark,
    /// The canonical URI: audience, and on Keycloak the client id.
    pub resource: String,
    /// What people see.
    pub display_name: String,
    /// Name and description of each scope.
    pub scopes: BTreeMap<String, String>,
    /// The scopes of others for which it may exchange tokens, and whose; none: it may not exchange.
    pub exchange_scopes: BTreeMap<String, Subjects>,
    /// The same scopes by the audience that each is for. Not everywhere does the name of a scope tell.
    pub exchange_audiences: BTreeMap<String, BTreeSet<String>>,
    /// The actions of the server that judge tokens which it exchanges.
    pub exchange_actions: ExchangeActions,
    /// Lifetime of the tokens that it gets by exchange.
    pub exchange_token_lifetime: Duration,
    /// Whether the AuthorizationServer consents that an unmarked client of this id is taken over.
    pub adopt: bool,
    /// The unmarked scopes that the AuthorizationServer lets this server take over.
    pub adopt_scopes: BTreeSet<String>,
}

impl ResourceSpec {
    /// Whether it may exchange only some clients' tokens for some scope.
    pub fn has_limits(&self) -> bool {
        self.exchange_scopes
            .values()
            .any(|subjects| *subjects != Subjects::Any)
    }
}

/// By which actions of an authorization server tokens are exchanged: code of its administrator that says which user a
/// token stands for. Only Auth0 has such.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeActions {
    /// Their names.
    pub names: BTreeSet<String>,
    /// Whether there is no exchange without an action.
    pub only: bool,
}

/// What is to be shown at the token endpoint.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A real token by `client_credentials` that has these scopes and exactly these audiences.
    ClientCredentials {
        /// Client id.
        client_id: String,
        /// Its secret.
        secret: Credential,
        /// Scopes to ask for.
        scopes: BTreeSet<String>,
        /// The audiences that the token must name, no fewer and no more.
        audiences: BTreeSet<String>,
    },
    /// A made-up code is answered by `invalid_grant`, so the secret was accepted.
    AuthorizationCode {
        /// Client id.
        client_id: String,
        /// Its secret.
        secret: Credential,
        /// One of its redirect URIs.
        redirect_uri: String,
    },
    /// A made-up subject token is refused as such, so the secret was accepted.
    TokenExchange {
        /// Client id.
        client_id: String,
        /// Its secret.
        secret: Credential,
        /// Tokens are exchanged by actions only. Nothing made up is shown to those: whose tokens they refuse too often, the
        /// server may lock out. So it is shown only that the secret was accepted.
        by_actions: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(installation: &str, kind: &str, namespace: &str, name: &str, uid: &str) -> Mark {
        Mark {
            installation: installation.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
        }
    }

    #[test]
    fn only_what_is_absent_ours_or_consented_may_be_claimed() {
        let me = mark("i", "McpServer", "a", "s", "1");
        let adopter = |text: &str| {
            Presence::Held(Holder::Unmarked {
                adopter: Some(text.into()),
            })
        };
        let marked = |mark| Presence::Held(Holder::Marked(mark));
        let cases = [
            ("absent", Presence::Absent, false, true),
            ("ours", marked(me.clone()), false, true),
            (
                "ours with a dead uid",
                marked(mark("i", "McpServer", "a", "s", "0")),
                false,
                true,
            ),
            (
                "another namespace",
                marked(mark("i", "McpServer", "b", "s", "1")),
                true,
                false,
            ),
            (
                "another kind",
                marked(mark("i", "McpClient", "a", "s", "1")),
                true,
                false,
            ),
            (
                "another installation",
                marked(mark("j", "McpServer", "a", "s", "1")),
                true,
                false,
            ),
            (
                "unmarked",
                Presence::Held(Holder::Unmarked { adopter: None }),
                false,
                false,
            ),
            (
                "unmarked, consent here",
                Presence::Held(Holder::Unmarked { adopter: None }),
                true,
                true,
            ),
            ("unmarked, consent there", adopter("McpServer/a/s"), false, true),
            (
                "unmarked, consent for another",
                adopter("McpServer/b/s"),
                false,
                false,
            ),
            ("built in", Presence::Held(Holder::BuiltIn), true, false),
        ];
        for (name, presence, consent, claimable) in cases {
            assert_eq!(presence.claimable(&me, consent), claimable, "{name}");
        }
    }

    #[test]
    fn secrets_print_as_redacted() {
        let secret = Credential::new("hunter2");
        let observed = ObservedClient {
            presence: Presence::Absent,
            client_id: None,
            secret: Some(secret.clone()),
            is_public: false,
            secret_expires: None,
            keys: BTreeSet::new(),
            raw: Some(serde_json::json!({"secret": "hunter2"})),
            limits: ObservedLimits::Unmarked,
        };
        let proof = Proof::TokenExchange {
            client_id: "c".into(),
            secret,
            by_actions: false,
        };
        assert!(!format!("{observed:?} {proof:?}").contains("hunter2"));
    }
}
