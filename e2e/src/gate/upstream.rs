//! An MCP server that writes down every byte it gets, and answers as the request asks it to.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    task::JoinHandle,
};

use super::http1::{Message, Reader, Side};

/// The header by which a request asks for an answer other than JSON: `events` (one for each [`Upstream::send_event`]), `endless` (events without end), `session`, `silence`, `break`, `late`.
pub const ANSWER: &str = "x-answer";

/// How many events an answer of events has.
pub const EVENTS: usize = 3;

/// The session id that it gives out when asked for one.
pub const SESSION: &str = "session-of-the-server";

/// The server. It ends when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Message>>>,
    events: Arc<Semaphore>,
    serving: JoinHandle<()>,
}

impl Upstream {
    /// Starts one on a port of 127.0.0.1.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (requests, events) = (Arc::new(Mutex::default()), Arc::new(Semaphore::new(0)));
        let shared = (Arc::clone(&requests), Arc::clone(&events));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, events) = shared.clone();
                tokio::spawn(async move { serve(stream, &requests, &events).await });
            }
        });
        Ok(Self {
            address,
            requests,
            events,
            serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends the next event of an answer that consists of them.
    pub fn send_event(&self) {
        self.events.add_permits(1);
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Message> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(stream: TcpStream, requests: &Mutex<Vec<Message>>, events: &Semaphore) {
    let _ = stream.set_nodelay(true);
    let (source, mut sink) = stream.into_split();
    let mut reader = Reader::new(source);
    let note = |message: Message| {
        let mut all = requests.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(message);
    };
    loop {
        match next(&mut reader).await {
            Ok(Some(request)) => {
                note(request.clone());
                if answer(&request, &mut sink, events).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            // What cannot be read is written down too: nobody may have sent it.
            Err(error) => {
                let mut head = format!("unreadable: {error:#}\r\n").into_bytes();
                head.extend_from_slice(reader.rest());
                let first_line = "unreadable".to_owned();
                note(Message {
                    first_line,
                    head,
                    ..Message::default()
                });
                return;
            }
        }
    }
}

async fn next(reader: &mut Reader<OwnedReadHalf>) -> anyhow::Result<Option<Message>> {
    let Some(mut message) = reader.head().await? else {
        return Ok(None);
    };
    reader.body(&mut message, Side::Requests).await?;
    Ok(Some(message))
}

const JSON: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"from":"the server"}}"#;

async fn answer(request: &Message, sink: &mut OwnedWriteHalf, events: &Semaphore) -> anyhow::Result<()> {
    let json = |more: &str| {
        let length = JSON.len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n{JSON}"
        )
    };
    match request.value(ANSWER).unwrap_or_default() {
        "events" => return stepwise(sink, events).await,
        "endless" => return endless(sink).await,
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
        _ => sink.write_all(json("").as_bytes()).await?,
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
