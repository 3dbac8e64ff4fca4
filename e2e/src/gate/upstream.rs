//! An MCP server that writes down every byte it gets, and answers as the request asks it to.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::http1::{Message, Reader, Side};

mod answers;
mod faults;

/// The header by which a request asks for an answer other than JSON. `events` is one for each
/// [`Upstream::send_event`], `endless` events without end, `all` one for each [`Upstream::send_to_all`], and `held` JSON
/// at the next of those; `session`, `silence`, `break` and `late` say it, and the rest are the faults of
/// [`faults::NAMES`].
pub const ANSWER: &str = "x-answer";

/// Longer than anybody takes to go away.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many events an answer of events has.
pub const EVENTS: usize = 3;

/// The session id that it gives out when asked for one.
pub const SESSION: &str = "session-of-the-server";

/// The server. It ends when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    requests: Mutex<Vec<Message>>,
    events: Semaphore,
    /// How many events were sent to all.
    to_all: watch::Sender<usize>,
    /// How many answers clients went away from.
    left: watch::Sender<usize>,
}

impl Upstream {
    /// Starts one on a port of 127.0.0.1.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts one at this address, where another may have been before.
    pub async fn start_at(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            events: Semaphore::new(0),
            to_all: watch::Sender::new(0),
            left: watch::Sender::new(0),
        });
        let serving = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                // They end with the listener.
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move { serve(stream, &shared).await });
                    while connections.try_join_next().is_some() {}
                }
            }
        });
        Ok(Self {
            address,
            shared,
            serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends the next event of an answer that consists of them.
    pub fn send_event(&self) {
        self.shared.events.add_permits(1);
    }

    /// Sends the next event of every answer that was asked for with `all`, and every one that is `held`.
    pub fn send_to_all(&self) {
        self.shared.to_all.send_modify(|sent| *sent += 1);
    }

    /// Waits until clients have gone away from so many answers that were not over.
    pub async fn until_left(&self, count: usize) -> anyhow::Result<()> {
        let mut left = self.shared.left.subscribe();
        let reached = timeout(PATIENCE, left.wait_for(|left| *left >= count)).await;
        let seen = *self.shared.left.borrow();
        reached.with_context(|| format!("clients left {seen} answers, not {count}"))??;
        Ok(())
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Message> {
        self.shared
            .requests
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

async fn serve(stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let (source, mut sink) = stream.into_split();
    let mut reader = Reader::new(source);
    let note = |message: Message| {
        let mut all = shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(message);
    };
    loop {
        match next(&mut reader).await {
            Ok(Some(request)) => {
                note(request.clone());
                let answered = tokio::select! {
                    answered = answers::answer(&request, &mut sink, shared) => answered.is_ok(),
                    () = reader.closed() => {
                        shared.left.send_modify(|left| *left += 1);
                        false
                    }
                };
                if !answered {
                    return;
                }
            }
            Ok(None) => return,
            // A connection that broke while nothing was on it brought no request.
            Err(_) if reader.rest().is_empty() => return,
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
