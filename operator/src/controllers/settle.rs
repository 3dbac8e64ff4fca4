//! Carrying out plans at the authorization server: what McpServers, McpClients and AuthorizationServers do alike once they
//! know what they want there.

use futures::future::BoxFuture;
use kube::runtime::events::EventType;

use super::{
    applied::PART,
    halt::Halt,
    pass::{key, tell},
};
use crate::{
    cluster::Owned,
    context::Context,
    metrics::Kind,
    provider::{Plan, Provider, ProviderError},
};

/// How often a plan is made anew from what was read back, before the server is said not to follow.
const ROUNDS: u32 = 3;

/// What an authorization server fails at that does not do what it was told, and said it did.
pub const READ_BACK: &str = "read back";

/// Carries out `plan`, reads back with `replan`, and repeats until nothing is left to do: what the server says
/// counts, not what it was told. `version` is what the plan puts in force, as text. Returns whether anything was
/// written.
///
/// The caller has put the finalizer on the object, so that there is never anything at the server which nobody would
/// clean up.
pub async fn settle<'a, K: Owned + Sync>(
    kind: Kind,
    object: &K,
    provider: &dyn Provider,
    plan: Plan,
    version: &str,
    // Boxed: the compiler cannot see yet that the futures of an async closure are Send.
    replan: impl Fn() -> BoxFuture<'a, Result<Plan, ProviderError>> + Sync + Send,
    ctx: &Context,
) -> Result<bool, Halt> {
    let noted = key(object);
    settle_as(&noted, kind, object, provider, plan, version, replan, ctx).await
}

/// The same for a part of an object that comes into force apart from the rest.
#[allow(
    clippy::too_many_arguments,
    reason = "one more than there are of an object as a whole"
)]
pub async fn settle_part<'a, K: Owned + Sync>(
    part: &str,
    kind: Kind,
    object: &K,
    provider: &dyn Provider,
    plan: Plan,
    version: &str,
    replan: impl Fn() -> BoxFuture<'a, Result<Plan, ProviderError>> + Sync + Send,
    ctx: &Context,
) -> Result<bool, Halt> {
    let noted = format!("{}{PART}{part}", key(object));
    settle_as(&noted, kind, object, provider, plan, version, replan, ctx).await
}

#[allow(clippy::too_many_arguments, reason = "see its callers")]
async fn settle_as<'a, K: Owned + Sync>(
    noted: &str,
    kind: Kind,
    object: &K,
    provider: &dyn Provider,
    plan: Plan,
    version: &str,
    replan: impl Fn() -> BoxFuture<'a, Result<Plan, ProviderError>> + Sync + Send,
    ctx: &Context,
) -> Result<bool, Halt> {
    if plan.calls.is_empty() {
        ctx.applied.note(kind, noted, version);
        return Ok(false);
    }
    let summary = plan.summary();
    let mut left = plan;
    for _ in 0..ROUNDS {
        provider.execute(&left).await?;
        left = replan().await?;
        if left.is_empty() {
            tracing::info!(changes = %summary, "changed at the authorization server");
            if ctx.applied.note(kind, noted, version) {
                ctx.metrics.drift_repaired(kind, "AuthorizationServer");
                let note = format!("Set right what was changed at the authorization server: {summary}");
                tell(object, EventType::Warning, "DriftRepaired", note, ctx).await;
            }
            return Ok(true);
        }
    }
    Err(ProviderError::Malformed {
        operation: READ_BACK,
        why: "the authorization server does not keep what it was told",
    }
    .into())
}

/// Carries out the removal of what is ours, and looks whether it is gone: an answer that says so is no proof.
pub async fn remove<'a>(
    provider: &dyn Provider,
    plan: Plan,
    replan: impl FnOnce() -> BoxFuture<'a, Result<Plan, ProviderError>> + Send,
) -> Result<(), Halt> {
    if plan.calls.is_empty() {
        return Ok(());
    }
    provider.execute(&plan).await?;
    if replan().await?.calls.is_empty() {
        return Ok(());
    }
    Err(ProviderError::Malformed {
        operation: READ_BACK,
        why: "the authorization server does not let go of what it was told to delete",
    }
    .into())
}
