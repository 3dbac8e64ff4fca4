//! Work beside the election.

use std::sync::atomic::{AtomicBool, Ordering};

use mcp_auth_cli::shutdown::ShutdownTrigger;
use tokio::time::{Instant, sleep_until};

use super::*;
use crate::{config::LeaseConfig, lease::Leadership};

/// How work says that it can lead.
type Able = oneshot::Sender<()>;

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
    let work = |asked: BoxFuture<'static, ()>, able: Able| async move {
        able.send(()).unwrap();
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
    let running = tokio::spawn(lead(elector, shutdown, health, |_, able: Able| async move {
        able.send(()).unwrap();
        std::future::pending().await
    }));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(lease.lock().unwrap().holder().as_deref(), Some("me"));
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
    let work = |_, able: Able| async move {
        let _guard = guard;
        able.send(()).unwrap();
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
    let work = |_, able: Able| async move {
        able.send(()).unwrap();
        leadership.acquired().await;
        let why = "its queue ended".to_owned();
        Err(ControllerError::Ended {
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
    let work = |asked: BoxFuture<'static, ()>, able: Able| async move {
        able.send(()).unwrap();
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

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_not_able_to_lead_leaves_the_lease_alone() {
    let Stage {
        lease,
        trigger,
        shutdown,
        health,
        elector,
        leadership,
    } = stage();
    let (fill, filled) = oneshot::channel::<()>();
    let work = |asked: BoxFuture<'static, ()>, able: Able| async move {
        filled.await.unwrap();
        able.send(()).unwrap();
        asked.await;
        Ok(())
    };
    let running = tokio::spawn(lead(elector, shutdown, health, work));
    sleep(Duration::from_mins(10)).await;
    assert!(!leadership.is_held());
    assert_eq!(lease.lock().unwrap().version, 0, "it was never written");
    fill.send(()).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(leadership.is_held());
    trigger.ask();
    running.await.unwrap().unwrap();
    assert_eq!(lease.lock().unwrap().holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_caches_fill_stops_at_once() {
    let Stage {
        lease,
        trigger,
        shutdown,
        health,
        elector,
        ..
    } = stage();
    let work = |asked: BoxFuture<'static, ()>, _able: Able| async move {
        asked.await;
        Ok(())
    };
    let running = tokio::spawn(lead(elector, shutdown, health, work));
    sleep(Duration::from_secs(5)).await;
    trigger.ask();
    let soon = Duration::from_secs(1);
    timeout(soon, running).await.unwrap().unwrap().unwrap();
    assert_eq!(lease.lock().unwrap().version, 0);
}

/// Notes when it is dropped.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
