//! Single requests of stories that are no rows.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use mcp_auth_e2e::gate::{client, http1::Message};

const PATIENCE: Duration = Duration::from_secs(15);

/// A POST of this message to the endpoint, with these headers.
pub(crate) fn post(token: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    written("POST", token, headers, body)
}

/// A request without a body.
pub(crate) fn bare(method: &str, token: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    written(method, token, headers, "")
}

fn written(method: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut lines = vec![
        format!("{method} /a/mcp HTTP/1.1"),
        "host: mcp.example".to_owned(),
        "accept: application/json, text/event-stream".to_owned(),
        format!("authorization: Bearer {token}"),
        "connection: close".to_owned(),
    ];
    if !body.is_empty() {
        lines.push("content-type: application/json".to_owned());
        lines.push(format!("content-length: {}", body.len()));
    }
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
}

/// The one answer to a request.
pub(crate) async fn answer(address: SocketAddr, request: &[u8]) -> anyhow::Result<Message> {
    let replies = client::exchange(address, request, PATIENCE).await?;
    replies.answers.into_iter().next().context("no answer")
}

/// The status of that answer.
pub(crate) async fn status(address: SocketAddr, request: &[u8]) -> anyhow::Result<u16> {
    answer(address, request).await?.status().context("no status")
}
