//! A client that somebody else registers, with credentials that somebody else brings.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{mcp_client::GrantType, rules};

/// A client that somebody else registers at the authorization server. The operator only proves the credential, and
/// changes neither the client nor the Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!('authorization_code' in self.grantTypes) || has(self.redirectUri)")
        .message("authorization_code needs the redirect URI that is registered for the client")
        .field_path(".redirectUri")
        .reason(Reason::FieldValueRequired),
    validation = Rule::new("!has(self.redirectUri) || 'authorization_code' in self.grantTypes")
        .message("a redirect URI is used with authorization_code only: add it to grantTypes or leave it out")
        .field_path(".redirectUri"),
    validation = Rule::new("!('refresh_token' in self.grantTypes) || 'authorization_code' in self.grantTypes")
        .message("refresh_token needs authorization_code")
        .field_path(".grantTypes")
)]
pub struct ExistingClient {
    /// The Secret with the client id and the client secret, in the namespace of this object. It may come later.
    pub secret_ref: ExistingSecret,

    /// How the client gets tokens, as it is registered. With client_credentials the operator gets a token to prove
    /// the credential and the access, else it presents a made-up code, which proves the credential alone.
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub grant_types: Vec<GrantType>,

    /// One of the redirect URIs that are registered for the client, to be sent with the made-up code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$')")
        .message("a redirect URI is absolute and holds no spaces"))]
    pub redirect_uri: Option<String>,
}

/// A Secret that somebody else fills.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExistingSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::dns_name())]
    pub name: String,

    /// Under which key each value is stored, where it differs from its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<ExistingKeys>,
}

/// Keys of the Secret that somebody else fills.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub struct ExistingKeys {
    /// Key of the client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::data_key())]
    pub client_id: Option<String>,

    /// Key of the client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::data_key())]
    pub client_secret: Option<String>,
}

impl ExistingSecret {
    /// The key of the client id.
    pub fn client_id_key(&self) -> &str {
        let keys = self.keys.as_ref();
        keys.and_then(|keys| keys.client_id.as_deref())
            .unwrap_or("client-id")
    }

    /// The key of the client secret.
    pub fn client_secret_key(&self) -> &str {
        let keys = self.keys.as_ref();
        keys.and_then(|keys| keys.client_secret.as_deref())
            .unwrap_or("client-secret")
    }
}
