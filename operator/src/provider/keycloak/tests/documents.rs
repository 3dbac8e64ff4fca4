//! The documents that others write to as well.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, Respond, ResponseTemplate,
    matchers::{method, path, path_regex},
};

use super::{
    super::{
        Keycloak, TOKEN_EXCHANGE,
        documents::{POLICIES, PROFILES, Patch},
        render::LIMITED,
    },
    server::{HOUR, calls, exact, keycloak_with_grant, own, sign_in},
};
use crate::provider::{
    Access, Call, Capability, Change, ObservedLimits, Plan, Provider as _, ProviderError, Read, Verb,
};

const PROFILES_PATH: &str = "/admin/realms/r/client-policies/profiles";
const POLICIES_PATH: &str = "/admin/realms/r/client-policies/policies";
const SERVER: &str = "https://mcp.example.com/orders";

/// A document at the server; `spoil` is what somebody else makes of it right after each write.
#[derive(Clone)]
struct Stored {
    whole: Arc<Mutex<Value>>,
    spoil: fn(usize, &mut Value),
    writes: Arc<Mutex<Vec<Value>>>,
}

impl Respond for Stored {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut whole = self.whole.lock().unwrap();
        if request.method.as_str() == "GET" {
            // Long enough for others to ask meanwhile.
            return ResponseTemplate::new(200)
                .set_body_json(&*whole)
                .set_delay(Duration::from_millis(50));
        }
        let sent: Value = request.body_json().unwrap();
        let mut writes = self.writes.lock().unwrap();
        writes.push(sent.clone());
        *whole = sent;
        (self.spoil)(writes.len(), &mut whole);
        ResponseTemplate::new(204)
    }
}

fn theirs() -> Value {
    json!({"name": "theirs", "executors": [{"executor": "x", "configuration": {"z": 1, "a": null}}]})
}

async fn store(server: &MockServer, at: &str, whole: Value, spoil: fn(usize, &mut Value)) -> Stored {
    let stored = Stored {
        whole: Arc::new(Mutex::new(whole)),
        spoil,
        writes: Arc::default(),
    };
    Mock::given(path(at))
        .respond_with(stored.clone())
        .mount(server)
        .await;
    stored
}

fn merge(put: &[&str], remove: &[&str]) -> Call {
    let patch = Patch {
        put: put
            .iter()
            .map(|name| json!({"name": name, "executors": []}))
            .collect(),
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
        ..Patch::default()
    };
    Call {
        operation: PROFILES.write,
        change: Change::Update,
        subject: String::new(),
        verb: Verb::Merge,
        path: PROFILES.path.into(),
        body: Some(patch.body()),
    }
}

async fn execute(keycloak: &Keycloak, call: Call) -> Result<(), ProviderError> {
    let plan = Plan {
        calls: vec![call],
        conflicts: vec![],
    };
    keycloak.execute(&plan).await
}

#[tokio::test]
async fn entries_of_others_stay_and_those_of_the_server_are_not_sent_back() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    let whole =
        json!({"profiles": [theirs(), {"name": "old"}], "globalProfiles": [{"name": "fapi"}], "more": 1});
    let stored = store(&server, PROFILES_PATH, whole, |_, _| {}).await;
    let keycloak = keycloak_with_grant(&server, TOKEN_EXCHANGE);
    execute(&keycloak, merge(&["new"], &["old", "never"]))
        .await
        .unwrap();
    let expected = json!({"profiles": [theirs(), {"name": "new", "executors": []}], "more": 1});
    assert_eq!(*stored.writes.lock().unwrap(), [expected]);
    execute(&keycloak, merge(&["new"], &["old"])).await.unwrap();
    assert_eq!(stored.writes.lock().unwrap().len(), 1, "nothing was left to do");
}

#[tokio::test]
async fn who_writes_at_the_same_time_loses_nothing() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    let stored = store(&server, PROFILES_PATH, json!({"profiles": [theirs()]}), |_, _| {}).await;
    let keycloak = keycloak_with_grant(&server, TOKEN_EXCHANGE);
    let (a, b, c) = tokio::join!(
        execute(&keycloak, merge(&["a"], &[])),
        execute(&keycloak, merge(&["b"], &[])),
        execute(&keycloak, merge(&["c"], &["a"])),
    );
    assert!([a, b, c].iter().all(Result::is_ok));
    let whole = stored.whole.lock().unwrap();
    let names: Vec<_> = whole["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].clone())
        .collect();
    assert_eq!(names, ["theirs", "b", "c"]);
}

#[tokio::test]
async fn what_somebody_overwrites_is_written_again_and_what_the_server_does_not_keep_is_said() {
    let without_ours = |_: usize, whole: &mut Value| *whole = json!({"profiles": [theirs()]});
    let once = |write: usize, whole: &mut Value| {
        if write == 1 {
            *whole = json!({"profiles": [theirs(), {"name": "their second"}]});
        }
    };
    for (spoil, writes, result) in [
        (once as fn(usize, &mut Value), 2, Ok(())),
        (
            without_ours,
            3,
            Err(ProviderError::Malformed {
                operation: "update_client_profiles",
                why: "the authorization server does not keep what it was told",
            }),
        ),
    ] {
        let server = MockServer::start().await;
        sign_in(&server, 300).await;
        let stored = store(&server, PROFILES_PATH, json!({"profiles": [theirs()]}), spoil).await;
        let keycloak = keycloak_with_grant(&server, TOKEN_EXCHANGE);
        assert_eq!(execute(&keycloak, merge(&["a"], &[])).await, result);
        let sent = stored.writes.lock().unwrap();
        assert_eq!(sent.len(), writes);
        if result.is_ok() {
            assert_eq!(sent[1]["profiles"][1]["name"], "their second");
        }
    }
}

