//! Who asks for revocation gets a new secret, and nothing that was valid before is.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use mcp_auth_e2e::{story::StoryEnv, world::World};

use super::{REVOKE, ROTATE, annotate, at_work, refused, secret, status};

pub(super) async fn revoked(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "rotation-revoked").await?;
    let operator = at_work(&env, Duration::from_mins(10)).await?;
    let first = secret(&env).await?;
    annotate(&env, ROTATE, "1").await?;
    status(&env, "two valid secrets", |status| {
        status["rotation"]["phase"] == "Overlapping"
    })
    .await?;
    let second = secret(&env).await?;
    ensure!(!refused(&env, &first).await?, "the old secret ended at once");

    // Another rotation waits until the old one has ended; a revocation waits for nothing.
    annotate(&env, ROTATE, "2").await?;
    annotate(&env, REVOKE, "leaked").await?;
    let after = status(&env, "an answer to the revocation", |status| {
        status["lastHandledRevokeRequest"] == "leaked"
    })
    .await?;
    ensure!(after["rotation"]["phase"] == "Settled", "{after}");
    ensure!(
        after["lastHandledRotateRequest"] == "2",
        "one new secret answers both: {after}"
    );
    let third = secret(&env).await?;
    ensure!(third != second && third != first);
    for old in [&first, &second] {
        ensure!(
            refused(&env, old).await?,
            "a secret from before the revocation still works"
        );
    }
    ensure!(!refused(&env, &third).await?, "the new secret does not work");
    operator.stop().await
}
