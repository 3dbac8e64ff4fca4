//! Answers that are lost, servers that change their mind, and servers that lie.

use super::*;
use crate::provider::registration::Asked;

#[tokio::test]
async fn lost_answers_are_counted_and_the_next_attempts_wait_longer() {
    let registering = registering().await;
    registering.server.lose(3);
    registering.stage.pass().await;
    let first = registering.server.clients().len();
    registering.stage.pass().await;
    assert_eq!(first, 1);
    assert_eq!(registering.server.clients().len(), 1, "not at once again");
    registering.settle().await;
    registering.check("three lost");
    assert_eq!(registering.unreachable(), 3);
    assert_eq!(registering.server.clients().len(), 4);
    let text = registering.stage.ctx.metrics.encode().unwrap();
    let counted = r#"registrations_unreachable_total{reason="ReplyLost"} 3"#;
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn a_lost_answer_to_a_change_loses_the_token_and_the_client_is_registered_anew() {
    let registering = registering().await;
    registering.settle().await;
    let old = registering.workload();
    registering.server.lose(1);
    CHANGES[2].1(&registering);
    registering.settle().await;
    registering.check("token lost");
    assert_ne!(registering.workload(), old);
    assert_eq!(registering.unreachable(), 1);
    assert!(
        registering.server.clients().contains_key(&old.0),
        "nobody can remove it"
    );
}

#[tokio::test]
async fn a_lost_answer_to_a_removal_leaves_nothing() {
    let registering = registering().await;
    registering.settle().await;
    CHANGES[0].1(&registering);
    registering.settle().await;
    registering.stage.clock.advance(Duration::from_secs(120));
    registering.server.lose(1);
    registering.settle().await;
    registering.check("removed");
    assert_eq!(
        (registering.unreachable(), registering.server.clients().len()),
        (0, 1)
    );
}

#[tokio::test]
async fn what_others_change_is_set_right_and_what_they_remove_comes_back() {
    let registering = registering().await;
    registering.settle().await;
    let (id, _) = registering.workload();
    registering.server.change(&id, |client| {
        client.asked.redirect_uris = ["https://evil.example/".into()].into();
    });
    registering.settle().await;
    registering.check("set right");
    assert_eq!(registering.workload().0, id);
    assert!(registering.server.clients()[&id].asked.redirect_uris.is_empty());
    registering
        .server
        .change(&id, |client| client.secret = "replaced".into());
    registering.settle().await;
    registering.check("a secret that the server replaced");
    assert_eq!(registering.workload(), (id.clone(), "replaced".into()));
    registering.server.forget(&id);
    registering.settle().await;
    registering.check("registered anew");
    assert_ne!(registering.workload().0, id);
    assert_eq!(registering.unreachable(), 0, "it was seen to be gone");
}

/// Where nothing can be managed, every change is another registration, and what is left is counted.
#[tokio::test]
async fn without_management_what_is_replaced_is_counted() {
    let mut registering = registering().await;
    registering.server.without_management();
    for (round, (name, change)) in CHANGES[..3].iter().enumerate() {
        registering.rest().await;
        registering.check(name);
        let before = registering.workload();
        change(&registering);
        registering.rest().await;
        registering.check(name);
        assert_ne!(registering.workload(), before, "{name}");
        assert_eq!(registering.unreachable(), round + 1, "{name}");
    }
    // One that is gone leaves nothing.
    registering.server.forget(&registering.workload().0);
    registering.rest().await;
    registering.check("gone");
    assert_eq!(registering.unreachable(), 3);
}

#[tokio::test]
async fn what_must_not_be_used_is_removed_and_never_handed_over() {
    let registering = registering().await;
    let evil: fn(&mut Asked) = |asked| asked.redirect_uris = ["https://evil.example/".into()].into();
    registering.server.alter(Some(evil));
    for _ in 0..3 {
        registering.stage.pass().await;
    }
    assert_eq!(registering.server.clients().len(), 0, "it was removed");
    assert!(registering.stage.cluster.get(SECRET).is_none());
    assert_eq!(
        registering.stage.ready(),
        ("False".into(), "RegistrationRefused".into())
    );
    registering.server.alter(None);
    registering.settle().await;
    registering.check("the server came to its senses");

    // One that is at work is not used on either, once the server keeps the change.
    let (id, _) = registering.workload();
    registering.server.alter(Some(evil));
    registering.server.change(&id, |client| evil(&mut client.asked));
    for _ in 0..3 {
        registering.stage.pass().await;
    }
    assert!(!registering.server.clients().contains_key(&id));
    assert_eq!(registering.stage.ready().0, "False");
    assert_eq!(registering.unreachable(), 0);
}
