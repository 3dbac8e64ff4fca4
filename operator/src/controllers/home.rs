//! The AuthorizationServer that an object refers to, and the connection to it.

use std::sync::Arc;

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use mcp_auth_crds::{
    condition::{self, types},
    v1alpha1::{AuthorizationServer, McpServer, ObjectReference},
};

use super::halt::Halt;
use crate::{
    cluster::is_deleting,
    connections::Connection,
    context::{Context, find},
    provider::{Authentication, ClientSpec, ExchangeActions, Mark, Provider, ResourceSpec, ServiceAccount},
};

/// The AuthorizationServer that `reference`, written in `namespace`, names.
pub fn authorization_server(
    ctx: &Context,
    reference: &ObjectReference,
    namespace: &str,
) -> Result<Arc<AuthorizationServer>, Halt> {
    let (at, name) = (reference.namespace_or(namespace), &reference.name);
    find(&ctx.feeds.authorization_servers.store(), at, name).ok_or_else(|| {
        Halt::waiting(
            "AuthorizationServerNotFound",
            format!(
                "AuthorizationServer {at}/{name} does not exist: create it, or correct authorizationServerRef"
            ),
        )
    })
}

/// The reason of an object whose AuthorizationServer was ready when this replica began to lead, and is not connected yet.
pub const CONNECTING: &str = "Connecting";

/// The connection to it. Without one the object waits; making one wakes it, and so does finding out that none can be made.
pub fn connection(ctx: &Context, server: &AuthorizationServer) -> Result<Arc<Connection>, Halt> {
    let (namespace, name) = (server.namespace().unwrap_or_default(), server.name_any());
    let connection = ctx.connections.get(&namespace, &name);
    connection
        .filter(|connection| connection.server == server.uid())
        .ok_or_else(|| {
            let conditions = server
                .status
                .as_ref()
                .map(|status| status.conditions.as_slice())
                .unwrap_or_default();
            let ready = condition::find(conditions, types::READY);
            if ready.is_some_and(|ready| ready.status == "True") {
                let message = format!("The operator is connecting to AuthorizationServer {namespace}/{name}");
                return Halt::waiting(CONNECTING, message);
            }
            let why = ready.map_or_else(String::new, |ready| format!(" ({})", ready.reason));
            Halt::waiting(
                "AuthorizationServerNotReady",
                format!("AuthorizationServer {namespace}/{name} is not ready{why}"),
            )
        })
}

/// The way to administer it. Where there is none, nobody should have come this far.
pub fn administered(connection: &Connection) -> Result<&dyn Provider, Halt> {
    connection.provider().ok_or_else(|| {
        Halt::refused(
            "RegistrationOnly",
            "The authorization server offers registration and nothing else: this needs one that the operator can administer",
        )
    })
}

/// The McpServer of this name, if there is one. One that exists and cannot be read is not absent: whoever would take
/// something away for its absence waits.
pub fn mcp_server(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Arc<McpServer>>, Halt> {
    if let Some(found) = find(&ctx.feeds.servers.store(), namespace, name) {
        return Ok(Some(found));
    }
    match ctx
        .feeds
        .servers
        .unreadable(&ObjectRef::new(name).within(namespace))
    {
        Some(_) => Err(unreadable("McpServer", namespace, name)),
        None => Ok(None),
    }
}

/// What is said of an object that a newer version of the operator has written, or a person by its definitions.
pub fn unreadable(kind: &str, namespace: &str, name: &str) -> Halt {
    Halt::waiting(
        "ObjectUnreadable",
        format!(
            "{kind} {namespace}/{name} has something that this version of the operator cannot read: nothing is taken away until it can"
        ),
    )
}

/// Fails when nothing new may be registered there because it is going away.
pub fn stays(server: &AuthorizationServer) -> Result<(), Halt> {
    if is_deleting(server) {
        let name = server.name_any();
        return Err(Halt::refused(
            "AuthorizationServerDeleting",
            format!("AuthorizationServer {name} is being deleted"),
        ));
    }
    Ok(())
}

/// The mark of an object.
pub fn mark<K: kube::Resource<DynamicType = ()>>(object: &K, installation: &str) -> Mark {
    let meta = object.meta();
    Mark {
        installation: installation.to_owned(),
        kind: K::kind(&()).into_owned(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

/// A client without any permission: what is left of one whose owner lost the grant.
#[must_use]
pub fn withdrawn_client(want: ClientSpec) -> ClientSpec {
    ClientSpec {
        enabled: false,
        scopes: [].into(),
        audiences: [].into(),
        adopt: false,
        authentication: match want.authentication {
            // It may stand for another client now.
            Authentication::ServiceAccount(_) => Authentication::ServiceAccount(ServiceAccount::default()),
            other => other,
        },
        ..want
    }
}

/// A resource without any permission: what is left of one whose owner lost the grant.
#[must_use]
pub fn withdrawn_resource(want: ResourceSpec) -> ResourceSpec {
    ResourceSpec {
        scopes: [].into(),
        exchange_scopes: [].into(),
        exchange_audiences: [].into(),
        exchange_actions: ExchangeActions::default(),
        adopt: false,
        adopt_scopes: [].into(),
        ..want
    }
}
