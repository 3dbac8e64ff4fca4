//! Deletion that neither hangs nor orphans silently.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{
    Resource, ResourceExt as _,
    runtime::events::{Event, EventType},
};
use mcp_auth_crds::{
    annotations,
    v1alpha1::{AuthorizationServer, ObjectReference},
};

use super::{
    halt::Halt,
    pass::{self, Next, key},
};
use crate::{
    cluster::Owned,
    context::{Context, find},
    error::Error,
    metrics::{GivenUp, Kind},
};

/// Whether the clean-up of an object at the authorization server is given up now.
pub fn given_up<K: Resource>(object: &K, now: Timestamp, timeout: Duration) -> Option<GivenUp> {
    let meta = object.meta();
    let asked = meta
        .annotations
        .as_ref()
        .and_then(|all| all.get(annotations::ABANDON));
    if asked.is_some_and(|value| value == "true") {
        return Some(GivenUp::Abandon);
    }
    let since = meta.deletion_timestamp.as_ref()?.0;
    let deadline = since.checked_add(SignedDuration::try_from(timeout).ok()?).ok()?;
    (now >= deadline).then_some(GivenUp::Timeout)
}

/// Ends the deletion of `object`: after a clean-up that worked, or by giving up on one that did not. A clean-up
/// that failed is otherwise tried again.
pub async fn conclude<K: Owned>(
    kind: Kind,
    object: &K,
    reference: Option<&ObjectReference>,
    cleaned: Result<(), Halt>,
    ctx: &Context,
) -> Result<Next, Halt> {
    let Err(halt) = cleaned else {
        ctx.cluster.remove_finalizer(object).await?;
        return Ok(Next::Await);
    };
    if matches!(halt, Halt::Failed(Error::NotLeading)) {
        return Err(halt);
    }
    let Some(why) = given_up(object, ctx.now(), ctx.config.deletion_timeout) else {
        return Err(halt);
    };
    ctx.metrics.deletion_given_up(kind, why);
    announce(kind, object, reference, why, ctx).await;
    ctx.cluster.remove_finalizer(object).await?;
    Ok(Next::Await)
}

/// Says what may be left behind: on the AuthorizationServer, or in the operator's own namespace when that is gone
/// (in a namespace that is being deleted no Event can be created).
async fn announce<K: Owned>(
    kind: Kind,
    object: &K,
    reference: Option<&ObjectReference>,
    why: GivenUp,
    ctx: &Context,
) {
    let note = format!(
        "Gave up cleaning up after {kind} {} at the authorization server ({}): what it made there may still exist",
        key(object),
        why.as_str()
    );
    tracing::warn!("{note}");
    let namespace = object.namespace().unwrap_or_default();
    let server = reference.and_then(|reference| {
        find::<AuthorizationServer>(
            &ctx.feeds.authorization_servers.store(),
            reference.namespace_or(&namespace),
            &reference.name,
        )
    });
    match server {
        Some(server) if !ctx.namespace(&server.namespace().unwrap_or_default()).terminating => {
            pass::tell(&*server, EventType::Warning, "CleanupGivenUp", note, ctx).await;
        }
        _ => in_own_namespace(note, ctx).await,
    }
}

async fn in_own_namespace(note: String, ctx: &Context) {
    let event = Event {
        type_: EventType::Warning,
        reason: "CleanupGivenUp".to_owned(),
        note: Some(note),
        action: "Cleanup".to_owned(),
        secondary: None,
    };
    let about = k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Namespace".to_owned()),
        name: Some(ctx.config.namespace.clone()),
        namespace: Some(ctx.config.namespace.clone()),
        ..Default::default()
    };
    if let Err(error) = ctx.recorder.publish(&event, &about).await {
        tracing::warn!(error = %Error::from(error), "an event was not published");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcp_auth_crds::v1alpha1::McpClient;

    #[test]
    fn a_clean_up_is_given_up_when_asked_or_late() {
        let timeout = Duration::from_secs(3600);
        let now = "2026-01-01T12:00:00Z".parse().unwrap();
        let cases = [
            ("2026-01-01T11:30:00Z", None, None),
            ("2026-01-01T11:30:00Z", Some("true"), Some(GivenUp::Abandon)),
            ("2026-01-01T11:30:00Z", Some("yes"), None),
            ("2026-01-01T11:00:00Z", None, Some(GivenUp::Timeout)),
        ];
        for (since, abandon, expected) in cases {
            let mut client: McpClient = serde_json::from_value(serde_json::json!({
                "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
                "metadata": {"namespace": "a", "name": "b", "deletionTimestamp": since},
                "spec": {"authorizationServerRef": {"name": "main"}},
            }))
            .unwrap();
            client.metadata.annotations =
                abandon.map(|value| [(annotations::ABANDON.to_owned(), value.to_owned())].into());
            assert_eq!(given_up(&client, now, timeout), expected, "{since} {abandon:?}");
        }
    }
}
