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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use socket2::SockRef;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_that_went_away_without_a_word_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connector = Connector::new(address, Duration::from_secs(5));
        poll_fn(|context| connector.poll_ready(context)).await.unwrap();
        let stream = connector.call(Uri::from_static("http://x/")).await.unwrap();
        let socket = SockRef::from(stream.inner());
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(server::ALIVE));
    }
}
