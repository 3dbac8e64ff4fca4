//! Checking a token as a resource server does.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::Issuer;

/// A token whose signature, issuer and lifetime are in order.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    /// `typ` of its header.
    pub typ: Option<String>,
    /// Its claims.
    pub claims: Value,
}

impl VerifiedToken {
    /// The audiences; `aud` may be a text or a list (RFC 7519 section 4.1.3).
    pub fn audiences(&self) -> Vec<String> {
        match &self.claims["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(several) => several
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The scopes.
    pub fn scopes(&self) -> BTreeSet<String> {
        self.text("scope").split_whitespace().map(str::to_owned).collect()
    }

    /// A claim that is a text; empty when it is missing.
    pub fn text(&self, claim: &str) -> &str {
        self.claims[claim].as_str().unwrap_or_default()
    }

    /// Seconds from issue to expiry.
    pub fn lifetime(&self) -> anyhow::Result<i64> {
        let seconds = |claim: &str| {
            self.claims[claim]
                .as_i64()
                .with_context(|| format!("the token has no {claim}"))
        };
        Ok(seconds("exp")? - seconds("iat")?)
    }
}

impl Issuer {
    /// Checks a token against the issuer's published keys. The audience is left to the story, which looks at all of
    /// `aud`.
    pub async fn verify(&self, token: &SecretString) -> anyhow::Result<VerifiedToken> {
        let token = token.expose_secret();
        let header = jsonwebtoken::decode_header(token).context("this is no signed token")?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256) {
            bail!("the token is signed with {:?}", header.alg);
        }
        let keys: JwkSet = self
            .http
            .get(&self.metadata.jwks_uri)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await
            .context("no keys")?;
        let id = header.kid.context("the token names no key")?;
        let key = keys
            .find(&id)
            .with_context(|| format!("the issuer has no key {id}"))?;
        let mut validation = Validation::new(header.alg);
        validation.validate_aud = false;
        validation.validate_nbf = true;
        validation.set_issuer(&[self.url()]);
        validation.set_required_spec_claims(&["exp", "iss"]);
        let token = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key)?, &validation)
            .context("the token is not valid")?;
        Ok(VerifiedToken {
            typ: token.header.typ,
            claims: token.claims,
        })
    }
}
