//! One pass over one object, as all controllers make it: measured, counted, and tried again when it failed.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource, ResourceExt as _,
    runtime::{
        controller::Action,
        events::{Event, EventType},
    },
};
use mcp_auth_crds::condition::{self, Conditioned, Report, Status, types};
use serde::Serialize;

use super::{deletion::patience, halt::Halt};
use crate::{
    backoff::{jittered, pause},
    cluster::Owned,
    context::Context,
    error::Error,
    metrics::Kind,
};

/// When to look at the object again, unless something wakes it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At the next periodic comparison.
    Resync,
    /// After this time, or at the next periodic comparison if that comes first.
    After(Duration),
    /// Only when something wakes it.
    Await,
}

/// How objects are named in logs, marks and messages.
pub fn key<K: Resource>(object: &K) -> String {
    format!(
        "{}/{}",
        object.meta().namespace.as_deref().unwrap_or_default(),
        object.meta().name.as_deref().unwrap_or_default()
    )
}

/// Measures, counts and logs `work`, the pass over `object`.
pub async fn run<K: Owned>(
    kind: Kind,
    object: &K,
    ctx: &Context,
    work: impl Future<Output = Result<Next, Error>>,
) -> Result<Action, Error> {
    let began = ctx.clock.instant();
    let result = work.await;
    let elapsed = ctx.clock.instant() - began;
    match result {
        Ok(next) => {
            ctx.backoff.succeeded(kind.as_str(), &key(object));
            ctx.metrics.reconcile_succeeded(kind, elapsed);
            let resync = jittered(ctx.config.resync_interval, rand::random());
            Ok(match next {
                Next::Resync => Action::requeue(resync),
                Next::After(time) => Action::requeue(time.min(resync)),
                Next::Await => Action::await_change(),
            })
        }
        Err(error) if error.is_stale() => {
            tracing::debug!(%error, "looks again");
            Err(error)
        }
        Err(error) => {
            let failures = ctx.backoff.failed(kind.as_str(), &key(object));
            if error.is_conflict() && failures == 1 {
                tracing::debug!(%error, "looks again");
                return Err(error);
            }
            ctx.metrics.reconcile_failed(kind, error.reason(), elapsed);
            tracing::warn!(%error, failures, "tries again");
            Err(error)
        }
    }
}

/// When a failed pass is made again. Also one that failed because the lease had run out: the renewal that is under
/// way may still succeed, and if it does not, the process ends and this pass with it.
pub fn again<K: Owned>(kind: Kind, object: &K, error: &Error, ctx: &Context) -> Action {
    let cap = ctx.config.max_backoff;
    let failures = ctx.backoff.failures(kind.as_str(), &key(object)).max(1);
    let asked = match error {
        Error::Provider(error) => error.retry_after().unwrap_or_default(),
        _ => Duration::ZERO,
    };
    Action::requeue(pause(failures, cap, rand::random()).max(asked.min(cap)))
}

/// Ends a pass: writes the status that `build` makes of how it ended, if it differs from `old`, tells of a change of
/// `Ready`, and hands the result on.
///
/// Nothing is written on the first failure of a kind that may be over in a moment, while the old status says Ready;
/// nor for an object that is paused, or that is gone; nor when the pass came at the wrong moment.
pub async fn report<K: Owned, S>(
    kind: Kind,
    object: &K,
    old: Option<&S>,
    result: Result<Next, Halt>,
    build: impl FnOnce(Option<&Halt>) -> (S, Vec<Report>),
    ctx: &Context,
) -> Result<Next, Error>
where
    S: Conditioned + Clone + PartialEq + Serialize + Sync,
{
    let was = old.and_then(|status| readiness(status.conditions()));
    let ready = was.as_ref().is_some_and(|(status, _)| status == "True");
    let halt = match result {
        Ok(Next::Await) => return Ok(Next::Await),
        Ok(next) => Ok(next),
        Err(Halt::Paused) => return Ok(Next::Resync),
        Err(Halt::Failed(error)) if error.is_stale() => return Err(error),
        Err(halt) => Err(halt),
    };
    let first = ctx.backoff.failures(kind.as_str(), &key(object)) == 0;
    let lenient = ready && first && halt.as_ref().is_err_and(Halt::is_transient);
    if !lenient {
        let (status, reports) = build(halt.as_ref().err());
        let mut before = old.cloned();
        if let Some(before) = &mut before {
            before
                .conditions_mut()
                .retain(|condition| condition::is_ours(&condition.type_));
        }
        if before.as_ref() != Some(&status) {
            ctx.cluster.write_status(object, &status).await?;
        }
        announce(object, was.as_ref(), &reports, ctx).await;
    }
    match halt {
        Ok(next) => Ok(next),
        Err(Halt::Failed(error)) => Err(error),
        // What these wait for wakes them; the resync is for what no watch shows.
        Err(Halt::Refused(_) | Halt::Waiting(_) | Halt::Paused) => {
            Ok(patience(object, ctx.now(), ctx.config.deletion_timeout))
        }
    }
}

/// Status and reason of `Ready` among stored conditions.
fn readiness(conditions: &[Condition]) -> Option<(String, String)> {
    condition::find(conditions, types::READY).map(|c| (c.status.clone(), c.reason.clone()))
}

