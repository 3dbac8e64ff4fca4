//! What is asked, how often, and what is believed.

use std::{num::NonZeroU32, sync::atomic::Ordering, time::Duration};

use serde_json::json;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path, query_param},
};

use super::server::{CLIENTS, HOUR, SCOPES, calls, create, exact, keycloak, keycloak_of, own, sign_in};
use crate::provider::{
    Call, Holder, LimitSettings, Plan, Presence, Provider as _, ProviderError, Read, RealmRegistry, Verb,
};

/// Who may only query clients is shown an empty list. Believing it would leave a client behind when its object is
/// deleted.
#[tokio::test]
async fn an_empty_list_is_not_believed_of_someone_who_sees_nothing() {
    let server = MockServer::start().await;
    let issued = sign_in(&server, 300).await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!([])))
        .mount(&server)
        .await;
    let keycloak = keycloak(&server);
    let blind = |operation| ProviderError::Forbidden {
        operation,
        permission: "manage-clients",
    };
    assert_eq!(
        keycloak.observe_client("a", Read::Fresh).await.unwrap_err(),
        blind("read_client")
    );
    assert_eq!(
        keycloak.observe_client("a", HOUR).await.unwrap_err(),
        blind("read_client")
    );
    assert_eq!(
        keycloak.observe_scopes(Read::Fresh).await.unwrap_err(),
        blind("list_scopes")
    );
    assert!(
        issued.load(Ordering::SeqCst) > 1,
        "roles may have been granted since the token was issued"
    );
}

#[tokio::test]
async fn absence_is_believed_of_someone_who_sees() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    exact(&server, "op", own(true)).await;
    exact(&server, "a", json!([])).await;
    exact(&server, "b", json!([])).await;
    let keycloak = keycloak(&server);
    assert_eq!(
        keycloak.observe_client("a", HOUR).await.unwrap().presence,
        Presence::Absent
    );
    assert_eq!(
        keycloak.observe_client("b", HOUR).await.unwrap().presence,
        Presence::Absent
    );
    assert_eq!(
        calls(&server, "GET /admin/realms/r/clients").await,
        3,
        "having seen itself lasts a while"
    );
    keycloak.observe_client("b", Read::Fresh).await.unwrap();
    assert_eq!(
        calls(&server, "GET /admin/realms/r/clients").await,
        5,
        "but not where it must be certain"
    );
}

/// Else the list would grow until nothing is left of the memory.
#[tokio::test]
async fn a_server_that_gives_the_same_page_for_ever_is_not_asked_for_ever() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    let page: Vec<_> = (0..100)
        .map(|n| json!({"id": n.to_string(), "clientId": format!("prod.team.c{n}")}))
        .collect();
    Mock::given(method("GET"))
        .and(path(CLIENTS))
        .and(query_param("search", "true"))
        .respond_with(ResponseTemplate::new(200).set_body_json(page))
        .expect(2)
        .mount(&server)
        .await;
    let keycloak = keycloak(&server);
    let client = keycloak.observe_client("prod.team.c7", HOUR).await.unwrap();
    assert_ne!(client.presence, Presence::Absent);
}

/// Thousands of clients take seconds to list.
#[tokio::test]
async fn a_new_client_is_asked_for_alone() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    exact(&server, "prod.team.new", json!([])).await;
    exact(&server, "op", own(true)).await;
    let keycloak = keycloak(&server);
    let alone = Read::Alone(Duration::from_secs(3600));
    for _ in 0..2 {
        let observed = keycloak.observe_client("prod.team.new", alone).await.unwrap();
        assert_eq!(observed.presence, Presence::Absent);
    }
    // The client, and whether the operator sees clients at all; then from memory.
    assert_eq!(calls(&server, "GET /admin/realms/r/clients").await, 2);
}

