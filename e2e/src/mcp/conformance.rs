//! The official conformance suite.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{Ended, Scripts, run_client};
use crate::{oauth::Browser, process::capture};

const TIMEOUT: Duration = Duration::from_mins(2);

/// What follows the name of a scenario in the name of its folder: `-2026-07-28T10-20-30-400Z`.
const TIMESTAMP: usize = 25;

/// The suite.
pub struct Conformance<'a> {
    scripts: &'a Scripts,
    results: PathBuf,
}

/// One thing that was checked: its scenario and its id. A scenario may check one thing several times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    /// The scenario.
    pub scenario: String,
    /// The id of the check; empty for one that stands for all, because the scenario broke off.
    pub id: String,
    /// The how manieth check of this id it is.
    pub number: usize,
}

/// What became of each check: `SUCCESS`, `FAILURE`, `WARNING`, `SKIPPED`, `INFO`, or `ERROR` of a scenario that broke off.
#[derive(Clone, Debug, Default)]
pub struct Verdicts(BTreeMap<Check, String>);

impl<'a> Conformance<'a> {
    /// The suite, with its results in the folder of the scripts.
    pub fn new(scripts: &'a Scripts) -> Self {
        let results = scripts.folder().join("conformance");
        Self { scripts, results }
    }

    /// Judges the server at `url`. `name` tells the results from others; `which` selects scenarios, for example
    /// `["--suite", "all"]`.
    pub async fn judge_server(&self, name: &str, url: &str, which: &[&str]) -> anyhow::Result<Verdicts> {
        let results = self.results.join(name);
        let mut command = self.scripts.npm().conformance();
        command
            .args(["server", "--url", url])
            .args(which)
            .arg("--output-dir")
            .arg(&results)
            // Beside its output it writes into the folder in which it runs.
            .current_dir(self.scripts.folder());
        // It fails when any scenario does, which is for the caller to judge.
        let output = capture(&command, "", TIMEOUT).await?;
        let printed = String::from_utf8_lossy(&output.stdout);
        ensure!(
            printed.contains("=== SUMMARY ==="),
            "the suite did not come to its end: {printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Verdicts::read(&results, "server-")
    }

    /// Judges an authorization server by its metadata and by a login for this public client, which is to be sent back
    /// to `http://127.0.0.1:PORT/callback`; the user signs in at `login_page`. Gives also how the suite ended.
    pub async fn judge_authorization_server(
        &self,
        issuer: &str,
        (client_id, resource, port): (&str, &str, u16),
        (login_page, browser): (&str, &Browser),
    ) -> anyhow::Result<(Ended, Verdicts)> {
        let results = self.results.join("authorization");
        let mut command = self.scripts.npm().conformance();
        command
            .args(["authorization", "--url", issuer, "--client-id", client_id])
            .args(["--resource", resource, "--port", &port.to_string()])
            .arg("--output-dir")
            .arg(&results)
            .env("NODE_EXTRA_CA_CERTS", self.scripts.certificates())
            .current_dir(self.scripts.folder());
        let log = self.scripts.folder().join("conformance-authorization.log");
        let ended = run_client("the suite", &command, &log, login_page, browser).await?;
        Ok((ended, Verdicts::read(&results, "")?))
    }
}

impl Verdicts {
    /// From a folder for each scenario, whose name begins with `kind`.
    fn read(results: &Path, kind: &str) -> anyhow::Result<Self> {
        let mut verdicts = BTreeMap::new();
        for folder in fs::read_dir(results).with_context(|| results.display().to_string())? {
            let folder = folder?;
            let name = folder.file_name().to_string_lossy().into_owned();
            let scenario = name
                .strip_prefix(kind)
                .and_then(|name| name.get(..name.len().checked_sub(TIMESTAMP)?))
                .with_context(|| format!("no folder of a scenario: {name}"))?;
            let checks: Vec<Value> = match fs::read(folder.path().join("checks.json")) {
                Ok(checks) => serde_json::from_slice(&checks)?,
                Err(_) => vec![json!({ "id": "", "status": "ERROR" })],
            };
            for check in checks {
                let (id, status) = (&check["id"], &check["status"]);
                let id = id.as_str().context("a check without an id")?;
                let mut check = Check {
                    scenario: scenario.to_owned(),
                    id: id.to_owned(),
                    number: 1,
                };
                while verdicts.contains_key(&check) {
                    check.number += 1;
                }
                let status = status.as_str().context("a check without a status")?;
                verdicts.insert(check, status.to_owned());
            }
        }
        Ok(Self(verdicts))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&Check, &str)> {
        self.0.iter().map(|(check, verdict)| (check, verdict.as_str()))
    }

    /// How many checks ended so.
    pub fn count(&self, status: &str) -> usize {
        self.0.values().filter(|&verdict| verdict == status).count()
    }

    /// The verdict on a check, the first of its id.
    pub fn of(&self, scenario: &str, id: &str) -> Option<&str> {
        let check = Check {
            scenario: scenario.to_owned(),
            id: id.to_owned(),
            number: 1,
        };
        self.0.get(&check).map(String::as_str)
    }

    /// Where the two differ, with the verdict of each; empty when there is none.
    pub fn differences<'v>(&'v self, other: &'v Self) -> Vec<(&'v Check, &'v str, &'v str)> {
        let mut checks: Vec<&Check> = self.0.keys().chain(other.0.keys()).collect();
        checks.sort();
        checks.dedup();
        let verdict = |verdicts: &'v Self, check| verdicts.0.get(check).map_or("", String::as_str);
        let both = checks
            .into_iter()
            .map(|check| (check, verdict(self, check), verdict(other, check)));
        both.filter(|(_, one, another)| one != another).collect()
    }
}
