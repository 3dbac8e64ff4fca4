//! Exchange by actions of the tenant.

use super::*;

/// The orders server, which exchanges tokens by an action.
fn swapping(only: bool) -> ResourceSpec {
    ResourceSpec {
        exchange_actions: ExchangeActions {
            names: set(&["swap"]),
            only,
        },
        ..exchanging()
    }
}

fn ways(body: &Value) -> &Value {
    &body["token_exchange"]["allow_any_profile_of_type"]
}

/// Whoever exchanges by an action only must not get round it by Auth0's own profile.
#[test]
fn an_action_is_no_way_beside_the_one_without() {
    let client = |want: &ResourceSpec| render::linked_client(want, false).creation(&[]);
    assert_eq!(ways(&client(&swapping(true))), &json!(["custom_authentication"]));
    assert_eq!(
        ways(&client(&swapping(false))),
        &json!(["on_behalf_of_token_exchange", "custom_authentication"])
    );
}

#[test]
fn a_profile_comes_after_its_client_says_so_and_goes_before_it() {
    let secret = Credential::new("s");
    let mut observed = api(&exchanging(), &linked(&exchanging()));
    let raw = observed.raw.as_mut().unwrap();
    raw["profiles"] = json!([]);
    raw["actions"] = json!([{"id": "a1", "name": "swap", "all_changes_deployed": true}]);
    let plan = resources::resource(&swapping(true), &observed, &scopes(), Some(&secret));
    let calls: Vec<_> = plan
        .calls
        .iter()
        .map(|call| (call.operation, call.change))
        .collect();
    assert_eq!(
        calls,
        [
            ("update_client", Change::Revoke),
            ("update_client", Change::Update),
            ("create_token_exchange_profile", Change::Create),
            ("create_client_grant", Change::Create),
        ]
    );
    let says = plan.calls[1].body.as_ref().unwrap();
    assert_eq!(says["client_metadata"]["mcpauth_profiles"], "1");

    let mut profile = plan.calls[2].body.clone().unwrap();
    profile["id"] = json!("tep_1");
    let mut observed = api(&swapping(true), &linked(&swapping(true)));
    let raw = observed.raw.as_mut().unwrap();
    raw["profiles"] = json!([profile]);
    raw["actions"] = json!([{"id": "a1", "name": "swap", "all_changes_deployed": true}]);
    let plan = resources::resource(&orders(), &observed, &scopes(), Some(&secret));
    let revoked = plan.revocations();
    let paths: Vec<&str> = revoked.calls.iter().map(|call| &*call.path).collect();
    assert_eq!(paths, ["/clients/rs_1", "/token-exchange-profiles/tep_1"]);
    assert_eq!(
        revoked.calls.len(),
        plan.calls.len(),
        "the client says so until it is gone: {plan:?}"
    );
    let removal = resources::removal(&orders().mark, &observed);
    let paths: Vec<&str> = removal.calls.iter().map(|call| &*call.path).collect();
    let position = |path: &str| paths.iter().position(|other| *other == path).unwrap();
    assert!(
        position("/token-exchange-profiles/tep_1") < position("/clients/rs_1"),
        "{paths:?}"
    );

    observed.raw.as_mut().unwrap()["profiles"] = json!([]);
    observed.raw.as_mut().unwrap()["client"]["token_exchange"] = Value::Null;
    let plan = resources::resource(&orders(), &observed, &scopes(), Some(&secret));
    let [last] = &plan.calls[..] else {
        panic!("{plan:?}");
    };
    assert!(last.body.as_ref().unwrap()["client_metadata"]["mcpauth_profiles"].is_null());
}
