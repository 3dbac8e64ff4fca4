//! Wanted against observed. Only what we set is compared; whatever else the answer has stays.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    mark::{made_scope, text},
    render::{self, EXCHANGE, WAYS},
};

/// Lists of a client whose every entry is a permission.
const PERMISSIONS: [&str; 4] = ["grant_types", "callbacks", "allowed_origins", "web_origins"];

/// Fields of an API that keep others out.
const GUARDS: [&str; 2] = ["subject_type_authorization", "enforce_policies"];

/// The fields that differ, as they are to be.
pub(super) fn fields(want: &Map<String, Value>, observed: &Value) -> Map<String, Value> {
    want.iter()
        .filter(|(name, value)| !same(value, &observed[name.as_str()]))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The part of a difference of clients that only takes away.
pub(super) fn client_revocation(want: &Map<String, Value>, observed: &Value) -> Map<String, Value> {
    let ended = want
        .get(EXCHANGE)
        .and_then(|want| fewer_ways(want, &observed[EXCHANGE]));
    let ended = ended.map(|left| (EXCHANGE.to_owned(), left));
    PERMISSIONS
        .into_iter()
        .filter_map(|name| {
            let (had, wanted) = (texts(&observed[name]), texts(want.get(name)?));
            let left: Vec<&str> = had.intersection(&wanted).copied().collect();
            (left.len() < had.len()).then(|| (name.to_owned(), json!(left)))
        })
        .chain(ended)
        .collect()
}

/// The ways of exchange that are left of those that a client has; `None`: it loses none.
fn fewer_ways(want: &Value, observed: &Value) -> Option<Value> {
    let (had, wanted) = (texts(&observed[WAYS]), texts(&want[WAYS]));
    let left: Vec<&str> = had.intersection(&wanted).copied().collect();
    let is_fewer = left.len() < had.len() || (want.is_null() && !observed.is_null());
    is_fewer.then(|| {
        if left.is_empty() {
            Value::Null
        } else {
            json!({ WAYS: left })
        }
    })
}

/// The part of a difference of APIs that only takes away.
pub(super) fn guards(differing: &Map<String, Value>) -> Map<String, Value> {
    let guards = differing
        .iter()
        .filter(|(name, _)| GUARDS.contains(&name.as_str()));
    guards
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The scopes of an API without those that we made and want no more; `None`: there are none such. Where the API has no
/// client yet, `client` is null and nobody but us has made any.
pub(super) fn fewer_scopes(
    want: &BTreeMap<String, String>,
    api: &Value,
    client: &Value,
    born: bool,
) -> Option<Vec<Value>> {
    let all = list(&api["scopes"]);
    let stays = |scope: &&Value| {
        let name = text(scope, "value");
        want.contains_key(name) || !(born || made_scope(client, name))
    };
    let left: Vec<Value> = all.iter().filter(stays).cloned().collect();
    (left.len() < all.len()).then_some(left)
}

/// The scopes of an API with ours as they are to be among them; `None`: they are. `present` are those that are there. A
/// PATCH replaces the list, so what others have there is sent along, as it is and where it is.
pub(super) fn all_scopes(want: &BTreeMap<String, String>, present: &[Value]) -> Option<Vec<Value>> {
    let mut wanted: BTreeMap<String, Value> = render::scopes(want)
        .into_iter()
        .map(|scope| (text(&scope, "value").to_owned(), scope))
        .collect();
    let mut is_changed = false;
    let mut all = Vec::new();
    for scope in present {
        match wanted.remove(text(scope, "value")) {
            Some(ours) if text(&ours, "description") != text(scope, "description") => {
                is_changed = true;
                all.push(ours);
            }
            _ => all.push(scope.clone()),
        }
    }
    is_changed |= !wanted.is_empty();
    all.extend(wanted.into_values());
    is_changed.then_some(all)
}

/// A list.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A list of texts as a set.
pub(super) fn texts(value: &Value) -> BTreeSet<&str> {
    list(value).iter().filter_map(Value::as_str).collect()
}

/// What is false, empty or absent is the same to Auth0.
fn same(want: &Value, observed: &Value) -> bool {
    match want {
        Value::Null => observed.is_null(),
        Value::Bool(want) => observed.as_bool().unwrap_or(false) == *want,
        Value::String(want) => observed.as_str().unwrap_or_default() == want,
        Value::Array(_) => texts(want) == texts(observed),
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| same(value, &observed[name.as_str()])),
        Value::Number(_) => want == observed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(names: &[&str]) -> BTreeMap<String, String> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), String::new()))
            .collect()
    }

    #[test]
    fn only_what_we_set_is_compared() {
        let want = json!({"a": true, "b": {"c": "d"}, "e": ["x", "y"], "f": null, "g": false});
        let observed = json!({"a": true, "b": {"c": "d", "new": 1}, "e": ["y", "x"], "unknown": {}});
        assert!(fields(want.as_object().unwrap(), &observed).is_empty());
        let drifted = json!({"a": false, "b": {"c": "z"}, "e": ["x"], "f": {}, "g": true});
        assert_eq!(fields(want.as_object().unwrap(), &drifted).len(), 5);
    }

    #[test]
    fn scopes_of_others_stay_as_and_where_they_are() {
        let foreign = json!({"value": "foreign", "description": "theirs", "new": 1});
        let ours = json!({"value": "ours", "description": "ours"});
        let api = json!({"scopes": [foreign, ours]});
        let made =
            json!({"client_metadata": crate::provider::auth0::mark::scopes_metadata(["ours"].into_iter())});
        assert_eq!(fewer_scopes(&scopes(&["ours"]), &api, &made, false), None);
        assert_eq!(all_scopes(&scopes(&["ours"]), list(&api["scopes"])), None);
        assert_eq!(
            fewer_scopes(&scopes(&[]), &api, &made, false),
            Some(vec![foreign.clone()])
        );
        let more = all_scopes(&scopes(&["more", "ours"]), list(&api["scopes"])).unwrap();
        assert_eq!(more[..2], [foreign, ours]);
        assert_eq!(more[2]["value"], "more");
    }

    #[test]
    fn a_revocation_only_takes_away() {
        let want = json!({"grant_types": ["a", "b"], "callbacks": ["https://x/"]});
        let observed = json!({"grant_types": ["a", "implicit"], "callbacks": ["https://x/"]});
        let revoked = client_revocation(want.as_object().unwrap(), &observed);
        assert_eq!(Value::Object(revoked), json!({"grant_types": ["a"]}));
    }

    #[test]
    fn a_way_of_exchange_that_is_not_wanted_goes_first_and_the_others_stay() {
        let ways = |ways: &[&str]| json!({ EXCHANGE: { WAYS: ways } });
        let none = json!({ EXCHANGE: null });
        for (want, observed, left) in [
            (ways(&["a"]), ways(&["a", "b"]), Some(json!({ WAYS: ["a"] }))),
            (ways(&["c"]), ways(&["a"]), Some(Value::Null)),
            (none.clone(), ways(&["a"]), Some(Value::Null)),
            (none.clone(), ways(&[]), Some(Value::Null)),
            (ways(&["a", "b"]), ways(&["a"]), None),
            (ways(&["a"]), none.clone(), None),
            (none.clone(), none, None),
        ] {
            let revoked = client_revocation(want.as_object().unwrap(), &observed);
            assert_eq!(revoked.get(EXCHANGE).cloned(), left, "{want} {observed}");
        }
    }
}
