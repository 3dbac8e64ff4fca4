//! The client of reconcilers: every call ends in time, and no write is sent, or goes on, without the lease.
//!
//! A watch would be cut off like anything else: watches have a client of their own.

use std::{future::Future, time::Duration};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use thiserror::Error;
use tokio::time::timeout;
use tower::service_fn;

use crate::lease::Leadership;

/// How long the API server may take for one answer, body included.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unanswered {
    /// It is a write, and this replica does not lead, or led no more before the answer came.
    #[error("this replica does not lead")]
    NotLeading,
    /// The API server was too slow. What was asked for may have happened.
    #[error("no answer in time")]
    Late,
}

impl Unanswered {
    /// What a client made by [`bounded`] says of itself in an error.
    pub fn of(error: &kube::Error) -> Option<Self> {
        match error {
            kube::Error::Service(cause) => cause.downcast_ref().copied(),
            _ => None,
        }
    }
}

/// A client that asks through `client` and waits for no answer longer than it should.
pub(super) fn bounded(client: Client, leadership: Leadership) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = service_fn(move |request: Request<Body>| {
        let (client, leadership) = (client.clone(), leadership.clone());
        async move {
            let reads = request.method() == Method::GET;
            let call = in_time(whole(client, request));
            if reads {
                return call.await;
            }
            let answer = leadership.while_held(call).await;
            answer.unwrap_or_else(|| Err(failed(Unanswered::NotLeading)))
        }
    });
    Client::new(service, namespace)
}

/// The answer with all of its body: a limit that ends with the headers would be none.
async fn whole(client: Client, request: Request<Body>) -> kube::Result<Response<Body>> {
    let (head, body) = client.send(request).await?.into_parts();
    let body = body.collect_bytes().await?;
    Ok(Response::from_parts(head, Body::from(body)))
}

async fn in_time<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let answer = timeout(PATIENCE, call).await;
    answer.unwrap_or_else(|_| Err(failed(Unanswered::Late)))
}

fn failed(why: Unanswered) -> kube::Error {
    kube::Error::Service(Box::new(why))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::stream;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, api::PostParams};
    use tokio::time::Instant;

    use super::*;
    use crate::{controllers::halt::Halt, error::Error};

    /// What a server does that gives no whole answer.
    #[derive(Clone, Copy, Debug)]
    enum Hangs {
        AtOnce,
        InTheBody,
    }

    /// Config maps of such a server, and how many calls it got.
    fn hanging(hangs: Hangs, leadership: Leadership) -> (Api<ConfigMap>, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let service = service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                if matches!(hangs, Hangs::AtOnce) {
                    std::future::pending::<()>().await;
                }
                let silence = stream::pending::<Result<Vec<u8>, std::io::Error>>();
                Ok::<_, std::io::Error>(Response::new(axum::body::Body::from_stream(silence)))
            }
        });
        let client = bounded(Client::new(service, "default"), leadership);
        (Api::namespaced(client, "n"), calls)
    }

    fn name(name: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_holds_nobody_up() {
        for hangs in [Hangs::AtOnce, Hangs::InTheBody] {
            let (maps, calls) = hanging(hangs, Leadership::uncontested());
            let began = Instant::now();
            let read = Error::from(maps.get("m").await.unwrap_err());
            assert_eq!(
                (read.reason(), began.elapsed().as_secs()),
                ("Unreachable", 10),
                "{hangs:?}"
            );
            assert!(Halt::from(read).is_transient());
            let written = maps.create(&PostParams::default(), &name("m")).await;
            assert_eq!(Error::from(written.unwrap_err()).reason(), "Unreachable");
            assert_eq!((calls.load(Ordering::SeqCst), began.elapsed().as_secs()), (2, 20));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_ends_with_the_lease_and_a_read_does_not() {
        let began = Instant::now();
        let (maps, _) = hanging(Hangs::AtOnce, Leadership::until(began + Duration::from_secs(4)));
        let written = maps.create(&PostParams::default(), &name("m")).await;
        assert_eq!(Error::from(written.unwrap_err()).reason(), "NotLeading");
        assert_eq!(began.elapsed().as_secs(), 4);
        maps.get("m").await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), 14);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_without_the_lease_is_not_sent() {
        let (maps, calls) = hanging(Hangs::AtOnce, Leadership::lost());
        let written = maps.create(&PostParams::default(), &name("m")).await;
        assert!(matches!(Error::from(written.unwrap_err()), Error::NotLeading));
        assert_eq!(calls.load(Ordering::SeqCst), 0);
    }
}
