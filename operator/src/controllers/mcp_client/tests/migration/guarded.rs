//! What ends it, and what does not.

use super::*;

/// Refused at the new one, or that one is away: nothing of it happens, and nothing of the old one ends.
#[tokio::test]
async fn refused_or_away_it_stays_where_it_is() {
    let away = |moving: &Moving| moving.stage.ctx.connections.remove("platform", "next");
    let closed = authorization_server(
        "next",
        NEXT,
        json!({"keycloak": {"realm": "r"}, "credentials": {"secretRef": {"name": "c"}}}),
        json!([]),
    );
    let elsewhere = server("bills", "main");
    for (what, more, reason) in [
        ("away", None, "AuthorizationServerNotReady"),
        ("not granted", Some(closed), "NamespaceNotGranted"),
        (
            "a server of another",
            Some(elsewhere),
            "DifferentAuthorizationServer",
        ),
        ("taken", None, "Unmarked"),
    ] {
        let moving = Moving::with("ClientSecret", more.as_slice()).await;
        moving.to("main");
        moving.settle().await;
        let before = (moving.workload(), moving.stage.server.clients()[ID].spec.clone());
        let granted = moving.status()["granted"].clone();
        if what == "away" {
            away(&moving);
        }
        if what == "taken" {
            let theirs = crate::testing::FakeClient {
                mark: None,
                secret: "theirs".into(),
                previous: None,
                spec: "theirs".into(),
                scopes: [].into(),
                enabled: true,
                created: 0,
            };
            moving.next.put_client(ID, theirs);
        }
        moving.to("next");
        moving.rest().await;
        let after = (moving.workload(), moving.stage.server.clients()[ID].spec.clone());
        assert_eq!(after, before, "{what}");
        assert!(moving.works(), "{what}");
        assert_ne!(moving.stage.ready().0, "True", "{what}");
        if reason != "Unmarked" {
            assert_eq!(moving.stage.ready().1, reason, "{what}");
        }
        assert_eq!(moving.reason("Migrated"), "NotMoved", "{what}");
        assert_eq!(moving.status()["granted"], granted, "{what}");
        assert_eq!(moving.status()["registeredAt"]["issuer"], MAIN, "{what}");
        let mine = moving.next.clients();
        assert!(mine.values().all(|client| client.spec == "theirs"), "{what}");
        // What it asked for can be had: it moves.
        if what == "away" {
            moving.connect_next();
            moving.rest().await;
            moving.check("next");
        }
        moving.to("main");
        moving.rest().await;
        moving.check_apart();
        assert!(moving.works(), "{what}");
        assert_eq!(moving.stage.ready(), ("True".into(), "Ready".into()), "{what}");
    }
}

