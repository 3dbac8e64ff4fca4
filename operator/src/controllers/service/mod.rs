//! Annotated Services: each becomes an McpServer of the same name, owned by the Service, and nothing else. The
//! ordinary controller does the rest.

mod annotations;
mod desired;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, ResourceExt as _,
    runtime::{controller::Action, events::EventType},
};
use mcp_auth_crds::v1alpha1::McpServer;

use self::desired::Step;
use super::pass::{self, Next};
use crate::{cluster::is_deleting, context::Context, error::Error, metrics::Kind};

/// The pass, measured and counted.
pub async fn run(service: Arc<Service>, ctx: Arc<Context>) -> Result<Action, Error> {
    if !desired::concerns_us(
        &service,
        ctx.feeds.servers.store().state().iter().map(AsRef::as_ref),
    ) {
        return Ok(Action::await_change());
    }
    pass::run(Kind::Service, &*service, &ctx, reconcile(&service, &ctx)).await
}

/// One pass: look, decide, act.
async fn reconcile(service: &Service, ctx: &Context) -> Result<Next, Error> {
    let namespace = service.namespace().unwrap_or_default();
    if is_deleting(service) || ctx.namespace(&namespace).terminating {
        // The garbage collector deletes what the Service owns.
        return Ok(Next::Await);
    }
    let servers: Api<McpServer> = ctx.cluster.api(&namespace);
    let existing = servers.get_opt(&service.name_any()).await?;
    let step = desired::step(service, existing.as_ref());
    match step.event() {
        Some((type_, reason, note)) => announce(service, type_, reason, note, ctx).await,
        None => ctx.applied.forget(Kind::Service, &pass::key(service)),
    }
    match step {
        Step::Nothing | Step::Refuse { .. } | Step::Await => Ok(Next::Await),
        Step::Apply(server) => {
            ctx.cluster.apply(&*server).await?;
            Ok(Next::Await)
        }
        Step::Delete { server, .. } => {
            ctx.cluster.delete(&*server).await?;
            Ok(Next::Await)
        }
    }
}

/// Tells once, not at each pass: a Service has no status to remember by, so the context does.
async fn announce(service: &Service, type_: EventType, reason: &'static str, note: String, ctx: &Context) {
    let said = format!("{reason} {note}");
    if !ctx.applied.note(Kind::Service, &pass::key(service), &said) {
        pass::tell(service, type_, reason, note, ctx).await;
    }
}
