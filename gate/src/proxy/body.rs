//! Bodies: whole or refused, and never left in the way of the next request.

use std::time::Duration;

use http::{HeaderMap, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::time::{Instant, timeout_at};

use super::budget::{Exhausted, Share};

/// How much of a refused request's body is read, so that the client can read the refusal and keep its connection.
const DRAINED: usize = 1 << 20;
/// How long a client may take for that.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Why there is no whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is larger than allowed.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// It ended early, or its framing is broken.
    Broken,
    /// Too much of others is in memory.
    Exhausted,
}

impl From<Exhausted> for Unread {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

/// Reads a body whole, into `share` of the memory.
pub(crate) async fn read(
    body: &mut Incoming,
    most: usize,
    within: Duration,
    share: &mut Share,
) -> Result<Bytes, Unread> {
    let announced = body.size_hint();
    if announced.lower() > most as u64 {
        return Err(Unread::TooLarge);
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let deadline = Instant::now() + within;
    // Most bodies come in one piece, which needs no copy.
    let mut first = Bytes::new();
    let mut all: Vec<u8> = Vec::new();
    loop {
        let frame = timeout_at(deadline, body.frame())
            .await
            .map_err(|_| Unread::TooSlow)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Unread::Broken)?;
        // Trailers were not judged and go nowhere.
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len() + all.len() + data.len();
        if length > most {
            return Err(Unread::TooLarge);
        }
        share.resize(length)?;
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// Reads a little of what the client still sends, so that the refusal reaches it: a connection that is closed with bytes
/// unread is reset, and the answer lost. What is left then makes hyper close the connection.
pub(crate) async fn drain(version: Version, headers: &HeaderMap, body: &mut Incoming) {
    // Reading would tell a client that waits for a sign to go ahead. A stream of HTTP/2 ends without the connection.
    if body.is_end_stream() || headers.contains_key(header::EXPECT) || version == Version::HTTP_2 {
        return;
    }
    let deadline = Instant::now() + DRAIN_TIME;
    let mut left = DRAINED;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        match frame
            .data_ref()
            .map_or(Some(left), |data| left.checked_sub(data.len()))
        {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
