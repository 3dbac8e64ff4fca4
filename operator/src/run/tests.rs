use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower_test::mock;

use super::{preflight::check, *};

/// A client of an API server that answers each path as `answers` says.
fn client(answers: impl Fn(&str) -> (u16, Value) + Send + 'static) -> (Client, Arc<Mutex<Vec<String>>>) {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some((request, respond)) = handle.next_request().await {
            log.lock().unwrap().push(request.uri().path().to_owned());
            let (status, answer) = answers(request.uri().path());
            let body = Body::from(answer.to_string().into_bytes());
            respond.send_response(Response::builder().status(status).body(body).unwrap());
        }
    });
    (Client::new(service, "default"), asked)
}

fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status =
        json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message });
    (code, status)
}

/// The list of these kinds, as discovery gives it.
fn serving(plurals: &[&str]) -> (u16, Value) {
    let resource = |plural: &&str| json!({ "name": plural, "singularName": "", "namespaced": true, "kind": "K", "verbs": ["get"] });
    let resources: Vec<_> = plurals.iter().map(resource).collect();
    (
        200,
        json!({ "kind": "APIResourceList", "groupVersion": "mcpauth.dev/v1alpha1", "resources": resources }),
    )
}

const ALL: [&str; 4] = [
    "authorizationservers",
    "mcpservers",
    "mcpclients",
    "tokenexchangepolicies",
];

fn kube_system() -> (u16, Value) {
    (
        200,
        json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": { "name": "kube-system", "uid": "the-uid" } }),
    )
}

#[tokio::test]
async fn the_installation_is_named_after_kube_system_unless_told() {
    let (client, asked) = client(|path| {
        if path.starts_with("/apis/") {
            serving(&ALL)
        } else {
            kube_system()
        }
    });
    assert_eq!(check(&client, None).await.unwrap(), "the-uid");
    assert_eq!(
        asked.lock().unwrap().last().unwrap(),
        "/api/v1/namespaces/kube-system"
    );
    assert_eq!(check(&client, Some("blue")).await.unwrap(), "blue");
    assert_eq!(asked.lock().unwrap().len(), 3, "what was given is not asked for");
}

#[tokio::test]
async fn each_missing_definition_is_named_with_the_remedy() {
    let (client, _) = client(|_| serving(&["mcpservers", "mcpservers/status", "mcpclients"]));
    assert_eq!(
        check(&client, Some("x")).await.unwrap_err().to_string(),
        "the cluster lacks the custom resource definitions authorizationservers.mcpauth.dev, \
         tokenexchangepolicies.mcpauth.dev: install them with `kubectl apply --server-side -f crds/yaml/` and start again"
    );
}