/// Tells of a change of `Ready`, once, as an Event on the object.
async fn announce<K: Owned>(object: &K, was: Option<&(String, String)>, reports: &[Report], ctx: &Context) {
    let Some(ready) = reports.iter().find(|report| report.type_ == types::READY) else {
        return;
    };
    let now = (ready.status.as_str().to_owned(), ready.reason.to_owned());
    if was == Some(&now) || ready.status == Status::Unknown {
        return;
    }
    let type_ = if ready.status == Status::True {
        EventType::Normal
    } else {
        EventType::Warning
    };
    tell(object, type_, ready.reason, ready.message.clone(), ctx).await;
}

/// Publishes an Event on the object. Events are a courtesy: failing to publish one fails nothing.
pub async fn tell<K: Owned>(object: &K, type_: EventType, reason: &str, note: String, ctx: &Context) {
    let namespace = object.namespace().unwrap_or_default();
    if ctx.namespace(&namespace).terminating {
        return;
    }
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(short(note)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    if let Err(error) = ctx.recorder.publish(&event, &object.object_ref(&())).await {
        tracing::debug!(%error, "an event was not published");
    }
}

/// Notes of Events hold at most 1 kB.
fn short(mut note: String) -> String {
    const MOST: usize = 1000;
    if note.len() > MOST {
        let end = (0..=MOST)
            .rev()
            .find(|index| note.is_char_boundary(*index))
            .unwrap_or_default();
        note.truncate(end);
    }
    note
}

#[cfg(test)]
mod tests {
    use mcp_auth_crds::v1alpha1::{McpClient, McpClientStatus};

    use super::*;
    use crate::{
        controllers::halt,
        provider::ProviderError,
        testing::{Stage, stage},
    };

    fn client() -> McpClient {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": {"namespace": "n", "name": "c"},
            "spec": {"authorizationServerRef": {"name": "main"}},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_pass_without_the_lease_is_made_again() {
        let ctx = stage(&[]).await.ctx;
        let client = client();
        let failed = run(Kind::McpClient, &client, &ctx, async { Err(Error::NotLeading) })
            .await
            .unwrap_err();
        let again = again(Kind::McpClient, &client, &failed, &ctx);
        assert_ne!(again, Action::await_change());
        assert_eq!(
            ctx.backoff.failures("McpClient", "n/c"),
            0,
            "it is no failure of the object"
        );
    }

    /// A pass over the client as it is stored that ends like this. Gives what `Ready` is after it.
    async fn ready_after(stage: &Stage, error: ProviderError) -> String {
        const PATH: &str = "/apis/mcpauth.dev/v1alpha1/namespaces/n/mcpclients/c";
        let ctx = &stage.ctx;
        let stored = || serde_json::from_value::<McpClient>(stage.cluster.get(PATH).unwrap()).unwrap();
        let client = stored();
        let old = client.status.clone().unwrap_or_default();
        let build = |halt: Option<&Halt>| {
            let parts = halt::complete(&["Registered"], Vec::new(), halt);
            let reports = condition::summarize(parts, &[], "All is well");
            let conditions = condition::merge(&old.conditions, &reports, None, ctx.now());
            let status = McpClientStatus {
                conditions,
                ..old.clone()
            };
            (status, reports)
        };
        let halted = Err(Halt::from(error));
        let work = report(
            Kind::McpClient,
            &client,
            client.status.as_ref(),
            halted,
            build,
            ctx,
        );
        run(Kind::McpClient, &client, ctx, work).await.unwrap_err();
        readiness(&stored().status.unwrap().conditions).unwrap().0
    }

    #[tokio::test]
    async fn one_failure_that_may_pass_flips_nothing_and_a_wrong_answer_does() {
        let unreachable = ProviderError::Unreachable {
            why: "gone".into(),
            retry_after: None,
        };
        let refused = ProviderError::Unauthenticated { code: "x".into() };
        for (error, first, second) in [(unreachable, "True", "Unknown"), (refused, "False", "False")] {
            let stage = stage(&[]).await;
            let mut ready = serde_json::to_value(client()).unwrap();
            ready["status"] = serde_json::json!({"conditions": [{
                "type": "Ready", "status": "True", "reason": "Ready", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]});
            stage.cluster.put(ready);
            for expected in [first, second] {
                let found = ready_after(&stage, error.clone()).await;
                assert_eq!(found, expected, "{error}");
            }
        }
    }

    #[tokio::test]
    async fn a_conflict_that_does_not_pass_is_a_failure() {
        let ctx = stage(&[]).await.ctx;
        let client = client();
        let gone = || ProviderError::Gone {
            operation: "update_client",
        };
        for failures in [1, 2] {
            let work = async { Err(Error::Provider(gone())) };
            run(Kind::McpClient, &client, &ctx, work).await.unwrap_err();
            assert_eq!(ctx.backoff.failures("McpClient", "n/c"), failures);
        }
        let text = ctx.metrics.encode().unwrap();
        let counted = r#"reconcile_errors_total{kind="McpClient",reason="Gone"} 1"#;
        assert!(text.contains(counted), "the first is quiet:\n{text}");
    }

    #[test]
    fn notes_are_cut_at_a_character() {
        assert_eq!(short("é".repeat(600)).len(), 1000);
        assert_eq!(short("x".into()), "x");
    }
}
