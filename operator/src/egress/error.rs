//! Why a URL was not fetched, in words that are safe to show to whoever wrote it.

use std::{error::Error as StdError, fmt};

use thiserror::Error;

use super::AddressClass;

/// Why an exchange failed. Repeats nothing that the other side sent, and no URL.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EgressError {
    /// It must not be asked for; nothing was sent.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// There was no whole answer in time.
    #[error("the server did not answer in time")]
    Timeout,
    /// The answer's body is longer than is read.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// How many bytes were allowed.
        limit: usize,
    },
    /// The answer leads elsewhere, and redirects are not followed.
    #[error("the server answered with a redirect, which is not followed")]
    Redirect,
    /// There is no trusted connection.
    #[error("no trusted connection: {0}")]
    Tls(TlsProblem),
    /// There is no connection; nothing was sent.
    #[error("the server cannot be reached")]
    NotConnected,
    /// The connection broke, or what came over it was not HTTP.
    #[error("the server cannot be reached or broke the connection")]
    Unreachable,
    /// The name in the URL is not known.
    #[error("the host name cannot be resolved")]
    UnknownHost,
    /// The answer has another status than the one wanted.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The answer is not the JSON that was expected.
    #[error("the answer is not the expected JSON")]
    NotJson,
    /// The request cannot be built, as with a header that holds a line break.
    #[error("the request cannot be built")]
    Request,
    /// The bundle of trusted authorities cannot be used.
    #[error("the CA bundle holds no certificate, or one that cannot be read: it must be certificates in PEM")]
    CaBundle,
    /// No client can be made: the platform has no trusted authorities, and none were given.
    #[error("no TLS client can be made: the operator's image has no CA certificates")]
    Client,
}

/// Why a URL must not be asked for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Not https.
    #[error("the URL must begin with https://")]
    Scheme,
    /// A user name or password in the URL.
    #[error("the URL must not hold a user name or password")]
    Userinfo,
    /// Nothing to connect to.
    #[error("the URL names no host")]
    NoHost,
    /// The address is of a kind that is not allowed here.
    #[error("the host is {0}")]
    Address(AddressClass),
    /// The address is that of a node or of the API server.
    #[error("the host is a node or the API server of this cluster")]
    Cluster,
}

/// What is wrong with a server's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProblem {
    /// No trusted authority signed the certificate.
    UnknownIssuer,
    /// The certificate is too old.
    Expired,
    /// The certificate begins in the future.
    NotYetValid,
    /// The certificate is another host's.
    WrongName,
    /// Something else about the certificate.
    Certificate,
    /// The handshake failed.
    Handshake,
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownIssuer => "no trusted authority signed the server's certificate",
            Self::Expired => "the server's certificate has expired",
            Self::NotYetValid => "the server's certificate is not valid yet",
            Self::WrongName => "the server's certificate is for another host",
            Self::Certificate => "the server's certificate cannot be accepted",
            Self::Handshake => "the TLS handshake failed",
        })
    }
}

impl From<&rustls::Error> for TlsProblem {
    fn from(error: &rustls::Error) -> Self {
        use rustls::CertificateError as Bad;
        match error {
            rustls::Error::InvalidCertificate(bad) => match bad {
                // The second: one that calls itself by a trusted authority's name, but is not it.
                Bad::UnknownIssuer | Bad::BadSignature => Self::UnknownIssuer,
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::NotYetValid,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::WrongName,
                _ => Self::Certificate,
            },
            _ => Self::Handshake,
        }
    }
}

/// Carries a [`Refusal`] out of name resolution, through the HTTP stack's own errors.
#[derive(Debug, Error)]
#[error(transparent)]
pub(super) struct RefusedAddress(pub(super) Refusal);

impl EgressError {
    /// Whether the request may have arrived.
    pub const fn may_have_arrived(&self) -> bool {
        !matches!(
            self,
            Self::Refused(_)
                | Self::Tls(_)
                | Self::NotConnected
                | Self::UnknownHost
                | Self::Request
                | Self::CaBundle
                | Self::Client
        )
    }

    /// What an error of the HTTP stack means. Its text, which may hold the URL, is left behind.
    pub(super) fn of(error: &reqwest::Error) -> Self {
        let mut known = None;
        for_each_cause(error, &mut |cause| {
            if let Some(RefusedAddress(refusal)) = cause.downcast_ref() {
                known.get_or_insert(Self::Refused(*refusal));
            } else if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                known.get_or_insert(Self::Tls(tls.into()));
            }
        });
        if let Some(known) = known {
            known
        } else if error.is_timeout() {
            Self::Timeout
        } else if error.is_dns() {
            Self::UnknownHost
        } else if error.is_builder() {
            Self::Request
        } else if error.is_connect() {
            Self::NotConnected
        } else {
            Self::Unreachable
        }
    }
}

/// Visits an error and everything that caused it. I/O errors hide what they wrap from `source`, so it is taken out.
fn for_each_cause<'e>(
    error: &'e (dyn StdError + 'static),
    visit: &mut dyn FnMut(&'e (dyn StdError + 'static)),
) {
    visit(error);
    if let Some(inner) = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref)
    {
        for_each_cause(inner, visit);
    } else if let Some(source) = error.source() {
        for_each_cause(source, visit);
    }
}
