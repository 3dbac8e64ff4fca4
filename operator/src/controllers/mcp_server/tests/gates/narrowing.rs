//! What is narrower waits for nothing.

use super::*;

/// A rule that `notes` had not before.
fn narrow(notes: &mut Value) {
    notes["spec"]["rules"] = json!([{"kind": "Tool", "match": "delete", "scopes": ["notes:read"]}]);
    notes["spec"]["defaultScopes"] = json!(["notes:read"]);
}

#[tokio::test]
async fn rules_do_not_wait_for_the_proof_of_a_credential() {
    let mut team = Team::gated(&[]).await;
    team.0.server.refuse_proofs();
    team.0.cluster.put(delivered("Header"));
    team.change(NOTES, narrow);
    team.start_over().await;
    assert!(!team.pass().await);
    let document = team.document();
    assert_eq!(document["rules"][0]["match"], "delete");
    assert_eq!(document.get("exchanges"), None, "what is not proved is not given");
    assert_eq!(team.reason("CredentialsReady"), "ProofFailed");
}

#[tokio::test]
async fn what_stands_in_the_way_without_our_labels_is_looked_for_again() {
    let mut team = Team::gated(&[]).await;
    let looks_again = |team: &Team| {
        let server: McpServer = serde_json::from_value(team.0.cluster.get(NOTES).unwrap()).unwrap();
        let (ctx, clock) = (Arc::clone(&team.0.ctx), Arc::clone(&team.0.clock));
        async move {
            clock.advance(std::time::Duration::from_secs(90));
            run(Arc::new(server), ctx).await.unwrap()
        }
    };
    team.change(DEPLOYMENT, |object| {
        object["metadata"]["ownerReferences"] = json!([]);
    });
    team.calm().await;
    assert_eq!(team.reason("GateReady"), "GateObjectNotOwned");
    for seconds in [90, 180] {
        let expected = kube::runtime::controller::Action::requeue(std::time::Duration::from_secs(seconds));
        assert_eq!(looks_again(&team).await, expected);
    }
}

#[tokio::test]
async fn rules_do_not_wait_for_the_authorization_server() {
    for (obstacle, narrowed) in [
        ("none", true),
        ("paused", false),
        ("refused", false),
        ("deleted", false),
    ] {
        let mut team = Team::gated(&[]).await;
        team.0.cluster.remove(MAIN);
        team.change(NOTES, |notes| {
            narrow(notes);
            match obstacle {
                "paused" => notes["metadata"]["annotations"] = json!({"mcpauth.dev/reconcile": "paused"}),
                "refused" => notes["spec"]["resource"] = json!("https://1/notes"),
                "deleted" => notes["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
                _ => {}
            }
        });
        team.calm().await;
        let document = team.document();
        assert_eq!(
            document.get("rules").is_some(),
            narrowed,
            "{obstacle}: {document}"
        );
        assert_eq!(
            document.get("defaultScopes").is_some(),
            narrowed,
            "{obstacle}: {document}"
        );
    }
}
