//! Connections to one address, whatever the request's URL says.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tower::Service;

use super::server;

/// Connects to one address.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    address: SocketAddr,
    within: Duration,
}

impl Connector {
    pub(crate) fn new(address: SocketAddr, within: Duration) -> Self {
        Self { address, within }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, within } = *self;
        Box::pin(async move {
            let stream = timeout(within, TcpStream::connect(address)).await??;
            server::prepare(&stream)?;
            Ok(TokioIo::new(stream))
        })
    }
}
