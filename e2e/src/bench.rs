//! What a gate costs: the same calls to the same server directly, through the gate, and through Envoy with the same
//! checks, one after another in one run.

mod envoy;
mod load;
pub mod measure;
pub mod operator;
mod streams;
mod table;
mod upstream;

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{
    gate::{
        issuer::TestIssuer,
        process::{self, Faces, GateProcess},
    },
    ports,
    prerequisites::{self, Prerequisite},
    process::Guarded,
    progress,
    run_folder::RunFolder,
    tools::EngineTools,
    use_aws_lc,
    wait::{Seen, wait_for},
};

use envoy::Checks;
use load::{Load, Outcome};
use table::{Figures, mebibytes, median, rows};

pub use upstream::serve as serve_upstream;

const PATH: &str = "/mcp";
const TOOL: &str = "echo";
const SCOPE: &str = "notes:read";
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"message":"hello"}}}"#;
const CONNECTIONS: [u32; 3] = [1, 16, 128];
/// Each measurement is made so many times, in turns, and the median counts.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);
/// More tokens than are sent in a round over one connection, so that none comes twice.
const FRESH_TOKENS: usize = 20_000;
const STARTED: Duration = Duration::from_secs(20);

/// Runs all of it, or `only_memory`, and prints the tables.
///
/// # Errors
/// When something cannot be started, or anything was answered with an error.
pub async fn run(only_memory: bool) -> anyhow::Result<()> {
    use_aws_lc();
    let folder = RunFolder::create()?;
    prerequisites::provide(&[Prerequisite::Wrk], &folder.path().join("apt.log")).await?;
    let engines = EngineTools::prepare(folder.path()).await?;
    let bench = Bench::start(folder.path(), &engines).await?;
    let mut lines = vec![Bench::machine()];
    if !only_memory {
        lines.extend(bench.load().await?);
    }
    lines.push(bench.memory(&folder.path().join("idle"), &engines).await?);
    print(&lines.join("\n"));
    Ok(())
}

/// What signs the tokens.
#[derive(Clone, Copy)]
enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// Everything that runs.
struct Bench {
    issuer: TestIssuer,
    upstream: (Guarded, u16),
    gate: GateProcess,
    envoy: (Guarded, u16),
    resource: String,
}

/// One way to the server, and the process that is on it.
struct Way<'a> {
    name: &'static str,
    port: u16,
    process: Option<&'a Guarded>,
}

impl Bench {
    async fn start(folder: &Path, engines: &EngineTools) -> anyhow::Result<Self> {
        let issuer = TestIssuer::start().await?;
        let upstream = start_upstream(folder)?;
        let faces = process::faces()?;
        let resource = format!("http://127.0.0.1:{}{PATH}", faces.proxy.port());
        let policy = policy(&issuer, &resource, upstream.1);
        let gate = start_gate(folder, faces, &policy)?;
        gate.wait_until_ready().await?;
        let envoy = start_envoy(folder, engines, &issuer, &resource, upstream.1)?;
        let bench = Self {
            issuer,
            upstream,
            gate,
            envoy,
            resource,
        };
        let token = bench.token(Algorithm::Es256, 0)?;
        for way in bench.ways() {
            Self::wait_for(&way, &token).await?;
        }
        Ok(bench)
    }

    fn ways(&self) -> [Way<'_>; 3] {
        [
            Way {
                name: "direct",
                port: self.upstream.1,
                process: None,
            },
            Way {
                name: "gate",
                port: self.gate.faces().proxy.port(),
                process: Some(self.gate.process()),
            },
            Way {
                name: "Envoy",
                port: self.envoy.1,
                process: Some(&self.envoy.0),
            },
        ]
    }

    fn token(&self, algorithm: Algorithm, number: usize) -> anyhow::Result<String> {
        self.token_for(&self.resource, algorithm, number)
    }

    fn token_for(&self, resource: &str, algorithm: Algorithm, number: usize) -> anyhow::Result<String> {
        let key = match algorithm {
            Algorithm::Rs256 => self.issuer.rsa_key(),
            Algorithm::Es256 => self.issuer.ec_key(),
        };
        let mut claims = self.issuer.claims(resource, SCOPE)?;
        claims["jti"] = json!(format!("{number}"));
        claims["exp"] = json!(process_time()? + 3600);
        key.sign(&key.header(), &claims)
    }

