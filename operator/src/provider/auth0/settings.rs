//! What of a tenant as a whole MCP needs. Others read and write the same document, so only what differs is sent.

use std::sync::PoisonError;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Auth0, diff, observe::since};
use crate::provider::{Call, Change, ObservedSettings, Plan, ProviderError, Read, SettingsSpec, Verb};

/// The path of the document.
pub(super) const SETTINGS: &str = "/tenants/settings";

/// Without the first, Auth0 takes no notice of `resource` (RFC 8707), by which MCP clients say for which server a token is
/// to be. The second makes it say in answers to clients who it is (RFC 9207).
fn for_mcp() -> Map<String, Value> {
    [
        ("resource_parameter_profile", json!("compatibility")),
        ("authorization_response_iss_parameter_supported", json!(true)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect()
}

/// That clients are known by the address of their metadata document, if that is registered.
const DOCUMENTS: &str = "client_id_metadata_document_supported";

/// All that anybody may want.
fn all() -> Map<String, Value> {
    let mut all = for_mcp();
    all.insert(DOCUMENTS.to_owned(), json!(true));
    all
}

fn wanted(want: SettingsSpec) -> Map<String, Value> {
    let mut wanted = all();
    wanted.retain(|name, _| {
        if name == DOCUMENTS {
            want.metadata_documents
        } else {
            want.for_mcp
        }
    });
    wanted
}

/// Which settings are other than they are to be, and what each is.
fn differing(want: SettingsSpec, raw: &Value) -> ObservedSettings {
    let names = diff::fields(&wanted(want), raw).into_iter();
    names
        .map(|(name, _)| {
            let now = raw[name.as_str()].to_string();
            (name, now)
        })
        .collect()
}

/// See [`crate::provider::Provider::plan_settings`].
pub(super) fn plan(observed: &ObservedSettings) -> Plan {
    if observed.is_empty() {
        return Plan::default();
    }
    let mut body = all();
    body.retain(|name, _| observed.contains_key(name));
    let names: Vec<&str> = body.keys().map(String::as_str).collect();
    super::plan::plan(vec![Call {
        operation: "update_tenant_settings",
        change: Change::Update,
        subject: format!("tenant: {}", names.join(", ")),
        verb: Verb::Patch,
        path: SETTINGS.to_owned(),
        body: Some(Value::Object(body)),
    }])
}

impl Auth0 {
    /// See [`crate::provider::Provider::observe_settings`].
    pub(super) async fn settings(
        &self,
        want: SettingsSpec,
        read: Read,
    ) -> Result<ObservedSettings, ProviderError> {
        let since = since(read);
        let known = self
            .settings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .filter(|(asked, _)| Some(*asked) >= since)
            .map(|(_, raw)| differing(want, raw));
        if let Some(known) = known {
            return Ok(known);
        }
        let asked = Instant::now();
        let raw = self.admin.get("read_tenant_settings", SETTINGS, &[]).await?;
        let mut raw = raw.unwrap_or_default();
        // Of the rest nothing matters.
        if let Value::Object(fields) = &mut raw {
            let all = all();
            fields.retain(|name, _| all.contains_key(name));
        }
        let differing = differing(want, &raw);
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, raw));
        Ok(differing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR_MCP: SettingsSpec = SettingsSpec {
        for_mcp: true,
        metadata_documents: false,
    };

    #[test]
    fn only_what_differs_is_set_and_told() {
        let right = json!({
            "resource_parameter_profile": "compatibility",
            "authorization_response_iss_parameter_supported": true,
            "default_audience": "https://theirs/",
        });
        assert!(differing(FOR_MCP, &right).is_empty());
        assert!(plan(&differing(FOR_MCP, &right)).is_empty());
        let old = json!({
            "resource_parameter_profile": "audience",
            "authorization_response_iss_parameter_supported": true,
        });
        let observed = differing(FOR_MCP, &old);
        assert_eq!(observed["resource_parameter_profile"], "\"audience\"");
        let plan = plan(&observed);
        assert_eq!(
            plan.calls[0].body,
            Some(json!({"resource_parameter_profile": "compatibility"}))
        );
        assert_eq!(differing(FOR_MCP, &json!({})).len(), 2);
    }

    #[test]
    fn documents_are_let_in_only_where_that_is_wanted() {
        let want = SettingsSpec {
            metadata_documents: true,
            ..FOR_MCP
        };
        let old = json!({
            "resource_parameter_profile": "compatibility",
            "authorization_response_iss_parameter_supported": true,
        });
        assert!(differing(FOR_MCP, &old).is_empty());
        let observed = differing(want, &old);
        assert_eq!(
            observed,
            ObservedSettings::from([(DOCUMENTS.to_owned(), "null".to_owned())])
        );
        assert_eq!(plan(&observed).calls[0].body, Some(json!({ DOCUMENTS: true })));
        // Nor is it taken back.
        let on = json!({ DOCUMENTS: true });
        assert!(!differing(FOR_MCP, &on).contains_key(DOCUMENTS));
    }
}
