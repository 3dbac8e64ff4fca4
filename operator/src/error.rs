//! How a pass over an object can fail, after its status has said so.

use thiserror::Error;

use crate::{
    cluster::Unanswered,
    provider::{ProviderError, discovery::DiscoveryError, keycloak::SetupError},
};

/// A failed pass. It is tried again after a pause that grows with each failure.
#[derive(Debug, Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("the API server: {message}")]
    Cluster {
        /// Stable, for metrics.
        reason: &'static str,
        /// Its words about our request; never the content of an object.
        message: String,
    },
    /// The authorization server.
    #[error(transparent)]
    Provider(ProviderError),
    /// What the authorization server says of itself.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The AuthorizationServer describes no connection that can be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The operator's credential lacks permissions. They are granted where no watch looks, so it is tried again.
    #[error("the operator's credential lacks {missing}: grant it at the authorization server")]
    PermissionsMissing {
        /// The permissions by the names that the server's administrator knows.
        missing: String,
    },
    /// The system gave no randomness for a private key.
    #[error("no private key could be made")]
    KeyNotMade,
    /// This replica does not lead any more: a write was not sent, or was given up before its answer came.
    #[error("this replica does not lead")]
    NotLeading,
}

impl Error {
    /// Whether a person must act before it can work; else it may work by itself later.
    pub const fn needs_a_person(&self) -> bool {
        match self {
            Self::Provider(error) => error.needs_a_person(),
            Self::Discovery(error) => error.needs_a_person(),
            Self::Setup(_) | Self::PermissionsMissing { .. } => true,
            Self::Cluster { .. } | Self::KeyNotMade | Self::NotLeading => false,
        }
    }

    /// The class as a metric label and condition reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Cluster { reason, .. } => reason,
            Self::Provider(error) => error.reason(),
            Self::Discovery(error) => error.reason(),
            Self::Setup(_) => "InvalidConnection",
            Self::PermissionsMissing { .. } => "PermissionMissing",
            Self::KeyNotMade => "KeyNotMade",
            Self::NotLeading => "NotLeading",
        }
    }

    /// Whether it is the ordinary consequence of several writers: look again, say nothing.
    pub fn is_conflict(&self) -> bool {
        self.is_stale()
            || matches!(
                self,
                Self::Provider(ProviderError::Conflict { .. } | ProviderError::Gone { .. })
            )
    }

    /// Whether the pass itself came at the wrong moment, and so says nothing about the object: its cache was behind,
    /// or the lease was not renewed in time.
    pub fn is_stale(&self) -> bool {
        matches!(
            self,
            Self::NotLeading
                | Self::Cluster {
                    reason: "Conflict",
                    ..
                }
        )
    }
}

impl From<ProviderError> for Error {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::NotLeading => Self::NotLeading,
            error => Self::Provider(error),
        }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        if Unanswered::of(&error) == Some(Unanswered::NotLeading) {
            return Self::NotLeading;
        }
        let (reason, message) = match &error {
            kube::Error::Api(status) if status.is_conflict() => {
                ("Conflict", "the object was changed meanwhile".to_owned())
            }
            kube::Error::Api(status) if status.is_forbidden() => ("Forbidden", status.message.clone()),
            kube::Error::Api(status) if status.is_not_found() => ("NotFound", status.message.clone()),
            kube::Error::Api(status) if status.is_invalid() => ("Invalid", status.message.clone()),
            kube::Error::Api(status) => ("ApiError", status.message.clone()),
            // Errors of decoding quote what they could not decode, which may be a Secret.
            kube::Error::SerdeError(_) => ("Malformed", "an answer could not be read".to_owned()),
            _ => ("Unreachable", "no answer".to_owned()),
        };
        Self::Cluster { reason, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_decoded_is_not_repeated() {
        let serde = serde_json::from_str::<u8>("\"hunter2\"").unwrap_err();
        assert!(serde.to_string().contains("hunter2"), "the premise of this test");
        let error = Error::from(kube::Error::SerdeError(serde));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
