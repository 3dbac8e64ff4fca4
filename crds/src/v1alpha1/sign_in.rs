//! How the operator itself signs in to an authorization server.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::LocalReference;

/// The operator's own credential at the authorization server: exactly one of these, of a client whose service account
/// holds only the roles that the documentation lists.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.secretRef), has(self.privateKeyJwtRef), has(self.serviceAccountToken)].exists_one(given, given)")
        .message("say how the operator signs in: exactly one of secretRef, privateKeyJwtRef and serviceAccountToken")
)]
pub struct OperatorCredentials {
    /// A Secret in the same namespace with the keys `client-id` and `client-secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,

    /// A Secret in the same namespace with the keys `client-id` and `client-key.pem` (PKCS#8) or `client-key.jwk`: an RSA
    /// key, of which the client has the public half at the authorization server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_jwt_ref: Option<LocalReference>,

    /// The token of the operator's own ServiceAccount, from a file of its pod; there is no secret at all. Only in the
    /// operator's own namespace: elsewhere anybody could use the operator's client by naming it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_token: Option<OperatorToken>,
}

/// The client that tokens of the operator's ServiceAccount stand for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OperatorToken {
    /// Its client id.
    #[schemars(length(min = 1, max = 255))]
    pub client_id: String,
}

impl OperatorCredentials {
    /// The Secret that it needs, if it needs one.
    pub fn secret(&self) -> Option<&LocalReference> {
        self.secret_ref.as_ref().or(self.private_key_jwt_ref.as_ref())
    }
}
