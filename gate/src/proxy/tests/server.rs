//! An MCP server that keeps what it gets as bytes, and sends what a test says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::fixture::PATIENCE;

/// A part of an answer.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing for a while.
    Pause(Duration),
    /// Nothing until the client is gone, which is counted.
    Hang,
    /// The end of the connection.
    Close,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Received {
    /// The values of a header.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}

type Script = Box<dyn Fn(&Received) -> Vec<Part> + Send + Sync>;

struct Shared {
    script: Script,
    received: Mutex<Vec<Received>>,
    /// How many clients went away from an answer that hung.
    left: watch::Sender<usize>,
    connections: Mutex<usize>,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer of JSON.
pub(super) fn json(body: &str) -> Vec<Part> {
    with_head("200 OK", "Content-Type: application/json\r\n", body)
}

/// An answer with this status and these lines.
pub(super) fn with_head(status: &str, lines: &str, body: &str) -> Vec<Part> {
    let text = format!(
        "HTTP/1.1 {status}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    vec![Part::Bytes(text.into_bytes())]
}

/// An event stream of these parts, chunked.
pub(super) fn events(parts: &[Part]) -> Vec<Part> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut all = vec![Part::Bytes(head.into())];
    all.extend(parts.iter().map(|part| match part {
        Part::Bytes(bytes) => {
            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(b"\r\n");
            Part::Bytes(chunk)
        }
        other => other.clone(),
    }));
    all
}

pub(super) fn text(text: &str) -> Part {
    Part::Bytes(text.into())
}

/// The end of a chunked body.
pub(super) fn last_chunk() -> Part {
    text("0\r\n\r\n")
}

impl Server {
    pub(super) async fn start(script: impl Fn(&Received) -> Vec<Part> + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(super) async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Received) -> Vec<Part> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            received: Mutex::default(),
            left: watch::channel(0).0,
            connections: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            task,
        }
    }

    /// Answers everything with an empty result.
    pub(super) async fn plain() -> Self {
        Self::start(|_| json(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#)).await
    }

    /// All requests so far.
    pub(super) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Waits until so many clients have gone away from answers that hung.
    pub(super) async fn left(&self, count: usize) {
        let mut left = self.shared.left.subscribe();
        let reached = left.wait_for(|left| *left >= count);
        timeout(PATIENCE, reached).await.expect("nobody left").unwrap();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        *shared.connections.lock().unwrap() += 1;
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    while let Some(received) = receive(&mut stream).await {
        let parts = (shared.script)(&received);
        shared.received.lock().unwrap().push(received);
        for part in parts {
            match part {
                Part::Bytes(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Part::Pause(long) => sleep(long).await,
                Part::Hang => {
                    let _ = stream.read(&mut [0; 64]).await;
                    shared.left.send_modify(|left| *left += 1);
                    return;
                }
                Part::Close => return,
            }
        }
    }
}

/// The next request, as a server that believes in `Content-Length` alone reads it.
async fn receive(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        read_some(stream, &mut bytes).await?;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let received = Received {
        head,
        body: Vec::new(),
    };
    let length = match received.all("content-length").as_slice() {
        [] => 0,
        [one] => one.parse().unwrap(),
        more => panic!("{more:?}"),
    };
    while bytes.len() < end + length {
        read_some(stream, &mut bytes).await?;
    }
    Some(Received {
        body: bytes[end..].to_vec(),
        ..received
    })
}

async fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    bytes.reserve(16 << 10);
    let count = stream.read_buf(bytes).await.ok()?;
    (count > 0).then_some(())
}
