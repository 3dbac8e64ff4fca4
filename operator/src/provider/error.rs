//! How talking to an authorization server can fail. The class decides the condition and when to try again.

use std::time::Duration;

use thiserror::Error;

/// A failed conversation. No variant repeats what the server sent, except OAuth and Keycloak error *codes* that
/// consist of letters, digits, `_`, `-` and `.` only.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProviderError {
    /// No answer: connection refused, time-out, TLS.
    #[error("the authorization server cannot be reached: {why}")]
    Unreachable {
        /// Our own words.
        why: String,
        /// When the next attempt makes sense, where the realm is left alone after failures.
        retry_after: Option<Duration>,
    },
    /// It was reached, but is not who it should be: its certificate is not trusted.
    #[error("the authorization server is not trusted: {why}")]
    Untrusted {
        /// Our own words.
        why: String,
    },
    /// The address is one that the operator does not connect to.
    #[error("the operator does not connect to this address: {why}")]
    Refused {
        /// Our own words.
        why: String,
    },
    /// It asked us to slow down, or failed with a 5xx; try again after this time.
    #[error("the authorization server asks for a pause (HTTP {status})")]
    Unavailable {
        /// HTTP status.
        status: u16,
        /// What `Retry-After` said.
        retry_after: Option<Duration>,
    },
    /// The operator's credential is wrong.
    #[error("the authorization server refuses the operator's credential ({code})")]
    Unauthenticated {
        /// Error code.
        code: String,
    },
    /// The operator's credential lacks a permission.
    #[error("the operator's credential may not {operation}: it lacks {permission}")]
    Forbidden {
        /// The operation.
        operation: &'static str,
        /// The permission as the server's administrator knows it.
        permission: &'static str,
    },
    /// It exists already: somebody was faster. Look again.
    #[error("{operation}: it exists already")]
    Conflict {
        /// The operation.
        operation: &'static str,
    },
    /// What was to be changed is gone. Look again.
    #[error("{operation}: it is gone")]
    Gone {
        /// The operation.
        operation: &'static str,
    },
    /// It does not accept what we sent.
    #[error("{operation}: the authorization server answered HTTP {status} ({code})")]
    Rejected {
        /// The operation.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// Error code, or empty.
        code: String,
    },
    /// An answer that is not what the protocol says.
    #[error("{operation}: the answer is not what it should be: {why}")]
    Malformed {
        /// The operation.
        operation: &'static str,
        /// Our own words.
        why: &'static str,
    },
    /// A proof failed: the credential does not work.
    #[error("the proof failed: {why}")]
    Unproved {
        /// Our own words.
        why: String,
    },
    /// A proof failed although the credential works: it does not give what it is to give.
    #[error("the proof failed: {why}")]
    Ungranted {
        /// Our own words.
        why: String,
    },
    /// This replica does not lead any more; nothing was sent.
    #[error("this replica does not lead")]
    NotLeading,
}

impl ProviderError {
    /// The class as a condition reason and metric label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "AuthorizationServerUnreachable",
            Self::Untrusted { .. } => "CertificateNotTrusted",
            Self::Refused { .. } => "AddressRefused",
            Self::Unavailable { .. } => "AuthorizationServerUnavailable",
            Self::Unauthenticated { .. } => "CredentialsRefused",
            Self::Forbidden { .. } => "PermissionMissing",
            Self::Conflict { .. } => "Conflict",
            Self::Gone { .. } => "Gone",
            Self::Rejected { .. } => "Rejected",
            Self::Malformed { .. } => "MalformedAnswer",
            Self::Unproved { .. } | Self::Ungranted { .. } => "ProofFailed",
            Self::NotLeading => "NotLeading",
        }
    }

    /// Whether a person must act before it can work; else it may work by itself later.
    pub const fn needs_a_person(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::Untrusted { .. }
                | Self::Unauthenticated { .. }
                | Self::Forbidden { .. }
                | Self::Rejected { .. }
        )
    }

    /// When it makes sense to try again, where that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::Unreachable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The same failure, with another time to wait where the failure has one.
    #[must_use]
    pub(crate) fn with_retry_after(mut self, wait: Duration) -> Self {
        if let Self::Unavailable { retry_after, .. } | Self::Unreachable { retry_after, .. } = &mut self {
            *retry_after = Some(wait);
        }
        self
    }
}
