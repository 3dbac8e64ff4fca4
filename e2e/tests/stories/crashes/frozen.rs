//! Two operators that both believe that they lead: one is frozen with a call on its way. Another finishes what it began,
//! and does more. Then the call arrives, and who made it goes on.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use mcp_auth_e2e::{
    lengths,
    operator::Operator,
    progress,
    proxy::{Call, Fault, Hits, Point},
    wait::{Seen, wait_for},
    world::World,
};

use super::{
    method::AuthMethod,
    rig::Side,
    scene::Scene,
    seed,
    steps::{Step, Subject},
    trials,
};
use crate::{fixtures::SOON, inventory::Realm, rotation::workload};

/// The client: the workload reads its Secret.
const CLIENT: &str = "reader";

/// Long enough for a busy machine to renew it, short enough to wait for its end.
pub(super) const LEASE: &str = "6s";

/// So many places are tried, besides those at which a credential is put in force, unless all are.
const SAMPLE: usize = 1;

/// Rotations in which something is frozen side by side.
const SIDE_BY_SIDE: usize = 3;

/// How long the workload goes on when all is over: what came too late has had its effect by then, and no resync.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// A write of a rotation: the `number`th of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    side: Side,
    point: Point,
    number: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (no. {})", self.point, self.number)
    }
}

/// The first write of a credential at Keycloak, and to the workload's Secret: what came late there would put an old one
/// back.
const WEAKEST: [&str; 2] = [
    "PUT /admin/realms/{namespace}/clients/{id}",
    "PATCH /api/v1/namespaces/{namespace}/secrets/{client}-mcp-client",
];

pub(super) async fn in_a_rotation(world: Arc<World>) -> anyhow::Result<()> {
    let seed = seed()?;
    let scene = scene(&world, 0).await?;
    let places = recorded(&scene).await?;
    scene.rig.stop().await?;
    let total = places.len();
    let chosen = chosen(places, lengths::of(SAMPLE, total), seed)?;
    let tried = chosen.len();
    let named: Vec<String> = chosen.iter().map(Place::to_string).collect();
    progress::say(&format!(
        "an operator is frozen at {tried} of {total} writes of a rotation (SEED={seed}): {}",
        named.join(", ")
    ));
    let trials = chosen.into_iter().enumerate().map(|(number, place)| {
        let world = Arc::clone(&world);
        async move {
            let what = format!("frozen at {place}, SEED={seed}");
            trial(&world, number + 1, place).await.context(what)
        }
    });
    let granted: Vec<usize> = stream::iter(trials)
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect()
        .await?;
    world.note(format!(
        "frozen in a rotation until another had finished it and made one more: at {tried} of {total} writes with \
         SEED={seed}; {} tokens for the credential in the Secret meanwhile, none refused",
        granted.iter().sum::<usize>()
    ));
    Ok(())
}

/// The weakest places, and so many others.
fn chosen(places: Vec<Place>, others: usize, seed: u64) -> anyhow::Result<Vec<Place>> {
    let is_weak = |place: &Place| place.number == 1 && WEAKEST.contains(&place.point.to_string().as_str());
    let (mut chosen, rest): (Vec<Place>, Vec<Place>) = places.into_iter().partition(is_weak);
    ensure!(
        chosen.len() == WEAKEST.len(),
        "{WEAKEST:?} are not among the writes: {chosen:?}, {rest:?}"
    );
    chosen.append(&mut trials::sample(rest, others, seed));
    Ok(chosen)
}

/// A scene with the client, whose realm has what the first rotation makes.
async fn scene(world: &Arc<World>, number: usize) -> anyhow::Result<Scene> {
    let scene = empty(world, &format!("crashes-frozen-{number}")).await?;
    let subject = subject(&scene);
    subject.take(Step::Create, &mut None).await?;
    rotate(&subject, "first").await?;
    Ok(scene)
}

async fn empty(world: &Arc<World>, name: &str) -> anyhow::Result<Scene> {
    Scene::start_with(world, name, AuthMethod::ClientSecret, |options| {
        LEASE.clone_into(&mut options.lease_duration);
    })
    .await
}

fn subject(scene: &Scene) -> Subject<'_> {
    Subject { scene, name: CLIENT }
}

/// Asks for a rotation and waits for its end.
async fn rotate(subject: &Subject<'_>, request: &str) -> anyhow::Result<()> {
    subject
        .annotate("mcpauth.dev/rotate-requested-at", request)
        .await?;
    rotated(subject, request).await
}

async fn rotated(subject: &Subject<'_>, request: &str) -> anyhow::Result<()> {
    let env = &subject.scene.rig.env;
    wait_for(&format!("the end of rotation {request}"), SOON, async || {
        let found = env.get("McpClient", env.namespace(), CLIENT).await?;
        let status = found.context("no such client")?["status"].clone();
        let right = status["lastHandledRotateRequest"] == request && status["rotation"]["phase"] == "Settled";
        Ok(if right {
            Seen::Done(())
        } else {
            Seen::NotYet(status.to_string())
        })
    })
    .await?;
    subject.scene.rig.quiet(CLIENT).await;
    Ok(())
}

