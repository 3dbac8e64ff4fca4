//! The credentials of a gate: a mounted Secret, read as files.
//!
//! | file | content |
//! |---|---|
//! | `session-keys` | one or two lines, each 32 bytes in base64: the first seals, all of them open |
//! | `client-id`, `client-secret` | the MCP server's client at the authorization server, for token exchange |
//!
//! Each may be missing, but the last two only together. Other files are not looked at.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretBox, SecretString, zeroize::Zeroizing};

#[cfg(test)]
mod tests;

const SESSION_KEYS: &str = "session-keys";
const CLIENT_ID: &str = "client-id";
const CLIENT_SECRET: &str = "client-secret";
/// Two, so that keys can be rotated while sessions go on.
const MOST_SESSION_KEYS: usize = 2;

/// Length of a session key in bytes.
pub const SESSION_KEY_BYTES: usize = 32;

/// A key that session ids are wrapped with.
pub type SessionKey = SecretBox<[u8; SESSION_KEY_BYTES]>;

/// What the files say. Prints redacted.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The first seals, all of them open. None, one or two.
    pub session_keys: Vec<SessionKey>,
    /// The client that exchanges tokens.
    pub client: Option<ClientCredentials>,
}

/// A client at the authorization server. Prints redacted.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: SecretString,
}

impl PartialEq for ClientCredentials {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.secret.expose_secret() == other.secret.expose_secret()
    }
}

/// Which file cannot be used, and what belongs there; never what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Not one or two lines of 32 bytes in base64.
    #[error("session-keys: write one or two lines, each 32 bytes in base64")]
    SessionKeys,
    /// Two keys that are the same.
    #[error("session-keys: both keys are the same")]
    SameSessionKeys,
    /// Not text.
    #[error("client-id: write the client's id as one line of text")]
    ClientId,
    /// Not text.
    #[error("client-secret: write the client's secret as one line of text")]
    ClientSecret,
    /// One without the other.
    #[error("client-id and client-secret: write both or neither")]
    HalfAClient,
}

impl Credentials {
    /// Reads the files of the directory, by name.
    pub fn parse(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, CredentialsError> {
        let text = |name, error| files.get(name).map(|bytes| line(bytes, error)).transpose();
        let id = text(CLIENT_ID, CredentialsError::ClientId)?;
        let secret = text(CLIENT_SECRET, CredentialsError::ClientSecret)?;
        let client = match (id, secret) {
            (None, None) => None,
            (Some(id), Some(secret)) => Some(ClientCredentials {
                id: id.to_owned(),
                secret: SecretString::from(secret),
            }),
            _ => return Err(CredentialsError::HalfAClient),
        };
        let session_keys = files.get(SESSION_KEYS).map(|bytes| session_keys(bytes));
        Ok(Self {
            session_keys: session_keys.transpose()?.unwrap_or_default(),
            client,
        })
    }
}

/// The one line of a file; editors put a line end there.
fn line(bytes: &[u8], error: CredentialsError) -> Result<&str, CredentialsError> {
    let text = std::str::from_utf8(bytes).map_err(|_| error)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(error);
    }
    Ok(text)
}

fn session_keys(bytes: &[u8]) -> Result<Vec<SessionKey>, CredentialsError> {
    let error = CredentialsError::SessionKeys;
    let text = std::str::from_utf8(bytes).map_err(|_| error)?;
    let keys: Vec<SessionKey> = text.lines().map(session_key).collect::<Result<_, _>>()?;
    match keys.as_slice() {
        [] => Err(error),
        // Whoever rotates has to write a new key, or nothing was rotated.
        [one, other] if one.expose_secret() == other.expose_secret() => {
            Err(CredentialsError::SameSessionKeys)
        }
        all if all.len() > MOST_SESSION_KEYS => Err(error),
        _ => Ok(keys),
    }
}

fn session_key(line: &str) -> Result<SessionKey, CredentialsError> {
    let error = CredentialsError::SessionKeys;
    let bytes = Zeroizing::new(STANDARD.decode(line.trim_end()).map_err(|_| error)?);
    let key = <[u8; SESSION_KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| error)?;
    Ok(SecretBox::new(Box::new(key)))
}
