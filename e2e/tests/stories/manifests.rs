//! What the API server refuses and accepts of our kinds, and in which words.
//!
//! `e2e/manifests/invalid` holds objects that are wrong in exactly one way, with the words of the refusal in their
//! first line; `valid` holds edge cases; `changes` holds pairs of which the second replaces the first. No operator
//! takes part: what is refused here never reaches one.

mod judge;
mod largest;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use mcp_auth_e2e::{
    runner::Story,
    world::{World, checkout},
};
use serde_json::Value;

use judge::{Judge, Verdict};

/// The namespace for objects that are really stored.
const NAMESPACE: &str = "manifests";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "manifests::each_invalid_one_is_refused_with_the_intended_words",
            invalid,
        ),
        Story::new("manifests::each_valid_edge_case_is_accepted", valid),
        Story::new("manifests::what_may_change_and_what_may_not", changes),
        Story::new(
            "manifests::the_largest_objects_are_within_every_limit",
            largest_objects,
        ),
    ]
}

/// A manifest and what its first line says about it.
struct Manifest {
    file: String,
    object: Value,
    /// A part of the refusal; `None` for one that is to be accepted.
    refusal: Option<String>,
}

impl Manifest {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)?;
        let first = text.lines().next().unwrap_or_default();
        let file = path.strip_prefix(folder(""))?.display().to_string();
        Ok(Self {
            object: serde_saphyr::from_str(&text).with_context(|| file.clone())?,
            refusal: first.strip_prefix("# refused: ").map(str::to_owned),
            file,
        })
    }

    /// What is wrong about the verdict, in a line of the table; `None` if it is as intended.
    fn mismatch(&self, verdict: &Verdict) -> Option<String> {
        let (expected, problem) = match (self.refusal.as_deref(), verdict) {
            (None, Verdict::Accepted) => return None,
            (Some(text), Verdict::Refused(causes)) if causes.iter().any(|cause| cause.contains(text)) => {
                return None;
            }
            (expected, Verdict::Accepted) => (expected, "acceptance".to_owned()),
            (expected, Verdict::Refused(causes)) => (expected, causes.join("; ")),
        };
        let expected = expected.unwrap_or("acceptance");
        Some(format!(
            "{}\n    expected: {expected}\n    got:      {problem}",
            self.file
        ))
    }
}

/// Every manifest of `e2e/manifests/invalid` is refused for the one thing that is wrong with it.
async fn invalid(world: Arc<World>) -> anyhow::Result<()> {
    let judge = Judge::new(world.control_plane().client(), "default");
    let manifests = manifests("invalid")?;
    ensure!(
        manifests.len() >= 40,
        "only {} invalid manifests",
        manifests.len()
    );
    let mut table = Vec::new();
    for manifest in &manifests {
        ensure!(
            manifest.refusal.is_some(),
            "{} does not begin with `# refused: `",
            manifest.file
        );
        let verdict = judge.create(&manifest.object).await?;
        table.extend(manifest.mismatch(&verdict));
        if let Verdict::Refused(causes) = verdict
            && causes.len() > 1
        {
            table.push(format!(
                "{}\n    wrong in several ways: {}",
                manifest.file,
                causes.join("; ")
            ));
        }
    }
    world.note(format!(
        "{} invalid manifests refused as intended",
        manifests.len()
    ));
    agree(&table)
}

/// Every manifest of `e2e/manifests/valid` is accepted.
async fn valid(world: Arc<World>) -> anyhow::Result<()> {
    let judge = Judge::new(world.control_plane().client(), "default");
    let manifests = manifests("valid")?;
    ensure!(manifests.len() >= 20, "only {} valid manifests", manifests.len());
    let mut table = Vec::new();
    for manifest in &manifests {
        ensure!(
            manifest.refusal.is_none(),
            "{} is not to be refused",
            manifest.file
        );
        let verdict = judge.create(&manifest.object).await?;
        table.extend(manifest.mismatch(&verdict));
    }
    world.note(format!("{} valid edge cases accepted", manifests.len()));
    agree(&table)
}

/// Each pair in `e2e/manifests/changes`: `before.yaml` is stored, and `after.yaml` is refused or accepted in its place.
async fn changes(world: Arc<World>) -> anyhow::Result<()> {
    let client = world.control_plane().client();
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    let judge = Judge::new(client, NAMESPACE);
    let pairs = entries(&folder("changes"))?;
    ensure!(!pairs.is_empty(), "no changes to judge");
    let mut table = Vec::new();
    for pair in &pairs {
        let before = Manifest::read(&pair.join("before.yaml"))?;
        let after = Manifest::read(&pair.join("after.yaml"))?;
        table.extend(before.mismatch(&judge.store(&before.object).await?));
        table.extend(after.mismatch(&judge.change(&after.object).await?));
        judge.delete(&before.object).await?;
    }
    agree(&table)
}

/// The cost limits of rules hold for objects of the largest size that the schema allows, not only on paper, and a
/// fault at the very end of such an object is still found.
async fn largest_objects(world: Arc<World>) -> anyhow::Result<()> {
    let judge = Judge::new(world.control_plane().client(), "default");
    let mut table = Vec::new();
    for (name, object, refusal) in largest::objects()? {
        let manifest = Manifest {
            file: name.to_owned(),
            object,
            refusal: refusal.map(str::to_owned),
        };
        table.extend(manifest.mismatch(&judge.create(&manifest.object).await?));
    }
    agree(&table)
}

/// Fails with the table unless it is empty.
fn agree(table: &[String]) -> anyhow::Result<()> {
    ensure!(
        table.is_empty(),
        "{} not as intended:\n{}",
        table.len(),
        table.join("\n")
    );
    Ok(())
}

fn folder(name: &str) -> PathBuf {
    checkout().join("e2e/manifests").join(name)
}

fn manifests(name: &str) -> anyhow::Result<Vec<Manifest>> {
    entries(&folder(name))?
        .iter()
        .map(|path| Manifest::read(path))
        .collect()
}

/// What a folder holds, by name.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
