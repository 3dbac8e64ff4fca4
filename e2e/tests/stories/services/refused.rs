//! What is said about annotations that are of no use.

mod cases;

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::{
    operator::Operator,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use self::cases::{Case, Said, WHICH_PATH, WHICH_RESOURCE, WHICH_SERVER, WHICH_SPEAKS};
use super::{PATH, annotate, is_refusal, is_told, prepare, ready_server, service, stored, told, warning};
use crate::{
    fixtures::{SOON, apply_all},
    inventory::{Realm, published},
};

pub(super) async fn told_once(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "service-refused").await?;
    let operator = env.start_operator().await?;
    let empty = prepare(&env).await?;
    env.proxy().clear();
    let cases = cases::all();
    let bad: Vec<Value> = cases.iter().map(|case| case.bad(&env)).collect();
    apply_all(&env, &bad).await?;
    for case in &cases {
        is_told_of(&env, case).await?;
    }
    // What is looked at again is not told again.
    for round in 0..2 {
        wake(&env, &operator, &cases, round).await?;
    }
    for case in &cases {
        is_told_of(&env, case).await?;
    }
    let made: Value = env
        .kubectl()
        .json(&["get", "mcpservers", "-n", env.namespace()])
        .await?;
    ensure!(made["items"] == json!([]), "{made}");
    let made = published(&env, env.namespace()).await?;
    ensure!(made.is_empty(), "{made:?}");
    ensure!(
        Realm::read(&env).await? == empty,
        "something was made at Keycloak"
    );
    let calls = env.proxy().writes();
    ensure!(calls.is_empty(), "{calls:#?}");
    for case in cases.iter().take(1) {
        again(&env, case).await?;
    }
    once_more(&env).await?;
    mended(&env, &cases).await?;
    operator.stop().await
}

/// Waits until exactly what is to be said about a case was said, and that once.
async fn is_told_of(env: &StoryEnv, case: &Case) -> anyhow::Result<()> {
    let service = stored(env, &case.name).await?;
    match &case.said {
        Said::Exactly(note) => is_told(env, &service, &[warning("BadAnnotation", note)]).await,
        Said::Refusal(words) => {
            let what = format!("an Event on Service {}", case.name);
            let said = wait_for(&what, SOON, async || {
                let mut told = told(env, &service).await?;
                Ok(match (told.pop(), told.len()) {
                    (Some(said), 0) => Seen::Done(said),
                    (last, others) => Seen::NotYet(format!("{last:?} and {others} others")),
                })
            })
            .await?;
            is_refusal(&said, words)
        }
    }
}

/// Changes something else of every Service, and waits until each had another pass.
async fn wake(env: &StoryEnv, operator: &Operator, cases: &[Case], round: u32) -> anyhow::Result<()> {
    let passes = async || {
        let labels = [("kind", "Service")];
        operator
            .metric("mcp_auth_operator_reconciles_total", &labels)
            .await
    };
    let before = passes().await?;
    let (label, space) = (format!("example.com/round={round}"), env.namespace());
    let arguments = ["label", "services", "--all", "--overwrite", "-n", space, &label];
    env.kubectl().must(&arguments).await?;
    let wanted = before + f64::from(u32::try_from(cases.len())?);
    wait_for("another pass of every Service", SOON, async || {
        let now = passes().await?;
        Ok(if now >= wanted {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{now} of {wanted}"))
        })
    })
    .await
}

/// A Service that comes back as bad as it was is another Service: it is told again.
async fn again(env: &StoryEnv, case: &Case) -> anyhow::Result<()> {
    let arguments = ["delete", "service", &case.name, "-n", env.namespace()];
    env.kubectl().must(&arguments).await?;
    env.apply(&case.bad(env)).await?;
    is_told_of(env, case).await
}

/// So is one whose annotations were all taken away and come back.
async fn once_more(env: &StoryEnv) -> anyhow::Result<()> {
    let (name, bad, none) = ("once-more", json!({ PATH: "mcp" }), json!({ PATH: null }));
    env.apply(&service(env.namespace(), name, &bad)).await?;
    let note = [WHICH_SERVER, WHICH_RESOURCE, WHICH_SPEAKS, WHICH_PATH].join("; ");
    let service = stored(env, name).await?;
    is_told(env, &service, &[warning("BadAnnotation", &note)]).await?;
    // Again and again: a pass that comes late sees only the last of two changes.
    wait_for("a second telling", SOON, async || {
        annotate(env, name, &none).await?;
        annotate(env, name, &bad).await?;
        let told = told(env, &service).await?;
        Ok(match told.as_slice() {
            [(.., count)] if *count > 1 => Seen::Done(()),
            other => Seen::NotYet(format!("{other:?}")),
        })
    })
    .await
}

/// With good annotations each turns Ready, and nothing more is said.
async fn mended(env: &StoryEnv, cases: &[Case]) -> anyhow::Result<()> {
    let mended = || cases.iter().filter(|case| case.mended);
    let good: Vec<Value> = mended().map(|case| case.good(env)).collect();
    apply_all(env, &good).await?;
    for case in mended() {
        ready_server(env, &case.name).await?;
        is_told_of(env, case).await?;
    }
    Ok(())
}
