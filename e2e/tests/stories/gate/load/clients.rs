//! Clients that are slow, leave, or are too many.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use mcp_auth_e2e::{
    gate::{client::Stream, upstream::ANSWER},
    run_folder::RunFolder,
    wait::{Seen, wait_for},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::super::{
    case::PING,
    faults::{PATIENCE, answered, until_answered},
    request::{answer, bare, post},
    scene::{RESOURCE, Scene},
};

const SLOW: usize = 50;

/// Sends this at once and then a byte of `rest` now and then, until the connection ends; gives what came back.
async fn dribble(address: SocketAddr, first: &[u8], rest: u8) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(first).await?;
    let mut seen = Vec::new();
    let dribbling = async {
        let (mut source, mut sink) = stream.split();
        tokio::select! {
            _ = source.read_to_end(&mut seen) => {}
            () = async {
                while sink.write_all(&[rest]).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            } => {}
        }
    };
    timeout(PATIENCE, dribbling)
        .await
        .context("it was kept for ever")?;
    Ok(String::from_utf8_lossy(&seen).into_owned())
}

/// Heads and bodies that never end do not keep the gate from others, and end.
pub(super) async fn slow_clients_hold_nobody_up(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let flags = ["--header-read-timeout", "2s", "--body-read-timeout", "2s"];
    let scene = Scene::start_with(&run, "slow-clients", &json!({}), &flags).await?;
    let proxy = scene.gate.faces().proxy;
    let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    let good = post(&token, &[], PING);
    answered("before", proxy, &good, 200).await?;
    let whole = post(&token, &[], &format!("{PING}{}", " ".repeat(4000)));
    let slow_body = &whole[..whole.len() - 3900];
    let slow_head = &good[..good.len() - PING.len() - 4];
    let began = tokio::time::Instant::now();
    let slow_heads = try_join_all((0..SLOW).map(|_| dribble(proxy, slow_head, b'x')));
    let slow_bodies = try_join_all((0..SLOW).map(|_| dribble(proxy, slow_body, b' ')));
    let others = async {
        let mut served = 0;
        while began.elapsed() < Duration::from_secs(1) {
            answered("beside the slow ones", proxy, &good, 200).await?;
            served += 1;
        }
        anyhow::Ok(served)
    };
    let (heads, bodies, served) = tokio::join!(slow_heads, slow_bodies, others);
    let (heads, bodies, served) = (heads?, bodies?, served?);
    ensure!(
        heads.iter().all(|seen| !seen.starts_with("HTTP/1.1 2")),
        "a head was taken for whole"
    );
    ensure!(
        bodies.iter().all(|seen| !seen.starts_with("HTTP/1.1 2")),
        "a body was taken for whole"
    );
    ensure!(
        scene.upstream.requests().len() == served + 1,
        "a request that never ended reached the server"
    );
    run.note(format!(
        "gate: beside {} clients that dribble, {served} calls of one client were served in a second; all dribbling ended {:.1} s after it began, with limits of 2 s",
        2 * SLOW,
        began.elapsed().as_secs_f64()
    ));
    answered("after", proxy, &good, 200).await
}

/// The server hears at once that nobody waits for its answer any more.
pub(super) async fn who_leaves_takes_the_request_along(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let scene = Scene::start(&run, "leaving").await?;
    let proxy = scene.gate.faces().proxy;
    let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    for (count, request) in [
        (1, post(&token, &[(ANSWER, "silence")], PING)),
        (2, bare("GET", &token, &[(ANSWER, "all")])),
        (3, post(&token, &[(ANSWER, "endless")], PING)),
    ] {
        let mut client = TcpStream::connect(proxy).await?;
        client.write_all(&request).await?;
        super::super::faults::until_served(&scene, count).await?;
        drop(client);
        scene.upstream.until_left(count).await?;
    }
    wait_for("the gate to forget them", PATIENCE, async || {
        let open = scene.gate.metric("mcp_auth_gate_requests").await?;
        Ok(if open < 0.5 {
            Seen::Done(())
        } else {
            Seen::NotYet(open.to_string())
        })
    })
    .await
}

/// What is too much is refused, whatever was open goes on, and there is room again when it ends.
pub(super) async fn limits_hold_and_let_go(run: Arc<RunFolder>) -> anyhow::Result<()> {
    const REQUESTS: usize = 5;
    const CONNECTIONS: usize = 12;
    // One caller may take all places here: that there are no more is what is shown.
    let flags = [
        "--max-concurrent-requests",
        "5",
        "--max-requests-per-caller",
        "5",
        "--max-connections",
        "12",
    ];
    let scene = Scene::start_with(&run, "limits", &json!({}), &flags).await?;
    let proxy = scene.gate.faces().proxy;
    let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
    let request = bare("GET", &token, &[(ANSWER, "all")]);
    let good = post(&token, &[], PING);
    let mut streams = try_join_all((0..REQUESTS).map(|_| Stream::open(proxy, &request))).await?;
    let refused = answer(proxy, &good).await?;
    ensure!(
        refused.status() == Some(503) && refused.value("retry-after").is_some(),
        "{}",
        refused.first_line
    );
    let mut idle = Vec::new();
    while idle.len() < CONNECTIONS - REQUESTS {
        idle.push(TcpStream::connect(proxy).await?);
    }
    wait_for("connections to be closed at once", PATIENCE, async || {
        let mut one_more = TcpStream::connect(proxy).await?;
        let mut byte = [0];
        let read = timeout(Duration::from_millis(500), one_more.read(&mut byte)).await;
        Ok(if let Ok(Ok(0) | Err(_)) = read {
            Seen::Done(())
        } else {
            // On a busy machine those before it may have been closed meanwhile, for want of a request: it takes a place.
            idle.push(one_more);
            Seen::NotYet(format!("{} are open", REQUESTS + idle.len()))
        })
    })
    .await?;
    let counted = scene
        .gate
        .metric("mcp_auth_gate_connections_refused_total")
        .await?;
    ensure!(counted > 0.5, "it was not counted");
    scene.upstream.send_to_all();
    for stream in &mut streams {
        stream
            .wait_for("{\"event\":1}")
            .await
            .context("what is open goes on")?;
    }
    drop((streams, idle));
    until_answered("room again", proxy, &good, 200).await
}
