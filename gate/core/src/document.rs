//! The policy file: what the operator writes and a gate reads.
//!
//! Whatever a gate does not know is an error to it, never ignored: a restriction that an older gate skipped would be a
//! hole. It then keeps the policy it had.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The format that this build reads and writes.
pub const VERSION: u32 = 1;

/// Everything that a gate has to know about the one server that it protects. No secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// Whose policy this is.
    pub server: ServerName,
    /// The canonical URI: audience of tokens and `resource` of the metadata (RFC 9728), byte for byte.
    pub resource: String,
    /// The name of the resource for people (RFC 9728, `resource_name`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<String>,
    /// Whether its host has no other resource: then the metadata are at the host's top level too.
    #[serde(default)]
    pub alone_on_host: bool,
    /// Who issues tokens.
    pub authorization_server: AuthorizationServer,
    /// The scopes of the server, with what each implies. At least one.
    pub scopes: Vec<Scope>,
    /// Which scopes a call needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// The scopes of a call that no rule matches; absent: with rules it is refused, without it needs the challenge's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_scopes: Option<Vec<String>>,
    /// Client ids whose tokens are refused although they have not expired.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub denied_clients: BTreeSet<String>,
    /// Origins of web pages that may call, besides the resource's own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allowed_origins: BTreeSet<String>,
    /// Where the server listens; absent for a gate that only answers other proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// What the server may exchange its callers' tokens for (RFC 8693).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exchanges: Vec<Exchange>,
}

/// An McpServer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Who issues tokens, and what its access tokens look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationServer {
    /// The `iss` of tokens, byte for byte as its metadata say it.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Where tokens are exchanged.
    pub token_endpoint: String,
    /// Authorities to trust besides the built-in ones, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// What an access token calls itself; any of these.
    pub token_types: Vec<TokenType>,
    /// What a token's `aud` may name besides the resource, such as the userinfo endpoint.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub other_audiences: BTreeSet<String>,
    /// How it is asked for exchanged tokens.
    #[serde(default, skip_serializing_if = "ExchangeBy::is_scope")]
    pub exchange_by: ExchangeBy,
}

/// How a token endpoint is told what an exchanged token is to be for, and who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExchangeBy {
    /// The scopes say it. The secret is in the header (`client_secret_basic`).
    #[default]
    Scope,
    /// `audience` says it. The secret is in the form (`client_secret_post`).
    Audience,
}

impl ExchangeBy {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_scope(&self) -> bool {
        *self == Self::Scope
    }
}

/// How an access token calls itself. Names are compared without regard to case (RFC 7515, 4.1.9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenType {
    /// `typ` of the header, such as `at+jwt` (RFC 9068) or `JWT`.
    pub header: String,
    /// `typ` of the payload, where ID and refresh tokens carry the same header: Keycloak says `Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// A scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// Whether the challenge and the metadata name it. At least one scope does.
    #[serde(default)]
    pub challenge: bool,
    /// The scopes that whoever holds this one need not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub implies: Vec<String>,
}

/// What a call needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// What is called.
    pub kind: Kind,
    /// Its name or URI, case-sensitive; `*` stands for any run of characters.
    #[serde(rename = "match")]
    pub pattern: String,
    /// All of these.
    pub scopes: Vec<String>,
}

/// What rules are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A tool, by name.
    Tool,
    /// A prompt, by name.
    Prompt,
    /// A resource, by URI.
    Resource,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// `http://host:port/path` of its MCP endpoint. The host's addresses are asked for again and again.
    pub url: String,
    /// How it is spoken to.
    #[serde(default)]
    pub protocol: Protocol,
}

/// How the server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// One thing that a caller's token may be exchanged for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exchange {
    /// Name of the TokenExchangePolicy.
    pub name: String,
    /// How the server gets the token.
    pub delivery: Delivery,
    /// The audience that the exchanged token must have.
    pub audience: String,
    /// The scopes to ask for.
    pub scopes: Vec<ExchangeScope>,
    /// The clients whose tokens may be exchanged; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_clients: Option<BTreeSet<String>>,
    /// What the caller's token is presented as; absent: as an access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_token_type: Option<String>,
}

/// How the server gets an exchanged token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// In the `Authorization` header of the request. At most one exchange of a server.
    Header,
    /// It buys it from the gate with the handle that came with the request.
    Endpoint,
}

/// A scope of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExchangeScope {
    /// Its name.
    pub name: String,
    /// The scopes of this server that the caller must hold, or it is not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
}

impl Document {
    /// Reads a policy file.
    ///
    /// # Errors
    /// When it is not JSON, has fields that this build does not know, or is of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let document: Self =
            serde_json::from_slice(bytes).map_err(|error| DocumentError::Malformed(error.to_string()))?;
        if document.version == VERSION {
            Ok(document)
        } else {
            Err(DocumentError::Version(document.version))
        }
    }

    /// By what a policy file is told from others: half of the SHA-256 of its bytes, in hex.
    pub fn hash(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    /// By what a folder of credentials is told from others, given the content of each file by its name: the hash of
    /// name, NUL, content, NUL of one file after the other, in the order of their names.
    pub fn credentials_hash(files: &BTreeMap<String, Vec<u8>>) -> String {
        let mut digest = Sha256::new();
        for (name, content) in files {
            for part in [name.as_bytes(), b"\0", content.as_slice(), b"\0"] {
                digest.update(part);
            }
        }
        hex(&digest.finalize())
    }

    /// The file as the operator writes it: equal documents give equal bytes.
    pub fn to_text(&self) -> String {
        // Strings, lists and sets of them always have a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// Why a policy file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not the JSON that is expected.
    #[error("the policy file is malformed: {0}")]
    Malformed(String),
    /// Of another version.
    #[error("the policy file is of version {0}, this gate reads version {VERSION}")]
    Version(u32),
}

/// The first half of a digest, in hex.
fn hex(digest: &[u8]) -> String {
    digest.iter().take(16).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_apart_by_names_and_contents() {
        let hash = |files: &[(&str, &str)]| {
            let files = files
                .iter()
                .map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec()));
            Document::credentials_hash(&files.collect())
        };
        let both = hash(&[("client-id", "a"), ("session-keys", "k")]);
        assert_eq!(
            both,
            hash(&[("session-keys", "k"), ("client-id", "a")]),
            "in the order of names"
        );
        assert_eq!(
            both,
            Document::hash(b"client-id\0a\0session-keys\0k\0"),
            "as it is described"
        );
        for other in [
            &[("client-id", "b"), ("session-keys", "k")][..],
            &[("client-id", "a")],
            &[("client-id", "as"), ("ession-keys", "k")],
            &[("client-i", "da"), ("session-keys", "k")],
            &[],
        ] {
            assert_ne!(both, hash(other), "{other:?}");
        }
    }
}