#[tokio::test]
async fn what_is_no_document_is_not_written_over() {
    for whole in [json!([]), json!({}), json!({"profiles": {}})] {
        let server = MockServer::start().await;
        sign_in(&server, 300).await;
        let stored = store(&server, PROFILES_PATH, whole, |_, _| {}).await;
        let keycloak = keycloak_with_grant(&server, TOKEN_EXCHANGE);
        let error = execute(&keycloak, merge(&["a"], &[])).await.unwrap_err();
        assert!(matches!(error, ProviderError::Malformed { .. }), "{error}");
        assert!(stored.writes.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_role_that_is_missing_for_the_documents_is_the_realms() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    Mock::given(path_regex("client-policies"))
        .respond_with(ResponseTemplate::new(403))
        .mount(&server)
        .await;
    let keycloak = keycloak_with_grant(&server, TOKEN_EXCHANGE);
    let error = execute(&keycloak, merge(&["a"], &[])).await.unwrap_err();
    let expected = ProviderError::Forbidden {
        operation: "read_client_profiles",
        permission: "manage-realm",
    };
    assert_eq!(error, expected);
}

/// What a server says of itself to somebody who manages the realm, or does not.
fn server_info(property: &str, manages_realm: bool) -> Value {
    let mut info = json!({"componentTypes": {
        "org.keycloak.services.clientpolicy.executor.ClientPolicyExecutorProvider": [
            {"id": "jwt-claim-enforcer", "properties": [{"name": "claim-name"}, {"name": property}]},
        ],
    }});
    if manages_realm {
        info["systemInfo"] = json!({"version": "26.7.3"});
    }
    info
}

async fn say(server: &MockServer, status: u16, info: &Value) {
    Mock::given(method("GET"))
        .and(path("/admin/serverinfo"))
        .respond_with(ResponseTemplate::new(status).set_body_json(info))
        .mount(server)
        .await;
}

#[tokio::test]
async fn limits_are_possible_with_the_role_withheld_without_it_and_unknown_to_other_servers() {
    for (status, info, can, withheld) in [
        (200, server_info("allowed-value", true), true, None),
        (
            200,
            server_info("allowed-value", false),
            false,
            Some("manage-realm"),
        ),
        (200, server_info("another", true), false, None),
        (403, json!({}), false, None),
        (404, json!({}), false, None),
        (302, json!({}), false, None),
    ] {
        let server = MockServer::start().await;
        sign_in(&server, 300).await;
        exact(&server, "op", own(true)).await;
        say(&server, status, &info).await;
        let access = keycloak_with_grant(&server, TOKEN_EXCHANGE)
            .check_access()
            .await
            .unwrap();
        let Access {
            capabilities,
            missing,
            withheld: found,
        } = access;
        assert!(missing.is_empty() && capabilities.contains(&Capability::TokenExchange));
        assert_eq!(capabilities.contains(&Capability::SubjectClients), can, "{info}");
        assert_eq!(
            found.get(&Capability::SubjectClients).copied(),
            withheld,
            "{info}"
        );
    }
}

async fn marked(server: &MockServer, limited: bool) {
    let attributes = if limited {
        json!({ LIMITED: "1" })
    } else {
        json!({})
    };
    exact(
        server,
        SERVER,
        json!([{"id": "1", "clientId": SERVER, "attributes": attributes}]),
    )
    .await;
}

#[tokio::test]
async fn only_a_client_that_says_so_has_its_limits_read_and_many_read_them_once() {
    let reads = async |server: &MockServer| {
        calls(server, &format!("GET {PROFILES_PATH}")).await
            + calls(server, &format!("GET {POLICIES_PATH}")).await
    };
    for (limited, manages_realm) in [(false, true), (true, false), (true, true)] {
        let server = MockServer::start().await;
        sign_in(&server, 300).await;
        exact(&server, "op", own(true)).await;
        say(&server, 200, &server_info("allowed-value", manages_realm)).await;
        marked(&server, limited).await;
        store(&server, PROFILES_PATH, json!({"profiles": [theirs()]}), |_, _| {}).await;
        store(&server, POLICIES_PATH, json!({"policies": []}), |_, _| {}).await;
        let keycloak = keycloak_with_grant(&server, TOKEN_EXCHANGE);
        keycloak.check_access().await.unwrap();
        let observe = |read| keycloak.observe_resource(SERVER, read);
        let (one, two) = tokio::join!(observe(HOUR), observe(HOUR));
        for observed in [one.unwrap(), two.unwrap(), observe(HOUR).await.unwrap()] {
            match (observed.limits, limited, manages_realm) {
                (ObservedLimits::Unmarked, false, _) | (ObservedLimits::Locked, true, false) => {}
                (ObservedLimits::Seen(seen), true, true) => {
                    assert_eq!(*seen, json!({"profiles": [theirs()], "policies": []}));
                }
                (_, limited, _) => panic!("marked: {limited}"),
            }
        }
        let both = 2 * usize::from(limited && manages_realm);
        assert_eq!(reads(&server).await, both);
        observe(Read::Fresh).await.unwrap();
        assert_eq!(reads(&server).await, 2 * both);
        if both > 0 {
            execute(&keycloak, merge(&["a"], &[])).await.unwrap();
            let observed = observe(HOUR).await.unwrap();
            let ObservedLimits::Seen(seen) = observed.limits else {
                panic!()
            };
            assert_eq!(
                seen["profiles"][1]["name"], "a",
                "what was read before a write does not count after it"
            );
        }
    }
    assert_eq!(POLICIES.path, "/client-policies/policies");
}
