//! The Secret that the workload of an McpClient reads: its name, its keys, its labels.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::rules;

/// The Secret that the workload reads.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClientSecretSpec {
    /// Name of the Secret; `<client>-mcp-client` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::dns_name())]
    pub name: Option<String>,
    /// Under which key each value is stored, where it differs from its own name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "SecretKeys")]
    pub keys: BTreeMap<SecretValue, String>,
    /// Labels of the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, LabelValue>", extend("maxProperties" = 32))]
    #[x_kube(
        validation = Rule::new("self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'))")
            .message("the key of a label holds letters, digits and - . _, with a letter or digit at both ends, and before it may stand a DNS name and a slash"),
        validation = Rule::new("!('app.kubernetes.io/managed-by' in self)")
            .message("the label app.kubernetes.io/managed-by is the operator's own")
    )]
    pub labels: BTreeMap<String, String>,
}

/// The schema of [`ClientSecretSpec::keys`]: a map would let the API server accept a key that is no [`SecretValue`].
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(transform = all_optional, extend("x-kubernetes-validations" = [rules::secret_keys_differ()]))]
#[allow(dead_code, reason = "only its schema is used")]
struct SecretKeys {
    /// Key of the client id.
    client_id: SecretKey,
    /// Key of the client secret.
    client_secret: SecretKey,
    /// Key of the private key as JWK.
    #[serde(rename = "client-key.jwk")]
    client_key_jwk: SecretKey,
    /// Key of the private key as PEM.
    #[serde(rename = "client-key.pem")]
    client_key_pem: SecretKey,
    /// Key of the id of the private key.
    key_id: SecretKey,
    /// Key of the issuer.
    issuer: SecretKey,
    /// Key of the token endpoint.
    token_endpoint: SecretKey,
    /// Key of the granted scopes.
    scope: SecretKey,
    /// Key of the resource.
    resource: SecretKey,
}

/// Leaves each property out of `required` without making it nullable: the map has no place for a null.
fn all_optional(schema: &mut Schema) {
    schema.remove("required");
}

/// A key of a Secret.
#[derive(JsonSchema)]
#[serde(transparent)]
#[schemars(
    extend("minLength" = 1, "maxLength" = 253, "x-kubernetes-validations" = [rules::data_key()])
)]
#[allow(dead_code, reason = "only its schema is used")]
struct SecretKey(String);

/// The value of a label.
#[derive(JsonSchema)]
#[serde(transparent)]
#[schemars(
    extend("maxLength" = 63, "x-kubernetes-validations" = [{
        "rule": "self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
        "message": "the value of a label holds letters, digits and - . _, with a letter or digit at both ends"
    }])
)]
#[allow(dead_code, reason = "only its schema is used")]
struct LabelValue(String);

/// The values that the workload's Secret can hold.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum SecretValue {
    /// The client id.
    ClientId,
    /// The client secret.
    ClientSecret,
    /// The private key as JWK (RFC 7517), with its id.
    #[serde(rename = "client-key.jwk")]
    ClientKeyJwk,
    /// The private key as PKCS#8 in PEM.
    #[serde(rename = "client-key.pem")]
    ClientKeyPem,
    /// The id of the private key: its thumbprint (RFC 7638).
    KeyId,
    /// The issuer.
    Issuer,
    /// The token endpoint.
    TokenEndpoint,
    /// The granted scopes, separated by spaces.
    Scope,
    /// The resource, when access names exactly one server.
    Resource,
}
