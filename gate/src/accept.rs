//! Connections are taken as long as there are places for them.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// How long nothing is accepted when the process has no more files.
const BREATH: Duration = Duration::from_millis(100);

/// The next connection, with its place. Beyond the places connections are closed at once, and `refused` is told: a queue
/// would only hide that there are too many.
pub(crate) async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    refused: impl Fn(),
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match Arc::clone(places).try_acquire_owned() {
                Ok(place) => return (stream, place),
                Err(_) => refused(),
            },
            Err(error) => {
                tracing::debug!(%error, "no connection accepted");
                sleep(BREATH).await;
            }
        }
    }
}
