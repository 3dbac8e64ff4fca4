//! Whatever is wanted and whatever others did: one plan makes it so, a second one finds nothing to do, and what a plan
//! takes away it takes away without giving anything.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::diff::texts, agent, orders, plan_client, plan_resource, realm::Realm};
use crate::provider::{Authentication, ClientSpec, Grant, ResourceSpec, Subjects};

const CLIENT: &str = "prod.team.agent";

fn subset(names: &'static [&'static str]) -> impl Strategy<Value = BTreeSet<String>> {
    proptest::sample::subsequence(names, 0..=names.len())
        .prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

fn client() -> impl Strategy<Value = ClientSpec> {
    let grants = proptest::sample::subsequence(
        vec![
            Grant::AuthorizationCode,
            Grant::RefreshToken,
            Grant::ClientCredentials,
        ],
        1..=3,
    );
    (
        grants,
        subset(&[
            "https://a.example/cb",
            "http://127.0.0.1/cb",
            "com.example.app:/cb",
        ]),
        subset(&["orders:read", "orders:write", "not:there"]),
        any::<(bool, bool, bool)>(),
        "[A-Za-z äß\"\\\\]{0,20}",
        60_u64..86_400,
    )
        .prop_map(
            |(grants, redirect_uris, scopes, (enabled, consent, public), display_name, seconds)| ClientSpec {
                display_name,
                enabled,
                grants: grants.into_iter().collect(),
                redirect_uris,
                authentication: if public {
                    Authentication::None
                } else {
                    Authentication::ClientSecret
                },
                consent,
                token_lifetime: Duration::from_secs(seconds),
                scopes,
                ..agent()
            },
        )
}

fn resource() -> impl Strategy<Value = ResourceSpec> {
    let names = subset(&["orders:read", "orders:write", "orders:all"]);
    (names, subset(&["profile"]), "[a-zA-Z ]{0,8}", 60_u64..86_400).prop_map(
        |(names, exchange_scopes, description, seconds)| ResourceSpec {
            scopes: names
                .into_iter()
                .map(|name| (name, description.clone()))
                .collect(),
            exchange_scopes: exchange_scopes
                .into_iter()
                .map(|scope| (scope, Subjects::Any))
                .collect(),
            exchange_token_lifetime: Duration::from_secs(seconds),
            ..orders()
        },
    )
}

/// What somebody else may do to a client of ours.
fn tampering() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        (
            prop_oneof![
                Just("enabled"),
                Just("publicClient"),
                Just("standardFlowEnabled"),
                Just("implicitFlowEnabled"),
                Just("directAccessGrantsEnabled"),
                Just("serviceAccountsEnabled"),
                Just("authorizationServicesEnabled"),
                Just("consentRequired"),
                Just("fullScopeAllowed"),
                Just("bearerOnly"),
            ],
            any::<bool>().prop_map(|flag| json!(flag))
        ),
        Just((
            "redirectUris",
            json!(["https://evil.example/cb", "https://a.example/cb"])
        )),
        Just(("webOrigins", json!(["*"]))),
        Just(("name", json!("renamed"))),
        Just(("secret", json!("foreign"))),
        Just(("clientAuthenticatorType", json!("client-jwt"))),
        Just((
            "protocolMappers",
            json!([{"id": "m", "name": "evil", "protocolMapper": "oidc-audience-mapper"}])
        )),
        Just(("defaultClientScopes", json!(["roles", "orders:write"]))),
        Just(("optionalClientScopes", json!(["profile", "orders:read"]))),
        proptest::sample::select(vec![
            "pkce.code.challenge.method",
            "standard.token.exchange.enabled",
            "use.refresh.tokens",
            "oauth2.device.authorization.grant.enabled",
            "access.token.lifespan",
            "mcpauth.uid",
            "mcpauth.managed",
            "foreign",
        ])
        .prop_map(|name| ("attributes", json!({ name: "true" }))),
        Just(("attributes", json!({"mcpauth.kind": "", "mcpauth.object": ""}))),
    ]
}

