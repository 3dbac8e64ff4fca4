//! Who wakes whom: a change of one object is looked at by everything that refers to it, at once rather than at the
//! next resync.

use std::{collections::HashSet, sync::Arc};

use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use k8s_openapi::api::core::v1::Service;
use kube::{Resource, ResourceExt as _, runtime::reflector::ObjectRef};
use mcp_auth_crds::v1alpha1::{
    AuthorizationServer, McpClient, McpServer, ObjectReference, TokenExchangePolicy,
};

use self::{
    faces::Faces,
    gathered::gathered,
    keys::Name,
    relations::{contend, exchanges, holds, is_of_the_same_server, is_or_was_at, names},
};
use super::mcp_client;
use crate::{
    context::Context,
    policy::homes,
    watch::{Feed, Index, Touch},
};

mod faces;
mod gates;
mod gathered;
mod keys;
mod relations;
#[cfg(test)]
mod tests;

/// The queue of a controller.
pub type Queue<K> = SelectAll<BoxStream<'static, ObjectRef<K>>>;

/// Every touch of `feed`, turned by `map` into the objects to look at.
fn on<T, K, I>(
    feed: &Feed<T>,
    mut map: impl FnMut(&Touch<T>) -> I + Send + 'static,
) -> BoxStream<'static, ObjectRef<K>>
where
    T: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    K: Resource<DynamicType = ()> + 'static,
    I: IntoIterator<Item = ObjectRef<K>>,
    I::IntoIter: Send + 'static,
{
    feed.subscribe()
        .flat_map(move |touch| stream::iter(map(&touch)))
        .boxed()
}

/// The kind's own touches. What is gone needs no pass.
fn own<K>(feed: &Feed<K>) -> BoxStream<'static, ObjectRef<K>>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    on(feed, |touch| {
        (!touch.deleted).then(|| ObjectRef::from_obj(&*touch.object))
    })
}

/// The objects of a cache that satisfy `refers`.
fn all<K>(feed: &Feed<K>, refers: impl Fn(&K) -> bool) -> Vec<ObjectRef<K>>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    feed.store()
        .state()
        .iter()
        .filter(|object| refers(object))
        .map(|object| ObjectRef::from_obj(&**object))
        .collect()
}

/// The owner of this kind among the owner references.
fn owner<T: Resource, K: Resource<DynamicType = ()>>(object: &T) -> Option<ObjectRef<K>> {
    let namespace = object.meta().namespace.clone()?;
    let references = object.meta().owner_references.as_deref().unwrap_or_default();
    references
        .iter()
        .find(|owner| owner.kind == K::kind(&()))
        .map(|owner| ObjectRef::new(&owner.name).within(&namespace))
}

/// Whose the touched part is: the owner that it names. Where it names none, or is no more, also those that want something
/// of its name: it stood in their way.
fn by_owner_or_name<T, K>(wanted: &Index<K, Name>, touch: &Touch<T>) -> Vec<ObjectRef<K>>
where
    T: Resource,
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let owner = owner(&*touch.object);
    if let (Some(owner), false) = (&owner, touch.deleted) {
        return vec![owner.clone()];
    }
    let wanted = wanted.get(&keys::name(&*touch.object));
    owner.into_iter().chain(wanted).collect()
}

/// What is news of an AuthorizationServer, turned by `map` into the objects to look at.
fn on_home<K: Resource<DynamicType = ()> + 'static>(
    feed: &Feed<AuthorizationServer>,
    map: impl Fn(&AuthorizationServer) -> Vec<ObjectRef<K>> + Send + 'static,
) -> BoxStream<'static, ObjectRef<K>> {
    let mut faces = Faces::default();
    on(feed, move |touch| {
        if faces.is_news(touch) {
            map(&touch.object)
        } else {
            Vec::new()
        }
    })
}

