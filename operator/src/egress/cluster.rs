//! Finding out which addresses are the cluster's own machines, and keeping [`ClusterAddresses`] up to date.

use std::{collections::HashSet, convert::Infallible, net::IpAddr, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::api::{core::v1::Node, discovery::v1::EndpointSlice};
use kube::{Api, Client, api::ListParams};
use tokio::time::{sleep, timeout};

use super::ClusterAddresses;
use crate::telemetry::in_one_line;

/// Between two looks. A node that joins is unknown for at most this long.
const INTERVAL: Duration = Duration::from_mins(2);

/// The first pause while a source has yet to answer; each later one is twice as long, up to [`INTERVAL`].
const SOON: Duration = Duration::from_secs(2);

/// How long a source may take, all of its pages included; less at first, because the next look waits for it.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many nodes are listed at a time.
const PAGE: u32 = 500;

/// Keeps the set of the cluster's own addresses.
pub struct ClusterAddressKeeper {
    client: Client,
    /// The host that we reach the API server by, an address or a name.
    api_server_host: String,
    addresses: ClusterAddresses,
    /// What each source said last, if anything yet, in the order of [`SOURCES`]: a source that fails once must not open
    /// the way.
    known: [Option<HashSet<IpAddr>>; 3],
    /// The sources whose failure was reported already.
    reported: [bool; 3],
}

/// What a source says, or why it says nothing.
type Found = Result<HashSet<IpAddr>, String>;

/// What the sources are called in messages.
const SOURCES: [&str; 3] = [
    "the API server's host name",
    "the API server's endpoints",
    "the nodes",
];

impl ClusterAddressKeeper {
    /// A keeper that has not looked yet.
    pub fn new(client: Client, api_server_host: &str, addresses: ClusterAddresses) -> Self {
        Self {
            client,
            // As in a URL, an IPv6 address may come in brackets.
            api_server_host: api_server_host.trim_matches(['[', ']']).to_owned(),
            addresses,
            known: Default::default(),
            reported: Default::default(),
        }
    }

    /// Looks once, at each source for at most `limit`. What cannot be found out is reported once and left as it was.
    pub async fn refresh(&mut self, limit: Duration) {
        let mut answers: FuturesUnordered<_> = self
            .questions()
            .into_iter()
            .enumerate()
            .map(|(source, question)| async move { (source, in_time(limit, question).await) })
            .collect();
        while let Some((source, found)) = answers.next().await {
            self.learn(source, found);
        }
    }

    /// Whether every source has answered once.
    fn is_complete(&self) -> bool {
        self.known.iter().all(Option::is_some)
    }

    /// What to ask, in the order of [`SOURCES`].
    fn questions(&self) -> [BoxFuture<'static, Found>; 3] {
        let host = self.api_server_host.clone();
        let (for_endpoints, for_nodes) = (self.client.clone(), self.client.clone());
        [
            Box::pin(async move { resolved(&host).await.map_err(|error| in_one_line(&error)) }),
            Box::pin(async move {
                let found = endpoints(&for_endpoints).await;
                found.map_err(|error| in_one_line(&error))
            }),
            Box::pin(async move { nodes(&for_nodes).await.map_err(|error| in_one_line(&error)) }),
        ]
    }

    /// Takes over what one source said: another that is slow or fails must not keep the way to its addresses open.
    fn learn(&mut self, source: usize, found: Found) {
        match found {
            Ok(found) => {
                self.known[source] = Some(found);
                self.reported[source] = false;
                let known = self.known.iter().flatten().flatten();
                self.addresses.replace(known.copied().collect());
            }
            Err(problem) => {
                if !std::mem::replace(&mut self.reported[source], true) {
                    tracing::warn!(
                        source = SOURCES[source],
                        problem,
                        "not all addresses of the cluster's machines are known, so URLs may lead to the others"
                    );
                }
            }
        }
    }

    /// Looks again and again.
    pub async fn run(mut self) -> Infallible {
        let mut soon = SOON;
        loop {
            let (pause, limit) = if self.is_complete() {
                (INTERVAL, PATIENCE)
            } else {
                (soon, PATIENCE.min(soon * 5))
            };
            sleep(pause).await;
            soon = INTERVAL.min(soon * 2);
            self.refresh(limit).await;
        }
    }
}

async fn in_time(limit: Duration, question: BoxFuture<'static, Found>) -> Found {
    let answer = timeout(limit, question).await;
    answer.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

/// Where a host name (or address) leads.
async fn resolved(host: &str) -> std::io::Result<HashSet<IpAddr>> {
    Ok(tokio::net::lookup_host((host, 0))
        .await?
        .map(|address| address.ip().to_canonical())
        .collect())
}

/// The addresses that the Service `default/kubernetes` leads to.
async fn endpoints(client: &Client) -> kube::Result<HashSet<IpAddr>> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let selection = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let slices = slices.list(&selection).await?;
    let texts = slices
        .items
        .iter()
        .flat_map(|slice| &slice.endpoints)
        .flat_map(|endpoint| &endpoint.addresses);
    Ok(parsed(texts.map(String::as_str)))
}

/// The addresses of all nodes.
async fn nodes(client: &Client) -> kube::Result<HashSet<IpAddr>> {
    let api: Api<Node> = Api::all(client.clone());
    let mut found = HashSet::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let nodes = api.list(&page).await?;
        let addresses = nodes
            .items
            .iter()
            .filter_map(|node| node.status.as_ref()?.addresses.as_ref())
            .flatten();
        // Names of nodes are among them too; only addresses can be compared with.
        found.extend(parsed(addresses.map(|address| address.address.as_str())));
        match nodes.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

fn parsed<'a>(texts: impl Iterator<Item = &'a str>) -> HashSet<IpAddr> {
    texts
        .filter_map(|text| text.parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
        .collect()
}
