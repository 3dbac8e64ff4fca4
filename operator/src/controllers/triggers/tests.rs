//! How much work it is to find out whom to wake.

use std::cell::Cell;

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
async fn the_secret_of_an_owner_is_asked_of_nobody_else() {
    let clients = ["a", "b", "c"].map(|name| {
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "metadata": {"namespace": "n", "name": name},
            "spec": {"authorizationServerRef": {"name": "main"}},
        })
    });
    let stage = stage(&clients).await;
    let asked = Cell::new(0);
    let woken = |owners: Value, deleted| {
        let object: Secret = serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": "b-mcp-client", "ownerReferences": owners},
        }))
        .unwrap();
        let touch = Touch {
            object: Arc::new(object),
            deleted,
        };
        let wants = |client: &McpClient, name: &str| {
            asked.set(asked.get() + 1);
            mcp_client::secret_name(client) == name
        };
        let mut woken = by_owner_or_name(&stage.ctx.feeds.clients, &touch, wants);
        woken.sort_by_key(|object| object.name.clone());
        woken
    };
    let of_a = json!([{"apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient", "name": "a", "uid": "a"}]);
    assert_eq!(woken(of_a.clone(), false), [reference("a")]);
    assert_eq!(asked.get(), 0);
    assert_eq!(
        woken(json!([]), false),
        [reference("b")],
        "it stands in the way of b"
    );
    assert_eq!(woken(of_a, true), [reference("a"), reference("b")]);
    assert_eq!(asked.get(), 6);
}
