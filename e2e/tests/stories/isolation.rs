//! An authorization server that is slow takes nothing from the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mcp_auth_e2e::{
    keycloak::OPERATOR_ROLES, proxy::Fault, runner::Story, story::StoryEnv, wait::Seen, wait::wait_for,
    world::World,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::fixtures::{SOON, apply_all, machine, ready, server};

/// How long each call of the slow one takes: less than the operator's patience with one call.
const DELAY: Duration = Duration::from_secs(4);

/// More than the operator works on at a time.
const CLIENTS: usize = 24;

/// How long objects of the other one may take. A single client of the slow one takes longer.
const QUICK: Duration = Duration::from_secs(8);

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "isolation::a_slow_authorization_server_holds_up_no_other",
        slow_and_quick,
    )]
}

/// An object of a fixture, for the other AuthorizationServer.
fn at_quick(mut object: Value) -> Value {
    object["spec"]["authorizationServerRef"]["name"] = json!("quick");
    object
}

async fn slow_and_quick(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "isolation").await?;
    let realm = world
        .keycloak()
        .create_realm("isolation-quick", &OPERATOR_ROLES)
        .await?;
    let credentials = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "quick", "namespace": env.namespace() },
        "stringData": {
            "client-id": realm.operator_client_id(),
            "client-secret": realm.operator_client_secret().expose_secret(),
        },
    });
    let mut quick = env.authorization_server("quick");
    quick["spec"]["issuer"] = json!(realm.issuer());
    quick["spec"]["keycloak"]["realm"] = json!(realm.name());
    quick["spec"]["credentials"]["secretRef"]["name"] = json!("quick");
    quick["spec"]["endpoints"] = Value::Null;
    let operator = env.start_operator().await?;
    let homes = [credentials, quick, env.authorization_server("main")];
    apply_all(&env, &[&homes[..], &[server(&env, "notes")]].concat()).await?;
    ready(&env, ("McpServer", env.namespace(), "notes"), SOON).await?;
    ready(&env, ("AuthorizationServer", env.namespace(), "quick"), SOON).await?;

    env.proxy().clear();
    env.proxy().inject(Fault::delay(DELAY));
    let slow: Vec<Value> = (0..CLIENTS)
        .map(|number| machine(&env, &format!("slow-{number}"), &["notes"]))
        .collect();
    apply_all(&env, &slow).await?;
    wait_for("calls that take long", SOON, async || {
        let under_way = env
            .proxy()
            .calls()
            .iter()
            .filter(|call| call.status.is_none())
            .count();
        Ok(match under_way {
            0 => Seen::NotYet("none is under way".to_owned()),
            _ => Seen::Done(()),
        })
    })
    .await?;

    let began = Instant::now();
    let objects = [
        at_quick(server(&env, "drafts")),
        at_quick(machine(&env, "agent", &["drafts"])),
    ];
    apply_all(&env, &objects).await?;
    ready(&env, ("McpClient", env.namespace(), "agent"), QUICK).await?;
    world.note(format!(
        "beside {CLIENTS} clients of a server that takes {} s for each call, a client of another was Ready after {:.1} s",
        DELAY.as_secs(),
        began.elapsed().as_secs_f64()
    ));
    env.proxy().heal()?;
    operator.stop().await
}