#[tokio::test]
async fn our_clients_are_listed_once_for_all_and_in_pages() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    let client =
        |n: usize| json!({"id": n.to_string(), "clientId": format!("prod.team.c{n}"), "secret": "s"});
    for (first, count) in [(0, 100), (100, 100), (200, 50)] {
        let found: Vec<_> = (first..first + count).map(client).collect();
        Mock::given(method("GET"))
            .and(path(CLIENTS))
            .and(query_param("clientId", "prod."))
            .and(query_param("search", "true"))
            .and(query_param("first", first.to_string()))
            .and(query_param("max", "100"))
            .respond_with(ResponseTemplate::new(200).set_body_json(found))
            .expect(1)
            .mount(&server)
            .await;
    }
    exact(&server, "prod.team.c7", json!([client(7)])).await;
    let keycloak = keycloak(&server);
    let ids: Vec<_> = (0..250).map(|n| format!("prod.team.c{n}")).collect();
    let observed = futures::future::join_all(ids.iter().map(|id| keycloak.observe_client(id, HOUR))).await;
    assert!(
        observed
            .iter()
            .all(|client| client.as_ref().unwrap().secret.is_some())
    );
    assert_eq!(calls(&server, "GET /admin/realms/r/clients").await, 3);

    let update = Call {
        verb: Verb::Put,
        path: "/clients/7".into(),
        body: None,
        ..create("")
    };
    Mock::given(method("PUT"))
        .respond_with(ResponseTemplate::new(204))
        .mount(&server)
        .await;
    keycloak
        .execute(&Plan {
            calls: vec![update],
            conflicts: vec![],
        })
        .await
        .unwrap();
    keycloak.observe_client("prod.team.c7", HOUR).await.unwrap();
    keycloak.observe_client("prod.team.c8", HOUR).await.unwrap();
    assert_eq!(
        calls(&server, "GET /admin/realms/r/clients").await,
        4,
        "only what was written is read again"
    );
}

#[tokio::test]
async fn a_client_that_cannot_be_created_is_found_by_its_id() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    exact(&server, "op", own(true)).await;
    exact(&server, "prod.team.a", json!([])).await;
    Mock::given(method("POST"))
        .and(path(CLIENTS))
        .respond_with(ResponseTemplate::new(409))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(path(format!("{CLIENTS}/id-prod.team.a")))
        .respond_with(
            ResponseTemplate::new(200).set_body_json(json!({"id": "id-prod.team.a", "clientId": "renamed"})),
        )
        .mount(&server)
        .await;
    let keycloak = keycloak(&server);
    let absent = keycloak.observe_client("prod.team.a", Read::Fresh).await.unwrap();
    assert_eq!(absent.presence, Presence::Absent);
    let conflict = keycloak
        .execute(&Plan {
            calls: vec![create("prod.team.a")],
            conflicts: vec![],
        })
        .await;
    assert_eq!(
        conflict,
        Err(ProviderError::Conflict {
            operation: "create_client"
        })
    );
    let found = keycloak.observe_client("prod.team.a", Read::Fresh).await.unwrap();
    assert_eq!(found.raw.unwrap()["clientId"], "renamed");
}

#[tokio::test]
async fn scopes_are_listed_once_and_what_was_written_is_read_by_itself() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    let scope = |id: &str, name: &str| json!({"id": id, "name": name});
    Mock::given(method("GET"))
        .and(path(SCOPES))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!([scope("1", "a")])))
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(path(format!("{SCOPES}/2")))
        .respond_with(ResponseTemplate::new(200).set_body_json(scope("2", "b")))
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(201))
        .mount(&server)
        .await;
    let keycloak = keycloak(&server);
    let names = async || {
        keycloak
            .observe_scopes(HOUR)
            .await
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["a"]);
    let create = Call {
        path: "/client-scopes".into(),
        body: Some(json!({"id": "2", "name": "b"})),
        ..create("")
    };
    keycloak
        .execute(&Plan {
            calls: vec![create],
            conflicts: vec![],
        })
        .await
        .unwrap();
    assert_eq!(names().await, ["a", "b"]);
    assert_eq!(names().await, ["a", "b"]);
    assert_eq!(calls(&server, "GET /admin/realms/r/client-scopes").await, 1);
    assert_eq!(calls(&server, "GET /admin/realms/r/client-scopes/2").await, 1);
}

