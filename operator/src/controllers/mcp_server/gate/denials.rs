//! Whom a gate denies.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::McpServer;

use super::document;
use crate::{
    context::Context,
    controllers::pass::key,
    policy::denial::{self, Denials},
};

/// Who is denied from now on, given the ConfigMap with the policy in force.
pub(super) fn denied(server: &McpServer, map: Option<&ConfigMap>, ctx: &Context) -> Denials {
    let now = ctx.now();
    let before = document::denials(map, now);
    let mut clients = ctx.feeds.clients.store().state();
    // The others matter to those who were denied before, of whom there are mostly none.
    clients.retain(|client| !before.is_empty() || client.spec.is_suspended());
    let namespaces: BTreeSet<_> = clients.iter().filter_map(|client| client.namespace()).collect();
    let labels: HashMap<_, _> = namespaces
        .into_iter()
        .map(|namespace| (namespace.clone(), ctx.namespace(&namespace).labels))
        .collect();
    let none = BTreeMap::new();
    let clients: Vec<_> = clients
        .iter()
        .map(|client| {
            let labels = client.namespace().and_then(|namespace| labels.get(&namespace));
            (&**client, labels.unwrap_or(&none))
        })
        .collect();
    let mut denials = denial::denials(server, &clients, &before, &ctx.installation, now);
    let over = denial::fit(&mut denials);
    if over > 0 {
        tracing::warn!(server = %key(server), over, "more clients are suspended than a policy can deny");
        ctx.metrics.denials_left_out();
    }
    denials
}
