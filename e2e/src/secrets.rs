//! Secrets that are made for one run.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

/// A new secret of 256 bits, safe in URLs, forms and shell words.
pub fn random() -> SecretString {
    SecretString::from(random_text())
}

/// The same as plain text, for values that are public once sent, such as a PKCE verifier.
pub fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
