//! What several kinds share: references, namespace selection, scope names, durations.

use std::{fmt, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::rules;

/// Names of scopes that authorization servers define themselves, and that nobody may claim.
pub const BUILT_IN_SCOPES: [&str; 16] = [
    "openid",
    "profile",
    "email",
    "address",
    "phone",
    "offline_access",
    "roles",
    "web-origins",
    "microprofile-jwt",
    "acr",
    "amr",
    "basic",
    "service_account",
    "organization",
    "role_list",
    "saml_organization",
];

/// An object of a known kind, in the namespace of the referring object unless it says otherwise.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub name: String,
    /// Namespace of the object; the namespace of the referring object when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub namespace: Option<String>,
}

impl ObjectReference {
    /// The namespace that is meant when `referrer` is the namespace of the object holding this reference.
    pub fn namespace_or<'a>(&'a self, referrer: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(referrer)
    }
}

/// An object of a known kind in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::dns_name())]
    pub name: String,
}

/// Which namespaces are meant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.selector) == (self.from == 'Selector')")
    .message("selector goes with from: Selector, and only with it"))]
pub struct NamespaceSelection {
    /// All: every namespace. Same: the namespace of this object. Selector: the namespaces whose labels match
    /// `selector`.
    pub from: NamespacesFrom,
    /// Labels of the namespaces that are meant; every namespace carries `kubernetes.io/metadata.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = checked_selector)]
    pub selector: Option<LabelSelector>,
}

/// The schema of a label selector comes from Kubernetes without what Kubernetes checks in code: a misspelt
/// operator would be stored, and nobody could say which namespaces it means.
fn checked_selector(schema: &mut Schema) {
    let mut set = |pointer: &str, key: &str, value: serde_json::Value| {
        if let Some(part) = schema.pointer_mut(pointer).and_then(|part| part.as_object_mut()) {
            part.insert(key.to_owned(), value);
        }
    };
    set("/properties/matchLabels", "maxProperties", json!(16));
    set("/properties/matchExpressions", "maxItems", json!(16));
    let item = "/properties/matchExpressions/items";
    set(&format!("{item}/properties/values"), "maxItems", json!(64));
    set(
        &format!("{item}/properties/operator"),
        "enum",
        json!(["In", "NotIn", "Exists", "DoesNotExist"]),
    );
    set(
        item,
        "x-kubernetes-validations",
        json!([rules::values_go_with_in()]),
    );
}

/// The ways in which [`NamespaceSelection`] chooses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespacesFrom {
    /// Every namespace.
    All,
    /// The namespace of the object that holds the selection.
    Same,
    /// Namespaces by label.
    Selector,
}

/// A scope name as RFC 6749 section 3.3 has it: visible ASCII without `"` and `\`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(transparent)]
#[schemars(
    extend("minLength" = 1, "maxLength" = 128, "x-kubernetes-validations" = [{
        "rule": "self.matches('^[\\\\x21\\\\x23-\\\\x5B\\\\x5D-\\\\x7E]+$')",
        "message": "a scope name holds visible ASCII characters without space, double quote and backslash (RFC 6749 section 3.3)"
    }])
)]
pub struct ScopeName(pub String);

impl ScopeName {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScopeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A duration such as `720h`, `1h30m` or `90s`: hours, minutes and seconds, in this order, each at most once.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("maxLength" = 24, "x-kubernetes-validations" = [{
        "rule": "self != '' && self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$')",
        "message": "write a duration in hours, minutes and seconds, such as 720h, 1h30m or 90s"
    }])
)]
pub struct DurationText(pub String);

impl DurationText {
    /// The length of time, or `None` when the text is not one that the API server would have accepted.
    pub fn duration(&self) -> Option<Duration> {
        let mut rest = self.0.as_str();
        let mut seconds = 0;
        for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
            if let Some((number, tail)) = rest.split_once(unit) {
                if number.is_empty() || number.len() > 6 || !number.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                seconds += number.parse::<u64>().ok()? * factor;
                rest = tail;
            }
        }
        (rest.is_empty() && !self.0.is_empty()).then(|| Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_what_the_schema_accepts_and_nothing_else() {
        for (text, seconds) in [
            ("720h", Some(2_592_000)),
            ("1h30m", Some(5400)),
            ("90s", Some(90)),
            ("0s", Some(0)),
            ("1h1m1s", Some(3661)),
        ] {
            assert_eq!(
                DurationText(text.into()).duration(),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
        for text in [
            "", "h", "1d", "30m1h", "1", " 1h", "1h ", "-1h", "1.5h", "1234567h", "1hh", "१h",
        ] {
            assert_eq!(DurationText(text.into()).duration(), None, "{text:?}");
        }
    }

    #[test]
    fn a_reference_means_the_own_namespace_unless_it_says_otherwise() {
        let local = ObjectReference {
            name: "a".into(),
            namespace: None,
        };
        assert_eq!(local.namespace_or("here"), "here");
        let other = ObjectReference {
            name: "a".into(),
            namespace: Some("there".into()),
        };
        assert_eq!(other.namespace_or("here"), "there");
    }
}