/// Wakes of connections, turned by `map` into the objects to look at.
fn on_connection<K: Resource<DynamicType = ()> + 'static>(
    wakes: impl Stream<Item = ObjectRef<AuthorizationServer>> + Send + 'static,
    map: impl Fn(&AuthorizationServer) -> Vec<ObjectRef<K>> + Send + 'static,
    ctx: &Arc<Context>,
) -> BoxStream<'static, ObjectRef<K>> {
    let store = ctx.feeds.authorization_servers.store();
    wakes
        .flat_map(move |server| {
            let objects = store.get(&server).map(|server| map(&server)).unwrap_or_default();
            stream::iter(objects)
        })
        .boxed()
}

/// What wakes an AuthorizationServer.
pub fn authorization_servers(ctx: &Arc<Context>) -> Queue<AuthorizationServer> {
    let feeds = &ctx.feeds;
    let (by_secret, by_map) = (
        feeds.authorization_servers.clone(),
        feeds.authorization_servers.clone(),
    );
    let reference = |reference: &ObjectReference, namespace: Option<String>| {
        let namespace = namespace.unwrap_or_default();
        Some(ObjectRef::new(&reference.name).within(reference.namespace_or(&namespace)))
    };
    stream::select_all([
        own(&feeds.authorization_servers),
        on(&feeds.secrets, move |touch| {
            let secret = &touch.object.metadata;
            all(&by_secret, |server| {
                server.metadata.namespace == secret.namespace
                    && server.spec.secret() == secret.name.as_deref()
            })
        }),
        on(&feeds.config_maps, move |touch| {
            let map = &touch.object.metadata;
            all(&by_map, |server| {
                server.metadata.namespace == map.namespace
                    && server
                        .spec
                        .ca_bundle_ref
                        .as_ref()
                        .is_some_and(|bundle| Some(&bundle.name) == map.name.as_ref())
            })
        }),
        gathered(on(&feeds.servers, move |touch| {
            reference(
                &touch.object.spec.authorization_server_ref,
                touch.object.namespace(),
            )
        })),
        gathered(on(&feeds.clients, move |touch| {
            let homes = homes::homes(&touch.object, true).into_iter();
            homes.map(|(namespace, name)| ObjectRef::new(&name).within(&namespace))
        })),
    ])
}

/// What wakes an McpServer.
pub fn servers(ctx: &Arc<Context>) -> Queue<McpServer> {
    let feeds = &ctx.feeds;
    let (by_server, by_namespace, by_connection) = (
        feeds.servers.clone(),
        feeds.servers.clone(),
        feeds.servers.clone(),
    );
    let (by_policy, by_name) = (feeds.servers.clone(), feeds.servers.clone());
    let by_secret = feeds.servers.index(keys::parts);
    let by_map = by_secret.clone();
    let (by_target, policies) = (feeds.policies.index(keys::target), feeds.policies.store());
    stream::select_all([
        own(&feeds.servers),
        ctx.probes.subscribe().boxed(),
        on_home(&feeds.authorization_servers, move |home| {
            all(&by_server, |server| {
                names(&server.spec.authorization_server_ref, server, home)
            })
        }),
        on_connection(
            ctx.connections.subscribe(),
            move |home| {
                all(&by_connection, |server| {
                    names(&server.spec.authorization_server_ref, server, home)
                })
            },
            ctx,
        ),
        on(&feeds.policies, move |touch| {
            all(&by_policy, |server| {
                exchanges(&touch.object, server) || holds(server, &touch.object)
            })
        }),
        // What one leaves behind, another that was refused it can take.
        on(&feeds.servers, move |touch| {
            if touch.deleted {
                all(&by_name, |server| contend(server, &touch.object))
            } else {
                Vec::new()
            }
        }),
        // A target that changes changes what its callers may exchange for.
        on(&feeds.servers, move |touch| {
            let callers = by_target.get(&keys::name(&*touch.object)).into_iter();
            let caller = |policy: Arc<TokenExchangePolicy>| {
                Some(ObjectRef::new(&policy.spec.server_ref.name).within(&policy.namespace()?))
            };
            callers
                .filter_map(|policy| caller(policies.get(&policy)?))
                .collect::<Vec<_>>()
        }),
        on(&feeds.secrets, move |touch| by_owner_or_name(&by_secret, touch)),
        on(&feeds.config_maps, move |touch| by_owner_or_name(&by_map, touch)),
        on(&feeds.namespaces, move |touch| {
            all(&by_namespace, |server| {
                server.metadata.namespace == touch.object.metadata.name
            })
        }),
        gates::gates(ctx).boxed(),
    ])
}

