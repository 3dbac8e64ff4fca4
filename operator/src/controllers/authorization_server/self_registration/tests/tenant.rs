//! Where settings of the tenant as a whole decide who can register.

use super::*;
use crate::{provider::auth0::settings::door, testing::Tenant};

const RIGHT: Tenant = Tenant {
    strict: true,
    open: true,
};
const SHUT: Tenant = Tenant {
    strict: true,
    open: false,
};

/// An AuthorizationServer whose settings the operator keeps, if it may.
fn tenant(managed: bool) -> AuthorizationServer {
    let mut object = object(
        "main",
        "2026-01-02T00:00:00Z",
        &json!({"dynamic": {"anyRedirectHost": true}}),
    );
    let spec = object["spec"].as_object_mut().unwrap();
    spec.remove("keycloak");
    spec.insert(
        "auth0".to_owned(),
        json!({"domain": "as.example", "manageTenantSettings": managed}),
    );
    serde_json::from_value(object).unwrap()
}

async fn staged(now: Tenant) -> Stage {
    let stage = stage(&[orders("platform")]).await;
    hold(&stage, "platform", &["read", "write"]);
    stage.server.set_tenant(now);
    stage
}

/// Passes until nothing is waited for.
async fn settled(stage: &Stage, server: &mut AuthorizationServer) -> Result<(), Halt> {
    for _ in 0..3 {
        match pass(stage, server, able(&[Capability::SelfRegistration])).await {
            Err(Halt::Waiting(_)) => {}
            result => return result,
        }
    }
    panic!("it waits for ever: {:?}", server.status);
}

fn noted(server: &AuthorizationServer) -> Vec<(String, String)> {
    let noted = &server.status.as_ref().unwrap().tenant_settings;
    let noted = noted.iter();
    noted
        .map(|setting| (setting.name.clone(), setting.previous.clone()))
        .collect()
}

fn nothing_open() -> Value {
    json!({"guards": true, "open": null})
}

#[tokio::test]
async fn the_door_is_noted_before_it_is_opened_and_shut_when_nobody_wants_it_any_more() {
    let stage = staged(SHUT).await;
    let mut server = tenant(true);
    for _ in 0..2 {
        assert_eq!(
            reason(pass(&stage, &mut server, able(&[Capability::SelfRegistration])).await),
            "Waiting"
        );
        assert_eq!(stage.server.tenant(), Some(SHUT));
    }
    assert_eq!(noted(&server), [(door(), "false".to_owned())]);
    settled(&stage, &mut server).await.unwrap();
    assert_eq!(stage.server.tenant(), Some(RIGHT));
    assert_eq!(stage.server.registration()["open"], json!(["read"]));

    server.spec.client_registration = None;
    settled(&stage, &mut server).await.unwrap();
    assert_eq!(stage.server.tenant(), Some(SHUT));
    assert_eq!(stage.server.registration(), Value::Null);
    // Who opens it now is somebody else.
    assert!(noted(&server).is_empty());
    stage.server.set_tenant(RIGHT);
    settled(&stage, &mut server).await.unwrap();
    assert_eq!(stage.server.tenant(), Some(RIGHT));
}

#[tokio::test]
async fn a_door_that_was_open_before_stays_so_and_one_that_we_leave_alone_too() {
    for managed in [true, false] {
        let stage = staged(RIGHT).await;
        let mut server = tenant(managed);
        settled(&stage, &mut server).await.unwrap();
        assert!(stored(&server).unwrap().open);
        server.spec.client_registration = None;
        settled(&stage, &mut server).await.unwrap();
        assert_eq!(stage.server.tenant(), Some(RIGHT), "{managed}");
        assert_eq!(stage.server.registration(), Value::Null);
    }
}

