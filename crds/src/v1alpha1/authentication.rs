//! How a client that the operator registers proves who it is.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::LocalReference;

/// How a client proves who it is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.serviceAccount) == (self.method == 'ServiceAccountToken')")
        .message("serviceAccount goes with the method ServiceAccountToken, and only with it")
        .field_path(".serviceAccount")
)]
pub struct ClientAuthentication {
    /// ClientSecret: a secret that the operator makes and rotates. PrivateKeyJwt: a private key that the operator makes
    /// and rotates, of which the authorization server knows only the public half. ServiceAccountToken: the tokens that
    /// Kubernetes gives the pods of a ServiceAccount; there is no secret at all. None: a public client, which proves only
    /// that the same party began and ended a sign-in (PKCE).
    pub method: AuthenticationMethod,

    /// With ServiceAccountToken: the ServiceAccount, in this namespace. One can stand for one client only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<LocalReference>,
}

/// Authentication methods of clients.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationMethod {
    /// A shared secret.
    ClientSecret,
    /// Assertions that are signed with a private key (RFC 7523).
    PrivateKeyJwt,
    /// Tokens of a ServiceAccount.
    ServiceAccountToken,
    /// A public client.
    None,
}
