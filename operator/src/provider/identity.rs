//! How the operator shows who it is, anew at each sign-in.

use std::{fmt, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::{
    clock::SharedClock,
    provider::{
        ProviderError, SignIn,
        key::{ASSERTION_TYPE, PrivateKey},
    },
};

/// The operator as a client.
pub(super) struct Identity {
    pub(super) client_id: String,
    pub(super) sign_in: SignIn,
    /// What `aud` of its assertions is.
    pub(super) issuer: String,
    /// Where tokens of its ServiceAccount may be.
    pub(super) token_files: Vec<PathBuf>,
    pub(super) clock: SharedClock,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// What a request carries to show it. Never printed.
pub(super) type Shown = Vec<(&'static str, SecretString)>;

impl Identity {
    /// What the next request carries.
    pub(super) async fn show(&self) -> Result<Shown, ProviderError> {
        let assertion = match &self.sign_in {
            SignIn::Secret(secret) => {
                return Ok(vec![("client_secret", SecretString::from(secret.expose()))]);
            }
            SignIn::Key(key) => PrivateKey::read(key.expose())
                .and_then(|key| key.assertion(&self.client_id, &self.issuer, self.clock.now()))
                .map(SecretString::from)
                .ok_or_else(|| ProviderError::NoToken {
                    why: "its private key cannot sign with RS256".to_owned(),
                })?,
            SignIn::Token => self.token().await?,
        };
        Ok(vec![
            ("client_assertion_type", SecretString::from(ASSERTION_TYPE)),
            ("client_assertion", assertion),
        ])
    }

    /// The token for this issuer and nobody else: no server is shown one that is good at another.
    async fn token(&self) -> Result<SecretString, ProviderError> {
        for file in &self.token_files {
            let Ok(text) = tokio::fs::read_to_string(file).await.map(SecretString::from) else {
                continue;
            };
            let token = text.expose_secret().trim();
            if audience(token).as_deref() == Some(&self.issuer) {
                return Ok(SecretString::from(token));
            }
        }
        let files: Vec<_> = self
            .token_files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let why = format!(
            "none of {} holds a token whose only audience is {}",
            files.join(", "),
            self.issuer
        );
        Err(ProviderError::NoToken { why })
    }
}

/// The only audience of a token; `None` where it has more, or none.
fn audience(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    match &claims["aud"] {
        Value::String(one) => Some(one.clone()),
        Value::Array(all) if all.len() == 1 => all.first()?.as_str().map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        clock::SystemClock,
        provider::{Credential, key},
    };

    const ISSUER: &str = "https://as.example/realms/r";

    fn identity(sign_in: SignIn, token_files: &[&std::path::Path]) -> Identity {
        Identity {
            client_id: "op".into(),
            sign_in,
            issuer: ISSUER.into(),
            token_files: token_files.iter().map(|file| file.to_path_buf()).collect(),
            clock: SystemClock::shared(),
        }
    }

    fn token(audience: &Value) -> String {
        let claims = json!({ "aud": audience }).to_string();
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn shown(shown: &Shown, name: &str) -> Option<String> {
        let found = shown.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| value.expose_secret().to_owned())
    }

    #[tokio::test]
    async fn each_way_to_sign_in_shows_what_is_its_own() {
        let secret = identity(SignIn::Secret(Credential::new("s3cret")), &[])
            .show()
            .await
            .unwrap();
        assert_eq!(shown(&secret, "client_secret").as_deref(), Some("s3cret"));
        assert_eq!(secret.len(), 1);
        let pem = key::make().unwrap();
        let by_key = identity(SignIn::Key(pem.clone()), &[]);
        let (one, other) = (by_key.show().await.unwrap(), by_key.show().await.unwrap());
        assert_ne!(shown(&one, "client_assertion"), shown(&other, "client_assertion"));
        assert_eq!(
            shown(&one, "client_assertion_type").as_deref(),
            Some(ASSERTION_TYPE)
        );
        let assertion = shown(&one, "client_assertion").unwrap();
        assert_eq!(audience(&assertion).as_deref(), Some(ISSUER));
        let printed = format!("{by_key:?} {:?} {one:?}", by_key.sign_in);
        assert!(!printed.contains(&assertion) && !printed.contains(pem.expose()));
        let broken = identity(SignIn::Key(Credential::new("none")), &[]).show().await;
        assert!(matches!(broken, Err(ProviderError::NoToken { .. })));
    }

    #[tokio::test]
    async fn a_token_is_read_anew_and_shown_to_its_audience_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (missing, file) = (folder.path().join("missing"), folder.path().join("token"));
        let identity = identity(SignIn::Token, &[&missing, &file]);
        assert!(matches!(
            identity.show().await,
            Err(ProviderError::NoToken { .. })
        ));
        for (audience, accepted) in [
            (json!(ISSUER), true),
            (json!([ISSUER]), true),
            (json!([ISSUER, "https://other.example"]), false),
            (json!("https://kubernetes.default.svc"), false),
            (Value::Null, false),
        ] {
            let text = token(&audience);
            std::fs::write(&file, format!("{text}\n")).unwrap();
            let found = identity.show().await;
            if accepted {
                assert_eq!(
                    shown(&found.unwrap(), "client_assertion"),
                    Some(text),
                    "{audience}"
                );
                continue;
            }
            let error = found.unwrap_err();
            assert!(!error.to_string().contains(&text), "{error}");
            assert!(error.to_string().contains(ISSUER) && error.needs_a_person());
        }
    }
}
