//! What a client information response says (RFC 7591 section 3.2.1, RFC 7592 section 3), and whether it can be used. Pure.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};
use url::{Origin, Url};

use super::{Method, Told};
use crate::provider::{Credential, CredentialKind, ProviderError};

/// The longest client id: as long as what we show and others store.
const LONGEST_ID: usize = 255;
/// The longest secret.
const LONGEST_SECRET: usize = 2048;
/// The longest registration access token: some servers make JWTs of them.
const LONGEST_TOKEN: usize = 8192;
/// The longest address.
const LONGEST_URI: usize = 2048;

/// By what a registration is read, changed and removed. Both are private state: whoever has them owns the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// The client that it is about.
    pub client_id: String,
    /// Where; it may have something private in it, so it prints as redacted.
    pub uri: Credential,
    /// The registration access token. The server may replace it with every answer.
    pub token: Credential,
}

/// What the server says of a registration. Prints without what is private.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Information {
    /// The client id that the server has chosen.
    pub client_id: String,
    /// The secret that it has chosen; a public client has none.
    pub secret: Option<Credential>,
    /// When it lets the secret expire.
    pub secret_expires: Option<Timestamp>,
    /// By what the registration is managed, where the server offers that.
    pub managed: Option<Managed>,
    /// What it has the client registered with.
    pub told: Told,
}

/// What is known of an answer before it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) operation: &'static str,
    /// Where registrations of this server are managed.
    pub(super) place: &'a Origin,
    /// By what it was asked for, unless it is the answer to the first registration.
    pub(super) managed: Option<&'a Managed>,
}

/// Visible ASCII, which is what RFC 6749 appendix A and RFC 6750 section 2.1 have for ids, secrets and tokens, without the
/// space that some of them could hold and no header can be trusted to keep.
fn is_visible(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Expected<'_> {
    fn malformed(&self, why: &'static str) -> ProviderError {
        ProviderError::Malformed {
            operation: self.operation,
            why,
        }
    }

    /// Reads an answer.
    pub(super) fn read(&self, answer: &Map<String, Value>) -> Result<Information, ProviderError> {
        let client_id = answer
            .get("client_id")
            .and_then(Value::as_str)
            .filter(|id| is_visible(id, LONGEST_ID))
            .ok_or_else(|| self.malformed("it has no client_id that can be used"))?
            .to_owned();
        if self.managed.is_some_and(|managed| managed.client_id != client_id) {
            return Err(self.malformed("it is about another client"));
        }
        let told = Told::of(answer);
        // Some servers give a public client a secret that nobody asks for.
        let is_public = told.method() == Some(Method::None);
        Ok(Information {
            secret: if is_public { None } else { self.secret(answer)? },
            secret_expires: self.expires(answer)?,
            managed: self.management(answer, &client_id)?,
            client_id,
            told,
        })
    }

    fn secret(&self, answer: &Map<String, Value>) -> Result<Option<Credential>, ProviderError> {
        let Some(given) = answer.get("client_secret").filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let secret = given
            .as_str()
            .filter(|secret| is_visible(secret, LONGEST_SECRET))
            .map(Credential::new);
        // What looks like a private key would be taken for one.
        secret
            .filter(|secret| secret.kind() == CredentialKind::Secret)
            .map(Some)
            .ok_or_else(|| self.malformed("its client_secret cannot be used"))
    }

    fn expires(&self, answer: &Map<String, Value>) -> Result<Option<Timestamp>, ProviderError> {
        let Some(at) = answer
            .get("client_secret_expires_at")
            .filter(|value| !value.is_null())
        else {
            return Ok(None);
        };
        match at.as_i64() {
            Some(0) => Ok(None),
            Some(seconds) if seconds > 0 => Timestamp::from_second(seconds)
                .map(Some)
                .map_err(|_| self.malformed("its client_secret_expires_at is no time")),
            _ => Err(self.malformed("its client_secret_expires_at is no time")),
        }
    }

    /// By what the registration is managed from now on: what the answer does not say stays as it was.
    fn management(
        &self,
        answer: &Map<String, Value>,
        client_id: &str,
    ) -> Result<Option<Managed>, ProviderError> {
        let text = |name: &str| answer.get(name).filter(|value| !value.is_null());
        let (uri, token) = (text("registration_client_uri"), text("registration_access_token"));
        let uri = match uri {
            Some(uri) => Some(self.uri(uri)?),
            None => self.managed.map(|managed| managed.uri.clone()),
        };
        let token = match token {
            Some(token) => Some(self.token(token)?),
            None => self.managed.map(|managed| managed.token.clone()),
        };
        Ok(uri.zip(token).map(|(uri, token)| Managed {
            client_id: client_id.to_owned(),
            uri,
            token,
        }))
    }

    /// Where the registration is managed: the token is sent there, so it must not be somebody else's place.
    fn uri(&self, given: &Value) -> Result<Credential, ProviderError> {
        let is_there = |text: &&str| {
            text.len() <= LONGEST_URI
                && Url::parse(text).is_ok_and(|url| {
                    url.origin().is_tuple()
                        && url.origin() == *self.place
                        && url.username().is_empty()
                        && url.password().is_none()
                })
        };
        given
            .as_str()
            .filter(is_there)
            .map(Credential::new)
            .ok_or_else(|| {
                self.malformed(
                    "its registration_client_uri is not at the registration endpoint's scheme, host and port",
                )
            })
    }

    fn token(&self, given: &Value) -> Result<Credential, ProviderError> {
        given
            .as_str()
            .filter(|token| is_visible(token, LONGEST_TOKEN))
            .map(Credential::new)
            .ok_or_else(|| self.malformed("its registration_access_token cannot be used"))
    }
}