/// Every write of a rotation.
async fn recorded(scene: &Scene) -> anyhow::Result<Vec<Place>> {
    scene.rig.forget();
    rotate(&subject(scene), "recorded").await?;
    let mut numbers: BTreeMap<(Side, Point), usize> = BTreeMap::new();
    let mut places = Vec::new();
    for (side, point) in scene.rig.points(CLIENT) {
        let number = numbers.entry((side, point.clone())).or_default();
        *number += 1;
        places.push(Place {
            side,
            point,
            number: *number,
        });
    }
    Ok(places)
}

/// One rotation that is frozen at this place. Gives how many tokens there were meanwhile.
async fn trial(world: &Arc<World>, number: usize, place: Place) -> anyhow::Result<usize> {
    let scene = scene(world, number).await?;
    let subject = subject(&scene);
    let before = subject.works(Step::Create).await?;
    let standby = scene.rig.env.launch_operator(scene.rig.options()).await?;
    standby.wait_until_ready().await?;
    scene.rig.forget();
    let (outcome, between) = workload::during(
        &scene.rig.env,
        "client-secret",
        Duration::ZERO,
        taken_over(&scene, &standby, place),
    )
    .await?;
    ensure!(
        outcome.refused.is_empty(),
        "{} of {} requests with the credential in the Secret were refused, the first: {:?}",
        outcome.refused.len(),
        outcome.refused.len() + outcome.granted,
        outcome.refused.first()
    );
    let after = subject.works(Step::Create).await?;
    let asked_for = [&before, &between, &after];
    ensure!(
        before != between && between != after,
        "a rotation that was asked for did not happen"
    );
    let sent = subject.credentials_sent()?;
    let others = sent.iter().filter(|sent| !asked_for.contains(sent)).count();
    ensure!(others <= 1, "{others} rotations too many");
    for old in [&before, &between] {
        ensure!(!subject.accepted(old).await?, "an old credential works");
    }
    standby.stop().await?;
    Ok(outcome.granted)
}

/// Freezes the leader at this place until the standby has finished the rotation and made another, and lets it go on.
/// Gives the credential between the two.
async fn taken_over(scene: &Scene, standby: &Operator, place: Place) -> anyhow::Result<String> {
    let subject = subject(scene);
    let hits = held(scene, place);
    subject
        .annotate("mcpauth.dev/rotate-requested-at", "frozen")
        .await?;
    tokio::time::timeout(SOON, hits.first())
        .await
        .context("there was no such write")?;
    let leader = frozen(scene, standby).await?;
    rotated(&subject, "frozen").await?;
    let between = subject.works(Step::Create).await?;
    rotate(&subject, "after").await?;

    too_late(scene, &leader).await?;
    Ok(between)
}

/// Freezes the leader until the standby leads.
async fn frozen(scene: &Scene, standby: &Operator) -> anyhow::Result<Operator> {
    let leader = scene.rig.take_operator().await?;
    leader.process().freeze();
    leads(standby).await?;
    Ok(leader)
}

/// Waits until this one leads.
pub(super) async fn leads(operator: &Operator) -> anyhow::Result<()> {
    wait_for("the other to lead", SOON, async || {
        Ok(if operator.metric("mcp_auth_operator_leader", &[]).await? > 0.0 {
            Seen::Done(())
        } else {
            Seen::NotYet("it does not lead".to_owned())
        })
    })
    .await
}

/// The call that was on its way arrives, and a little later who made it goes on.
async fn too_late(scene: &Scene, leader: &Operator) -> anyhow::Result<()> {
    scene.rig.heal()?;
    tokio::time::sleep(AFTERWARDS).await;
    leader.process().thaw();
    let ended = tokio::time::timeout(SOON, leader.process().wait()).await;
    let ended = ended.context("it goes on although another leads")??;
    ensure!(!ended.success(), "it ended as if it had been asked to");
    tokio::time::sleep(AFTERWARDS).await;
    Ok(())
}

pub(super) async fn in_a_creation(world: Arc<World>) -> anyhow::Result<()> {
    let scene = empty(&world, "crashes-frozen-creation").await?;
    let standby = scene.rig.env.launch_operator(scene.rig.options()).await?;
    standby.wait_until_ready().await?;
    let is_creation = |call: &Call| call.method == Method::POST && call.path().ends_with("/clients");
    let hits = scene
        .rig
        .proxy(Side::AuthorizationServer)
        .inject(Fault::hold().on(is_creation).times(1));
    let leader = async {
        tokio::time::timeout(SOON, hits.first())
            .await
            .context("no client was made")?;
        frozen(&scene, &standby).await
    };
    let mut secret = None;
    let subject = subject(&scene);
    let (leader, ()) = tokio::try_join!(leader, subject.take(Step::Create, &mut secret))?;
    subject.take(Step::Delete, &mut secret).await?;
    too_late(&scene, &leader).await?;
    let left = Realm::read(&scene.rig.env).await?;
    ensure!(
        left == scene.before,
        "the client came back after it was deleted: {left:?}"
    );
    standby.stop().await
}

/// From now on the call at this place waits until the proxies are healed.
fn held(scene: &Scene, place: Place) -> Hits {
    let Place { side, point, number } = place;
    let namespace = scene.rig.env.namespace().to_owned();
    let there = move |call: &Call| Point::of(call, &namespace, CLIENT).as_ref() == Some(&point);
    scene.rig.proxy(side).inject(Fault::hold().on(there).at(number))
}
