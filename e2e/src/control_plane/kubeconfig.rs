//! Kubeconfig files, which kubectl, the operator and the harness all read.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::pki::write_private;

/// Who somebody is at the API server.
pub(super) struct Identity {
    pub(super) token: SecretString,
    /// Somebody else to act as.
    pub(super) user: Option<String>,
    /// The groups of that somebody else.
    pub(super) groups: Vec<String>,
}

impl Identity {
    pub(super) fn token(token: SecretString) -> Self {
        Self {
            token,
            user: None,
            groups: Vec::new(),
        }
    }
}

/// A cluster at `address` with certificates of one authority.
pub(super) fn cluster(address: &str, authority_pem: &str) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    json!({ "server": address, "certificate-authority-data": STANDARD.encode(authority_pem) })
}

/// Writes a kubeconfig that only this user can read.
pub(super) fn write_kubeconfig(file: &Path, cluster: &Value, identity: &Identity) -> anyhow::Result<()> {
    let mut user = json!({ "token": identity.token.expose_secret() });
    if let Some(name) = &identity.user {
        user["as"] = json!(name);
        user["as-groups"] = json!(identity.groups);
    }
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "stories",
        "contexts": [{ "name": "stories", "context": { "cluster": "stories", "user": "stories" } }],
        "clusters": [{ "name": "stories", "cluster": cluster }],
        "users": [{ "name": "stories", "user": user }],
    });
    write_private(file, &serde_json::to_string_pretty(&content)?)
}
