//! Annotated Services: each becomes an McpServer of the same name, owned by the Service, and nothing else. The
//! ordinary controller does the rest.

mod annotations;
mod desired;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, ResourceExt as _,
    runtime::{controller::Action, events::EventType, reflector::ObjectRef},
};
use mcp_auth_crds::v1alpha1::McpServer;

use self::desired::Step;
use super::pass::{self, Next};
use crate::{cluster::is_deleting, context::Context, error::Error, metrics::Kind};

/// The pass, measured and counted.
pub async fn run(service: Arc<Service>, ctx: Arc<Context>) -> Result<Action, Error> {
    let named = ObjectRef::new(&service.name_any()).within(&service.namespace().unwrap_or_default());
    let server = ctx.feeds.servers.store().get(&named);
    if !desired::concerns_us(&service, server.as_deref()) {
        // What was wrong with annotations that were taken away is news when they come back.
        ctx.applied.forget(Kind::Service, &pass::key(&*service));
        return Ok(Action::await_change());
    }
    pass::run(Kind::Service, &*service, &ctx, reconcile(&service, &ctx)).await
}

/// One pass: look, decide, act, tell.
async fn reconcile(service: &Service, ctx: &Context) -> Result<Next, Error> {
    let namespace = service.namespace().unwrap_or_default();
    if is_deleting(service) || ctx.namespace(&namespace).terminating {
        // The garbage collector deletes what the Service owns.
        return Ok(Next::Await);
    }
    let servers: Api<McpServer> = ctx.cluster.api(&namespace);
    let existing = servers.get_opt(&service.name_any()).await?;
    let step = desired::step(service, existing.as_ref());
    let (step, result) = match carry_out(&step, ctx).await {
        Ok(()) => (step, Ok(Next::Await)),
        Err(error) => match desired::refused(&error) {
            None => return Err(error),
            // What forbids it, such as a quota, ends where no watch of ours looks.
            Some(step) if error.reason() == "Forbidden" => (step, Err(error)),
            Some(step) => (step, Ok(Next::Await)),
        },
    };
    let unknown = || {
        let note = annotations::unknown(service)?;
        Some((EventType::Warning, "UnknownAnnotation", note))
    };
    match step.event().or_else(unknown) {
        Some((type_, reason, note)) => announce(service, type_, reason, note, ctx).await,
        None => ctx.applied.forget(Kind::Service, &pass::key(service)),
    }
    result
}

async fn carry_out(step: &Step, ctx: &Context) -> Result<(), Error> {
    match step {
        Step::Nothing | Step::Refuse { .. } | Step::Await => Ok(()),
        Step::Apply(server) => ctx.cluster.apply(&**server).await.map(drop),
        Step::Delete(server) => ctx.cluster.delete(&**server).await,
        Step::Replace { server, wanted, .. } => {
            // What the API server refuses must not cost the McpServer that works.
            ctx.cluster.try_create(&**wanted).await?;
            ctx.cluster.delete(&**server).await
        }
    }
}

/// Tells once, not at each pass: a Service has no status to remember by, so the context does. A Service that was
/// deleted and made again is told again.
async fn announce(service: &Service, type_: EventType, reason: &'static str, note: String, ctx: &Context) {
    let said = format!("{} {reason} {note}", service.uid().unwrap_or_default());
    if !ctx.applied.note(Kind::Service, &pass::key(service), &said) {
        pass::tell(service, type_, reason, note, ctx).await;
    }
}