/// What wakes an McpClient.
pub fn clients(ctx: &Arc<Context>) -> Queue<McpClient> {
    let feeds = &ctx.feeds;
    let (by_home, by_connection) = (feeds.clients.clone(), feeds.clients.clone());
    let by_namespace = feeds.clients.clone();
    let by_server = feeds.clients.index(keys::wanted_servers);
    let by_secret = feeds.clients.index(keys::wanted_secret);
    let by_map = feeds.clients.index(keys::wanted_map);
    let (by_account, clients) = (feeds.clients.index(keys::accounts), feeds.clients.store());
    stream::select_all([
        own(&feeds.clients),
        // A ServiceAccount that one leaves, another can have; one that it takes, another loses.
        on(&feeds.clients, move |touch| {
            let namespace = touch.object.namespace().unwrap_or_default();
            let account = mcp_client::account(&touch.object).map(str::to_owned);
            let named = account.into_iter().chain([String::new()]);
            let nearby = named.flat_map(|account| by_account.get(&(namespace.clone(), account)));
            let contends = |client: &ObjectRef<McpClient>| {
                let client = clients.get(client);
                client.is_some_and(|client| mcp_client::contend(&client, &touch.object))
            };
            nearby.filter(contends).collect::<HashSet<_>>()
        }),
        on(&feeds.config_maps, move |touch| by_owner_or_name(&by_map, touch)),
        on_home(&feeds.authorization_servers, move |home| {
            all(&by_home, |client| is_or_was_at(client, home))
        }),
        on_connection(
            ctx.connections.subscribe(),
            move |home| all(&by_connection, |client| is_or_was_at(client, home)),
            ctx,
        ),
        on(&feeds.servers, move |touch| {
            by_server.get(&keys::name(&*touch.object))
        }),
        on(&feeds.secrets, move |touch| by_owner_or_name(&by_secret, touch)),
        on(&feeds.namespaces, move |touch| {
            all(&by_namespace, |client| {
                client.metadata.namespace == touch.object.metadata.name
            })
        }),
    ])
}

/// What wakes a TokenExchangePolicy.
pub fn policies(ctx: &Arc<Context>) -> Queue<TokenExchangePolicy> {
    let feeds = &ctx.feeds;
    let (by_home, by_namespace) = (feeds.policies.clone(), feeds.policies.clone());
    let by_server = feeds.policies.index(keys::parties);
    let (by_connection, by_policy) = (feeds.policies.clone(), feeds.policies.clone());
    stream::select_all([
        own(&feeds.policies),
        // What one leaves behind, such as the one header of its server, another can have.
        on(&feeds.policies, move |touch| {
            if touch.deleted {
                all(&by_policy, |policy| is_of_the_same_server(policy, &touch.object))
            } else {
                Vec::new()
            }
        }),
        // What the operator may do at the authorization server decides whether subjects can be told apart.
        on_connection(
            ctx.connections.subscribe(),
            move |_| all(&by_connection, |policy| policy.spec.subject_clients.is_some()),
            ctx,
        ),
        on(&feeds.servers, move |touch| {
            by_server.get(&keys::name(&*touch.object))
        }),
        // The AuthorizationServer is the exchanging server's: which one that is, the pass finds out.
        on_home(&feeds.authorization_servers, move |_| {
            all(&by_home, |policy| policy.spec.api_ref.is_some())
        }),
        on(&feeds.namespaces, move |touch| {
            all(&by_namespace, |policy| {
                policy.metadata.namespace == touch.object.metadata.name
            })
        }),
    ])
}

/// What wakes a Service: itself, and the McpServer of its name.
pub fn services(ctx: &Arc<Context>) -> Queue<Service> {
    let feeds = &ctx.feeds;
    stream::select_all([
        own(&feeds.services),
        on(&feeds.servers, |touch| {
            let server = &*touch.object;
            Some(ObjectRef::new(&server.name_any()).within(&server.namespace()?))
        }),
    ])
}
