//! Policy files that go wrong, and those that get stricter.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use mcp_auth_e2e::{
    gate::{
        issuer::TestIssuer,
        process::{self, GateProcess},
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
        scene::{self, RESOURCE, Scene},
    },
    PATIENCE, answered,
};

const STALE: &str = "mcp_auth_gate_stale{input=\"policy\"}";
const FAILURES: &str = "mcp_auth_gate_reload_failures_total{input=\"policy\"}";

/// A folder as the kubelet mounts a ConfigMap: each version in a folder of its own, behind two links.
struct Mounted {
    folder: PathBuf,
    versions: u32,
}

impl Mounted {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        symlink("..data/policy.json", folder.join("policy.json"))?;
        Ok(Self {
            folder: folder.to_owned(),
            versions: 0,
        })
    }

    fn put(&mut self, content: &str) -> anyhow::Result<()> {
        self.versions += 1;
        let version = format!("..version-{}", self.versions);
        fs::create_dir(self.folder.join(&version))?;
        fs::write(self.folder.join(&version).join("policy.json"), content)?;
        let link = self.folder.join("..data_tmp");
        symlink(&version, &link)?;
        Ok(fs::rename(link, self.folder.join("..data"))?)
    }

    fn remove(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.folder.join("..data"))?)
    }
}

/// A gate over a mounted policy.
struct Stage {
    gate: GateProcess,
    mounted: Mounted,
    good: Value,
    upstream: Upstream,
    allowed: Vec<u8>,
    refused: Vec<u8>,
}

impl Stage {
    async fn start(run: &Arc<RunFolder>) -> anyhow::Result<Self> {
        let (issuer, upstream) = (TestIssuer::start().await?, Upstream::start().await?);
        let folder = run.subfolder("mounted-policy")?;
        let good = scene::policy(&issuer, upstream.address(), &json!({}));
        let mut mounted = Mounted::new(&folder)?;
        mounted.put(&good.to_string())?;
        let gate = GateProcess::start(&folder, process::faces()?, None, &BTreeMap::new(), &[])?;
        gate.wait_until_ready().await?;
        let token = issuer.sign(&issuer.claims(RESOURCE, "mcp:use")?)?;
        let stage = Self {
            gate,
            mounted,
            good,
            upstream,
            allowed: post(&token, &[], PING),
            refused: post(&token, &[], &call("write_note")),
        };
        // With the keys there, the issuer is not needed any more.
        answered("at first", stage.gate.faces().proxy, &stage.allowed, 200).await?;
        Ok(stage)
    }

    /// Waits until the gate has looked at what is wrong now, and checks that nothing else has changed.
    async fn is_stale(&self, why: &str, hash: Option<&String>, before: f64) -> anyhow::Result<()> {
        let (_, text) = wait_for(why, PATIENCE, async || {
            Ok(if self.gate.metric(FAILURES).await? > before {
                Seen::Done(self.gate.admin("/readyz").await?)
            } else {
                Seen::NotYet("it was not looked at".to_owned())
            })
        })
        .await?;
        ensure!(text.starts_with("ok\npolicy: "), "{why}: /readyz says {text:?}");
        ensure!(
            self.gate.metric(STALE).await? > 0.5,
            "{why}: the metric does not say so"
        );
        ensure!(self.gate.policy_hash().await?.as_ref() == hash, "{why}: /policy");
        let (proxy, served) = (self.gate.faces().proxy, self.upstream.requests().len());
        answered(why, proxy, &self.allowed, 200).await?;
        answered(why, proxy, &self.refused, 403).await?;
        ensure!(
            self.upstream.requests().len() == served + 1,
            "{why}: a refused call passed"
        );
        Ok(())
    }
}