    /// Waits until a call with a token is answered, and one without is not.
    async fn wait_for(way: &Way<'_>, token: &str) -> anyhow::Result<()> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let call = |token: Option<&str>| {
            let request = http
                .post(format!("http://127.0.0.1:{}{PATH}", way.port))
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream")
                .body(CALL);
            match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            }
        };
        wait_for(&format!("an answer from {}", way.name), STARTED, async || {
            Ok(match call(Some(token)).send().await {
                Ok(answer) if answer.status() == 200 => Seen::Done(()),
                Ok(answer) => Seen::NotYet(answer.status().to_string()),
                Err(error) => Seen::NotYet(error.to_string()),
            })
        })
        .await?;
        let status = call(None).send().await?.status();
        ensure!(
            way.process.is_none() || status == 401,
            "{} answered {status} without a token",
            way.name
        );
        Ok(())
    }

    /// The tables of calls under load: the same token again and again, and a new one for every call.
    async fn load(&self) -> anyhow::Result<Vec<String>> {
        let mut tables = Vec::new();
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let token = self.token(algorithm, 0)?;
            tables.push(self.compare(algorithm.name(), &[token]).await?);
        }
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let name = format!("{}, a new token for every call", algorithm.name());
            let fresh = (0..FRESH_TOKENS).map(|number| self.token(algorithm, number));
            let fresh: Vec<String> = fresh.collect::<anyhow::Result<_>>()?;
            tables.push(self.compare(&name, &fresh).await?);
        }
        Ok(tables)
    }

    /// A table of all ways with these tokens.
    async fn compare(&self, name: &str, tokens: &[String]) -> anyhow::Result<String> {
        let load = Load::new(CALL, tokens)?;
        let mut lines = vec![format!(
            "\n{name}\n\n| connections | way | calls/s | of direct | p50 | p99 | added p50 | added p99 | CPU per call | of Envoy |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"
        )];
        for connections in CONNECTIONS {
            let what = format!("{name}, {connections} connections");
            let figures = progress::during(&what, self.measure(&load, connections)).await?;
            lines.extend(rows(connections, &figures));
        }
        Ok(lines.join("\n"))
    }

    /// The ways in turns, so that what else the machine does hits all of them.
    async fn measure(&self, load: &Load, connections: u32) -> anyhow::Result<[Figures; 3]> {
        let mut rounds: [Vec<Figures>; 3] = Default::default();
        for way in self.ways() {
            load.send(&url(way.port), connections, WARM_UP).await?;
        }
        for _ in 0..ROUNDS {
            for (way, figures) in self.ways().iter().zip(&mut rounds) {
                figures.push(round(load, way, connections).await?);
            }
        }
        Ok(rounds.map(|rounds| median(&rounds)))
    }

    /// Of processes that were just started, and then hold a thousand streams; and of those that bore the load.
    async fn memory(&self, folder: &Path, engines: &EngineTools) -> anyhow::Result<String> {
        let faces = process::faces()?;
        let resource = format!("http://127.0.0.1:{}{PATH}", faces.proxy.port());
        let gate = start_gate(folder, faces, &policy(&self.issuer, &resource, self.upstream.1))?;
        gate.wait_until_ready().await?;
        let envoy = start_envoy(folder, engines, &self.issuer, &resource, self.upstream.1)?;
        let fresh = [
            Way {
                name: "gate",
                port: faces.proxy.port(),
                process: Some(gate.process()),
            },
            Way {
                name: "Envoy",
                port: envoy.1,
                process: Some(&envoy.0),
            },
        ];
        let mut lines = vec![
            "\nResident memory\n\n| way | idle | with 1,000 streams | after the load above |\n|---|--:|--:|--:|".to_owned(),
        ];
        for (way, loaded) in fresh.iter().zip(&self.ways()[1..]) {
            let token = self.token_for(&resource, Algorithm::Es256, 0)?;
            Self::wait_for(way, &token).await?;
            let resident =
                |way: &Way<'_>| measure::resident_memory(pid(way.process.context("no process")?)?);
            let idle = resident(way)?;
            let streams = streams::open(way.port, PATH, &token, 1000).await?;
            let open = resident(way)?;
            drop(streams);
            lines.push(format!(
                "| {} | {} | {} | {} |",
                way.name,
                mebibytes(idle),
                mebibytes(open),
                mebibytes(resident(loaded)?)
            ));
        }
        Ok(lines.join("\n"))
    }

    fn machine() -> String {
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.map_or("unknown processor", |line| {
            line.trim_start_matches([' ', '\t', ':'])
        });
        let count = std::thread::available_parallelism().map_or(0, usize::from);
        format!("{count} × {model}; load generator, server and what is measured share them")
    }
}

