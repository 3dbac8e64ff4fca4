use serde_json::{Value, json};

use super::{super::testing::server, *};

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"namespace": "team", "name": "notes"}, "spec": spec})).unwrap()
}

fn slices(numbers: &[i32]) -> Vec<SliceFacts> {
    let slice = |number: &i32| serde_json::from_value(json!({"ports": [{"port": number}]})).unwrap();
    numbers.iter().map(slice).collect()
}

fn refusal(found: Result<Origin, Halt>) -> &'static str {
    match found {
        Err(Halt::Refused(refusal) | Halt::Waiting(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_gate_is_given_the_addresses_of_pods_where_they_can_be_had() {
    let pods = "http://notes-gate-origin.team.svc";
    let address = "http://notes.team.svc";
    let named = json!([{"port": 80, "targetPort": "mcp"}]);
    for (why, spec, numbers, expected) in [
        (
            "a number",
            json!({"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": 3000}]}),
            &[][..],
            format!("{pods}:3000/mcp"),
        ),
        (
            "no target port",
            json!({"selector": {"a": "b"}, "ports": [{"port": 80}]}),
            &[],
            format!("{pods}:80/mcp"),
        ),
        (
            "a name that all pods give to one number",
            json!({"selector": {"a": "b"}, "ports": named}),
            &[3000, 3000],
            format!("{pods}:3000/mcp"),
        ),
        (
            "a name without pods",
            json!({"selector": {"a": "b"}, "ports": named}),
            &[],
            format!("{address}:80/mcp"),
        ),
        (
            "a name of two numbers",
            json!({"selector": {"a": "b"}, "ports": named}),
            &[3000, 3001],
            format!("{address}:80/mcp"),
        ),
        (
            "endpoints of its own",
            json!({"ports": [{"port": 80}]}),
            &[],
            format!("{address}:80/mcp"),
        ),
    ] {
        let found = origin(&server(&json!({})), Some(&service(spec)), &slices(numbers)).unwrap();
        assert_eq!(found.url, expected, "{why}");
    }
}

#[test]
fn the_headless_service_is_a_copy_of_what_leads_to_the_pods() {
    let ports = json!([{"name": "web", "port": 80, "targetPort": "mcp", "nodePort": 30080}, {"name": "m", "port": 9}]);
    let target = service(json!({"type": "NodePort", "selector": {"a": "b"}, "ports": ports}));
    let spec = json!({"target": {"service": "notes", "port": "web"}});
    let found = origin(&server(&spec), Some(&target), &[])
        .unwrap()
        .service
        .unwrap();
    let found = serde_json::to_value(found).unwrap();
    assert_eq!(
        found["spec"],
        json!({"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"name": "mcp", "port": 80, "targetPort": "mcp"}]})
    );
    assert_eq!(found["metadata"]["ownerReferences"][0]["name"], "notes");
}

#[test]
fn the_headless_service_has_the_family_in_which_the_target_is_there_for_sure() {
    let target = |families: &Value| {
        service(json!({"selector": {"a": "b"}, "ports": [{"port": 80}], "ipFamilies": families}))
    };
    let copy = |families: &Value| {
        let found = origin(&server(&json!({})), Some(&target(families)), &[]).unwrap();
        found.service.unwrap()
    };
    let (v4, v6) = (json!(["IPv4"]), json!(["IPv6"]));
    for (families, expected, policy) in [
        (v4.clone(), v4.clone(), json!("SingleStack")),
        (v6.clone(), v6.clone(), json!("SingleStack")),
        (json!(["IPv6", "IPv4"]), v6.clone(), json!("SingleStack")),
        (Value::Null, Value::Null, Value::Null),
    ] {
        let found = serde_json::to_value(copy(&families)).unwrap();
        assert_eq!(found["spec"]["ipFamilies"], expected);
        assert_eq!(found["spec"]["ipFamilyPolicy"], policy);
    }
    assert!(changes_family(&copy(&v4), &copy(&v6)));
    assert!(!changes_family(&copy(&v4), &copy(&v4)));
    assert!(
        !changes_family(&copy(&v4), &copy(&Value::Null)),
        "nothing is wanted"
    );
}

#[test]
fn a_target_that_leads_nowhere_says_what_to_write() {
    let two = json!({"selector": {"a": "b"}, "ports": [{"name": "x", "port": 1}, {"name": "y", "port": 2}]});
    let port = |port: Value| json!({"target": {"service": "notes", "port": port}});
    for (spec, found, reason) in [
        (json!({}), None, "TargetServiceNotFound"),
        (
            json!({}),
            Some(json!({"type": "ExternalName", "externalName": "metadata.google.internal"})),
            "ExternalNameNotSupported",
        ),
        (json!({}), Some(two.clone()), "TargetPortNotFound"),
        (port(json!("z")), Some(two.clone()), "TargetPortNotFound"),
        (port(json!(3)), Some(two), "TargetPortNotFound"),
        (
            json!({}),
            Some(json!({"ports": [{"port": 53, "protocol": "UDP"}]})),
            "TargetPortNotFound",
        ),
        (json!({"target": null}), None, "TargetMissing"),
    ] {
        let found = found.map(service);
        assert_eq!(
            refusal(origin(&server(&spec), found.as_ref(), &[])),
            reason,
            "{spec}"
        );
    }
}

#[test]
fn the_path_is_that_of_the_target_else_of_the_resource() {
    let target = service(json!({"selector": {"a": "b"}, "ports": [{"port": 80}]}));
    for (spec, path) in [
        (json!({"target": {"service": "notes"}}), "/mcp"),
        (json!({"target": {"service": "notes", "path": "/"}}), "/"),
        (json!({"target": {"service": "notes", "path": "/a/b"}}), "/a/b"),
        (
            json!({"resource": "https://h.example/", "target": {"service": "notes"}}),
            "/",
        ),
    ] {
        let found = origin(&server(&spec), Some(&target), &[]).unwrap();
        assert_eq!(found.url, format!("http://notes-gate-origin.team.svc:80{path}"));
    }
}

#[test]
fn tokens_are_sold_only_where_a_policy_says_so() {
    let ports = |spec: &Value, sells| {
        let service = front(&server(spec), sells);
        let ports = service.spec.unwrap().ports.unwrap();
        ports.into_iter().map(|port| port.port).collect::<Vec<_>>()
    };
    let tls = json!({"enforcement": {"gate": {"tls": {"secretName": "t"}}}});
    assert_eq!(ports(&json!({}), false), [80]);
    assert_eq!(ports(&json!({}), true), [80, 8082]);
    assert_eq!(ports(&tls, false), [443]);
}
