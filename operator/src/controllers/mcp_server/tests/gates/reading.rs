//! What a pass reads of a gate.

use super::*;

#[tokio::test]
async fn a_gate_is_not_read_again_until_it_changed() {
    let mut team = Team::gated(&[]).await;
    team.0.cluster.reads();
    assert!(team.pass().await);
    assert_eq!(team.0.cluster.reads(), [""; 0]);

    let mut map = team.0.cluster.get(GATE_MAP).unwrap();
    map["data"]["policy.json"] = json!("{}");
    team.0.cluster.put(map);
    team.0.see().await;
    assert!(team.pass().await);
    assert_ne!(team.document(), json!({}), "it is set right");
    // The cache still shows what was there before that.
    assert!(team.pass().await);
    let reads = team.0.cluster.reads();
    assert_eq!(
        reads.iter().filter(|path| *path == GATE_MAP).count(),
        2,
        "{reads:?}"
    );
}
