//! HTTP/1.1 as bytes: just enough to tell messages apart without losing how they were written.

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Larger heads are refused by everybody.
const LARGEST_HEAD: usize = 256 * 1024;

/// A head and the body behind it, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line.
    pub first_line: String,
    /// Names and values in their order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The head as it came, up to the empty line.
    pub head: Vec<u8>,
    /// The body as it came, with the sizes of chunks.
    pub framed_body: Vec<u8>,
    /// The body alone.
    pub body: Vec<u8>,
}

impl Message {
    /// The values of a header, in their order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let all = self.headers.iter().filter(|(header, _)| header == name);
        all.map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of a header.
    pub fn value(&self, name: &str) -> Option<&str> {
        match self.values(name)[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// Method and target of a request.
    pub fn request_line(&self) -> (&str, &str) {
        let mut words = self.first_line.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// The status of a response.
    pub fn status(&self) -> Option<u16> {
        self.first_line.split(' ').nth(1)?.parse().ok()
    }

    /// All of it as it came.
    pub fn bytes(&self) -> Vec<u8> {
        [self.head.as_slice(), self.framed_body.as_slice()].concat()
    }
}

/// Reads messages from one side of a connection.
pub struct Reader<R> {
    source: R,
    pending: Vec<u8>,
}

/// What tells how long a body is when its head does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Requests without a length have no body.
    Requests,
    /// Responses without a length end with the connection.
    Responses,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from here.
    pub fn new(source: R) -> Self {
        Self {
            source,
            pending: Vec::new(),
        }
    }

    /// Reads a head; `None` at the end of the connection. Anything else before the empty line is an error.
    pub async fn head(&mut self) -> anyhow::Result<Option<Message>> {
        let end = loop {
            let found = self.pending.windows(4).position(|end| end == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            ensure!(self.pending.len() < LARGEST_HEAD, "the head never ends");
            if self.more().await? == 0 {
                ensure!(self.pending.is_empty(), "the connection ended within a head");
                return Ok(None);
            }
        };
        let head: Vec<u8> = self.pending.drain(..end).collect();
        let text = String::from_utf8_lossy(&head);
        let mut lines = text.trim_end().split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.map(|line| {
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("no header: {line:?}"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Ok(Some(Message {
            first_line,
            headers: headers.collect::<anyhow::Result<_>>()?,
            head: head.clone(),
            ..Message::default()
        }))
    }

    /// Reads the body that belongs to a head.
    pub async fn body(&mut self, message: &mut Message, side: Side) -> anyhow::Result<()> {
        if message.values("transfer-encoding") == ["chunked"] {
            return self.chunks(message).await;
        }
        if let Some(length) = message.value("content-length") {
            message.body = self.take(length.parse()?).await?;
        } else if side == Side::Responses && !matches!(message.status(), Some(100..=199 | 204 | 304)) {
            while self.more().await? > 0 {}
            message.body = std::mem::take(&mut self.pending);
        }
        message.framed_body.clone_from(&message.body);
        Ok(())
    }

    async fn chunks(&mut self, message: &mut Message) -> anyhow::Result<()> {
        loop {
            let line = self.line().await?;
            message.framed_body.extend_from_slice(&line);
            let text = String::from_utf8_lossy(&line);
            let size = text.trim_end().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).with_context(|| format!("no size: {size:?}"))?;
            if size == 0 {
                break;
            }
            let chunk = self.take(size + 2).await?;
            message.framed_body.extend_from_slice(&chunk);
            message.body.extend_from_slice(&chunk[..size]);
        }
        loop {
            let line = self.line().await?;
            message.framed_body.extend_from_slice(&line);
            if line == b"\r\n" {
                return Ok(());
            }
        }
    }

    /// A line of a body, such as one of an event; `None` at the end of the connection.
    pub async fn next_chunk(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        if self.pending.is_empty() && self.more().await? == 0 {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.pending)))
    }

    async fn line(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.pending.windows(2).position(|end| end == b"\r\n") {
                return Ok(self.pending.drain(..at + 2).collect());
            }
            if self.more().await? == 0 {
                bail!("the connection ended within a chunk");
            }
        }
    }

    async fn take(&mut self, length: usize) -> anyhow::Result<Vec<u8>> {
        while self.pending.len() < length {
            if self.more().await? == 0 {
                bail!("the connection ended within a body");
            }
        }
        Ok(self.pending.drain(..length).collect())
    }

    /// What is left after the last message that was read.
    pub fn rest(&self) -> &[u8] {
        &self.pending
    }

    /// Completes when the other side has closed the connection. What it sends before stays to be read.
    pub async fn closed(&mut self) {
        while matches!(self.more().await, Ok(1..)) {}
    }

    async fn more(&mut self) -> anyhow::Result<usize> {
        self.pending.reserve(16 * 1024);
        Ok(self.source.read_buf(&mut self.pending).await?)
    }
}
