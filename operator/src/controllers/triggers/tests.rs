//! Who is woken, and how often.

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::{gathered::GATHERED, *};
use crate::testing::stage;

fn reference(name: &str) -> ObjectRef<McpClient> {
    ObjectRef::new(name).within("n")
}

#[tokio::test(start_paused = true)]
async fn who_is_named_many_times_in_a_moment_is_woken_once() {
    let names = stream::iter(["a", "b", "a", "a"]);
    let later = stream::once(async {
        tokio::time::sleep(GATHERED * 2).await;
        "a"
    });
    let woken = gathered(names.chain(later).map(reference))
        .collect::<Vec<_>>()
        .await;
    let count = |name: &str| woken.iter().filter(|object| object.name == name).count();
    assert_eq!((count("a"), count("b")), (2, 1));
}

#[tokio::test]
async fn a_secret_wakes_its_owner_and_if_it_has_none_whoever_wants_one_of_its_name() {
    let clients = ["a", "b", "c"].map(|name| {
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "metadata": {"namespace": "n", "name": name},
            "spec": {"authorizationServerRef": {"name": "main"}},
        })
    });
    let stage = stage(&clients).await;
    let wanted = stage.ctx.feeds.clients.index(keys::wanted_secret);
    let woken = |owners: Value, deleted| {
        let object: Secret = serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": "b-mcp-client", "ownerReferences": owners},
        }))
        .unwrap();
        let touch = Touch {
            object: Arc::new(object),
            deleted,
        };
        let mut woken = by_owner_or_name(&wanted, &touch);
        woken.sort_by_key(|object| object.name.clone());
        woken
    };
    let of_a = json!([{"apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "name": "a", "uid": "a"}]);
    assert_eq!(woken(of_a.clone(), false), [reference("a")]);
    assert_eq!(
        woken(json!([]), false),
        [reference("b")],
        "it stands in the way of b"
    );
    assert_eq!(woken(of_a, true), [reference("a"), reference("b")]);
}
