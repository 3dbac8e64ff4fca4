//! What of a tenant as a whole is needed. Others read and write the same document, so only what differs is sent.

use std::{collections::BTreeMap, sync::PoisonError};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Auth0, diff, observe::since};
use crate::provider::{
    Call, Change, ObservedSettings, Plan, ProviderError, Read, Registering, SettingsSpec, Verb,
};

/// The path of the document.
pub(super) const SETTINGS: &str = "/tenants/settings";

/// What clients are that register themselves.
const MODE: &str = "dynamic_client_registration_security_mode";
/// They get nothing that they were not granted.
const STRICT: &str = "strict";

/// Flags are an object of their own; a PATCH merges within it.
const FLAGS: &str = "flags";
/// Whether clients can register themselves.
const DOOR: &str = "enable_dynamic_client_registration";

/// How a flag is called in the status.
fn flag(name: &str) -> String {
    format!("{FLAGS}.{name}")
}

/// The name in the status of the setting that lets clients register themselves.
pub fn door() -> String {
    flag(DOOR)
}

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

/// Of the document what matters to anybody here.
fn known(raw: &Value) -> Value {
    let mut known = Map::new();
    for name in all().keys().map(String::as_str).chain([MODE]) {
        known.insert(name.to_owned(), raw[name].clone());
    }
    known.insert(FLAGS.to_owned(), json!({ DOOR: raw[FLAGS][DOOR] }));
    Value::Object(known)
}

/// Which settings are other than they are to be, and what each is.
fn differing(want: SettingsSpec, raw: &Value) -> ObservedSettings {
    let mut differing = ObservedSettings::new();
    let names = diff::fields(&wanted(want), raw).into_iter();
    differing.extend(names.map(|(name, _)| {
        let now = raw[name.as_str()].to_string();
        (name, now)
    }));
    let (mode, open) = (&raw[MODE], &raw[FLAGS][DOOR]);
    let mut is_other = |name: &str, now: &Value| differing.insert(name.to_owned(), now.to_string());
    match want.registration {
        Some(Registering::Open) => {
            // A tenant does not show the mode while nobody has set it. It is set before the door is opened; an open one
            // shows by what it lets in.
            let is_loose = !(mode.is_null() || mode == STRICT);
            if is_loose || *open != true && mode != STRICT {
                is_other(MODE, mode);
            }
            if *open != true {
                is_other(&door(), open);
            }
        }
        Some(Registering::Shut) if *open == true => {
            is_other(&door(), open);
        }
        Some(Registering::Shut) | None => {}
    }
    differing
}

/// Whether a change of settings may have changed what clients can do that register themselves.
pub(super) fn decides_who_registers(change: &Value) -> bool {
    !(change[MODE].is_null() && change[FLAGS][DOOR].is_null())
}

/// See [`crate::provider::Provider::plan_settings`].
pub(super) fn plan(want: SettingsSpec, observed: &ObservedSettings) -> Plan {
    let mut calls = Vec::new();
    let mut body = all();
    body.retain(|name, _| observed.contains_key(name));
    if !body.is_empty() {
        calls.push(call(Change::Update, body));
    }
    let (is_loose, differs) = (observed.contains_key(MODE), observed.contains_key(&door()));
    match want.registration {
        // Who registers meanwhile would stay what that mode makes of him.
        Some(Registering::Open) if is_loose && !differs => {
            calls.insert(0, set_door(Change::Revoke, false));
            calls.push(strict());
        }
        Some(Registering::Open) if differs => calls.extend([strict(), set_door(Change::Update, true)]),
        Some(Registering::Shut) if differs => calls.insert(0, set_door(Change::Revoke, false)),
        Some(_) | None => {}
    }
    super::plan::plan(calls)
}

fn strict() -> Call {
    call(Change::Update, BTreeMap::from([(MODE, json!(STRICT))]))
}

fn set_door(change: Change, open: bool) -> Call {
    call(change, BTreeMap::from([(FLAGS, json!({ DOOR: open }))]))
}

fn call<N: Into<String>>(change: Change, fields: impl IntoIterator<Item = (N, Value)>) -> Call {
    let body: Map<String, Value> = fields
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    let names = body.iter().map(|(name, value)| match value {
        Value::Object(flags) => flags.keys().map(|name| flag(name)).collect(),
        _ => name.clone(),
    });
    let names: Vec<String> = names.collect();
    Call {
        operation: "update_tenant_settings",
        change,
        subject: format!("tenant: {}", names.join(", ")),
        verb: Verb::Patch,
        path: SETTINGS.to_owned(),
        body: Some(Value::Object(body)),
    }
}