/// Of two AuthorizationServers of one realm neither may take over the other's client, whoever consents to it.
#[tokio::test]
async fn every_client_by_which_the_operator_signs_in_is_its_own() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    for id in ["op", "second", "other"] {
        exact(&server, id, json!([{"id": id, "clientId": id}])).await;
    }
    let realms = RealmRegistry::new(LimitSettings::new(
        NonZeroU32::new(1000).unwrap(),
        Duration::from_secs(30),
    ));
    let first = keycloak_of(&server, "other", "op", &realms);
    keycloak_of(&server, "other", "second", &realms);
    let holder = async |id: &str| first.observe_client(id, Read::Fresh).await.unwrap().presence;
    assert_eq!(holder("op").await, Presence::Held(Holder::BuiltIn));
    assert_eq!(holder("second").await, Presence::Held(Holder::BuiltIn));
    let unmarked = Holder::Unmarked { adopter: None };
    assert_eq!(holder("other").await, Presence::Held(unmarked));
}

/// The client's memory would go on saying that it has the scope, also when a new one of that name is there.
#[tokio::test]
async fn clients_are_read_again_after_a_scope_was_deleted() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    exact(
        &server,
        "a",
        json!([{"id": "1", "clientId": "a", "optionalClientScopes": ["s"]}]),
    )
    .await;
    Mock::given(method("DELETE"))
        .respond_with(ResponseTemplate::new(204))
        .mount(&server)
        .await;
    let keycloak = keycloak(&server);
    let delete = |path: &str| Plan {
        calls: vec![Call {
            verb: Verb::Delete,
            path: path.into(),
            body: None,
            ..create("")
        }],
        conflicts: vec![],
    };
    for (path, reads) in [
        ("/client-scopes/2/protocol-mappers/models/3", 1),
        ("/client-scopes/2", 2),
    ] {
        keycloak.observe_client("a", HOUR).await.unwrap();
        keycloak.execute(&delete(path)).await.unwrap();
        keycloak.observe_client("a", HOUR).await.unwrap();
        assert_eq!(
            calls(&server, "GET /admin/realms/r/clients").await,
            reads,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_plan_stops_at_the_first_failure() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    let body = json!({"error": "invalid_input", "errorMessage": "hunter2"});
    Mock::given(method("POST"))
        .and(path(CLIENTS))
        .respond_with(ResponseTemplate::new(400).set_body_json(body))
        .mount(&server)
        .await;
    let keycloak = keycloak(&server);
    let error = keycloak
        .execute(&Plan {
            calls: vec![create("a"), create("b")],
            conflicts: vec![],
        })
        .await
        .unwrap_err();
    assert_eq!(
        error,
        ProviderError::Rejected {
            operation: "create_client",
            status: 400,
            code: "invalid_input".into()
        }
    );
    assert!(!error.to_string().contains("hunter2"));
    assert_eq!(calls(&server, "POST /admin/realms/r/clients").await, 1);
}

#[tokio::test]
async fn whoever_wants_the_scopes_of_this_moment_shares_them_with_those_who_wait() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    let list = ResponseTemplate::new(200)
        .set_body_json(json!([{"id": "1", "name": "a"}]))
        .set_delay(std::time::Duration::from_millis(50));
    Mock::given(method("GET"))
        .and(path(SCOPES))
        .respond_with(list)
        .mount(&server)
        .await;
    let keycloak = keycloak(&server);
    keycloak.observe_scopes(Read::Fresh).await.unwrap();
    let together = (0..20).map(|_| keycloak.observe_scopes(Read::Fresh));
    let answers = futures::future::join_all(together).await;
    assert!(
        answers
            .iter()
            .all(|scopes| scopes.as_ref().unwrap().contains_key("a"))
    );
    assert_eq!(calls(&server, "GET /admin/realms/r/client-scopes").await, 3);
    keycloak.observe_scopes(Read::Fresh).await.unwrap();
    assert_eq!(
        calls(&server, "GET /admin/realms/r/client-scopes").await,
        4,
        "a later moment is another"
    );
}