fn tamper(realm: &mut Realm, client_id: &str, changes: &[(&'static str, Value)]) {
    let scopes: Vec<_> = realm.scopes.values().map(|scope| scope["name"].clone()).collect();
    let Some(client) = realm
        .clients
        .values_mut()
        .find(|client| client["clientId"] == client_id)
    else {
        return;
    };
    for (field, value) in changes {
        match (*field, value) {
            ("attributes", Value::Object(values)) => {
                client["attributes"]
                    .as_object_mut()
                    .unwrap()
                    .extend(values.clone());
            }
            ("defaultClientScopes" | "optionalClientScopes", Value::Array(names)) => {
                client[*field] = names
                    .iter()
                    .filter(|name| scopes.contains(name))
                    .cloned()
                    .collect();
            }
            _ => client[*field] = value.clone(),
        }
    }
}

/// Everything that a client may do, as a set: revocation must only make it smaller.
fn powers(client: &Value) -> BTreeSet<String> {
    let flags = [
        "enabled",
        "standardFlowEnabled",
        "implicitFlowEnabled",
        "directAccessGrantsEnabled",
        "serviceAccountsEnabled",
        "fullScopeAllowed",
        "authorizationServicesEnabled",
    ];
    let on = flags
        .into_iter()
        .filter(|flag| client.get(flag) == Some(&json!(true)))
        .map(str::to_owned);
    let lists = [
        "redirectUris",
        "webOrigins",
        "defaultClientScopes",
        "optionalClientScopes",
    ];
    let entries = lists.into_iter().flat_map(|list| {
        texts(client.get(list))
            .into_iter()
            .map(move |entry| format!("{list} {entry}"))
    });
    let attributes = client["attributes"].as_object().into_iter().flatten();
    let switches = attributes
        .filter(|(name, value)| name.ends_with("enabled") && *value == "true")
        .map(|(name, _)| name.clone());
    let mappers = client
        .get("protocolMappers")
        .into_iter()
        .flat_map(|m| m.as_array().unwrap())
        .map(Value::to_string);
    on.chain(entries).chain(switches).chain(mappers).collect()
}

proptest! {
    #[test]
    fn a_new_client_is_as_wanted_at_once(want in client(), server in resource()) {
        let mut realm = Realm::new();
        realm.apply(&plan_resource(&realm, &server).calls);
        realm.apply(&plan_client(&realm, &want).calls);
        let again = plan_client(&realm, &want);
        prop_assert!(again.is_empty(), "{:?}", again);
    }

    #[test]
    fn one_plan_makes_right_whatever_others_did(
        before in client(),
        want in client(),
        server in resource(),
        tampering in proptest::collection::vec(tampering(), 0..6),
    ) {
        let mut realm = Realm::new();
        realm.apply(&plan_resource(&realm, &server).calls);
        realm.apply(&plan_client(&realm, &before).calls);
        tamper(&mut realm, CLIENT, &tampering);
        let plan = plan_client(&realm, &want);
        prop_assert!(plan.conflicts.is_empty());
        let printed = format!("{plan:?} {}", plan.summary());
        prop_assert!(!printed.contains("s3cret"), "{}", printed);
        realm.apply(&plan.calls);
        let again = plan_client(&realm, &want);
        prop_assert!(again.is_empty(), "{:?} after {:?}", again, plan);
    }

    #[test]
    fn revocations_give_nothing_and_leave_nothing_unwanted(
        before in client(),
        want in client(),
        server in resource(),
        tampering in proptest::collection::vec(tampering(), 0..6),
    ) {
        let mut realm = Realm::new();
        realm.apply(&plan_resource(&realm, &server).calls);
        realm.apply(&plan_client(&realm, &before).calls);
        tamper(&mut realm, CLIENT, &tampering);
        let had = powers(realm.client(CLIENT).raw.as_ref().unwrap());
        let plan = plan_client(&realm, &want);
        realm.apply(&plan.revocations().calls);
        let mut left = powers(realm.client(CLIENT).raw.as_ref().unwrap());
        // Keycloak attaches this one by itself to a client with a service account.
        left.remove("defaultClientScopes service_account");
        prop_assert!(left.is_subset(&had), "{:?}", left.difference(&had));
        realm.apply(&plan_client(&realm, &want).calls);
        let wanted = powers(realm.client(CLIENT).raw.as_ref().unwrap());
        prop_assert!(left.is_subset(&wanted), "{:?}", left.difference(&wanted));
    }

    #[test]
    fn one_plan_makes_right_whatever_became_of_a_resource(
        before in resource(),
        want in resource(),
        tampering in proptest::collection::vec(tampering(), 0..4),
        stranger in any::<bool>(),
    ) {
        let mut realm = Realm::new();
        realm.apply(&plan_resource(&realm, &before).calls);
        tamper(&mut realm, &before.resource, &tampering);
        if stranger {
            for scope in realm.scopes.values_mut().filter(|scope| scope["attributes"]["mcpauth.managed"] == "true") {
                scope["protocolMappers"][0]["config"]["included.client.audience"] = json!("https://evil.example");
                scope["attributes"] = json!({});
            }
        }
        let plan = plan_resource(&realm, &want);
        prop_assert!(plan.conflicts.is_empty());
        realm.apply(&plan.calls);
        let again = plan_resource(&realm, &want);
        prop_assert!(again.is_empty(), "{:?} after {:?}", again, plan);
    }
}
