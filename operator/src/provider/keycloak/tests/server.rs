//! Against a server that answers what a real one rarely does: signing in, lost roles, the number of calls.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcp_auth_crds::v1alpha1::{DiscoveredMetadata, Endpoints};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, Respond, ResponseTemplate,
    matchers::{body_string_contains, header, method, path, path_regex, query_param, query_param_is_missing},
};

use super::super::{Keycloak, Settings};
use crate::{
    egress::{Egress, EgressPolicy},
    lease::Leadership,
    metrics::Metrics,
    provider::{
        Access, Call, Capability, Change, Credential, LimitSettings, Plan, Presence, Provider as _,
        ProviderError, Read, RealmRegistry, Verb, discovery::Discovered,
    },
};

const CLIENTS: &str = "/admin/realms/r/clients";
const SCOPES: &str = "/admin/realms/r/client-scopes";
const HOUR: Read = Read::Within(Duration::from_secs(3600));

fn keycloak(server: &MockServer) -> Keycloak {
    let issuer = format!("{}/realms/r", server.uri());
    let metadata = DiscoveredMetadata {
        token_endpoint: format!("{issuer}/token"),
        issuer,
        ..Default::default()
    };
    let policy = EgressPolicy {
        allow_http: true,
        insecure_allow_loopback: true,
        ..Default::default()
    };
    let rate = NonZeroU32::new(10_000).unwrap();
    Keycloak::new(Settings {
        realm: "r",
        endpoints: &Endpoints::default(),
        discovered: &Discovered {
            metadata,
            grant_types: ["other".to_owned()].into(),
        },
        client_id: "op".into(),
        client_secret: Credential::new("op-secret"),
        ca_bundle: None,
        client_ids: "prod.".into(),
        realms: &RealmRegistry::new(LimitSettings::new(rate, Duration::from_secs(30))),
        egress: &Egress::new(policy),
        metrics: Metrics::default(),
        leadership: Leadership::uncontested(),
    })
    .unwrap()
}

/// Hands out token-1, token-2, …
struct TokenEndpoint {
    issued: Arc<AtomicUsize>,
    expires_in: u64,
}

impl Respond for TokenEndpoint {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let n = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        ResponseTemplate::new(200)
            .set_body_json(json!({"access_token": format!("token-{n}"), "expires_in": self.expires_in}))
    }
}

async fn sign_in(server: &MockServer, expires_in: u64) -> Arc<AtomicUsize> {
    let issued = Arc::new(AtomicUsize::new(0));
    Mock::given(method("POST"))
        .and(path("/realms/r/token"))
        .and(body_string_contains(
            "grant_type=client_credentials&client_id=op&client_secret=op-secret",
        ))
        .respond_with(TokenEndpoint {
            issued: Arc::clone(&issued),
            expires_in,
        })
        .mount(server)
        .await;
    issued
}

fn own(manage: bool) -> Value {
    json!([{"id": "0", "clientId": "op", "access": {"view": true, "manage": manage}}])
}

async fn exact(server: &MockServer, client_id: &str, found: Value) {
    Mock::given(method("GET"))
        .and(path(CLIENTS))
        .and(query_param("clientId", client_id))
        .and(query_param_is_missing("search"))
        .respond_with(ResponseTemplate::new(200).set_body_json(found))
        .mount(server)
        .await;
}

async fn calls(server: &MockServer, of: &str) -> usize {
    let received = server.received_requests().await.unwrap();
    received
        .iter()
        .filter(|request| format!("{} {}", request.method, request.url.path()) == of)
        .count()
}

#[tokio::test]
async fn one_token_serves_all_who_ask_at_once_and_is_renewed_before_it_expires() {
    let server = MockServer::start().await;
    let issued = sign_in(&server, 2).await;
    exact(&server, "a", json!([{"id": "1", "clientId": "a"}])).await;
    let keycloak = keycloak(&server);
    let ask = || keycloak.observe_client("a", Read::Fresh);
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    assert!([a, b, c, d].iter().all(Result::is_ok));
    assert_eq!(issued.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_millis(1600)).await;
    ask().await.unwrap();
    assert_eq!(
        issued.load(Ordering::SeqCst),
        2,
        "renewed at three quarters of two seconds"
    );
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    for status in [401, 403] {
        let server = MockServer::start().await;
        let issued = sign_in(&server, 300).await;
        Mock::given(path(CLIENTS))
            .and(header("authorization", "Bearer token-1"))
            .respond_with(ResponseTemplate::new(status))
            .mount(&server)
            .await;
        exact(&server, "a", json!([{"id": "1", "clientId": "a"}])).await;
        let keycloak = keycloak(&server);
        assert!(
            keycloak.observe_client("a", Read::Fresh).await.is_ok(),
            "{status}"
        );
        assert!(
            keycloak.observe_client("a", Read::Fresh).await.is_ok(),
            "{status}"
        );
        assert_eq!(issued.load(Ordering::SeqCst), 2, "{status}");
    }
}

#[tokio::test]
async fn a_missing_role_is_named_after_one_new_token() {
    let server = MockServer::start().await;
    let issued = sign_in(&server, 300).await;
    let body = json!({"error": "HTTP 403 Forbidden hunter2"});
    Mock::given(path_regex(CLIENTS))
        .respond_with(ResponseTemplate::new(403).set_body_json(body))
        .mount(&server)
        .await;
    let keycloak = keycloak(&server);
    let plan = Plan {
        calls: vec![create("a")],
        conflicts: vec![],
    };
    let error = keycloak.execute(&plan).await.unwrap_err();
    assert_eq!(
        error,
        ProviderError::Forbidden {
            operation: "create_client",
            permission: "manage-clients"
        }
    );
    assert_eq!(issued.load(Ordering::SeqCst), 2);
    assert_eq!(calls(&server, "POST /admin/realms/r/clients").await, 2);
    let access = keycloak.check_access().await.unwrap();
    assert_eq!(access.missing, ["manage-clients"]);
}

fn create(client_id: &str) -> Call {
    Call {
        operation: "create_client",
        change: Change::Create,
        subject: String::new(),
        verb: Verb::Post,
        path: "/clients".into(),
        body: Some(json!({"id": format!("id-{client_id}"), "clientId": client_id})),
    }
}

#[tokio::test]
async fn access_is_what_the_server_says_of_our_own_client() {
    for (found, missing) in [
        (own(true), vec![]),
        (own(false), vec!["manage-clients"]),
        (json!([]), vec!["manage-clients"]),
    ] {
        let server = MockServer::start().await;
        sign_in(&server, 300).await;
        exact(&server, "op", found).await;
        let Access {
            missing: found,
            capabilities,
        } = keycloak(&server).check_access().await.unwrap();
        assert_eq!(found, missing);
        assert!(
            !capabilities.contains(&Capability::TokenExchange),
            "the metadata does not name the grant"
        );
    }
}

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
async fn nothing_that_prints_shows_the_operators_secret_or_token() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    exact(
        &server,
        "a",
        json!([{"id": "1", "clientId": "a", "secret": "s3cret"}]),
    )
    .await;
    let keycloak = keycloak(&server);
    let observed = keycloak.observe_client("a", Read::Fresh).await.unwrap();
    let printed = format!("{keycloak:?} {observed:?}");
    for secret in ["op-secret", "token-1", "s3cret"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}
