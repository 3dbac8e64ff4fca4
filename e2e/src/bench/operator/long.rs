//! Whether the cost of each object stays what it is as they become many.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;

use super::{
    PATIENCE, RESYNC,
    crowd::{AT_ONCE, CLIENTS, Crowd, Kind, SERVERS},
    record::{Side, Tally},
    scene::Scene,
    start::{self, Started},
    stub::Stub,
    tenth,
    usage::{self, Usage},
};
use crate::{bench::table::mebibytes, operator::Operator, progress, story::StoryEnv};

/// How many times as many McpClients there are, one after another.
const STAGES: [u32; 3] = [1, 5, 10];
/// How often the calls so far are counted, so that nobody has to keep them.
const COUNTED: Duration = Duration::from_secs(1);

const HEAD: &str = "
| with a stub in place of Keycloak | turned Ready in | objects/s | calls to the stub each | calls to the API server each | CPU each | memory after | then a start takes | its calls to the stub | its CPU each | its memory |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

/// Makes them in stages, with a start after each. Gives the lines of a table.
pub(super) async fn measure(env: StoryEnv, clients: u32) -> anyhow::Result<Vec<String>> {
    let authority = env.world().authority();
    let stub = Stub::start(authority, env.realm().name(), env.realm().operator_client_id()).await?;
    let mut home = env.authorization_server("main");
    let scene = Scene::in_front_of(env, stub.url()).await?;
    let realm = format!("{}/realms/{}", scene.server().url(), scene.env.realm().name());
    home["spec"]["issuer"] = json!(format!("{}/realms/{}", stub.url(), scene.env.realm().name()));
    home["spec"]["endpoints"] = json!({
        "discovery": format!("{realm}/.well-known/openid-configuration"),
        "admin": scene.server().url(),
        "jwks": format!("{realm}/protocol/openid-connect/certs"),
        "token": format!("{realm}/protocol/openid-connect/token"),
    });
    let mut operator = scene.start(RESYNC).await?;
    scene.connect(&home).await?;
    let crowd = Crowd::watch(&scene.env);
    let (mut lines, mut before) = (vec![HEAD.to_owned()], [0, 0]);
    for times in STAGES {
        let all = [tenth(clients * times), clients * times];
        let stage = Stage {
            scene: &scene,
            crowd: &crowd,
            operator: &operator,
        };
        let servers = stage.grow(&SERVERS, before[0], all[0]).await?;
        let clients = stage.grow(&CLIENTS, before[1], all[1]).await?;
        operator.stop().await?;
        let started = start::start(&scene, all, RESYNC).await?;
        lines.push(format!("{servers} | | | |"));
        lines.push(format!("{clients} {}", of_start(&started, all)));
        (operator, before) = (started.operator, all);
    }
    operator.stop().await?;
    Ok(lines)
}

fn of_start(started: &Started, all: [u32; 2]) -> String {
    let used = started.used;
    format!(
        "{:.1} s | {} | {:.2} ms | {} |",
        started.took.as_secs_f64(),
        started.tally.on(Side::AuthorizationServer),
        used.processor.as_secs_f64() * 1e3 / f64::from(all.iter().sum::<u32>()),
        mebibytes(used.memory),
    )
}

/// What one more stage is made with.
struct Stage<'a> {
    scene: &'a Scene,
    crowd: &'a Crowd<'a>,
    operator: &'a Operator,
}

impl Stage<'_> {
    /// Makes so many more of a kind. Gives the beginning of a line.
    async fn grow(&self, kind: &Kind, from: u32, to: u32) -> anyhow::Result<String> {
        self.scene.take();
        let usage = Usage::begin(self.operator)?;
        let tally = Mutex::new(Tally::default());
        let count = || {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(&self.scene.take());
        };
        let counting = async {
            loop {
                tokio::time::sleep(COUNTED).await;
                count();
            }
        };
        let growing = async {
            let turned = self.crowd.grow(kind, from..to, AT_ONCE, PATIENCE).await?;
            usage::quiet(self.operator).await?;
            Ok(turned)
        };
        let what = format!("{} {from} to {to}", kind.name);
        let turned = tokio::select! {
            turned = progress::during(&what, growing) => turned?,
            never = counting => never,
        };
        count();
        let (used, tally) = (
            usage.end()?,
            tally.into_inner().unwrap_or_else(PoisonError::into_inner),
        );
        let each = f64::from(to - from);
        Ok(format!(
            "| {} {from} to {to} | {:.1} s | {:.1} | {:.2} | {:.2} | {:.1} ms | {} |",
            kind.name,
            turned.took.as_secs_f64(),
            each / turned.took.as_secs_f64(),
            f64::from(tally.on(Side::AuthorizationServer)) / each,
            f64::from(tally.on(Side::ApiServer)) / each,
            used.processor.as_secs_f64() * 1e3 / each,
            mebibytes(used.memory),
        ))
    }
}
