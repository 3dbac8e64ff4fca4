//! What every reconciler has at hand.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Namespace, Secret, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    jiff::Timestamp,
};
use kube::{
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};
use mcp_auth_crds::v1alpha1::{AuthorizationServer, McpClient, McpServer, TokenExchangePolicy};

use crate::{
    backoff::Backoff,
    clock::SharedClock,
    cluster::Cluster,
    config::Config,
    connections::Connections,
    controllers::{applied::Applied, mcp_client::Refusals, mcp_server::Probes},
    credential::pace::Pace,
    egress::Egress,
    events::Recorder,
    kinds::{PodFacts, SliceFacts},
    lease::Leadership,
    metrics::Metrics,
    provider::RealmRegistry,
    recall::Memory,
    watch::Feed,
};

/// The context of all controllers.
pub struct Context {
    /// What the operator was told.
    pub config: Config,
    /// Name of this installation, in every mark.
    pub installation: String,
    /// The time.
    pub clock: SharedClock,
    /// The API server, for writing.
    pub cluster: Cluster,
    /// The caches.
    pub feeds: Feeds,
    /// The authorization servers.
    pub connections: Connections,
    /// Limits of calls, by realm.
    pub realms: RealmRegistry,
    /// The way out to addresses that users choose.
    pub egress: Egress,
    /// Kubernetes Events.
    pub recorder: Recorder,
    /// Counters.
    pub metrics: Metrics,
    /// Failures in a row.
    pub backoff: Backoff,
    /// How fast credentials are replaced.
    pub pace: Pace,
    /// What was last found in force.
    pub applied: Applied,
    /// What is known of objects whose content is not cached.
    pub memory: Memory,
    /// Credentials of others that were refused.
    pub refusals: Refusals,
    /// What unauthenticated requests to servers were answered.
    pub probes: Probes,
    /// The fence of writes at authorization servers.
    pub leadership: Leadership,
}

/// One watch a kind, shared by all controllers. Of Secrets and ConfigMaps only metadata is kept.
pub struct Feeds {
    /// `AuthorizationServers`.
    pub authorization_servers: Feed<AuthorizationServer>,
    /// `McpServers`.
    pub servers: Feed<McpServer>,
    /// `McpClients`.
    pub clients: Feed<McpClient>,
    /// `TokenExchangePolicies`.
    pub policies: Feed<TokenExchangePolicy>,
    /// Services.
    pub services: Feed<Service>,
    /// Metadata of Secrets.
    pub secrets: Feed<PartialObjectMeta<Secret>>,
    /// Metadata of journals, and of what else is in the operator's namespace.
    pub journals: Feed<PartialObjectMeta<Secret>>,
    /// Metadata of ConfigMaps.
    pub config_maps: Feed<PartialObjectMeta<ConfigMap>>,
    /// What belongs to gates.
    pub gates: GateFeeds,
    /// Metadata of namespaces.
    pub namespaces: Feed<PartialObjectMeta<Namespace>>,
}

/// What belongs to gates, by its labels, and what decides who reaches them.
pub struct GateFeeds {
    /// Deployments of gates.
    pub deployments: Feed<Deployment>,
    /// Pods of gates.
    pub pods: Feed<PodFacts>,
    /// Where the pods of servers behind gates listen.
    pub slices: Feed<SliceFacts>,
    /// All NetworkPolicies: those around gates and servers add up with the others.
    pub network_policies: Feed<NetworkPolicy>,
    /// Disruption budgets of gates.
    pub disruption_budgets: Feed<PodDisruptionBudget>,
}

impl Context {
    /// The wall-clock time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The labels of a namespace, and whether it is being deleted.
    pub fn namespace(&self, name: &str) -> NamespaceFacts {
        let namespace = self.feeds.namespaces.store().get(&ObjectRef::new(name));
        NamespaceFacts {
            labels: namespace
                .as_ref()
                .and_then(|ns| ns.metadata.labels.clone())
                .unwrap_or_default(),
            terminating: namespace.is_some_and(|ns| ns.metadata.deletion_timestamp.is_some()),
        }
    }
}

/// What decisions need to know of a namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceFacts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Nothing can be created in it any more.
    pub terminating: bool,
}

/// An object from a cache.
pub fn find<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}
