//! Two gates under load, of which one is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use mcp_auth_e2e::{
    gate::{
        http1::Message,
        issuer::TestIssuer,
        process::{self, Faces, GateProcess},
        upstream::Upstream,
    },
    run_folder::RunFolder,
    wait::{Seen, wait_for},
};
use serde_json::{Value, json};

use super::{
    super::{
        case::{PING, call},
        request::{post, status},
        scene::{self, RESOURCE},
    },
    PATIENCE,
};

const MARKER: &str = "x-marker";
const CLIENTS: usize = 8;
/// How many answers come in each phase.
const PHASE: usize = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Allowed,
    NoToken,
    OtherAudience,
    MissingScope,
    SuspendedClient,
}

const KINDS: [Kind; 5] = [
    Kind::Allowed,
    Kind::NoToken,
    Kind::OtherAudience,
    Kind::MissingScope,
    Kind::SuspendedClient,
];

impl Kind {
    fn request(self, issuer: &TestIssuer, marker: &str) -> anyhow::Result<Vec<u8>> {
        let mut claims = issuer.claims(RESOURCE, "mcp:use notes:read")?;
        let mut body = PING.to_owned();
        match self {
            Self::Allowed | Self::NoToken => {}
            Self::OtherAudience => claims["aud"] = json!("https://mcp.example/b/mcp"),
            Self::MissingScope => body = call("write_note"),
            Self::SuspendedClient => claims["client_id"] = json!("suspended"),
        }
        let request = post(&issuer.sign(&claims)?, &[(MARKER, marker)], &body);
        if self != Self::NoToken {
            return Ok(request);
        }
        let text = String::from_utf8(request)?;
        let lines = text.split_inclusive("\r\n");
        let lines = lines.filter(|line| !line.starts_with("authorization:"));
        Ok(lines.collect::<String>().into_bytes())
    }

    fn status(self) -> u16 {
        match self {
            Self::Allowed => 200,
            Self::MissingScope => 403,
            Self::NoToken | Self::OtherAudience | Self::SuspendedClient => 401,
        }
    }
}

/// What became of a request.
struct Outcome {
    kind: Kind,
    /// Of how many gates none answered.
    lost: usize,
    status: Option<u16>,
}

/// Clients that go on with the other gate when one does not answer.
struct Load<'a> {
    issuer: &'a TestIssuer,
    gates: [SocketAddr; 2],
    log: Mutex<Vec<Outcome>>,
    answers: AtomicUsize,
    over: AtomicBool,
}