async fn round(load: &Load, way: &Way<'_>, connections: u32) -> anyhow::Result<Figures> {
    let used = || {
        way.process.map_or(Ok(Duration::ZERO), |process| {
            measure::processor_time(pid(process)?)
        })
    };
    let before = used()?;
    let outcome: Outcome = load.send(&url(way.port), connections, ROUND).await?;
    let used = used()?.saturating_sub(before);
    ensure!(
        outcome.failed == 0,
        "{}: {} calls failed",
        way.name,
        outcome.failed
    );
    ensure!(outcome.requests > 0, "{}: nothing was answered", way.name);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let processor = used.as_secs_f64() * 1e6 / outcome.requests as f64;
    Ok(Figures {
        throughput: outcome.throughput(),
        p50: outcome.p50,
        p99: outcome.p99,
        processor,
    })
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}{PATH}")
}

fn pid(process: &Guarded) -> anyhow::Result<u32> {
    Ok(u32::try_from(process.pid().context("the process is gone")?)?)
}

fn process_time() -> anyhow::Result<i64> {
    crate::gate::issuer::now()
}

fn policy(issuer: &TestIssuer, resource: &str, upstream: u16) -> Value {
    json!({
        "version": 1,
        "server": {"namespace": "bench", "name": "bench"},
        "resource": resource,
        "authorizationServer": {
            "issuer": issuer.issuer(),
            "jwksUri": issuer.jwks_uri(),
            "tokenEndpoint": issuer.token_endpoint(),
            "tokenTypes": [{"header": "at+jwt"}],
        },
        "scopes": [{"name": SCOPE, "challenge": true}],
        "rules": [{"kind": "Tool", "match": TOOL, "scopes": [SCOPE]}],
        "upstream": {"url": url(upstream)},
    })
}

fn start_gate(folder: &Path, faces: Faces, policy: &Value) -> anyhow::Result<GateProcess> {
    // As it runs in a cluster, but without a line for every call: Envoy writes none either.
    GateProcess::start(
        folder,
        faces,
        Some(policy),
        &BTreeMap::new(),
        &["--access-log=off"],
    )
}

fn start_upstream(folder: &Path) -> anyhow::Result<(Guarded, u16)> {
    let port = ports::free()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.env(upstream::VARIABLE, port.to_string());
    let process = Guarded::spawn("the server", &command, folder.join("upstream.log"))?;
    Ok((process, port))
}

fn start_envoy(
    folder: &Path,
    engines: &EngineTools,
    issuer: &TestIssuer,
    resource: &str,
    upstream: u16,
) -> anyhow::Result<(Guarded, u16)> {
    let port = ports::free()?;
    let keys = json!({"keys": [issuer.rsa_key().public_jwk()?, issuer.ec_key().public_jwk()?]});
    let configuration = envoy::configuration(&Checks {
        port,
        upstream,
        path: PATH,
        issuer: &issuer.issuer(),
        audience: resource,
        keys: &keys.to_string(),
        tool: (TOOL, SCOPE),
    });
    std::fs::create_dir_all(folder)?;
    let file = folder.join("envoy.json");
    std::fs::write(&file, configuration.to_string())?;
    let mut command = Command::new(engines.envoy());
    command
        .arg("--config-path")
        .arg(&file)
        .args(["--use-dynamic-base-id", "--log-level", "warning"]);
    let process = Guarded::spawn("Envoy", &command, folder.join("envoy.log"))?;
    Ok((process, port))
}

#[expect(clippy::print_stdout, reason = "the tables are what this is run for")]
fn print(text: &str) {
    println!("{text}");
}
