//! Why there is no exchanged token, and what the caller is told.

use mcp_auth_gate_core::{answer::Answer, policy::Policy, token::TokenError};
use serde_json::Value;

use crate::outbound::OutboundError;

/// Why there is no exchanged token. Holds nothing that the authorization server wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The caller holds nothing that any scope of the exchange requires.
    #[error("the caller holds nothing that a scope of the exchange requires")]
    NothingToAsk,
    /// Tokens of the caller's client are not exchanged.
    #[error("tokens of the caller's client are not exchanged")]
    ClientNotAllowed,
    /// The gate has no client credentials.
    #[error("the gate has no client-id and client-secret")]
    NoCredentials,
    /// There was no answer.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// An answer of no use now: an error of the server, too many requests.
    #[error("the token endpoint answered with status {0}")]
    Status(u16),
    /// The gate's own credentials were refused.
    #[error("the authorization server refused the gate's client: {0}")]
    Client(&'static str),
    /// The caller's token is no longer good there.
    #[error("the authorization server no longer accepts the caller's token: {0}")]
    Subject(&'static str),
    /// It does not exchange this token for this target.
    #[error("the authorization server does not permit the exchange: {0}")]
    NotPermitted(&'static str),
    /// Not the answer of RFC 8693.
    #[error("the answer of the token endpoint cannot be read")]
    Malformed,
    /// Not a bearer token.
    #[error("the exchanged token is no bearer token")]
    TokenType,
    /// For somebody else, or for others besides the target.
    #[error("the exchanged token is for another audience")]
    Audience,
    /// Over before it began.
    #[error("the exchanged token has expired")]
    Expired,
    /// The caller's own token, which must not reach anybody.
    #[error("the authorization server gave the caller's token back")]
    Unchanged,
}

impl ExchangeError {
    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NothingToAsk => "nothing_to_ask",
            Self::ClientNotAllowed => "client_not_allowed",
            Self::NoCredentials => "no_credentials",
            Self::Outbound(_) => "unreachable",
            Self::Status(_) => "status",
            Self::Client(_) => "client_refused",
            Self::Subject(_) => "subject_refused",
            Self::NotPermitted(_) => "not_permitted",
            Self::Malformed | Self::TokenType | Self::Audience | Self::Expired | Self::Unchanged => {
                "bad_answer"
            }
        }
    }

    /// Whether asking again at once would be of no use. What comes from a server in trouble is not: it may be over.
    pub(super) fn is_lasting(self) -> bool {
        !matches!(self, Self::NoCredentials | Self::Outbound(_) | Self::Status(_))
    }

    /// What the caller is told.
    pub(super) fn to_answer(self, policy: &Policy, id: Option<&Value>) -> Answer {
        match self {
            Self::Subject(_) => Answer::token_refused(policy, TokenError::Revoked),
            Self::NotPermitted(_) | Self::NothingToAsk | Self::ClientNotAllowed => {
                Answer::exchange_refused(id)
            }
            _ => Answer::exchange_unavailable(id),
        }
    }
}
