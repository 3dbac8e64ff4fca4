//! What a gate keeps while a pass over its server stops: its policy is never widened, and loses what was withdrawn.

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::McpServer;

use super::{
    desired,
    gate::{self, Withdrawn},
    status::Progress,
};
use crate::{
    context::Context,
    controllers::{
        exchange,
        halt::{self, Halt},
        home,
    },
};

/// Takes what was withdrawn out of the policy of a gate, where a pass did not come to give it a new one.
pub(super) async fn hold_back(
    server: &McpServer,
    progress: &Progress,
    spec_counts: bool,
    ctx: &Context,
) -> Result<(), Halt> {
    let policies = exchange::policies_of(server, ctx).ok();
    let withdrawn = Withdrawn {
        policies: policies.map(|policies| policies.iter().map(|policy| policy.name_any()).collect()),
        scopes: progress.left().cloned(),
        spec_counts,
    };
    gate::withdraw(server, &withdrawn, ctx).await
}

/// Whether what the spec says of rules counts although a pass stopped: it waits for something that has nothing to do with
/// them, and nobody refused or paused the server.
pub(super) fn spec_counts(server: &McpServer, halt: &Halt, ctx: &Context) -> bool {
    let waits = matches!(halt, Halt::Failed(_) | Halt::Waiting(_));
    let namespace = server.namespace().unwrap_or_default();
    let home = home::authorization_server(ctx, &server.spec.authorization_server_ref, &namespace);
    let refused =
        desired::check(server).is_err() || home.is_ok_and(|home| desired::admits(server, &home).is_err());
    waits && !refused && !halt::is_paused(server)
}
