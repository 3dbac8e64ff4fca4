//! The operator is killed at each of its writes.

use super::*;

/// Killed at every write in turn, of creation and of each change: afterwards the credential works, there is one client that
/// is known, and what is left besides is counted. At most one is, and only where an answer did not get into the journal.
#[tokio::test]
async fn killed_at_any_write_it_converges_and_counts_what_it_left() {
    let mut points = 0;
    for change in std::iter::once(None).chain(CHANGES.map(Some)) {
        for death in 0.. {
            let mut registering = registering().await;
            let name = change.map_or("created", |(name, _)| name);
            if let Some((_, change)) = change {
                registering.settle().await;
                change(&registering);
            }
            registering.stage.writes.die_after(death);
            let lived = registering.stage.pass().await;
            let had = registering.works();
            assert!(
                had || change.is_none() || name == "revoked",
                "{name} {death}: {}",
                registering.book()
            );
            registering.stage.writes.live();
            registering.stage.restart().await;
            registering.connect();
            registering.rest().await;
            let what = format!("{name}, death at {death}");
            registering.check(&what);
            let count = registering.unreachable();
            assert!(count <= 1, "{what}: {count}");
            assert!(!lived || count == 0, "{what}: nothing was lost");
            if lived {
                break;
            }
            points += 1;
        }
    }
    assert!(points >= 20, "only {points} points of death were found");
}

/// Any write to the API server fails, and the operator lives: what it was told is not lost, and what it did not send is not
/// counted.
#[tokio::test]
async fn whatever_write_to_the_api_server_fails_nothing_is_lost() {
    let mut points = 0;
    for change in std::iter::once(None).chain(CHANGES.map(Some)) {
        for happens in [true, false] {
            for number in 0.. {
                let mut registering = registering().await;
                let name = change.map_or("created", |(name, _)| name);
                if let Some((_, change)) = change {
                    registering.settle().await;
                    change(&registering);
                }
                registering.stage.cluster.falter_after(number, happens);
                registering.rest().await;
                let what = format!("{name}, at {number}, happens: {happens}");
                registering.check(&what);
                assert_eq!(registering.unreachable(), 0, "{what}");
                assert_eq!(registering.server.clients().len(), 1, "{what}");
                if registering.stage.cluster.is_to_falter() {
                    break;
                }
                points += 1;
            }
        }
    }
    assert!(points >= 40, "only {points} writes were found");
}

/// Killed at every write after an answer was lost: whoever is counted was told, because nobody else would say it.
#[tokio::test]
async fn killed_at_any_write_after_a_lost_answer_it_tells_what_it_counts() {
    let mut points = 0;
    for death in 0.. {
        let mut registering = registering().await;
        registering.server.lose(1);
        registering.stage.writes.die_after(death);
        let mut lived = true;
        for _ in 0..5 {
            lived &= registering.stage.pass().await || registering.stage.writes.made() <= death;
            registering.stage.clock.advance(Duration::from_secs(5));
        }
        registering.stage.writes.live();
        registering.stage.restart().await;
        registering.connect();
        registering.rest().await;
        let what = format!("death at {death}");
        registering.check(&what);
        assert!((1..=2).contains(&registering.unreachable()), "{what}");
        if lived {
            break;
        }
        points += 1;
    }
    assert!(points >= 5, "only {points} points of death were found");
}

/// What is left when the client goes is told once more of its AuthorizationServer, whenever the operator is killed.
#[tokio::test]
async fn killed_at_any_write_of_its_end_what_is_left_is_told() {
    let mut points = 0;
    for death in 0.. {
        let mut registering = registering().await;
        registering.server.lose(1);
        registering.settle().await;
        registering.check("one lost");
        registering.delete();
        registering.stage.writes.die_after(death);
        let lived = registering.stage.pass().await;
        registering.stage.writes.live();
        registering.stage.restart().await;
        registering.connect();
        for _ in 0..5 {
            registering.stage.pass().await;
        }
        assert_eq!(registering.server.clients().len(), 1, "death at {death}");
        let last = format!(
            "McpClient team/agent: The client is deleted, and registrations of it may be left at the authorization server that nobody can reach (1, the last of them with software_id {ID} and software_version 1)"
        );
        let notes = registering.stage.cluster.notes();
        assert!(
            notes.iter().any(|note| note.starts_with(&last)),
            "death at {death}: {notes:?}"
        );
        if lived {
            break;
        }
        points += 1;
    }
    assert!(points >= 3, "only {points} points of death were found");
}

/// Killed at every write of its end: nothing is left.
#[tokio::test]
async fn killed_at_any_write_of_its_end_nothing_is_left() {
    let mut points = 0;
    for death in 0.. {
        let mut registering = registering().await;
        registering.settle().await;
        registering.delete();
        registering.stage.writes.die_after(death);
        let lived = registering.stage.pass().await;
        registering.stage.writes.live();
        registering.stage.restart().await;
        registering.connect();
        for _ in 0..5 {
            registering.stage.pass().await;
        }
        assert_eq!(registering.server.clients().len(), 0, "death at {death}");
        assert!(
            registering.stage.cluster.get(&journal_path()).is_none(),
            "death at {death}"
        );
        let left = registering.stage.cluster.get(CLIENT);
        let finalizers = left.map(|left| left["metadata"]["finalizers"].clone());
        assert!(finalizers.is_none_or(|left| left.as_array().is_none_or(Vec::is_empty)));
        if lived {
            break;
        }
        points += 1;
    }
    assert!(points >= 3, "only {points} points of death were found");
}
