//! The bodies of requests: whole or refused, and never left in the way of the next request.

use std::time::Duration;

use http::{HeaderMap, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::time::{Instant, timeout_at};

/// How much of a refused request's body is read, so that the client can read the refusal and keep its connection.
const DRAINED: usize = 1 << 20;
/// How long a client may take for that.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// Room that is made for a body before any of it has come.
const FIRST_ROOM: usize = 64 << 10;

/// Why there is no whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is larger than allowed.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// It ended early, or its framing is broken.
    Broken,
}

/// Reads a body whole.
pub(crate) async fn read(body: &mut Incoming, most: usize, within: Duration) -> Result<Bytes, Unread> {
    let announced = body.size_hint();
    if announced.lower() > most as u64 {
        return Err(Unread::TooLarge);
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let deadline = Instant::now() + within;
    let mut first: Option<Bytes> = None;
    let mut all: Vec<u8> = Vec::new();
    loop {
        let frame = timeout_at(deadline, body.frame())
            .await
            .map_err(|_| Unread::TooSlow)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Unread::Broken)?;
        // Trailers were not judged and go nowhere.
        let Ok(data) = frame.into_data() else { continue };
        let so_far = first.as_ref().map_or(all.len(), Bytes::len);
        if so_far + data.len() > most {
            return Err(Unread::TooLarge);
        }
        match first.take() {
            // Most bodies come in one piece, which needs no copy.
            None if all.is_empty() => first = Some(data),
            earlier => {
                if let Some(earlier) = earlier {
                    let expected = usize::try_from(announced.lower()).unwrap_or(0);
                    all.reserve(expected.clamp(
                        earlier.len() + data.len(),
                        most.min(FIRST_ROOM).max(earlier.len() + data.len()),
                    ));
                    all.extend_from_slice(&earlier);
                }
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| Bytes::from(all)))
}

/// Reads a little of what the client still sends, so that the refusal reaches it: a connection that is closed with bytes
/// unread is reset, and the answer lost. What is left then makes hyper close the connection.
pub(crate) async fn drain(version: Version, headers: &HeaderMap, body: &mut Incoming) {
    // Reading would tell a client that waits for a sign to go ahead.
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