#[tokio::test]
async fn all_definitions_are_missing_when_the_group_is() {
    let (client, _) = client(|_| {
        refusal(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    });
    let missing = check(&client, Some("x")).await.unwrap_err().to_string();
    for plural in ALL {
        assert!(missing.contains(&format!("{plural}.mcpauth.dev")), "{missing}");
    }
}

#[tokio::test]
async fn a_forbidden_namespace_asks_for_the_flag() {
    let (client, _) = client(|path| match path {
        "/apis/mcpauth.dev/v1alpha1" => serving(&ALL),
        _ => refusal(403, "Forbidden", "namespaces \"kube-system\" is forbidden"),
    });
    assert_eq!(
        check(&client, None).await.unwrap_err().to_string(),
        "cannot read the UID of the namespace kube-system (namespaces \"kube-system\" is forbidden): \
         give --installation, or let the operator get namespaces"
    );
}

#[test]
fn every_life_of_a_process_has_its_own_identity() {
    assert_ne!(identity(), identity());
    assert!(identity().contains('_'));
}

mod leading {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::{Instant, sleep_until};

    use super::*;
    use crate::{config::LeaseConfig, lease::Leadership, shutdown::ShutdownTrigger};

    /// An API server that knows one lease and nothing else.
    #[derive(Debug, Default)]
    struct Lease {
        stored: Option<Value>,
        version: u64,
        refuse: bool,
    }

    fn server(lease: &Arc<Mutex<Lease>>) -> Client {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let lease = Arc::clone(lease);
        tokio::spawn(async move {
            while let Some((request, respond)) = handle.next_request().await {
                let get = request.method() == http::Method::GET;
                let body = request.into_body().collect_bytes().await.unwrap();
                let (status, answer) = lease.lock().unwrap().answer(get, &body);
                let body = Body::from(answer.to_string().into_bytes());
                respond.send_response(Response::builder().status(status).body(body).unwrap());
            }
        });
        Client::new(service, "default")
    }

    impl Lease {
        fn answer(&mut self, get: bool, body: &[u8]) -> (u16, Value) {
            if self.refuse {
                return refusal(503, "ServiceUnavailable", "try later");
            }
            if !get {
                self.version += 1;
                let mut sent: Value = serde_json::from_slice(body).unwrap();
                sent["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.stored = Some(sent);
            }
            self.stored
                .clone()
                .map_or_else(|| refusal(404, "NotFound", "none"), |lease| (200, lease))
        }

        fn holder(&self) -> Option<String> {
            Some(
                self.stored.as_ref()?["spec"]["holderIdentity"]
                    .as_str()?
                    .to_owned(),
            )
        }
    }

    struct Stage {
        lease: Arc<Mutex<Lease>>,
        trigger: ShutdownTrigger,
        shutdown: Shutdown,
        health: Health,
        elector: Elector,
        leadership: Leadership,
    }

    fn stage() -> Stage {
        let lease = Arc::<Mutex<Lease>>::default();
        let (trigger, shutdown) = Shutdown::new();
        let clock = SystemClock::shared();
        let health = Health::new(clock.clone(), Duration::from_secs(30));
        let (elector, leadership) = Elector::new(Election {
            client: server(&lease),
            namespace: "operators".to_owned(),
            lease: LeaseConfig {
                name: "leader".to_owned(),
                duration: Duration::from_secs(15),
            },
            identity: "me".to_owned(),
            clock,
            metrics: Metrics::default(),
            health: health.clone(),
        });
        Stage {
            lease,
            trigger,
            shutdown,
            health,
            elector,
            leadership,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_finished_before_the_lease_is_given_up() {
        let Stage {
            lease,
            trigger,
            shutdown,
            health,
            elector,
            leadership,
        } = stage();
        let watched = Arc::clone(&lease);
        let fence = leadership.clone();
        let work = |asked: BoxFuture<'static, ()>| async move {
            fence.acquired().await;
            asked.await;
            sleep(Duration::from_secs(8)).await;
            assert!(fence.is_held(), "the last write is still ours");
            assert_eq!(watched.lock().unwrap().holder().as_deref(), Some("me"));
            Ok(())
        };
        let running = tokio::spawn(lead(elector, shutdown, health.clone(), work));
        sleep(Duration::from_mins(1)).await;
        assert_eq!(health.unready(), None);
        trigger.ask();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(health.unready().unwrap(), "the operator is stopping");
        running.await.unwrap().unwrap();
        assert_eq!(lease.lock().unwrap().holder(), None);
        assert!(!leadership.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_aborted_after_the_grace() {
        let Stage {
            lease,
            trigger,
            shutdown,
            health,
            elector,
            ..
        } = stage();
        let running = tokio::spawn(lead(elector, shutdown, health, |_| std::future::pending()));
        sleep(Duration::from_secs(5)).await;
        let began = Instant::now();
        trigger.ask();
        running.await.unwrap().unwrap();
        assert!((GRACE..GRACE * 2).contains(&began.elapsed()));
        assert_eq!(lease.lock().unwrap().holder(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn losing_the_lease_ends_everything() {
        let Stage {
            lease,
            shutdown,
            health,
            elector,
            trigger: _trigger,
            ..
        } = stage();
        let aborted = Arc::new(AtomicBool::new(false));
        let guard = OnDrop(Arc::clone(&aborted));
        let work = |_| async move {
            let _guard = guard;
            sleep_until(Instant::now() + Duration::from_hours(1)).await;
            Ok(())
        };
        let running = tokio::spawn(lead(elector, shutdown, health, work));
        sleep(Duration::from_secs(5)).await;
        lease.lock().unwrap().refuse = true;
        let ended = running.await.unwrap().unwrap_err();
        assert!(
            matches!(ended, RunError::Lease(LeaseError::NotRenewed { .. })),
            "{ended}"
        );
        assert!(aborted.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_that_fails_gives_the_lease_up() {
        let Stage {
            lease,
            shutdown,
            health,
            elector,
            leadership,
            trigger: _trigger,
        } = stage();
        let work = |_| async move {
            leadership.acquired().await;
            let why = "its queue ended".to_owned();
            Err(ControllerError {
                kind: crate::metrics::Kind::McpClient,
                why,
            })
        };
        let ended = lead(elector, shutdown, health, work).await.unwrap_err();
        assert_eq!(
            ended.to_string(),
            "the controller of McpClient ended by itself: its queue ended"
        );
        assert_eq!(lease.lock().unwrap().holder(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_that_waits_stops_at_once() {
        let Stage {
            lease,
            trigger,
            shutdown,
            health,
            elector,
            leadership,
        } = stage();
        lease.lock().unwrap().refuse = true;
        let work = |asked: BoxFuture<'static, ()>| async move {
            tokio::select! {
                () = leadership.acquired() => panic!("it never led"),
                () = asked => Ok(()),
            }
        };
        let running = tokio::spawn(lead(elector, shutdown, health, work));
        sleep(Duration::from_secs(5)).await;
        trigger.ask();
        timeout(Duration::from_secs(6), running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Notes when it is dropped.
    struct OnDrop(Arc<AtomicBool>);

    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn the_second_request_to_stop_is_urgent() {
    let (trigger, shutdown) = Shutdown::new();
    let soon = Duration::from_millis(20);
    assert!(timeout(soon, shutdown.clone().requested()).await.is_err());
    trigger.ask();
    timeout(soon, shutdown.clone().requested()).await.unwrap();
    assert!(timeout(soon, shutdown.clone().forced()).await.is_err());
    trigger.ask();
    timeout(soon, shutdown.clone().forced()).await.unwrap();
    drop(trigger);
    timeout(soon, shutdown.forced()).await.unwrap();
}
