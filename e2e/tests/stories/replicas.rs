//! Two replicas: one leads, the other takes over when the first is killed in the middle of its work.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use http::Method;
use mcp_auth_e2e::{
    lengths,
    operator::Operator,
    proxy::{Call, Fault, RecordingProxy},
    runner::Story,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};

use crate::{
    fixtures::{SOON, apply_all, machine, ready, server},
    inventory::{Realm, credential, kept, token_for},
};

/// As many as are made while the leader is killed.
fn clients() -> usize {
    lengths::of(30, 150)
}

/// So many are registered when that happens, and the leader knows it.
const ANSWERED: usize = 8;

/// So many answers are lost after that: of clients that are registered, but the leader was never told. No other call
/// gets through.
const LOST: usize = 3;

/// How long nobody may lead.
const TAKEOVER: Duration = Duration::from_secs(20);

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "replicas::a_killed_leader_is_replaced_and_nothing_is_made_twice",
        killed_leader,
    )]
}

fn is_creation(call: &Call) -> bool {
    call.method == Method::POST && call.path().ends_with("/clients")
}

/// Lets the first creations through, then loses answers, then lets nothing through.
fn stop_in_the_middle(proxy: &RecordingProxy) {
    let beyond = |count: usize| {
        let seen = AtomicUsize::new(0);
        move |call: &Call| is_creation(call) && seen.fetch_add(1, Ordering::Relaxed) >= count
    };
    proxy.inject(Fault::lose_reply().on(beyond(ANSWERED)).times(LOST));
    proxy.inject(Fault::hang().on(beyond(ANSWERED)));
}

async fn leads(operator: &Operator) -> anyhow::Result<bool> {
    Ok(operator.metric("mcp_auth_operator_leader", &[]).await? > 0.0)
}

async fn killed_leader(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "replicas").await?;
    let options = env.operator_options();
    let leader = env.start_operator_with(&options).await?;
    apply_all(&env, &[env.authorization_server("main"), server(&env, "notes")]).await?;
    ready(&env, ("McpServer", env.namespace(), "notes"), SOON).await?;
    let standby = env.start_operator_with(&options).await?;
    ensure!(
        leads(&leader).await? && !leads(&standby).await?,
        "exactly one leads"
    );
    let before = Realm::read(&env).await?;

    let names: Vec<String> = (0..clients())
        .map(|number| format!("client-{number:02}"))
        .collect();
    let clients: Vec<_> = names.iter().map(|name| machine(&env, name, &["notes"])).collect();
    env.proxy().clear();
    stop_in_the_middle(env.proxy());
    apply_all(&env, &clients).await?;
    let registered = async || anyhow::Ok(Realm::read(&env).await?.clients.len() - before.clients.len());
    wait_for("the middle of the work", SOON, async || {
        let creations = env.proxy().writes().into_iter().filter(is_creation).count();
        let registered = registered().await?;
        // Some that the leader does not know of, and some on their way.
        Ok(if registered > ANSWERED && creations > ANSWERED + LOST {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{creations} asked for, {registered} registered"))
        })
    })
    .await?;
    leader.kill_hard().await?;
    let killed = Instant::now();
    env.proxy().heal()?;
    let registered = registered().await?;
    ensure!(registered <= ANSWERED + LOST, "{registered} were registered");

    let left = TAKEOVER.saturating_sub(killed.elapsed());
    wait_for("the other to lead", left, async || {
        Ok(if leads(&standby).await? {
            Seen::Done(())
        } else {
            Seen::NotYet("it does not lead".to_owned())
        })
    })
    .await?;
    world.note(format!(
        "the standby led {:.1} s after the leader was killed, with the shipped lease of 15 s",
        killed.elapsed().as_secs_f64()
    ));
    one_working_client_each(&env, &names, &before).await?;
    standby.stop().await
}

/// Every McpClient has exactly one client at Keycloak, a credential that works, and no change under way.
async fn one_working_client_each(env: &StoryEnv, names: &[String], before: &Realm) -> anyhow::Result<()> {
    let mut ids = BTreeSet::new();
    for name in names {
        ready(env, ("McpClient", env.namespace(), name), SOON).await?;
        let client = credential(env, name).await?;
        token_for(env, &client, "notes:use", "https://notes.example.com/mcp").await?;
        ids.insert(client.id().to_owned());
    }
    let realm = Realm::read(env).await?;
    let made = realm
        .clients
        .keys()
        .filter(|id| !before.clients.contains_key(*id));
    ensure!(
        made.cloned().collect::<BTreeSet<_>>() == ids,
        "{:?}",
        realm.clients
    );
    ensure!(realm.scopes == before.scopes, "{:?}", realm.scopes);
    let journals = kept(env).await?;
    let of_clients = journals
        .keys()
        .filter(|name| name.starts_with("mcpclient."))
        .count();
    ensure!(of_clients == clients(), "{of_clients} journals");
    let unsettled = journals.iter().find(|(_, keys)| keys.contains("pending"));
    ensure!(unsettled.is_none(), "{unsettled:?} is not settled");
    Ok(())
}
