//! How the faces that speak HTTP to machines next door are served: the token face and forward-auth.
//!
//! They are not for the world, but whoever can reach them may still be broken or hostile: connections are bounded in
//! number, and none waits for a request for ever.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::accept::accept;

/// What a face bears.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time.
    pub connections: usize,
    /// Time until the head of a connection's next request is there.
    pub header_read: Duration,
    /// Bytes of a head.
    pub header: usize,
}

/// Serves until `stop` completes, and then what is open until it has ended. What goes wrong with a connection is the
/// affair of whoever opened it.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let graceful = GracefulShutdown::new();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_read)
        .max_buf_size(bounds.header);
    tokio::pin!(stop);
    loop {
        let (stream, place) = tokio::select! {
            accepted = accept(&listener, &places, || {}) => accepted,
            () = stop.as_mut() => break,
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(routes.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests {
    use axum::routing;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        sync::oneshot,
        time::{sleep, timeout},
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn face(
        bounds: Bounds,
    ) -> (
        std::net::SocketAddr,
        oneshot::Sender<()>,
        tokio::task::JoinHandle<()>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", routing::get(|| async { "here" })).route(
            "/slow",
            routing::get(|| async {
                sleep(Duration::from_millis(300)).await;
                "late"
            }),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap_or_default() };
        let serving = tokio::spawn(async move { serve(listener, routes, bounds, stopped).await });
        (address, stop, serving)
    }

    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read(stream).await
    }

    /// What comes next; empty at the end.
    async fn read(stream: &mut TcpStream) -> String {
        let mut buffer = [0; 1024];
        let length = timeout(PATIENCE, stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap_or(0);
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn connections_are_bounded_and_idle_ones_make_room() {
        let bounds = Bounds {
            connections: 1,
            header_read: Duration::from_millis(200),
            header: 32 << 10,
        };
        let (address, _stop, _) = face(bounds).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut first, "/").await.ends_with("here"));
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(read(&mut second).await, "", "there is no room");
        first.write_all(b"GET / HT").await.unwrap();
        let refused = read(&mut first).await;
        assert!(
            !refused.contains("200"),
            "half a head is not waited for: {refused}"
        );
        sleep(Duration::from_millis(50)).await;
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut third, "/").await.ends_with("here"));
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let bounds = Bounds {
            connections: 1,
            header_read: PATIENCE,
            header: 32 << 10,
        };
        let (address, _stop, _) = face(bounds).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let large = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n",
            "x".repeat(64 << 10)
        );
        client.write_all(large.as_bytes()).await.unwrap();
        let refused = read(&mut client).await;
        assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
    }

    #[tokio::test]
    async fn what_is_running_ends_and_what_is_idle_is_not_waited_for() {
        let bounds = Bounds {
            connections: 10,
            header_read: PATIENCE,
            header: 32 << 10,
        };
        let (address, stop, serving) = face(bounds).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut idle, "/").await.ends_with("here"));
        let mut busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        sleep(Duration::from_millis(100)).await;
        stop.send(()).unwrap();
        assert!(read(&mut busy).await.contains("late"));
        assert_eq!(read(&mut idle).await, "");
        timeout(Duration::from_secs(2), serving).await.unwrap().unwrap();
    }
}
