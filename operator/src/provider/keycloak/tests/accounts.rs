//! Clients that authenticate with tokens of a ServiceAccount.

use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use super::{
    super::plan,
    NOW, agent, body, client_mut, ids, plan_client,
    realm::Realm,
    server::{exact, keycloak, own, sign_in},
};
use crate::provider::{
    Access, Authentication, Call, Capability, Change, ClientSpec, Plan, Provider as _, Read, ServiceAccount,
    Verb,
};

const INSTANCES: &str = "/admin/realms/r/identity-provider/instances";

fn robot(account: ServiceAccount) -> ClientSpec {
    ClientSpec {
        authentication: Authentication::ServiceAccount(account),
        ..agent()
    }
}

fn planned(realm: &Realm, want: &ClientSpec) -> Plan {
    let observed = realm.client(&want.client_id);
    plan::client(&ids(), want, &observed, &realm.observed_scopes(), None, NOW)
}

#[test]
fn its_account_stands_for_it_until_another_method_is_chosen() {
    let want = robot(ServiceAccount::new("mcpauth-prod", "team", "robot"));
    let mut realm = Realm::new();
    let plan = planned(&realm, &want);
    let body = body(&plan.calls[0]).clone();
    assert_eq!(body["clientAuthenticatorType"], "federated-jwt");
    assert_eq!(body["publicClient"], false);
    assert_eq!(body.get("secret"), None);
    let account = &body["attributes"];
    assert_eq!(account["jwt.credential.issuer"], "mcpauth-prod");
    assert_eq!(account["jwt.credential.sub"], "system:serviceaccount:team:robot");
    realm.apply(&plan.calls);
    assert!(planned(&realm, &want).is_empty());
    let client = client_mut(&mut realm, &want.client_id);
    client["secret"] = json!("made by Keycloak");
    assert!(planned(&realm, &want).is_empty());
    let observed = realm.client(&want.client_id);
    assert_eq!(observed.secret, None, "it is of no use to anybody");

    for other in [robot(ServiceAccount::default()), agent()] {
        let mut realm = realm.clone();
        realm.apply(&match other.authentication {
            Authentication::ClientSecret => plan_client(&realm, &other).calls,
            _ => planned(&realm, &other).calls,
        });
        let client = client_mut(&mut realm, &want.client_id);
        assert_eq!(
            client["attributes"]["jwt.credential.sub"],
            Value::Null,
            "{other:?}"
        );
    }
}

#[test]
fn what_it_had_before_is_gone() {
    let want = robot(ServiceAccount::new("k", "team", "robot"));
    let mut realm = Realm::new();
    realm.apply(&plan_client(&realm, &agent()).calls);
    let client = client_mut(&mut realm, &want.client_id);
    for attribute in ["jwks.string", "client.secret.rotated"] {
        client["attributes"][attribute] = json!("left over");
    }
    realm.apply(&planned(&realm, &want).calls);
    let client = client_mut(&mut realm, &want.client_id);
    for attribute in ["jwks.string", "client.secret.rotated"] {
        assert_eq!(client["attributes"][attribute], Value::Null, "{attribute}");
    }
    assert!(planned(&realm, &want).is_empty());
}

/// A server that knows identity providers of these types, and answers the probe with this status.
async fn knowing(types: &Value, probe: u16) -> MockServer {
    let server = MockServer::start().await;
    sign_in(&server, 60).await;
    exact(&server, "op", own(true)).await;
    let said = json!({"identityProviders": types});
    for (verb, at, answer) in [
        (
            "GET",
            "/admin/serverinfo".to_owned(),
            ResponseTemplate::new(200).set_body_json(said),
        ),
        (
            "POST",
            "/admin/realms/r/identity-provider/import-config".to_owned(),
            ResponseTemplate::new(probe),
        ),
    ] {
        Mock::given(method(verb))
            .and(path(at))
            .respond_with(answer)
            .mount(&server)
            .await;
    }
    server
}

#[tokio::test]
async fn trust_is_possible_with_the_role_withheld_without_it_and_unknown_to_other_servers() {
    let (with, without) = (
        json!([{"id": "oidc"}, {"id": "kubernetes"}]),
        json!([{"id": "oidc"}]),
    );
    for (types, probe, can, withheld) in [
        (&with, 400, true, None),
        (&with, 403, false, Some("manage-identity-providers")),
        (&without, 400, false, None),
    ] {
        let server = knowing(types, probe).await;
        let Access {
            capabilities,
            withheld: found,
            missing,
        } = keycloak(&server).check_access().await.unwrap();
        let capability = Capability::ServiceAccountTokens;
        assert_eq!(capabilities.contains(&capability), can, "{types} {probe}");
        assert_eq!(found.get(&capability).copied(), withheld, "{types} {probe}");
        assert!(missing.is_empty(), "nobody else has to do without");
    }
}

#[tokio::test]
async fn identity_providers_are_read_once_until_one_is_written() {
    let server = knowing(&json!([]), 400).await;
    Mock::given(method("GET"))
        .and(path(INSTANCES))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!([{"alias": "a"}])))
        .expect(2)
        .mount(&server)
        .await;
    Mock::given(method("POST"))
        .and(path(INSTANCES))
        .respond_with(ResponseTemplate::new(201))
        .expect(1)
        .mount(&server)
        .await;
    let (keycloak, hour) = (
        keycloak(&server),
        Read::Within(std::time::Duration::from_secs(3600)),
    );
    for _ in 0..2 {
        assert_eq!(keycloak.observe_trust(hour).await.unwrap()[0]["alias"], "a");
    }
    let call = Call {
        operation: "create_identity_provider",
        change: Change::Create,
        subject: String::new(),
        verb: Verb::Post,
        path: "/identity-provider/instances".into(),
        body: Some(json!({})),
    };
    let plan = Plan {
        calls: vec![call],
        conflicts: vec![],
    };
    keycloak.execute(&plan).await.unwrap();
    keycloak.observe_trust(hour).await.unwrap();
}