/// A policy that cannot be taken changes nothing but what the gate says of itself.
pub(super) async fn the_last_good_policy_stays(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let mut stage = Stage::start(&run).await?;
    let hash = stage.gate.policy_hash().await?;
    ensure!(hash.is_some());
    let text = stage.good.to_string();
    let mut newer = stage.good.clone();
    newer["version"] = json!(2);
    let mut unknown = stage.good.clone();
    unknown["everythingAllowed"] = json!(true);
    for (why, content) in [
        ("half of it", text[..text.len() / 2].to_owned()),
        ("an empty file", String::new()),
        ("of a later version", newer.to_string()),
        ("with a field that is not known", unknown.to_string()),
        ("no object", "[]".to_owned()),
    ] {
        let before = stage.gate.metric(FAILURES).await?;
        stage.mounted.put(&content)?;
        stage.is_stale(why, hash.as_ref(), before).await?;
    }
    let before = stage.gate.metric(FAILURES).await?;
    stage.mounted.remove()?;
    stage.is_stale("removed", hash.as_ref(), before).await?;

    let mut other = stage.good.clone();
    other["resourceName"] = json!("Notes");
    for (why, policy) in [("another one", &other), ("the first again", &stage.good)] {
        let before = stage.gate.policy_hash().await?;
        // As it stands in force, or the report of the removal would be over at once.
        stage.mounted.put(&policy.to_string())?;
        wait_for(why, PATIENCE, async || {
            let stale = stage.gate.metric(STALE).await?;
            Ok(if stale < 0.5 && (stage.gate.policy_hash().await? != before) {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("stale: {stale}"))
            })
        })
        .await?;
        ensure!(
            stage.gate.admin("/readyz").await? == (200, "ok\n".to_owned()),
            "{why}"
        );
    }
    ensure!(
        stage.gate.policy_hash().await? == hash,
        "the first one has the first hash"
    );
    answered("the first again", stage.gate.faces().proxy, &stage.allowed, 200).await
}

/// Once the gate says that a stricter policy is in force, nothing that began then and is against it passes.
pub(super) async fn a_stricter_policy_lets_nothing_slip(run: Arc<RunFolder>) -> anyhow::Result<()> {
    const CLIENTS: usize = 8;
    let scene = Scene::start(&run, "stricter-policy").await?;
    let proxy = scene.gate.faces().proxy;
    let token = scene
        .issuer
        .sign(&scene.issuer.claims(RESOURCE, "mcp:use notes:read")?)?;
    let request = post(&token, &[], &call("read_note"));
    let over = AtomicBool::new(false);
    // When each request began, and what came of it.
    let client = async || {
        let mut log = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let began = Instant::now();
            log.push((began, status(proxy, &request).await?));
        }
        anyhow::Ok(log)
    };
    let first = scene.gate.policy_hash().await?;
    let stricter = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let written = Instant::now();
        let rules = json!([{"kind": "Tool", "match": "*", "scopes": ["notes:admin"]}]);
        let changes = json!({"rules": rules});
        scene
            .gate
            .replace_policy(&scene::policy(&scene.issuer, scene.upstream.address(), &changes))?;
        wait_for("the stricter policy", PATIENCE, async || {
            let hash = scene.gate.policy_hash().await?;
            Ok(if hash == first {
                Seen::NotYet("the first one".to_owned())
            } else {
                Seen::Done(())
            })
        })
        .await?;
        let in_force = Instant::now();
        tokio::time::sleep(Duration::from_millis(300)).await;
        over.store(true, Ordering::SeqCst);
        anyhow::Ok((written, in_force))
    };
    let (logs, times) = tokio::join!(try_join_all((0..CLIENTS).map(|_| client())), stricter);
    let (written, in_force) = times?;
    let all: Vec<(Instant, u16)> = logs?.into_iter().flatten().collect();
    let after: Vec<u16> = all
        .iter()
        .filter(|(began, _)| *began > in_force)
        .map(|(_, status)| *status)
        .collect();
    ensure!(!after.is_empty(), "nothing was asked for afterwards");
    ensure!(after.iter().all(|status| *status == 403), "{after:?}");
    let passed = all.iter().filter(|(_, status)| *status == 200).count();
    ensure!(
        passed > 0 && passed == scene.upstream.requests().len(),
        "{passed} passed"
    );
    let last = all
        .iter()
        .filter(|(_, status)| *status == 200)
        .map(|(began, _)| *began)
        .max();
    let last = last
        .context("nothing passed before")?
        .saturating_duration_since(written);
    run.note(format!(
        "gate: a stricter policy was reported {:.1} s after it was written; the last call that it refuses began {:.1} s after, and none of {} after the report passed",
        (in_force - written).as_secs_f64(),
        last.as_secs_f64(),
        after.len()
    ));
    Ok(())
}
