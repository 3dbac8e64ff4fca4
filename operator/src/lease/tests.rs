mod decisions;
mod elections;
mod simulation;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Method, Request, Response};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower_test::mock;

use super::*;
use crate::{admin::Health, clock::SystemClock};

const DURATION: Duration = Duration::from_secs(15);

/// The one lease of an API server that keeps its promises about `resourceVersion`, and whatever else it should do.
#[derive(Debug, Default)]
struct ApiServer {
    lease: Option<Lease>,
    version: u64,
    /// Every write that was let through: who held the lease afterwards.
    holders: Vec<Option<String>>,
    /// Refuses everything with this status.
    refuse_with: Option<u16>,
    /// Answers nothing.
    silent: bool,
    /// When the lease that there is was created.
    born: Option<Instant>,
    /// Who got an answer that showed it.
    told: HashSet<String>,
}

impl ApiServer {
    fn shared() -> Arc<Mutex<Self>> {
        Arc::default()
    }

    /// Deletes the lease, as a person might.
    fn delete(&mut self) {
        self.lease = None;
        self.born = None;
        self.told.clear();
    }

    /// Changes the lease as another replica would.
    fn put(&mut self, lease: Lease) {
        self.version += 1;
        self.holders.push(Record::of(&lease).holder);
        let mut lease = lease;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
        self.born.get_or_insert_with(Instant::now);
    }

    fn answer(&mut self, method: &Method, body: &[u8]) -> (u16, Value) {
        if let Some(status) = self.refuse_with {
            return (
                status,
                refusal(
                    status,
                    if status == 403 {
                        "Forbidden"
                    } else {
                        "ServiceUnavailable"
                    },
                ),
            );
        }
        let sent = || serde_json::from_slice::<Lease>(body).unwrap();
        match (method, &self.lease) {
            (&Method::GET | &Method::PUT, None) => return (404, refusal(404, "NotFound")),
            (&Method::GET, Some(_)) => {}
            (&Method::POST, Some(_)) => return (409, refusal(409, "AlreadyExists")),
            (&Method::POST, None) => {
                assert_eq!(
                    sent().metadata.resource_version,
                    None,
                    "a creation has no version"
                );
                self.put(sent());
            }
            (&Method::PUT, Some(current)) => {
                let sent = sent();
                assert!(sent.metadata.resource_version.is_some(), "an unguarded write");
                if sent.metadata.resource_version != current.metadata.resource_version {
                    return (409, refusal(409, "Conflict"));
                }
                self.put(sent);
            }
            (method, lease) => panic!("unexpected {method} of {lease:?}"),
        }
        (200, serde_json::to_value(&self.lease).unwrap())
    }
}

fn refusal(status: u16, reason: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason, "message": reason })
}

/// How long a request takes to the server and its answer back; what is lost takes none.
#[derive(Clone, Copy, Debug)]
struct Passage {
    there: Option<Duration>,
    back: Option<Duration>,
}

/// How the network treats each request.
type Network = Box<dyn FnMut() -> Passage + Send>;

/// A network as it should be.
fn perfect() -> Network {
    Box::new(|| Passage {
        there: Some(Duration::ZERO),
        back: Some(Duration::ZERO),
    })
}

/// The client of `identity`, whose requests reach `server` over `network`.
fn client(server: &Arc<Mutex<ApiServer>>, identity: &str, mut network: Network) -> Client {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let (server, identity) = (Arc::clone(server), identity.to_owned());
    tokio::spawn(async move {
        while let Some((request, respond)) = handle.next_request().await {
            let (passage, server, identity) = (network(), Arc::clone(&server), identity.clone());
            tokio::spawn(async move {
                let asked = Instant::now();
                // Longer than anybody waits: who asked has to give up by itself.
                let lost = Duration::from_hours(1);
                tokio::time::sleep(passage.there.unwrap_or(lost)).await;
                if passage.there.is_none() {
                    return;
                }
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                assert!(
                    parts
                        .uri
                        .path()
                        .starts_with("/apis/coordination.k8s.io/v1/namespaces/operators/leases")
                );
                let (status, answer) = server.lock().unwrap().answer(&parts.method, &body);
                let (silent, born) = {
                    let server = server.lock().unwrap();
                    (server.silent, server.born)
                };
                tokio::time::sleep(passage.back.filter(|_| !silent).unwrap_or(lost)).await;
                let in_time = asked.elapsed() < Timing::of(DURATION).request;
                {
                    let mut server = server.lock().unwrap();
                    if status == 200 && in_time && born == server.born {
                        server.told.insert(identity);
                    }
                }
                let body = Body::from(serde_json::to_vec(&answer).unwrap());
                respond.send_response(Response::builder().status(status).body(body).unwrap());
            });
        }
    });
    Client::new(service, "operators")
}

/// A candidate over a network without delays or losses.
fn candidate(server: &Arc<Mutex<ApiServer>>, identity: &str) -> (Elector, Leadership) {
    candidate_over(server, identity, DURATION, perfect())
}

fn candidate_over(
    server: &Arc<Mutex<ApiServer>>,
    identity: &str,
    duration: Duration,
    network: Network,
) -> (Elector, Leadership) {
    let clock = SystemClock::shared();
    Elector::new(Election {
        client: client(server, identity, network),
        namespace: "operators".to_owned(),
        lease: LeaseConfig {
            name: "leader".to_owned(),
            duration,
        },
        identity: identity.to_owned(),
        clock: clock.clone(),
        metrics: Metrics::default(),
        health: Health::new(clock, Duration::from_secs(30)),
    })
}

/// A lease as another replica would write it at `now`.
fn lease_of(holder: &str, now: &str) -> Lease {
    claimed(None, "leader", holder, DURATION, now.parse().unwrap())
}
