//! Connections of clients: how many there may be, how long each may be idle, and how they end.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
};

use super::{Proxy, relay::Counted, tls::Tls};
use crate::{config::Timeouts, shutdown::Shutdown};

/// How long a client has to agree to the end of its connection.
const FAREWELL: Duration = Duration::from_secs(1);
/// When a client is asked whether it is still there, and how long it may take what it is sent without taking any of it.
pub(super) const ALIVE: Duration = Duration::from_mins(1);
/// How long no connection is accepted when the process has no more files.
const BREATH: Duration = Duration::from_millis(100);
/// How many requests a client may have open on one HTTP/2 connection.
const MOST_STREAMS: u32 = 128;
const WINDOW: u32 = 256 << 10;

/// Serves connections until asked to stop, and then those that are open until they end or their time is up.
pub async fn run(proxy: Arc<Proxy>, listener: TcpListener, tls: Option<Tls>, shutdown: Shutdown) {
    let most = proxy.parts.limits.connections;
    let places = Arc::new(Semaphore::new(most));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "no connection accepted");
                sleep(BREATH).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&places).try_acquire_owned() else {
            proxy.parts.metrics.connections_refused.inc();
            continue;
        };
        let (proxy, tls, shutdown) = (Arc::clone(&proxy), tls.clone(), shutdown.clone());
        tokio::spawn(async move { start(proxy, stream, tls, permit, shutdown).await });
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
        None => serve(proxy, stream, shutdown).await,
        // Apart, so that plain connections do not take the memory of a handshake.
        Some(tls) => Box::pin(serve_tls(proxy, stream, tls, shutdown)).await,
    }
}

async fn serve_tls(proxy: Arc<Proxy>, stream: TcpStream, tls: Tls, shutdown: Shutdown) {
    match tls.accept(stream, proxy.parts.timeouts.header_read).await {
        Ok(stream) => serve(proxy, stream, shutdown).await,
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

async fn serve<S>(proxy: Arc<Proxy>, stream: S, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = Activity::new();
    let builder = builder(&proxy);
    let service = {
        let activity = activity.clone();
        service_fn(move |request| {
            let (proxy, busy) = (Arc::clone(&proxy), activity.busy());
            // hyper keeps room for it as long as the connection lives, which open streams need not pay for.
            let answer = Box::pin(async move { proxy.serve(request, busy).await });
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    let idle = builder.1;
    let connection = builder.0.serve_connection(TokioIo::new(stream), service);
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

fn builder(proxy: &Proxy) -> (auto::Builder<TokioExecutor>, Duration) {
    let Timeouts { header_read, .. } = proxy.parts.timeouts;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_read)
        .max_buf_size(proxy.parts.limits.header);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(proxy.parts.limits.header).unwrap_or(u32::MAX))
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE / 4);
    (builder, header_read)
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
