use http_body_util::BodyExt as _;
use serde_json::Value;

use super::*;
use crate::{
    keys::KeyOptions,
    metrics::Metrics,
    outbound::Outbound,
    testing::{ManualClock, NOW},
    watch::{Place, Watched},
};

async fn shown(admin: &Admin, path: &str) -> (u16, String) {
    let response = admin.answer(&Method::GET, path);
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn readiness_is_a_policy_in_force_and_problems_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.json");
    let mut registry = Metrics::registry();
    let metrics = Metrics::new(&mut registry);
    let (trigger, shutdown) = Shutdown::new();
    let reports = Reports::default();
    let keys = KeyStore::new(Outbound::new(false), KeyOptions::default(), ManualClock::at(NOW));
    let admin = Admin::new(registry, reports.clone(), Arc::new(keys), shutdown);
    let place = Place::File(file.clone());
    let mut policy = Watched::new(Input::Policy, place, |files| match &*files[""] {
        b"good" => Ok("1234".to_owned()),
        _ => Err("it is bad".to_owned()),
    });

    policy.look(&reports, &metrics);
    let (status, text) = shown(&admin, "/readyz").await;
    assert_eq!(status, 503);
    assert!(
        text.starts_with("there is no policy yet\npolicy: No such file"),
        "{text}"
    );
    assert_eq!(shown(&admin, "/livez").await, (200, "ok\n".to_owned()));

    std::fs::write(&file, "good").unwrap();
    policy.look(&reports, &metrics);
    assert_eq!(shown(&admin, "/readyz").await, (200, "ok\n".to_owned()));
    let (status, text) = shown(&admin, "/policy").await;
    let expected = json!({"policy": "1234", "credentials": null, "keys": false});
    assert_eq!(
        (status, serde_json::from_str::<Value>(&text).unwrap()),
        (200, expected)
    );

    std::fs::write(&file, "bad").unwrap();
    policy.look(&reports, &metrics);
    assert_eq!(
        shown(&admin, "/readyz").await,
        (200, "ok\npolicy: it is bad\n".to_owned())
    );
    assert!(
        shown(&admin, "/policy").await.1.contains("1234"),
        "what is in force"
    );
    let (status, text) = shown(&admin, "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("mcp_auth_gate_stale{input=\"policy\"} 1"), "{text}");

    trigger.ask();
    assert_eq!(shown(&admin, "/readyz").await.0, 503);
    assert_eq!(
        shown(&admin, "/livez").await.0,
        200,
        "stopping is no reason to be killed"
    );
    assert_eq!(shown(&admin, "/").await.0, 404);
    assert_eq!(admin.answer(&Method::POST, "/policy").status(), 405);
}
