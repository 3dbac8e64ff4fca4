//! At every moment no more than was, or is, wanted, whatever others did.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::{
        super::{limits::pattern, render::LIMITED},
        plan_resource,
        realm::Realm,
    },
    CLIENTS, ROUNDS, SCOPES, exchanged, exchanging, foreign, matches_whole, only, realm, settle, wanted,
};
use crate::provider::{ResourceSpec, Subjects};

fn spec() -> impl Strategy<Value = ResourceSpec> {
    let subjects = prop_oneof![
        Just(Subjects::Any),
        proptest::sample::subsequence(CLIENTS.to_vec(), 0..=CLIENTS.len()).prop_map(|clients| only(&clients)),
    ];
    proptest::collection::btree_map(
        proptest::sample::select(SCOPES.to_vec()),
        subjects,
        0..=SCOPES.len(),
    )
    .prop_map(|scopes| exchanging(&scopes.into_iter().collect::<Vec<_>>()))
}

/// What somebody may do to our entries and our mark.
fn tamper(realm: &mut Realm, how: usize) {
    let ours = |entry: &Value| {
        let name = entry["name"].as_str().unwrap();
        name.starts_with("mcpauth.prod.team.orders.")
            && !foreign()["policies"].iter().any(|theirs| theirs["name"] == name)
    };
    match how {
        0 => realm
            .documents
            .get_mut("policies")
            .unwrap()
            .retain(|entry| !ours(entry)),
        1 => {
            for field in ["policies", "profiles"] {
                realm
                    .documents
                    .get_mut(field)
                    .unwrap()
                    .retain(|entry| !ours(entry));
            }
        }
        2 => {
            for entry in realm
                .documents
                .get_mut("profiles")
                .unwrap()
                .iter_mut()
                .filter(|entry| ours(entry))
            {
                entry["executors"][0]["configuration"]["allowed-value"] = json!(".*");
            }
        }
        3 => {
            for entry in realm
                .documents
                .get_mut("policies")
                .unwrap()
                .iter_mut()
                .filter(|entry| ours(entry))
            {
                entry["conditions"][2]["configuration"]["scopes"] = json!(["other"]);
            }
        }
        4 => {
            for client in realm
                .clients
                .values_mut()
                .filter(|client| client["attributes"][LIMITED].is_string())
            {
                client["attributes"][LIMITED] = json!("other");
            }
        }
        5 => {
            for client in realm.clients.values_mut() {
                client["attributes"].as_object_mut().unwrap().remove(LIMITED);
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn a_change_stopped_anywhere_gives_nothing_that_neither_was_nor_is_wanted(
        before in spec(),
        want in spec(),
        stop in 0_usize..12,
    ) {
        let mut realm = realm();
        settle(&mut realm, &before);
        prop_assert_eq!(exchanged(&realm), wanted(&before));
        let fine: BTreeSet<_> = wanted(&before).union(&wanted(&want)).copied().collect();
        let mut left = stop;
        for _ in 0..ROUNDS {
            for call in plan_resource(&realm, &want).calls {
                if left == 0 {
                    break;
                }
                left -= 1;
                realm.apply(std::slice::from_ref(&call));
                let now = exchanged(&realm);
                prop_assert!(now.is_subset(&fine), "{:?} after {:?}", now, call);
            }
        }
        settle(&mut realm, &want);
        prop_assert_eq!(exchanged(&realm), wanted(&want));
        for (field, theirs) in foreign() {
            prop_assert_eq!(&realm.documents[field][..2], &theirs[..]);
        }
        if !want.has_limits() {
            prop_assert_eq!(&realm.documents, &foreign());
        }
    }

    #[test]
    fn revocations_alone_leave_nothing_that_is_not_wanted(before in spec(), want in spec()) {
        let mut realm = realm();
        settle(&mut realm, &before);
        realm.apply(&plan_resource(&realm, &want).revocations().calls);
        prop_assert!(exchanged(&realm).is_subset(&wanted(&want)));
        prop_assert!(exchanged(&realm).is_subset(&wanted(&before)));
    }

    #[test]
    fn whatever_else_is_wanted_what_is_not_wanted_any_more_is_among_the_revocations(
        before in spec(),
        want in spec(),
        own in proptest::sample::subsequence(vec!["mine", "new", SCOPES[0], "offline_access", "foreign"], 0..=5),
        how in 0_usize..8,
    ) {
        let mut realm = realm();
        settle(&mut realm, &before);
        realm.scopes.insert("f".into(), json!({"id": "f", "name": "foreign", "protocol": "openid-connect"}));
        tamper(&mut realm, how);
        let had = exchanged(&realm);
        let mut want = want;
        want.scopes = own.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        want.adopt_scopes = [SCOPES[0].to_owned()].into();
        let plan = plan_resource(&realm, &want);
        let refused = own.contains(&"offline_access") || own.contains(&"foreign");
        prop_assert_eq!(refused, !plan.conflicts.is_empty());
        realm.apply(&plan.revocations().calls);
        let now = exchanged(&realm);
        prop_assert!(now.is_subset(&wanted(&want)), "{:?} after {:?}", now, plan);
        prop_assert!(now.is_subset(&had), "{:?} after {:?}", now, plan);
        if refused {
            prop_assert_eq!(&plan.revocations(), &plan);
        }
    }

    #[test]
    fn tampering_is_set_right(want in spec(), how in 0_usize..6) {
        let mut realm = realm();
        settle(&mut realm, &want);
        tamper(&mut realm, how);
        settle(&mut realm, &want);
        prop_assert_eq!(exchanged(&realm), wanted(&want));
        for (field, theirs) in foreign() {
            prop_assert_eq!(&realm.documents[field][..2], &theirs[..]);
        }
    }

    #[test]
    fn a_pattern_matches_exactly_the_ids_that_it_was_made_of(
        ids in proptest::collection::btree_set("[a-z0-9.|*+?()\\[\\]{}^$\\\\-]{1,6}", 1..5),
        other in "[a-z0-9.|*+?()\\[\\]{}^$\\\\-]{0,6}",
        suffix in "[a-z.]{0,2}",
    ) {
        let pattern = pattern(&ids);
        for id in &ids {
            prop_assert!(matches_whole(&pattern, id), "{} does not match {}", pattern, id);
            let longer = format!("{id}{suffix}");
            prop_assert_eq!(matches_whole(&pattern, &longer), ids.contains(&longer));
            let dotless = id.replace('.', "x");
            prop_assert_eq!(matches_whole(&pattern, &dotless), ids.contains(&dotless));
        }
        prop_assert_eq!(matches_whole(&pattern, &other), ids.contains(&other));
    }
}
