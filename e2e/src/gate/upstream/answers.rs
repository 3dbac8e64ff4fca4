//! How the server answers.

use std::time::Duration;

use anyhow::Context;
use tokio::{io::AsyncWriteExt, net::tcp::OwnedWriteHalf, sync::Semaphore};

use super::{ANSWER, EVENTS, SESSION, Shared, faults};
use crate::gate::http1::Message;

const JSON: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"from":"the server"}}"#;

/// Answers a request as it asks for.
pub(super) async fn answer(
    request: &Message,
    sink: &mut OwnedWriteHalf,
    shared: &Shared,
) -> anyhow::Result<()> {
    let json = |more: &str| {
        let length = JSON.len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n{JSON}"
        )
    };
    match request.value(ANSWER).unwrap_or_default() {
        "events" => return stepwise(sink, &shared.events).await,
        "endless" => return endless(sink).await,
        "all" => return to_all(sink, shared).await,
        "held" => {
            let mut sent = shared.to_all.subscribe();
            sent.mark_unchanged();
            sent.changed().await?;
            sink.write_all(json("").as_bytes()).await?;
        }
        "session" => {
            sink.write_all(json(&format!("mcp-session-id: {SESSION}\r\n")).as_bytes())
                .await?;
        }
        "silence" => std::future::pending::<()>().await,
        "late" => {
            tokio::time::sleep(Duration::from_millis(500)).await;
            sink.write_all(json("").as_bytes()).await?;
        }
        "break" => {
            sink.write_all(&json("").as_bytes()[..60]).await?;
            sink.shutdown().await?;
            anyhow::bail!("as it was asked to");
        }
        name => match faults::of(name) {
            Some(fault) => return fault.commit(sink).await,
            None => sink.write_all(json("").as_bytes()).await?,
        },
    }
    sink.flush().await.context("the connection broke")
}

const EVENT_STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
                      x-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n";

async fn endless(sink: &mut OwnedWriteHalf) -> anyhow::Result<()> {
    sink.write_all(EVENT_STREAM.as_bytes()).await?;
    loop {
        sink.write_all(b"8\r\n: still\n\r\n").await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn stepwise(sink: &mut OwnedWriteHalf, events: &Semaphore) -> anyhow::Result<()> {
    sink.write_all(EVENT_STREAM.as_bytes()).await?;
    for number in 0..EVENTS {
        events.acquire().await?.forget();
        let event = format!("data: {{\"event\":{number}}}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        sink.write_all(chunk.as_bytes()).await?;
    }
    Ok(sink.write_all(b"0\r\n\r\n").await?)
}

async fn to_all(sink: &mut OwnedWriteHalf, shared: &Shared) -> anyhow::Result<()> {
    let mut sent = shared.to_all.subscribe();
    let mut number = *sent.borrow_and_update();
    sink.write_all(EVENT_STREAM.as_bytes()).await?;
    sink.write_all(b"8\r\n: open\n\n\r\n").await?;
    loop {
        let last = *sent.wait_for(|last| *last > number).await?;
        while number < last {
            number += 1;
            let event = format!("data: {{\"event\":{number}}}\n\n");
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            sink.write_all(chunk.as_bytes()).await?;
        }
    }
}
