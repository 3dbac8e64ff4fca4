//! What counts as kept.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Resource as _;
use mcp_auth_crds::v1alpha1::McpServer;
use serde_json::json;

use super::*;

#[test]
fn what_is_wanted_is_looked_for_among_what_is_there() {
    let found = json!({
        "replicas": 2, "paused": false, "empty": null,
        "containers": [{"name": "sidecar"}, {"name": "gate", "image": "a", "args": ["--x", "--y"], "policy": "p"}],
        "ports": [{"name": "http"}, {"name": "tokens"}],
        "rules": [{"from": [], "ports": [1]}, {}],
    });
    for (wanted, expected, why) in [
        (json!({"replicas": 2}), true, "defaults may be there besides"),
        (json!({"replicas": 3}), false, "another value"),
        (json!({"labels": {"a": "b"}}), false, "nothing is there"),
        (
            json!({"labels": {}, "empty": [], "none": null}),
            true,
            "nothing is wanted",
        ),
        (
            json!({"containers": [{"name": "gate", "image": "a"}]}),
            true,
            "named things are found among others",
        ),
        (
            json!({"containers": [{"name": "gate", "image": "b"}]}),
            false,
            "by name, but changed",
        ),
        (json!({"containers": [{"name": "gates"}]}), false, "not there"),
        (
            json!({"containers": [{"name": "gate", "args": ["--x"]}]}),
            false,
            "one too many",
        ),
        (
            json!({"containers": [{"name": "gate", "args": ["--y", "--x"]}]}),
            false,
            "another order",
        ),
        (json!({"rules": [{"ports": [1]}, {}]}), true, "element by element"),
        (
            json!({"rules": [{"ports": [1]}]}),
            false,
            "a rule more opens what was closed",
        ),
        (json!({"rules": []}), false, "none is wanted"),
        (
            json!({"ports": [{"name": "http"}]}),
            false,
            "one that we gave up is still there",
        ),
    ] {
        assert_eq!(contains(&found, &wanted), expected, "{why}: {wanted}");
    }
}

#[test]
fn what_says_of_whom_something_holds_is_exactly_as_wanted() {
    let rule = json!({"from": [{"podSelector": {"matchLabels": {"a": "b"}}}], "ports": [{"port": 1, "protocol": "TCP"}]});
    let wanted = json!({"selector": {"a": "b"}, "podSelector": {"matchLabels": {"a": "b"}}, "ingress": [rule], "egress": [rule]});
    assert!(contains(&wanted, &wanted));
    for (pointer, added, why) in [
        ("/selector", json!({"a": "b", "c": "d"}), "fewer pods"),
        ("/selector", json!({}), "no pods"),
        (
            "/podSelector",
            json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}),
            "fewer pods",
        ),
        (
            "/ingress/0/from/0",
            json!({"podSelector": {"matchLabels": {"a": "b"}}, "namespaceSelector": {}}),
            "from every namespace",
        ),
        ("/ingress/0/from/0/podSelector", json!({}), "from every pod"),
        (
            "/ingress/0/ports/0",
            json!({"port": 1, "endPort": 65535, "protocol": "TCP"}),
            "to every port",
        ),
        ("/egress/0/from", json!([]), "out to anywhere"),
    ] {
        let mut found = wanted.clone();
        *found.pointer_mut(pointer).unwrap() = added;
        assert!(!contains(&found, &wanted), "{pointer}: {why}");
    }
}

#[tokio::test]
async fn what_somebody_makes_in_the_same_moment_is_not_merged_into() {
    let path = "/api/v1/namespaces/n/services/s";
    let named = |selector: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "n", "name": "s"}, "spec": {"selector": selector}});
    let ours: Service = serde_json::from_value(named(json!({"a": "b"}))).unwrap();
    let stage = crate::testing::stage(&[]).await;
    stage.cluster.put(named(json!({"a": "theirs"})));
    let theirs = stage.cluster.get(path);
    assert!(stage.ctx.cluster.apply_new(&ours).await.is_err());
    assert_eq!(stage.cluster.get(path), theirs);
    stage.cluster.remove(path);
    stage.ctx.cluster.apply_new(&ours).await.unwrap();
    assert_eq!(
        stage.cluster.get(path).unwrap()["spec"],
        json!({"selector": {"a": "b"}})
    );
}