#[tokio::test]
async fn settings_that_it_may_not_set_are_asked_for_and_nothing_is_open_meanwhile() {
    let stage = staged(RIGHT).await;
    let mut server = tenant(false);
    settled(&stage, &mut server).await.unwrap();
    let loose = Tenant {
        strict: false,
        open: true,
    };
    for now in [SHUT, loose] {
        stage.server.set_tenant(now);
        assert_eq!(reason(settled(&stage, &mut server).await), "TenantSettingsNeeded");
        assert_eq!(stage.server.tenant(), Some(now));
        assert_eq!(stage.server.registration(), nothing_open());
        assert!(!stored(&server).unwrap().open);
    }
}

#[tokio::test]
async fn what_rests_on_the_mode_is_taken_away_before_it_is_mended_and_comes_back_after_the_proof() {
    let stage = staged(SHUT).await;
    let mut server = tenant(true);
    settled(&stage, &mut server).await.unwrap();
    let loose = Tenant {
        strict: false,
        open: true,
    };
    stage.server.set_tenant(loose);
    // The mode is noted first, and nothing is open meanwhile.
    assert_eq!(
        reason(pass(&stage, &mut server, able(&[Capability::SelfRegistration])).await),
        "Waiting"
    );
    assert_eq!(stage.server.registration(), nothing_open());
    assert_eq!(stage.server.tenant(), Some(loose));
    assert!(!stored(&server).unwrap().open);
    settled(&stage, &mut server).await.unwrap();
    assert_eq!(stage.server.tenant(), Some(RIGHT));
    assert_eq!(stage.server.registration()["open"], json!(["read"]));
    assert_eq!(
        condition(&server, "Accepted"),
        Some(("True".into(), "Proved".into()))
    );
}

#[tokio::test]
async fn without_the_proof_and_without_the_right_wish_the_door_is_shut() {
    let stage = staged(SHUT).await;
    let mut server = tenant(true);
    settled(&stage, &mut server).await.unwrap();
    server
        .spec
        .client_registration
        .as_mut()
        .unwrap()
        .refuse_device_flow = Some(true);
    assert_eq!(reason(settled(&stage, &mut server).await), "NotAtAuth0");
    assert_eq!(stage.server.tenant(), Some(SHUT));
    assert_eq!(stage.server.registration(), nothing_open());

    server = tenant(true);
    settled(&stage, &mut server).await.unwrap();
    assert_eq!(stage.server.tenant(), Some(RIGHT));
    stage.server.refuse_proofs();
    assert_eq!(reason(settled(&stage, &mut server).await), "ClosedScopesUnproved");
    assert_eq!(stage.server.tenant(), Some(SHUT));
    assert_eq!(stage.server.registration(), nothing_open());
}

/// What was open before us is remembered as such before we shut it, also by a pass that has not seen yet what the one
/// before it wrote.
#[tokio::test]
async fn a_door_that_we_shut_was_open_before() {
    let stage = staged(RIGHT).await;
    let mut server = tenant(true);
    let _ = pass(&stage, &mut server, able(&[Capability::SelfRegistration])).await;
    stage.server.refuse_proofs();
    let before = server.clone();
    for _ in 0..2 {
        server = before.clone();
        assert_eq!(reason(settled(&stage, &mut server).await), "ClosedScopesUnproved");
        assert_eq!(stage.server.registration(), nothing_open());
        assert_eq!(noted(&server), [(door(), "true".to_owned())]);
    }
    assert_eq!(reason(settled(&stage, &mut server).await), "ClosedScopesUnproved");
    assert_eq!(stage.server.tenant(), Some(SHUT));
    assert_eq!(noted(&server), [(door(), "true".to_owned())]);
}

/// With the AuthorizationServer goes what was open; settings are nobody's to set back.
#[tokio::test]
async fn deletion_leaves_the_settings_of_the_tenant() {
    let stage = staged(SHUT).await;
    let mut server = tenant(true);
    settled(&stage, &mut server).await.unwrap();
    remove(&server, &stage.server, &stage.ctx).await.unwrap();
    assert_eq!(stage.server.tenant(), Some(RIGHT));
    assert_eq!(stage.server.registration(), Value::Null);
}
