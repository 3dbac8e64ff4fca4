//! Custom token exchange: a profile says which action of the tenant looks at which type of subject token. A profile has no
//! place for a mark. The type is ours to choose, one profile has it, and it is made from the mark.
//!
//! At Auth0 a client that may exchange by one profile may do so by all of the tenant. So an action serves a namespace only
//! where the AuthorizationServer names both, and which client asks is for the action to judge.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{diff::list, mark::text, plan::delete};
use crate::{
    policy::names,
    provider::{Call, Change, Mark, Verb},
};

/// The path of profiles.
pub(super) const PROFILES: &str = "/token-exchange-profiles";
/// The path of actions.
pub(super) const ACTIONS: &str = "/actions/actions";
/// The one kind of profile that there is, and what a client says that may use them.
pub(super) const CUSTOM: &str = "custom_authentication";
/// What an action is for that looks at subject tokens.
pub(super) const TRIGGER: &str = "custom-token-exchange";
/// The most characters of a profile's name.
const LONGEST_NAME: usize = 50;

/// The changes of a server's profiles.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    pub(super) revoked: Vec<Call>,
    pub(super) given: Vec<Call>,
}

/// The calls that make the profiles of a server exactly those for these actions. One whose action is not there gets none;
/// that nothing is given by it shows in [`in_force`].
pub(super) fn plan(mark: &Mark, wanted: &BTreeSet<String>, raw: &Value) -> Profiles {
    let mut profiles = Profiles::default();
    let mut actions: BTreeMap<String, (&str, &Value)> = wanted
        .iter()
        .filter_map(|name| Some((type_of(mark, name), (name.as_str(), action(raw, name)?))))
        .collect();
    for profile in own(mark, raw) {
        let kind = text(profile, "subject_token_type");
        if actions.get(kind).is_some_and(|(_, action)| uses(profile, action)) {
            actions.remove(kind);
        } else {
            // An action that was given another name is not the one that may be used.
            profiles.revoked.push(Call {
                change: Change::Revoke,
                ..deletion(profile)
            });
        }
    }
    let deployed = actions.into_iter().filter(|(_, (_, action))| is_deployed(action));
    profiles.given = deployed
        .map(|(kind, (name, action))| creation(mark, name, &kind, action))
        .collect();
    profiles
}

/// The ids of a server's profiles by the action that each names. Which version of an action runs is for those to say who
/// deploy it.
pub(super) fn in_force(mark: &Mark, raw: &Value) -> BTreeMap<String, String> {
    let own: Vec<&Value> = own(mark, raw).collect();
    let names = list(&raw["actions"]).iter().map(|action| text(action, "name"));
    names
        .filter_map(|name| {
            let (kind, action) = (type_of(mark, name), action(raw, name)?);
            let profile = own
                .iter()
                .find(|profile| text(profile, "subject_token_type") == kind && uses(profile, action))?;
            Some((name.to_owned(), text(profile, "id").to_owned()))
        })
        .collect()
}

/// The deletion of all profiles of a server.
pub(super) fn removal(mark: &Mark, raw: &Value) -> Vec<Call> {
    own(mark, raw).map(deletion).collect()
}

/// Whether a server has profiles.
pub(super) fn has_any(mark: &Mark, raw: &Value) -> bool {
    own(mark, raw).next().is_some()
}

fn own<'a>(mark: &Mark, raw: &'a Value) -> impl Iterator<Item = &'a Value> + use<'a> {
    let ours = names::subject_token_types(&mark.installation, &mark.namespace, &mark.name);
    list(&raw["profiles"])
        .iter()
        .filter(move |profile| text(profile, "subject_token_type").starts_with(&ours))
}

fn type_of(mark: &Mark, action: &str) -> String {
    names::subject_token_type(&mark.installation, &mark.namespace, &mark.name, action)
}

/// The action of this name, if there is exactly one.
fn action<'a>(raw: &'a Value, name: &str) -> Option<&'a Value> {
    let mut found = list(&raw["actions"])
        .iter()
        .filter(|action| text(action, "name") == name);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn uses(profile: &Value, action: &Value) -> bool {
    text(profile, "action_id") == text(action, "id") && text(profile, "type") == CUSTOM
}

fn is_deployed(action: &Value) -> bool {
    action["all_changes_deployed"] == true
}

fn creation(mark: &Mark, name: &str, kind: &str, action: &Value) -> Call {
    let digest = names::hash(kind.as_bytes(), 4);
    let mut shown = format!("mcp-auth {}.{}", mark.namespace, mark.name);
    shown.truncate(LONGEST_NAME - digest.len() - 1);
    Call {
        operation: "create_token_exchange_profile",
        change: Change::Create,
        subject: format!(
            "token exchange profile of {}/{} by {name}",
            mark.namespace, mark.name
        ),
        verb: Verb::Post,
        path: PROFILES.to_owned(),
        body: Some(json!({
            "name": format!("{shown} {digest}"), "subject_token_type": kind,
            "action_id": text(action, "id"), "type": CUSTOM,
        })),
    }
}

fn deletion(profile: &Value) -> Call {
    delete(
        "delete_token_exchange_profile",
        format!("{PROFILES}/{}", text(profile, "id")),
        format!("token exchange profile {}", text(profile, "name")),
    )
}

/// What is kept: of actions not their code.
pub(super) fn known_of(profiles: &[Value], actions: &[Value]) -> Value {
    let looks_at_tokens = |action: &&Value| {
        list(&action["supported_triggers"])
            .iter()
            .any(|trigger| text(trigger, "id") == TRIGGER)
    };
    let actions: Vec<Value> = actions
        .iter()
        .filter(looks_at_tokens)
        .map(|action| {
            json!({
                "id": action["id"], "name": action["name"],
                "all_changes_deployed": action["all_changes_deployed"],
            })
        })
        .collect();
    json!({"profiles": profiles, "actions": actions})
}

#[cfg(test)]
#[path = "profiles_tests.rs"]
mod tests;
