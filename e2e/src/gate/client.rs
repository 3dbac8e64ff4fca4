//! A client that sends bytes as they are, and gives back every answer that came for them.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::http1::{Message, Reader, Side};

/// Whoever answers takes less.
const PATIENCE: Duration = Duration::from_secs(10);

/// For what ends by itself, on a machine that is busy.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// All that came back on a connection until it was closed.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// The answers, in their order. Interim ones are left out.
    pub answers: Vec<Message>,
    /// Whether the other side closed the connection, rather than keeping it until we lost patience.
    pub closed: bool,
}

/// Sends these bytes on a connection of their own, and reads until the other side closes it. Ask for that with
/// `Connection: close`, or wait as long as `patience`.
pub async fn exchange(address: SocketAddr, bytes: &[u8], patience: Duration) -> anyhow::Result<Replies> {
    let stream = connect(address).await?;
    let (source, mut sink) = stream.into_split();
    let bytes = bytes.to_vec();
    // Side by side: who refuses a large body early does not read the rest of it.
    let writing = tokio::spawn(async move {
        let written = sink.write_all(&bytes).await;
        (sink, written)
    });
    let mut replies = Replies::default();
    let mut reader = Reader::new(source);
    let read = timeout(patience, read_all(&mut reader, &mut replies)).await;
    replies.closed = read.is_ok();
    writing.abort();
    match read {
        // A reset after the answer says no more than a close: our bytes were not wanted.
        Ok(Err(error)) if replies.answers.is_empty() => Err(error),
        _ => Ok(replies),
    }
}

async fn read_all(reader: &mut Reader<OwnedReadHalf>, replies: &mut Replies) -> anyhow::Result<()> {
    while let Some(mut message) = reader.head().await? {
        reader.body(&mut message, Side::Responses).await?;
        if !matches!(message.status(), Some(100..=199)) {
            replies.answers.push(message);
        }
    }
    Ok(())
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await;
    let stream = stream.context("no connection in time")?;
    let stream = stream.with_context(|| format!("no connection to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An answer that is read piece by piece.
pub struct Stream {
    /// The head.
    pub head: Message,
    reader: Reader<OwnedReadHalf>,
    _sink: OwnedWriteHalf,
}

impl Stream {
    /// Sends a request and waits for the head of its answer.
    pub async fn open(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<Self> {
        let (source, mut sink) = connect(address).await?.into_split();
        sink.write_all(bytes).await?;
        let mut reader = Reader::new(source);
        let head = timeout(PATIENCE, reader.head())
            .await
            .context("no head in time")??;
        Ok(Self {
            head: head.context("the connection was closed")?,
            reader,
            _sink: sink,
        })
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let piece = timeout(PATIENCE, self.reader.next_chunk()).await;
        piece.context("nothing came in time")?
    }

    /// Waits for pieces that together hold this text.
    pub async fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        let mut seen = Vec::new();
        while let Some(piece) = self.next().await? {
            seen.extend_from_slice(&piece);
            if String::from_utf8_lossy(&seen).contains(text) {
                return Ok(());
            }
        }
        anyhow::bail!("the answer ended without {text:?}")
    }

    /// Everything that is left until the other side ends the connection, with a reset or without.
    pub async fn rest(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut all = Vec::new();
        let read = async {
            while let Ok(Some(piece)) = self.reader.next_chunk().await {
                all.extend_from_slice(&piece);
            }
        };
        timeout(LONG_PATIENCE, read).await.context("the answer goes on")?;
        Ok(all)
    }

    /// Waits for the end of a chunked answer that is marked as whole.
    pub async fn until_clean_end(&mut self) -> anyhow::Result<()> {
        let rest = self.rest().await?;
        anyhow::ensure!(rest.ends_with(LAST_CHUNK), "the answer was cut off");
        Ok(())
    }
}

/// The end of a chunked body (RFC 9112, 7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
