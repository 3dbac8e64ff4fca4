//! Connections of clients: how many there may be, how long each may be idle, and how they end.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Version;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use mcp_auth_cli::shutdown::Shutdown;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Proxy, relay::Counted, tls::Tls};
use crate::accept::accept;

/// How long a client has to agree to the end of its connection.
const FAREWELL: Duration = Duration::from_secs(1);
/// When a client is asked whether it is still there, and how long it may take what it is sent without taking any of it.
pub(super) const ALIVE: Duration = Duration::from_mins(1);

/// How long the rest of what began is not looked for again.
const BREATH: Duration = Duration::from_millis(100);
/// How many requests a client may have open on one HTTP/2 connection.
const MOST_STREAMS: u32 = 128;
/// What HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const WINDOW: u32 = 256 << 10;

/// Serves connections until asked to stop, and then those that are open until they end or their time is up.
pub async fn run(proxy: Arc<Proxy>, listener: TcpListener, tls: Option<Tls>, shutdown: Shutdown) {
    let most = proxy.parts.limits.connections;
    let places = Arc::new(Semaphore::new(most));
    loop {
        let refused = || {
            proxy.parts.metrics.connections_refused.inc();
        };
        let (stream, place) = tokio::select! {
            accepted = accept(&listener, &places, refused) => accepted,
            () = shutdown.requested() => break,
        };
        let (proxy, tls, shutdown) = (Arc::clone(&proxy), tls.clone(), shutdown.clone());
        tokio::spawn(async move { start(proxy, stream, tls, place, shutdown).await });
    }
    drop(listener);
    let all = u32::try_from(most).unwrap_or(u32::MAX);
    tokio::select! {
        _ = places.acquire_many(all) => {}
        () = shutdown.forced() => {}
    }
}

async fn start(
    proxy: Arc<Proxy>,
    stream: TcpStream,
    tls: Option<Tls>,
    _place: OwnedSemaphorePermit,
    shutdown: Shutdown,
) {
    let _counted = Counted::new(&proxy.parts.metrics.connections);
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, "a connection was gone at once");
        return;
    }
    match tls {
        None => {
            let seen = timeout(proxy.parts.timeouts.header_read, version(&stream));
            let seen = tokio::select! {
                biased;
                seen = seen => seen,
                () = shutdown.requested() => return,
            };
            if let Ok(Ok(version)) = seen {
                serve(proxy, stream, version, shutdown).await;
            }
        }
        // Apart, so that plain connections do not take the memory of a handshake.
        Some(tls) => Box::pin(serve_tls(proxy, stream, tls, shutdown)).await,
    }
}

async fn serve_tls(proxy: Arc<Proxy>, stream: TcpStream, tls: Tls, shutdown: Shutdown) {
    match tls.accept(stream, proxy.parts.timeouts.header_read).await {
        Ok(stream) => {
            let version = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Version::HTTP_2,
                _ => Version::HTTP_11,
            };
            serve(proxy, stream, version, shutdown).await;
        }
        Err(error) => tracing::debug!(%error, "no TLS connection came about"),
    }
}

/// Events go out at once; whoever went away without a word, or takes nothing of what it is sent, is found out.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(ALIVE).with_interval(ALIVE / 4))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(ALIVE))?;
    Ok(())
}

/// What the client speaks, without taking any of it. hyper could tell, too, but then reads in two parts, for which its
/// buffer grows to twice the size, for as long as the connection lives.
async fn version(stream: &TcpStream) -> io::Result<Version> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await?;
        if count == 0 || !PREFACE.starts_with(&seen[..count]) {
            return Ok(Version::HTTP_11);
        }
        if count == PREFACE.len() {
            return Ok(Version::HTTP_2);
        }
        sleep(BREATH).await;
    }
}

async fn serve<S>(proxy: Arc<Proxy>, stream: S, version: Version, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = Activity::new();
    let service = {
        let (proxy, activity) = (Arc::clone(&proxy), activity.clone());
        service_fn(move |request| {
            let (proxy, busy) = (Arc::clone(&proxy), activity.busy());
            // hyper keeps room for it as long as the connection lives, which open streams need not pay for.
            let answer = Box::pin(async move { proxy.serve(request, busy).await });
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    let stream = TokioIo::new(stream);
    let idle = proxy.parts.timeouts.header_read;
    if version == Version::HTTP_2 {
        let connection = http2(&proxy).serve_connection(stream, service);
        Box::pin(attend(connection, &activity, idle, &shutdown)).await;
    } else {
        let connection = http1(&proxy).serve_connection(stream, service);
        attend(connection, &activity, idle, &shutdown).await;
    }
}

/// Serves until the connection ends, was idle for so long, or the gate stops.
async fn attend(
    connection: impl GracefulConnection,
    activity: &Activity,
    idle: Duration,
    shutdown: &Shutdown,
) {
    tokio::pin!(connection);
    tokio::select! {
        // How a client ended its connection is its own affair.
        _ = connection.as_mut() => return,
        () = activity.idle_for(idle, Instant::now()) => {}
        () = shutdown.requested() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection.as_mut() => {}
        // Whoever keeps a connection without a request does not have to be waited for.
        () = activity.idle_for(FAREWELL, Instant::now()) => {}
        () = shutdown.forced() => {}
    }
}

fn http1(proxy: &Proxy) -> http1::Builder {
    let most = proxy.parts.limits.header;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(proxy.parts.timeouts.header_read)
        .max_header_size(most)
        .max_buf_size(most);
    builder
}

fn http2(proxy: &Proxy) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(proxy.parts.limits.header).unwrap_or(u32::MAX))
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE / 4);
    builder
}

/// Whether a connection has requests, and since when it has none. hyper tells idle connections of HTTP/1 by itself, but
/// not those of HTTP/2, nor those that have not said which they are.
#[derive(Clone, Debug)]
struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    requests: usize,
    idle_since: Instant,
}

/// A request of a connection, until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Activity);

impl Activity {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            requests: 0,
            idle_since: Instant::now(),
        })))
    }

    fn busy(&self) -> Busy {
        self.with(|state| state.requests += 1);
        Busy(self.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Completes when there was no request for so long, beginning `from` then.
    async fn idle_for(&self, long: Duration, from: Instant) {
        loop {
            let due = self.with(|state| match state.requests {
                0 => state.idle_since.max(from) + long,
                _ => Instant::now() + long,
            });
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.requests -= 1;
            state.idle_since = Instant::now();
        });
    }
}