impl Auth0 {
    /// See [`crate::provider::Provider::observe_settings`].
    pub(super) async fn settings(
        &self,
        want: SettingsSpec,
        read: Read,
    ) -> Result<ObservedSettings, ProviderError> {
        let differing = differing(want, &self.document(read).await?);
        if want.registration == Some(Registering::Open) && !differing.is_empty() {
            // What was shown before was shown of other settings.
            self.show(None);
        }
        Ok(differing)
    }

    async fn document(&self, read: Read) -> Result<Value, ProviderError> {
        let since = since(read);
        let remembered = self
            .settings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .filter(|(asked, _)| Some(*asked) >= since)
            .map(|(_, raw)| raw.clone());
        if let Some(remembered) = remembered {
            return Ok(remembered);
        }
        let asked = Instant::now();
        let raw = self.admin.get("read_tenant_settings", SETTINGS, &[]).await?;
        let raw = known(&raw.unwrap_or_default());
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, raw.clone()));
        Ok(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR_MCP: SettingsSpec = SettingsSpec {
        for_mcp: true,
        metadata_documents: false,
        registration: None,
    };

    fn registration(registering: Registering) -> SettingsSpec {
        SettingsSpec {
            registration: Some(registering),
            ..SettingsSpec::default()
        }
    }

    fn bodies(plan: &Plan) -> Vec<Value> {
        plan.calls.iter().filter_map(|call| call.body.clone()).collect()
    }

    #[test]
    fn only_what_differs_is_set_and_told() {
        let right = json!({
            "resource_parameter_profile": "compatibility",
            "authorization_response_iss_parameter_supported": true,
            "default_audience": "https://theirs/",
        });
        assert!(differing(FOR_MCP, &right).is_empty());
        assert!(plan(FOR_MCP, &differing(FOR_MCP, &right)).is_empty());
        let old = json!({
            "resource_parameter_profile": "audience",
            "authorization_response_iss_parameter_supported": true,
        });
        let observed = differing(FOR_MCP, &old);
        assert_eq!(observed["resource_parameter_profile"], "\"audience\"");
        let plan = plan(FOR_MCP, &observed);
        assert_eq!(
            bodies(&plan),
            [json!({"resource_parameter_profile": "compatibility"})]
        );
        assert_eq!(differing(FOR_MCP, &json!({})).len(), 2);
        assert!(differing(SettingsSpec::default(), &json!({})).is_empty());
    }

    #[test]
    fn the_mode_is_set_before_the_door_is_opened_each_by_its_own_call() {
        let open = registration(Registering::Open);
        let theirs = json!({"flags": {"enable_client_connections": true}});
        let observed = differing(open, &theirs);
        assert_eq!(observed[&door()], "null");
        let plan = plan(open, &observed);
        assert_eq!(
            bodies(&plan),
            [json!({MODE: "strict"}), json!({"flags": {DOOR: true}})]
        );
        assert_eq!(
            plan.calls[1].subject,
            "tenant: flags.enable_dynamic_client_registration"
        );
        for right in [
            json!({"flags": {DOOR: true}}),
            json!({MODE: "strict", "flags": {DOOR: true, "other": 1}}),
        ] {
            assert!(differing(open, &right).is_empty(), "{right}");
        }
    }

    /// Somebody who registers while the mode is another stays what it made of him.
    #[test]
    fn an_open_door_is_shut_before_the_mode_is_mended() {
        let open = registration(Registering::Open);
        let loose = json!({MODE: "permissive", "flags": {DOOR: true}});
        let plan = plan(open, &differing(open, &loose));
        assert_eq!(
            bodies(&plan),
            [json!({"flags": {DOOR: false}}), json!({MODE: "strict"})]
        );
        assert_eq!(plan.revocations().calls.len(), 1);
    }

    #[test]
    fn a_door_that_is_shut_stays_so_and_the_mode_stays_as_it_is() {
        let shut = registration(Registering::Shut);
        for raw in [json!({}), json!({MODE: "permissive", "flags": {DOOR: false}})] {
            assert!(differing(shut, &raw).is_empty(), "{raw}");
        }
        let plan = plan(shut, &differing(shut, &json!({"flags": {DOOR: true}})));
        assert_eq!(bodies(&plan), [json!({"flags": {DOOR: false}})]);
        assert_eq!(plan.revocations().calls.len(), 1);
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
        assert_eq!(
            plan(want, &observed).calls[0].body,
            Some(json!({ DOCUMENTS: true }))
        );
        // Nor is it taken back.
        let on = json!({ DOCUMENTS: true });
        assert!(!differing(FOR_MCP, &on).contains_key(DOCUMENTS));
    }
}
