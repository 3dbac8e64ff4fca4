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
    /// Answers nothing about nodes.
    hangs: bool,
}

/// How long a source may take.
const LIMIT: Duration = Duration::from_secs(5);

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
        let mut open = Vec::new();
        while let Some((request, respond)) = handle.next_request().await {
            let uri = request.uri();
            if cluster.lock().unwrap().hangs && uri.path().ends_with("/nodes") {
                open.push(respond);
                continue;
            }
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
        ..Cluster::default()
    }));
    let addresses = ClusterAddresses::default();
    let mut keeper = ClusterAddressKeeper::new(client(&cluster), "[2a00::5]", addresses.clone());
    keeper.refresh(LIMIT).await;
    assert!(
        known(
            &addresses,
            &["10.1.0.1", "fd00::1", "10.1.0.2", "192.0.2.10", "2a00::5"]
        ),
        "{addresses:?}"
    );

    cluster.lock().unwrap().nodes = [vec!["10.1.0.9"], vec![]];
    keeper.refresh(LIMIT).await;
    assert!(
        known(&addresses, &["10.1.0.9", "192.0.2.10", "2a00::5"]),
        "{addresses:?}"
    );

    cluster.lock().unwrap().forbidden = true;
    keeper.refresh(LIMIT).await;
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
        .refresh(LIMIT)
        .await;
    assert!(known(&addresses, &["192.0.2.1"]), "{addresses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_opens_the_way_to_no_other_and_is_asked_again_soon() {
    let cluster = Arc::new(Mutex::new(Cluster {
        nodes: [vec!["10.1.0.1"], vec![]],
        endpoints: vec!["192.0.2.10"],
        hangs: true,
        ..Cluster::default()
    }));
    let addresses = ClusterAddresses::default();
    let mut keeper = ClusterAddressKeeper::new(client(&cluster), "192.0.2.1", addresses.clone());
    let first = tokio::spawn(async move {
        keeper.refresh(LIMIT).await;
        keeper
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(known(&addresses, &["192.0.2.1", "192.0.2.10"]), "{addresses:?}");
    let keeping = tokio::spawn(first.await.unwrap().run());
    cluster.lock().unwrap().hangs = false;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let all = ["10.1.0.1", "192.0.2.1", "192.0.2.10"];
    assert!(known(&addresses, &all), "{addresses:?}");

    {
        let mut cluster = cluster.lock().unwrap();
        (cluster.hangs, cluster.endpoints) = (true, vec!["192.0.2.11"]);
    }
    tokio::time::sleep(Duration::from_secs(121)).await;
    let all = ["10.1.0.1", "192.0.2.1", "192.0.2.11"];
    assert!(known(&addresses, &all), "keeps its last answer: {addresses:?}");

    cluster.lock().unwrap().hangs = false;
    cluster.lock().unwrap().nodes = [vec!["10.1.0.2"], vec![]];
    tokio::time::sleep(Duration::from_mins(4)).await;
    let all = ["10.1.0.2", "192.0.2.1", "192.0.2.11"];
    assert!(
        known(&addresses, &all),
        "a look that hangs is not the last: {addresses:?}"
    );
    keeping.abort();
}
