//! Many open event streams.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::ensure;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// How many are opened at a time: a listener's backlog holds no more.
const AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens so many streams, and waits until each has begun. They end when they are dropped.
pub(super) async fn open(port: u16, path: &str, token: &str, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let mut streams = Vec::new();
    while streams.len() < count {
        let mut opening = JoinSet::new();
        for _ in 0..AT_ONCE.min(count - streams.len()) {
            opening.spawn(tokio::time::timeout(PATIENCE, one(port, head.clone())));
        }
        while let Some(opened) = opening.join_next().await {
            streams.push(opened???);
        }
    }
    Ok(streams)
}

async fn one(port: u16, head: String) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(head.as_bytes()).await?;
    let mut seen = Vec::new();
    while !seen.windows(6).any(|part| part == b": open") {
        let mut piece = [0; 512];
        let read = stream.read(&mut piece).await?;
        ensure!(
            read > 0 && seen.len() < 4096,
            "no stream: {}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&piece[..read]);
    }
    ensure!(
        seen.starts_with(b"HTTP/1.1 200"),
        "no stream: {}",
        String::from_utf8_lossy(&seen)
    );
    Ok(stream)
}
