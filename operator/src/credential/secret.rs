//! The Secret that a workload reads: what it holds, and whether what is there will do.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt as _;
use mcp_auth_crds::{
    annotations,
    v1alpha1::{ClientSecretSpec, SecretValue},
};

use crate::{
    policy::names,
    provider::{Credential, CredentialKind, key::PrivateKey},
};

/// Where the private key is stored, unless the spec says otherwise.
const PEM: &str = "client-key.pem";

/// What a workload needs to get tokens.
#[derive(Clone, Debug)]
pub struct Content<'a> {
    /// Client id.
    pub client_id: &'a str,
    /// Its secret or private key, unless it is public.
    pub secret: Option<&'a Credential>,
    /// Issuer, byte for byte.
    pub issuer: &'a str,
    /// Where to get tokens.
    pub token_endpoint: &'a str,
    /// Granted scopes.
    pub scope: Option<String>,
    /// The resource, when there is exactly one.
    pub resource: Option<&'a str>,
}

/// The data of the Secret, under the keys that `spec` asks for.
pub fn data(content: &Content<'_>, spec: Option<&ClientSecretSpec>) -> BTreeMap<String, String> {
    let of_kind = |kind| content.secret.filter(|credential| credential.kind() == kind);
    let pem = of_kind(CredentialKind::PrivateKey);
    let private_key = pem.and_then(PrivateKey::of);
    let values = [
        (
            SecretValue::ClientId,
            "client-id",
            Some(content.client_id.to_owned()),
        ),
        (
            SecretValue::ClientSecret,
            "client-secret",
            of_kind(CredentialKind::Secret).map(|secret| secret.expose().to_owned()),
        ),
        (
            SecretValue::ClientKeyJwk,
            "client-key.jwk",
            private_key.as_ref().map(PrivateKey::jwk),
        ),
        (
            SecretValue::ClientKeyPem,
            PEM,
            pem.map(|key| key.expose().to_owned()),
        ),
        (
            SecretValue::KeyId,
            "key-id",
            private_key.as_ref().map(PrivateKey::id),
        ),
        (SecretValue::Issuer, "issuer", Some(content.issuer.to_owned())),
        (
            SecretValue::TokenEndpoint,
            "token-endpoint",
            Some(content.token_endpoint.to_owned()),
        ),
        (SecretValue::Scope, "scope", content.scope.clone()),
        (
            SecretValue::Resource,
            "resource",
            content.resource.map(str::to_owned),
        ),
    ];
    values
        .into_iter()
        .filter_map(|(value, usual, text)| Some((key(spec, value, usual), text?)))
        .collect()
}

/// The key under which a value is stored.
fn key(spec: Option<&ClientSecretSpec>, value: SecretValue, usual: &str) -> String {
    spec.and_then(|spec| spec.keys.get(&value).cloned())
        .unwrap_or_else(|| usual.to_owned())
}

/// The private key that a Secret holds, if it holds one.
pub fn private_key(secret: &Secret, spec: Option<&ClientSecretSpec>) -> Option<Credential> {
    let held = secret
        .data
        .as_ref()?
        .get(&key(spec, SecretValue::ClientKeyPem, PEM))?;
    let credential = Credential::new(String::from_utf8(held.0.clone()).ok()?);
    PrivateKey::of(&credential).is_some().then_some(credential)
}

/// A short fingerprint of the data, for those who must notice when it changes. The secret in it has 256 random
/// bits, so nothing can be guessed from 64 bits of a hash.
pub fn fingerprint(data: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (key, value) in data {
        for part in [key, value] {
            text.push_str(&part.len().to_string());
            text.push(':');
            text.push_str(part);
        }
    }
    names::hash(text.as_bytes(), 8)
}

/// The labels of the Secret.
pub fn labels(spec: Option<&ClientSecretSpec>) -> BTreeMap<String, String> {
    let mut labels = spec.map(|spec| spec.labels.clone()).unwrap_or_default();
    labels.insert(
        annotations::MANAGED_BY.to_owned(),
        annotations::MANAGER.to_owned(),
    );
    labels
}

/// Whether the Secret holds this data and these labels. Keys and labels that others added do not matter.
pub fn matches(secret: &Secret, data: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    let empty = BTreeMap::new();
    let held: &BTreeMap<String, ByteString> = secret.data.as_ref().unwrap_or(&empty);
    data.iter()
        .all(|(key, value)| held.get(key).is_some_and(|held| held.0 == value.as_bytes()))
        && labels
            .iter()
            .all(|(key, value)| secret.labels().get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(secret: Option<&Credential>) -> Content<'_> {
        Content {
            client_id: "c",
            secret,
            issuer: "https://as/realms/r",
            token_endpoint: "https://as/token",
            scope: Some("a b".into()),
            resource: Some("https://h/"),
        }
    }

    #[test]
    fn values_go_under_the_keys_that_were_asked_for() {
        let secret = Credential::new("s");
        let spec: ClientSecretSpec =
            serde_json::from_value(serde_json::json!({"keys": {"client-id": "OAUTH_ID"}})).unwrap();
        let data = data(&content(Some(&secret)), Some(&spec));
        let keys: Vec<_> = data.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "OAUTH_ID",
                "client-secret",
                "issuer",
                "resource",
                "scope",
                "token-endpoint"
            ]
        );
    }

    #[test]
    fn a_public_client_has_no_secret() {
        assert!(!data(&content(None), None).contains_key("client-secret"));
    }

    #[test]
    fn edits_are_noticed_and_additions_are_not() {
        let data = data(&content(None), None);
        let labels = labels(None);
        let bytes = |value: &str| ByteString(value.as_bytes().to_vec());
        let mut secret = Secret {
            data: Some(data.iter().map(|(k, v)| (k.clone(), bytes(v))).collect()),
            ..Secret::default()
        };
        assert!(!matches(&secret, &data, &labels), "the label is missing");
        secret.metadata.labels = Some(labels.clone());
        assert!(matches(&secret, &data, &labels));
        secret.data.as_mut().unwrap().insert("theirs".into(), bytes("x"));
        assert!(matches(&secret, &data, &labels));
        secret
            .data
            .as_mut()
            .unwrap()
            .insert("issuer".into(), bytes("https://evil/"));
        assert!(!matches(&secret, &data, &labels));
    }

    #[test]
    fn fingerprints_tell_keys_and_values_apart() {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        assert_ne!(
            fingerprint(&map(&[("a", "bc")])),
            fingerprint(&map(&[("ab", "c")]))
        );
        assert_eq!(fingerprint(&map(&[("a", "b")])), fingerprint(&map(&[("a", "b")])));
    }
}