impl Load<'_> {
    async fn client(&self, number: usize) -> anyhow::Result<()> {
        for n in 0.. {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            let kind = KINDS[(n + number) % KINDS.len()];
            let request = kind.request(self.issuer, &format!("{kind:?}-{number}-{n}"))?;
            let mut outcome = Outcome {
                kind,
                lost: 0,
                status: None,
            };
            for turn in 0..self.gates.len() {
                let gate = self.gates[(n + number + turn) % self.gates.len()];
                outcome.status = status(gate, &request).await.ok();
                if outcome.status.is_some() {
                    self.answers.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                outcome.lost += 1;
            }
            self.log
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(outcome);
        }
        Ok(())
    }

    /// Waits for as many answers as a phase has, and gives what was logged until then.
    async fn phase(&self, name: &str) -> anyhow::Result<Vec<Outcome>> {
        let until = self.answers.load(Ordering::SeqCst) + PHASE;
        wait_for(name, PATIENCE, async || {
            let answers = self.answers.load(Ordering::SeqCst);
            Ok(if answers >= until {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{answers} answers"))
            })
        })
        .await?;
        Ok(std::mem::take(
            &mut *self.log.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// What a gate is started from.
struct Place {
    folder: PathBuf,
    faces: Faces,
    policy: Value,
}

impl Place {
    async fn start(&self) -> anyhow::Result<GateProcess> {
        let gate = GateProcess::start(
            &self.folder,
            self.faces,
            Some(&self.policy),
            &BTreeMap::new(),
            &[],
        )?;
        gate.wait_until_ready().await?;
        Ok(gate)
    }
}

/// No request that must be refused ever reaches the server, whatever happens to the gates, and the others find the gate
/// that is left.
pub(super) async fn a_killed_replica_opens_nothing(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let (issuer, upstream) = (TestIssuer::start().await?, Upstream::start().await?);
    let place = |name: &str| {
        anyhow::Ok(Place {
            folder: run.subfolder(name)?,
            faces: process::faces()?,
            policy: scene::policy(&issuer, upstream.address(), &json!({})),
        })
    };
    let (first, second) = (place("replica-1")?, place("replica-2")?);
    let (killed, _stays) = (first.start().await?, second.start().await?);
    let load = Load {
        issuer: &issuer,
        gates: [first.faces.proxy, second.faces.proxy],
        log: Mutex::default(),
        answers: AtomicUsize::new(0),
        over: AtomicBool::new(false),
    };
    let phases = async {
        let before = load.phase("answers of two gates").await?;
        killed.process().kill_hard().await?;
        let during = load.phase("answers of one gate").await?;
        let _again = first.start().await?;
        // What began before the restart is over after as many as there are clients.
        load.phase("answers after the restart").await?;
        let after = load.phase("answers of two gates again").await?;
        load.over.store(true, Ordering::SeqCst);
        anyhow::Ok([before, during, after])
    };
    let (clients, phases) = tokio::join!(try_join_all((0..CLIENTS).map(|n| load.client(n))), phases);
    clients?;
    let phases = phases?;
    judge(&phases)?;
    let passed = markers(&upstream)?;
    ensure!(
        passed.iter().all(|marker| marker.starts_with("allowed-")),
        "the server got {:?}",
        passed
            .iter()
            .filter(|marker| !marker.starts_with("allowed-"))
            .collect::<Vec<_>>()
    );
    let [before, during, after] = phases.map(|phase| summary(&phase));
    run.note(format!(
        "gate: kill -9 of one of two gates: before {before}; while it was gone {during}; after its restart {after}; {} marked requests reached the server, none that had to be refused",
        passed.len()
    ));
    Ok(())
}

fn judge(phases: &[Vec<Outcome>; 3]) -> anyhow::Result<()> {
    for (number, phase) in phases.iter().enumerate() {
        for Outcome { kind, lost, status } in phase {
            // One gate always lives.
            let status = status.with_context(|| format!("phase {number}: {kind:?} was not answered"))?;
            ensure!(status == kind.status(), "phase {number}: {kind:?}: {status}");
            ensure!(
                number == 1 || *lost == 0,
                "phase {number}: a gate did not answer {kind:?}"
            );
        }
        let kinds: BTreeSet<Kind> = phase.iter().map(|outcome| outcome.kind).collect();
        ensure!(kinds.len() == KINDS.len(), "phase {number}: only {kinds:?}");
    }
    ensure!(
        phases[1].iter().any(|outcome| outcome.lost > 0),
        "nobody met the dead gate"
    );
    Ok(())
}

/// What marks each request that came, be it half of one that a gate died over.
fn markers(upstream: &Upstream) -> anyhow::Result<Vec<String>> {
    let marker = |request: &Message| {
        let text = String::from_utf8_lossy(&request.head).to_ascii_lowercase();
        let (_, rest) = text.split_once(&format!("{MARKER}: "))?;
        rest.split("\r\n").next().map(str::to_owned)
    };
    let all = upstream.requests();
    let all = all
        .iter()
        .map(|request| marker(request).with_context(|| format!("no marker: {}", request.first_line)));
    all.collect()
}

fn summary(phase: &[Outcome]) -> String {
    let allowed = phase
        .iter()
        .filter(|outcome| outcome.kind == Kind::Allowed)
        .count();
    let lost: usize = phase.iter().map(|outcome| outcome.lost).sum();
    format!(
        "{allowed} passed, {} refused, {lost} tried again",
        phase.len() - allowed
    )
}
