//! Keeping the set of the cluster's own addresses.

use std::sync::Mutex;

use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower_test::mock;

use super::{cluster::ClusterAddressKeeper, *};

/// What the API server says: two pages of nodes and the endpoints, or a refusal.
#[derive(Debug, Default)]
struct Cluster {
    nodes: [Vec<&'static str>; 2],
    endpoints: Vec<&'static str>,
    forbidden: bool,
}

impl Cluster {
    fn answer(&self, path: &str, query: &str) -> (u16, Value) {
        let node = |address: &&str| {
            json!({ "metadata": { "name": "n" }, "status": { "addresses": [
                { "type": "Hostname", "address": "node-a" }, { "type": "InternalIP", "address": address } ] } })
        };
        match path {
            _ if self.forbidden => (
                403,
                json!({ "kind": "Status", "status": "Failure", "code": 403,
                "reason": "Forbidden", "message": "not for you" }),
            ),
            "/api/v1/nodes" => {
                let second = query.contains("continue=more");
                let metadata = if second {
                    json!({})
                } else {
                    json!({ "continue": "more" })
                };
                let nodes: Vec<_> = self.nodes[usize::from(second)].iter().map(node).collect();
                (200, json!({ "metadata": metadata, "items": nodes }))
            }
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices" => {
                assert!(
                    query.contains("kubernetes.io%2Fservice-name%3Dkubernetes"),
                    "{query}"
                );
                let slice = json!({ "metadata": { "name": "s" }, "addressType": "IPv4",
                    "endpoints": [{ "addresses": self.endpoints }] });
                (200, json!({ "metadata": {}, "items": [slice] }))
            }
            _ => panic!("unexpected {path}"),
        }
    }
}

fn client(cluster: &Arc<Mutex<Cluster>>) -> Client {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let cluster = Arc::clone(cluster);
    tokio::spawn(async move {
        while let Some((request, respond)) = handle.next_request().await {
            let uri = request.uri();
            let (status, answer) = cluster
                .lock()
                .unwrap()
                .answer(uri.path(), uri.query().unwrap_or_default());
            let body = Body::from(answer.to_string().into_bytes());
            respond.send_response(Response::builder().status(status).body(body).unwrap());
        }
    });
    Client::new(service, "default")
}

fn known(addresses: &ClusterAddresses, expected: &[&str]) -> bool {
    expected
        .iter()
        .all(|address| addresses.contains(address.parse().unwrap()))
        && addresses.len() == expected.len()
}

#[tokio::test]
async fn nodes_endpoints_and_the_api_servers_host_are_collected() {
    let cluster = Arc::new(Mutex::new(Cluster {
        nodes: [vec!["10.1.0.1", "fd00::1"], vec!["10.1.0.2"]],
        endpoints: vec!["192.0.2.10"],
        forbidden: false,
    }));
    let addresses = ClusterAddresses::default();
    let mut keeper = ClusterAddressKeeper::new(client(&cluster), "[2a00::5]", addresses.clone());
    keeper.refresh().await;
    assert!(
        known(
            &addresses,
            &["10.1.0.1", "fd00::1", "10.1.0.2", "192.0.2.10", "2a00::5"]
        ),
        "{addresses:?}"
    );

    cluster.lock().unwrap().nodes = [vec!["10.1.0.9"], vec![]];
    keeper.refresh().await;
    assert!(
        known(&addresses, &["10.1.0.9", "192.0.2.10", "2a00::5"]),
        "{addresses:?}"
    );

    cluster.lock().unwrap().forbidden = true;
    keeper.refresh().await;
    assert!(
        known(&addresses, &["10.1.0.9", "192.0.2.10", "2a00::5"]),
        "a failure forgets nothing: {addresses:?}"
    );
}

#[tokio::test]
async fn without_rights_the_api_servers_host_is_known_still() {
    let cluster = Arc::new(Mutex::new(Cluster {
        forbidden: true,
        ..Cluster::default()
    }));
    let addresses = ClusterAddresses::default();
    ClusterAddressKeeper::new(client(&cluster), "192.0.2.1", addresses.clone())
        .refresh()
        .await;
    assert!(known(&addresses, &["192.0.2.1"]), "{addresses:?}");
}