/// What happens, and how.
type Change = (&'static str, fn(&Moving));

/// What is taken back ends what is kept, whether the client has moved or cannot.
#[tokio::test]
async fn what_may_not_be_kept_ends_at_once() {
    let changes: [Change; 5] = [
        ("suspended", |moving| {
            let mut client = moving.stage.cluster.get(CLIENT).unwrap();
            client["spec"]["suspended"] = json!(true);
            moving.stage.cluster.put(client);
        }),
        ("revoked", |moving| {
            moving.annotate("mcpauth.dev/revoke-requested-at", "now");
        }),
        ("grant lost", |moving| {
            let path = "/apis/mcpauth.dev/v1alpha1/namespaces/platform/authorizationservers/main";
            let mut main = moving.stage.cluster.get(path).unwrap();
            main["spec"]["grants"] = json!([]);
            moving.stage.cluster.put(main);
        }),
        ("access lost", |moving| {
            let path = "/apis/mcpauth.dev/v1alpha1/namespaces/team/mcpservers/orders";
            let mut orders = moving.stage.cluster.get(path).unwrap();
            orders["spec"]["allowedClients"] = json!([]);
            moving.stage.cluster.put(orders);
        }),
        ("nothing", |_| {}),
    ];
    for is_away in [false, true] {
        for (what, change) in changes {
            let mut moving = Moving::at("main", "ClientSecret").await;
            moving.to("next");
            if is_away {
                moving.stage.ctx.connections.remove("platform", "next");
            }
            moving.settle().await;
            assert!(moving.places().contains("main"));
            change(&moving);
            moving.restart().await;
            if is_away {
                moving.stage.ctx.connections.remove("platform", "next");
            }
            moving.settle().await;
            let is_kept = moving.places().contains("main");
            assert_eq!(
                is_kept,
                what == "nothing",
                "{what}, away: {is_away}: {}",
                moving.homes()
            );
            if is_away && what != "nothing" {
                assert_eq!(moving.status()["granted"], Value::Null, "{what}");
            }
            assert_eq!(
                moving.status()["previous"][0]["tokensUntil"].is_string(),
                what != "nothing",
                "{what}"
            );
            moving.check_apart();
        }
    }
}

/// Redirect URIs that the administrator of the old one takes back end what has them, whatever the client says by now.
#[tokio::test]
async fn redirect_uris_are_judged_as_they_are_there() {
    let mut moving = Moving::at("main", "None").await;
    moving.to("next");
    let mut client = moving.stage.cluster.get(CLIENT).unwrap();
    client["spec"]["managed"]["redirectUris"] = json!(["https://other.example/callback"]);
    moving.stage.cluster.put(client);
    moving.settle().await;
    assert!(moving.places().contains("main"));
    let path = "/apis/mcpauth.dev/v1alpha1/namespaces/platform/authorizationservers/main";
    let mut main = moving.stage.cluster.get(path).unwrap();
    main["spec"]["grants"] =
        json!([{"namespaces": {"from": "All"}, "clients": {"redirectHosts": ["other.example"]}}]);
    moving.stage.cluster.put(main);
    moving.restart().await;
    moving.settle().await;
    assert!(!moving.places().contains("main"));
    assert!(moving.works());
}

/// The old authorization server is away: the client is none the worse for it, and it is removed when it comes back.
#[tokio::test]
async fn an_old_one_that_is_away_is_removed_later() {
    let moving = Moving::at("main", "ClientSecret").await;
    moving.to("next");
    moving.settle().await;
    moving.stage.ctx.connections.remove("platform", "main");
    moving.rest().await;
    assert_eq!(moving.stage.ready(), ("True".into(), "Ready".into()));
    assert_eq!(moving.reason("Migrated"), "OldNotRemoved");
    assert!(moving.places().contains("main"));
    moving.connect();
    moving.settle().await;
    moving.check("next");
}

/// One that is gone for good is given up late, or when that is asked for.
#[tokio::test]
async fn an_old_one_that_is_gone_is_given_up() {
    for is_asked in [false, true] {
        let mut moving = Moving::at("main", "ClientSecret").await;
        moving.to("next");
        moving.settle().await;
        let path = "/apis/mcpauth.dev/v1alpha1/namespaces/platform/authorizationservers/main";
        moving.stage.cluster.remove(path);
        moving.restart().await;
        moving.rest().await;
        assert_eq!(moving.reason("Migrated"), "OldNotRemoved");
        if is_asked {
            moving.annotate("mcpauth.dev/abandon", "true");
        } else {
            moving.stage.clock.advance(Duration::from_mins(61));
        }
        moving.settle().await;
        assert_eq!(moving.homes()["parked"], json!([]), "{is_asked}");
        assert_eq!(moving.reason("Migrated"), "");
        let counted = moving.stage.ctx.metrics.encode().unwrap();
        let counted = counted
            .lines()
            .find(|line| line.contains("given_up") && line.ends_with(" 1"));
        assert!(counted.is_some());
    }
}

/// A lost journal is made up for by the status, as far as that goes.
#[tokio::test]
async fn without_its_journal_the_old_one_is_removed_all_the_same() {
    for is_moved in [true, false] {
        let mut moving = Moving::at("main", "ClientSecret").await;
        moving.to("next");
        if is_moved {
            moving.settle().await;
        }
        moving.stage.cluster.remove(&journal_path());
        moving.restart().await;
        moving.settle().await;
        assert!(moving.places().contains("main"), "{is_moved}");
        moving.rest().await;
        moving.check("next");
    }
}

/// A journal of one place is nothing at another, even for who would write over it.
#[tokio::test]
async fn a_journal_is_read_at_its_own_place_only() {
    let moving = Moving::at("main", "ClientSecret").await;
    let ctx = &moving.stage.ctx;
    let client: McpClient = serde_json::from_value(moving.stage.cluster.get(CLIENT).unwrap()).unwrap();
    let mark = crate::controllers::home::mark(&client, INSTALLATION);
    for (name, is_there) in [("main", true), ("next", false)] {
        let connection = ctx.connections.get("platform", name).unwrap();
        let namespaced = kube::runtime::reflector::ObjectRef::new(name).within("platform");
        let server = ctx.feeds.authorization_servers.store().get(&namespaced).unwrap();
        let place = crate::controllers::mcp_client::migration::place(&client, &server, &connection);
        let read = crate::credential::flow::read_at(ctx, &mark, &place)
            .await
            .unwrap();
        assert_eq!(read.is_some(), is_there, "{name}");
    }
}
