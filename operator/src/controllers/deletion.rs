//! Deletion that neither hangs nor orphans silently.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::ObjectReference as CoreReference,
    jiff::{SignedDuration, Timestamp},
};
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
    pass::{Next, key},
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
    (now >= deadline(object, timeout)?).then_some(GivenUp::Timeout)
}

/// When the clean-up of an object is given up; `None` while nobody deletes it.
fn deadline<K: Resource>(object: &K, timeout: Duration) -> Option<Timestamp> {
    let since = object.meta().deletion_timestamp.as_ref()?.0;
    since.checked_add(SignedDuration::try_from(timeout).ok()?).ok()
}

/// When to look again at an object that waits for something: that its clean-up is to be given up, nothing else
/// would tell.
pub fn patience<K: Resource>(object: &K, now: Timestamp, timeout: Duration) -> Next {
    match deadline(object, timeout).map(|deadline| deadline.duration_since(now)) {
        Some(left) if left.is_positive() => Next::After(left.unsigned_abs()),
        _ => Next::Resync,
    }
}

/// Ends the deletion of `object`: after a clean-up that worked, or by giving up on one that did not. A clean-up
/// that failed is otherwise tried again.
///
/// `forget` drops what the operator keeps of the object in its own namespace. It comes before the finalizer goes:
/// afterwards nobody would know of it.
pub async fn conclude<K: Owned>(
    kind: Kind,
    object: &K,
    reference: Option<&ObjectReference>,
    cleaned: Result<(), Halt>,
    forget: impl Future<Output = Result<(), Error>>,
    ctx: &Context,
) -> Result<Next, Halt> {
    let Err(halt) = cleaned else {
        forget.await?;
        ctx.cluster.remove_finalizer(object).await?;
        // An object that comes back under this name is a new one: what it finds missing is no drift.
        ctx.applied.forget(kind, &key(object));
        return Ok(Next::Await);
    };
    if matches!(halt, Halt::Failed(Error::NotLeading)) {
        return Err(halt);
    }
    let Some(why) = given_up(object, ctx.now(), ctx.config.deletion_timeout) else {
        return Err(halt);
    };
    forget.await?;
    announce(kind, object, reference, why, ctx).await;
    // A second pass over what the cache still shows must not count the object again.
    if ctx.cluster.remove_finalizer(object).await? {
        ctx.metrics.deletion_given_up(kind, why);
    }
    ctx.applied.forget(kind, &key(object));
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
    let about = match server {
        Some(server) if !ctx.namespace(&server.namespace().unwrap_or_default()).terminating => {
            server.object_ref(&())
        }
        _ => own_namespace(ctx),
    };
    let event = Event {
        type_: EventType::Warning,
        reason: "CleanupGivenUp".to_owned(),
        note: Some(note),
        action: "Cleanup".to_owned(),
        secondary: Some(object.object_ref(&())),
    };
    if let Err(error) = ctx.recorder.publish(&event, &about).await {
        tracing::warn!(%error, "an event was not published");
    }
}

fn own_namespace(ctx: &Context) -> CoreReference {
    CoreReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Namespace".to_owned()),
        name: Some(ctx.config.namespace.clone()),
        namespace: Some(ctx.config.namespace.clone()),
        ..CoreReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mcp_auth_crds::v1alpha1::McpClient;

    fn client(since: Option<&str>) -> McpClient {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": {"namespace": "a", "name": "b", "deletionTimestamp": since},
            "spec": {"authorizationServerRef": {"name": "main"}},
        }))
        .unwrap()
    }

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
            let mut client = client(Some(since));
            client.metadata.annotations =
                abandon.map(|value| [(annotations::ABANDON.to_owned(), value.to_owned())].into());
            assert_eq!(given_up(&client, now, timeout), expected, "{since} {abandon:?}");
        }
    }

    #[test]
    fn what_waits_is_looked_at_again_when_it_is_to_be_given_up() {
        let timeout = Duration::from_secs(3600);
        let now = "2026-01-01T12:00:00Z".parse().unwrap();
        let cases = [
            (None, Next::Resync),
            (
                Some("2026-01-01T11:30:00Z"),
                Next::After(Duration::from_secs(1800)),
            ),
            // What is over already and waits all the same, as an AuthorizationServer in use, has no other time.
            (Some("2026-01-01T11:00:00Z"), Next::Resync),
            (Some("2026-01-01T10:00:00Z"), Next::Resync),
        ];
        for (since, expected) in cases {
            assert_eq!(patience(&client(since), now, timeout), expected, "{since:?}");
        }
    }
}
