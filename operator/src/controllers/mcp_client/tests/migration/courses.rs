//! From one to another, to the end or not.

use super::*;

/// From where to where, with which method.
const MOVES: [(&str, &str, &str); 6] = [
    ("main", "next", "ClientSecret"),
    ("main", "next", "PrivateKeyJwt"),
    ("main", "next", "None"),
    ("main", "open", "ClientSecret"),
    ("open", "next", "ClientSecret"),
    ("open", "main", "ClientSecret"),
];

#[tokio::test]
async fn what_it_had_works_until_the_new_credential_is_proved_and_for_the_overlap() {
    for (from, to, method) in MOVES {
        let moving = Moving::at(from, method).await;
        let old = moving.workload();
        moving.to(to);
        moving.settle().await;
        assert!(moving.works(), "{from} {to}");
        assert_ne!(moving.workload(), old);
        assert_eq!(moving.places(), BTreeSet::from([from, to]));
        assert_eq!(
            moving.stage.ready(),
            ("True".into(), "Ready".into()),
            "{from} {to}"
        );
        assert_eq!(moving.reason("Migrated"), "OldKept");
        let previous = moving.status()["previous"].clone();
        assert_eq!(previous[0]["authorizationServerRef"]["name"], from);
        assert!(previous[0]["validUntil"].is_string(), "{previous}");
        moving.rest().await;
        moving.check(to);
        let previous = moving.status()["previous"].clone();
        assert!(previous[0]["tokensUntil"].is_string(), "{previous}");
        assert!(previous[0]["validUntil"].is_null(), "{previous}");
        moving.stage.clock.advance(Duration::from_hours(25));
        moving.settle().await;
        assert_eq!(
            moving.status()["previous"],
            Value::Null,
            "no token of there is valid any more"
        );
    }
}

/// Killed at every write in turn: what the workload has works all the time, and in the end there is one client.
#[tokio::test]
async fn killed_at_any_write_it_converges() {
    let mut points = 0;
    for (from, to, method) in MOVES {
        for death in 0.. {
            let mut moving = Moving::at(from, method).await;
            moving.to(to);
            moving.stage.writes.die_after(death);
            let lived = moving.stage.pass().await;
            let what = format!("{from} {to} {method}, death at {death}");
            assert!(moving.works(), "{what}: {}", moving.homes());
            moving.restart().await;
            moving.settle().await;
            assert!(moving.works(), "{what}");
            assert!(
                moving.places().contains(from),
                "{what}: the old one ended too early"
            );
            moving.rest().await;
            if to == "open" && moving.open.clients().len() > 1 {
                // An answer that did not get into the journal is counted.
                assert_eq!(moving.open.clients().len(), 2, "{what}");
                assert_eq!(moving.status()["registration"]["unreachable"], 1, "{what}");
            }
            moving.check(to);
            if lived {
                break;
            }
            points += 1;
        }
    }
    assert!(points >= 24, "only {points} points of death were found");
}

/// Changed back, after a death at every write in turn: it is where it was, with the credential that it had.
#[tokio::test]
async fn changed_back_in_the_middle_it_is_as_it_was() {
    for (from, to, method) in MOVES {
        let mut lost = 0;
        for death in 0.. {
            let mut moving = Moving::at(from, method).await;
            let old = moving.workload();
            moving.to(to);
            moving.stage.writes.die_after(death);
            let lived = moving.stage.pass().await;
            moving.restart().await;
            moving.to(from);
            moving.settle().await;
            let what = format!("{from} {to} {method}, death at {death}");
            assert!(moving.works(), "{what}");
            assert_eq!(moving.workload(), old, "{what}");
            moving.rest().await;
            if to == "open" {
                // Of an answer that did not get into the journal nothing can be removed.
                for id in moving.open.clients().keys() {
                    moving.open.forget(id);
                    lost += 1;
                }
            }
            moving.check(from);
            assert_eq!(moving.workload(), old, "{what}");
            if lived {
                break;
            }
        }
        let most = usize::from(to == "open");
        assert!(lost <= most, "{from} {to}: {lost}");
    }
}

/// Changed on to a third one: both that it left end.
#[tokio::test]
async fn changed_again_meanwhile_it_leaves_nothing_behind() {
    let moving = Moving::at("main", "ClientSecret").await;
    moving.to("next");
    moving.settle().await;
    moving.to("open");
    moving.settle().await;
    assert!(moving.works());
    assert_eq!(moving.places(), BTreeSet::from(["main", "next", "open"]));
    moving.rest().await;
    moving.check("open");
}

#[tokio::test]
async fn deleted_in_the_middle_it_leaves_nothing_behind() {
    for (from, to, method) in MOVES {
        let mut lost = 0;
        for death in 0.. {
            let mut moving = Moving::at(from, method).await;
            moving.to(to);
            moving.stage.writes.die_after(death);
            let lived = moving.stage.pass().await;
            moving.restart().await;
            let mut client = moving.stage.cluster.get(CLIENT).unwrap();
            client["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            moving.stage.cluster.put(client);
            for _ in 0..5 {
                moving.stage.pass().await;
            }
            let what = format!("{from} {to} {method}, death at {death}");
            let left = moving.places();
            // Of an answer that did not get into the journal nothing can be removed.
            lost += usize::from(left.contains("open"));
            assert!(
                left.is_subset(&["open"].into()) && !left.contains(from),
                "{what}: {left:?}"
            );
            assert!(moving.stage.cluster.get(&journal_path()).is_none(), "{what}");
            let finalizers = moving.stage.cluster.get(CLIENT).unwrap()["metadata"]["finalizers"].clone();
            assert_eq!(finalizers, json!([]), "{what}");
            if lived {
                break;
            }
        }
        let most = usize::from(to == "open");
        assert!(lost <= most, "{from} {to}: {lost}");
    }
}

/// Another name of the same realm is no other place.
#[tokio::test]
async fn another_name_of_the_same_realm_changes_nothing_but_the_name() {
    let keycloak = json!({"keycloak": {"realm": "r"}, "credentials": {"secretRef": {"name": "c"}}});
    let alias = authorization_server("alias", MAIN, keycloak, everybody());
    let moving = Moving::with("ClientSecret", &[alias]).await;
    let side = Side::Administered(Arc::new(moving.stage.server.clone()));
    connect_as(&moving.stage.ctx, "alias", "alias", MAIN, side);
    moving.to("main");
    moving.settle().await;
    let before = moving.workload();
    moving.to("alias");
    moving.rest().await;
    assert_eq!(moving.workload(), before);
    assert!(moving.works());
    assert_eq!(moving.homes()["here"]["name"], "alias");
    assert_eq!(moving.homes()["parked"], json!([]));
    assert_eq!(moving.stage.server.clients()[ID].created, 1);
}
