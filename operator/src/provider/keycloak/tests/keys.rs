//! Clients that authenticate with a private key.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{super::plan, NOW, agent, body, changes, client_mut, ids, realm::Realm};
use crate::provider::{
    Authentication, Change, ClientSpec, Credential, Credentials, Plan, Previous,
    key::{self, PrivateKey},
};

/// Two keys: making one takes a while.
static KEYS: LazyLock<[Credential; 2]> = LazyLock::new(|| [(); 2].map(|()| key::make().unwrap()));

fn signing() -> ClientSpec {
    ClientSpec {
        authentication: Authentication::PrivateKeyJwt,
        ..agent()
    }
}

fn both() -> Credentials {
    let [old, new] = &*KEYS;
    Credentials {
        current: new.clone(),
        previous: Some(Previous {
            credential: old.clone(),
            until: NOW,
        }),
    }
}

fn id(key: &Credential) -> String {
    PrivateKey::of(key).unwrap().id()
}

fn planned(realm: &Realm, want: &ClientSpec, credentials: &Credentials) -> Plan {
    let observed = realm.client(&want.client_id);
    plan::client(
        &ids(),
        want,
        &observed,
        &realm.observed_scopes(),
        Some(credentials),
        NOW,
    )
}

fn with(want: &ClientSpec, credentials: &Credentials) -> Realm {
    let mut realm = Realm::new();
    realm.apply(&planned(&realm, want, credentials).calls);
    assert!(planned(&realm, want, credentials).is_empty());
    realm
}

/// The ids of the keys that the client may sign with.
fn accepted(client: &Value) -> Vec<String> {
    let set: Value = serde_json::from_str(client["attributes"]["jwks.string"].as_str().unwrap()).unwrap();
    let keys = set["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_server_gets_the_public_half_alone() {
    let [key, _] = &*KEYS;
    let realm = Realm::new();
    let plan = planned(&realm, &signing(), &Credentials::only(key.clone()));
    let body = body(&plan.calls[0]);
    assert_eq!(body["clientAuthenticatorType"], "client-jwt");
    assert_eq!(body["publicClient"], false);
    assert_eq!(body.get("secret"), None);
    for (attribute, value) in [
        ("use.jwks.string", "true"),
        ("use.jwks.url", "false"),
        ("token.endpoint.auth.signing.alg", "RS256"),
    ] {
        assert_eq!(body["attributes"][attribute], value, "{attribute}");
    }
    assert_eq!(accepted(body), [id(key)]);
    let jwk: Value = serde_json::from_str(&PrivateKey::of(key).unwrap().jwk()).unwrap();
    assert!(!body.to_string().contains(jwk["d"].as_str().unwrap()));
}

#[test]
fn two_keys_are_accepted_in_an_overlap_and_one_after_it() {
    let [old, new] = &*KEYS;
    let mut realm = with(&signing(), &Credentials::only(old.clone()));
    for (credentials, expected) in [
        (both(), vec![id(new), id(old)]),
        (Credentials::only(new.clone()), vec![id(new)]),
    ] {
        let plan = planned(&realm, &signing(), &credentials);
        assert_eq!(
            changes(&plan),
            [(Change::Update, "client prod.team.agent: jwks.string")]
        );
        realm.apply(&plan.calls);
        assert_eq!(accepted(client_mut(&mut realm, "prod.team.agent")), expected);
    }
}

#[test]
fn a_way_in_that_others_opened_is_closed() {
    let mut realm = with(&signing(), &Credentials::only(KEYS[0].clone()));
    let client = client_mut(&mut realm, "prod.team.agent");
    client["clientAuthenticatorType"] = json!("client-secret");
    client["attributes"]["use.jwks.url"] = json!("true");
    client["attributes"]["token.endpoint.auth.signing.alg"] = json!("none");
    let plan = planned(&realm, &signing(), &Credentials::only(KEYS[0].clone()));
    realm.apply(&plan.calls);
    let client = client_mut(&mut realm, "prod.team.agent");
    assert_eq!(client["clientAuthenticatorType"], "client-jwt");
    assert_eq!(client["attributes"]["use.jwks.url"], "false");
    assert_eq!(client["attributes"]["token.endpoint.auth.signing.alg"], "RS256");
}

/// Secret to key and back, in one call each, also by a plan for credentials alone.
#[test]
fn another_method_replaces_what_was_there() {
    let key = Credentials::only(KEYS[0].clone());
    let secret = Credentials {
        previous: Some(Previous {
            credential: Credential::new("old"),
            until: NOW,
        }),
        ..Credentials::only(Credential::new("s3cret"))
    };
    for alone in [false, true] {
        let change = |realm: &Realm, want: &ClientSpec, to: &Credentials| {
            let plan = if alone {
                plan::credentials(&ids(), want, &realm.client("prod.team.agent"), to)
            } else {
                planned(realm, want, to)
            };
            assert_eq!(plan.calls.len(), 1, "{plan:?}");
            plan
        };
        let mut realm = with(&agent(), &secret);
        realm.apply(&change(&realm, &signing(), &key).calls);
        let client = client_mut(&mut realm, "prod.team.agent");
        assert_eq!(client["clientAuthenticatorType"], "client-jwt");
        assert_eq!(accepted(client), [id(&KEYS[0])]);
        let left = client["attributes"]["client.secret.rotated"].as_str();
        assert!(left.unwrap_or_default().is_empty());

        let only = Credentials::only(Credential::new("another"));
        realm.apply(&change(&realm, &agent(), &only).calls);
        let client = client_mut(&mut realm, "prod.team.agent");
        assert_eq!(client["clientAuthenticatorType"], "client-secret");
        assert_eq!(client["secret"], "another");
        let left = client["attributes"]["jwks.string"].as_str();
        assert!(left.unwrap_or_default().is_empty());
    }
}
