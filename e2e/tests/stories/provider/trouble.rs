//! A Keycloak that has enough, takes its time, or says more than anybody knows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use http::{Method, StatusCode};
use mcp_auth_e2e::{
    proxy::{Call, Fault},
    runner::Story,
    world::World,
};
use mcp_auth_operator::provider::{ClientSpec, Provider as _, ProviderError, Read};
use serde_json::{Value, json};

use super::{REMEMBERED, Scene, agent, orders};

pub(super) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "provider::a_server_that_has_enough_is_left_alone_for_as_long_as_it_says",
            limited,
        ),
        Story::new("provider::a_slow_server_is_waited_for_but_not_for_long", slow),
        Story::new("provider::what_nobody_knows_yet_is_no_drift", unknown),
    ]
}

fn is_admin(call: &Call) -> bool {
    call.path().starts_with("/admin/")
}

/// A short pause is waited for; during a long one nothing is asked at all.
async fn limited(world: Arc<World>) -> anyhow::Result<()> {
    const LONG: u64 = 4;
    let scene = Scene::new(&world, "provider-limited").await?;
    let enough = |seconds| Fault::status_retry_after(StatusCode::TOO_MANY_REQUESTS, seconds);
    let begun = Instant::now();
    scene.env.proxy().inject(enough(1).on(is_admin).times(1));
    scene.put_resource(&orders(), REMEMBERED).await?;
    ensure!(begun.elapsed() >= Duration::from_secs(1), "it was not waited for");

    let said = Instant::now();
    scene.env.proxy().inject(enough(LONG).on(is_admin).times(1));
    let refused = scene.put_client(&agent(), Read::Fresh).await.err();
    let pause = refused
        .as_ref()
        .and_then(|error| error.downcast_ref::<ProviderError>()?.retry_after());
    ensure!(
        pause.is_some_and(|pause| pause >= Duration::from_secs(LONG)),
        "{refused:?}"
    );
    scene.env.proxy().clear();
    while said.elapsed() < Duration::from_millis(LONG * 1000 - 200) {
        let refused = scene
            .keycloak
            .observe_client("prod.team.agent", Read::Fresh)
            .await;
        ensure!(refused.is_err(), "it was asked");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = scene.env.proxy().calls();
    ensure!(asked.is_empty(), "{asked:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.put_client(&agent(), REMEMBERED).await?;
    scene.settled(&orders(), &agent()).await?;
    scene.prove(&agent(), &orders().resource).await
}

/// What takes a while comes about all the same; what takes too long is given up, and not asked for again at once.
async fn slow(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-slow").await?;
    scene
        .env
        .proxy()
        .inject(Fault::delay(Duration::from_millis(1500)));
    scene.put_resource(&orders(), REMEMBERED).await?;
    scene.put_client(&agent(), REMEMBERED).await?;
    scene.settled(&orders(), &agent()).await?;
    scene.env.proxy().heal()?;
    scene.env.proxy().clear();
    scene.env.proxy().inject(Fault::hang().on(is_admin));
    let begun = Instant::now();
    let given_up = scene
        .keycloak
        .observe_client("prod.team.agent", Read::Fresh)
        .await;
    ensure!(
        matches!(given_up, Err(ProviderError::Unreachable { .. })),
        "{given_up:?}"
    );
    let asked = scene.env.proxy().calls();
    ensure!(
        asked.len() == 1 && begun.elapsed() < Duration::from_secs(8),
        "{:?} {asked:?}",
        begun.elapsed()
    );
    scene.env.proxy().heal()?;
    scene.keycloak.check_access().await?;
    scene.settled(&orders(), &agent()).await?;
    scene.prove(&agent(), &orders().resource).await
}

/// Says more of everything that has an id.
fn more(answer: &mut Value) {
    match answer {
        Value::Array(list) => list.iter_mut().for_each(more),
        Value::Object(thing) if thing.contains_key("id") => {
            thing.insert("xFuture".to_owned(), json!({ "deep": [1, null, { "er": true }] }));
            if let Some(attributes) = thing.get_mut("attributes").and_then(Value::as_object_mut) {
                attributes.insert("x.future".to_owned(), json!("1"));
            }
        }
        _ => {}
    }
}

/// It is neither set right nor sent back: a Keycloak that does not know it would refuse it.
async fn unknown(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::new(&world, "provider-unknown").await?;
    let hits = scene
        .env
        .proxy()
        .inject(Fault::amend(more).on(|call| is_admin(call) && call.method == Method::GET));
    scene.put_resource(&orders(), REMEMBERED).await?;
    scene.put_client(&agent(), REMEMBERED).await?;
    scene.settled(&orders(), &agent()).await?;
    scene.prove(&agent(), &orders().resource).await?;
    scene.env.proxy().clear();
    let renamed = ClientSpec {
        display_name: "Renamed".to_owned(),
        ..agent()
    };
    scene.put_client(&renamed, Read::Fresh).await?;
    let writes = scene.env.proxy().writes();
    let sent = writes.first().context("nothing was written")?;
    let body = String::from_utf8_lossy(&sent.body).into_owned();
    ensure!(!body.contains("uture"), "{body}");
    scene.settled(&orders(), &renamed).await?;
    ensure!(hits.count() > 3, "only {} answers said more", hits.count());
    Ok(())
}