/// What the API server has after `before` was applied, with a default that it filled in.
fn stored(before: &Value) -> Service {
    let mut found = serde_json::to_value(marked(&service(before))).unwrap();
    found["spec"]["sessionAffinity"] = json!("None");
    found["metadata"]["annotations"]["theirs"] = json!("x");
    serde_json::from_value(found).unwrap()
}

fn service(spec: &Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
}

#[test]
fn what_is_given_up_is_seen() {
    let before =
        json!({"selector": {"a": "b", "c": "d"}, "publishNotReadyAddresses": true, "clusterIP": "None"});
    for (after, kept, why) in [
        (before.clone(), true, "nothing changed: nothing is written again"),
        (
            json!({"selector": {"a": "b"}, "publishNotReadyAddresses": true, "clusterIP": "None"}),
            false,
            "a key",
        ),
        (
            json!({"selector": {"a": "b", "c": "d"}, "clusterIP": "None"}),
            false,
            "a field",
        ),
        (
            json!({"selector": {"a": "b", "c": "d"}, "publishNotReadyAddresses": true}),
            false,
            "another field",
        ),
    ] {
        assert_eq!(holds(&stored(&before), &marked(&service(&after))), kept, "{why}");
    }
}

#[tokio::test]
async fn a_config_map_is_kept_like_anything_else() {
    let stage = crate::testing::stage(&[]).await;
    let (ctx, path) = (&stage.ctx, "/api/v1/namespaces/n/configmaps/m");
    let owner: McpServer = serde_json::from_value(json!({
        "metadata": {"namespace": "n", "name": "s", "uid": "u"},
        "spec": {"authorizationServerRef": {"name": "a"}, "resource": "https://a/"},
    }))
    .unwrap();
    let reference = owner.controller_owner_ref(&()).unwrap();
    let map = |data: Value| -> ConfigMap {
        let data = serde_json::from_value(data).unwrap();
        crate::cluster::config_map("n", "m", &reference, data)
    };
    let seen = || {
        let found = stage.cluster.get(path)?;
        Some(serde_json::from_value::<ConfigMap>(found).unwrap())
    };
    let keep = async |wanted: ConfigMap| {
        let seen = seen();
        let kept = keep_seen(Kind::McpServer, &owner, &wanted, seen.as_ref(), ctx).await;
        kept.map(|kept| kept.wrote)
    };
    let drift = || {
        let text = ctx.metrics.encode().unwrap();
        text.matches(r#"drift_repaired_total{kind="McpServer",what="ConfigMap"} 1"#)
            .count()
    };
    let two = || map(json!({"a": "1", "b": "2"}));
    let one = || map(json!({"a": "1"}));
    assert!(keep(two()).await.unwrap());
    let add = |key: &str, value: &str| {
        let mut found = stage.cluster.get(path).unwrap();
        found["data"][key] = json!(value);
        stage.cluster.put(found);
    };
    add("theirs", "x");
    assert!(!keep(two()).await.unwrap(), "nothing is to be done");
    assert!(keep(one()).await.unwrap(), "a key is given up");
    assert_eq!(
        stage.cluster.get(path).unwrap()["data"],
        json!({"a": "1", "theirs": "x"})
    );
    assert_eq!(drift(), 0, "that was a change of mind");
    add("a", "theirs");
    assert!(keep(one()).await.unwrap());
    assert!(!keep(one()).await.unwrap());
    assert_eq!(drift(), 1);
    let mut theirs = stage.cluster.get(path).unwrap();
    theirs["metadata"]["ownerReferences"] = json!([]);
    stage.cluster.put(theirs);
    let theirs = stage.cluster.get(path);
    let refused = keep(two()).await.unwrap_err();
    assert!(
        matches!(&refused, Halt::Refused(refusal) if refusal.reason == "ConfigMapNotOwned"),
        "{refused:?}"
    );
    assert_eq!(stage.cluster.get(path), theirs);
}
