//! What runs on a node ends with it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    node::Place,
    process::Guarded,
    runner::Story,
    wait::{Seen, wait_for},
    world::World,
};

pub(super) fn stories() -> Vec<Story> {
    vec![Story::on_node(
        "node::a_second_place_is_apart_from_the_first_and_leaves_nothing",
        places_come_and_go,
    )]
}

/// A daemon that left its parent's process group, as the shims of containers do.
const DAEMON: &str =
    r#"mount -t tmpfs none "$1"; touch "$1/within"; setsid sleep 86399 & setsid sleep 86399"#;

async fn places_come_and_go(world: Arc<World>) -> anyhow::Result<()> {
    let first = world.node().context("there is no node")?.place();
    let dir = world.folder().subfolder("node-ending")?;
    let mounted = world.folder().subfolder("node-ending-mount")?;
    let place = Place::make(&dir).await?;
    ensure!(place.host() != first.host() && place.services() != first.services());
    let mut command = place.command("sh", &dir);
    command.args(["-c", DAEMON, "sh"]).arg(&mounted);
    let daemon = Guarded::spawn("daemon", &command, dir.join("daemon.log"))?;
    let namespace = namespace_of(&place)?;
    let started = wait_for("the daemons", Duration::from_secs(10), async || {
        let daemons = in_namespace(namespace).len();
        // The first process of the place with what it waits for, the shell, and two daemons.
        Ok(if daemons >= 5 {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{daemons} processes: {}", daemon.log_tail()))
        })
    });
    started.await?;
    ensure!(
        !mounted.join("within").exists(),
        "mounts of the place are its own"
    );
    ensure!(routes()?.contains(&device_route(&place)), "no route to its pods");

    place.stop().await?;
    ensure!(
        in_namespace(namespace).is_empty(),
        "{:?}",
        in_namespace(namespace)
    );
    wait_for("the end of its network", Duration::from_secs(10), async || {
        Ok(if routes()?.contains(&device_route(&place)) {
            Seen::NotYet("there is a route to its pods".to_owned())
        } else {
            Seen::Done(())
        })
    })
    .await
}

/// The number of the network namespace of a place.
fn namespace_of(place: &Place) -> anyhow::Result<u64> {
    let process = place.process();
    Ok(fs::metadata(format!("/proc/{process}/ns/net"))?.ino())
}

/// The processes in a network namespace, but for those that have none any more.
fn in_namespace(number: u64) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let within =
        |process: &Path| fs::metadata(process.join("ns/net")).is_ok_and(|found| found.ino() == number);
    processes
        .map(|entry| entry.path())
        .filter(|process| within(process))
        .collect()
}

fn routes() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/net/route")?)
}

/// The addresses of pods, as the kernel's table of routes has them: in reverse, in hexadecimal digits.
fn device_route(place: &Place) -> String {
    let [first, second, ..] = place.host().octets();
    format!("0001{second:02X}{first:02X}")
}
