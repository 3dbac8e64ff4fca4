//! The server behind everything that is measured: it answers at once, and costs as little as can be.

use std::{convert::Infallible, net::Ipv4Addr, process::ExitCode, time::Duration};

use futures::stream;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The variable that makes this program be the server, on the port that it names.
pub(super) const VARIABLE: &str = "MCP_AUTH_BENCH_UPSTREAM";

const ANSWER: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"Echo: hello"}]}}"#;
/// Between two events of a stream: it is open, not busy.
const PAUSE: Duration = Duration::from_secs(30);

/// Serves until it is killed, if this process was started for that.
pub fn serve() -> Option<ExitCode> {
    let port: u16 = std::env::var(VARIABLE).ok()?.parse().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.map(|runtime| runtime.block_on(accept(port)));
    Some(if matches!(served, Ok(Ok(()))) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn accept(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service_fn(answer)));
    }
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, hyper::Error> {
    let is_stream = request.method() == Method::GET;
    request.into_body().collect().await?;
    let (kind, body) = if is_stream {
        let events = stream::unfold(true, |first| async move {
            if !first {
                tokio::time::sleep(PAUSE).await;
            }
            let event = Frame::data(Bytes::from_static(b": open\n\n"));
            Some((Ok::<_, Infallible>(event), false))
        });
        ("text/event-stream", StreamBody::new(events).boxed_unsync())
    } else {
        (
            "application/json",
            Full::new(Bytes::from_static(ANSWER.as_bytes())).boxed_unsync(),
        )
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    Ok(response)
}
