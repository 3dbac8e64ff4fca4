//! The other replicas of this gate.

use std::{io, net::SocketAddr, time::Duration};

use http::HeaderValue;
use reqwest::Client;
use tokio::{net::lookup_host, sync::Mutex, time::Instant};

use super::RELAYED;
use crate::{
    handles::HANDLE,
    outbound::{self, OutboundError, Reply, TIMEOUT},
};

/// A peer may have to ask the authorization server, which takes up to [`TIMEOUT`].
const PATIENCE: Duration = TIMEOUT.saturating_add(Duration::from_secs(1));
/// How long the addresses of a name are taken for true.
const FRESH: Duration = Duration::from_secs(10);
/// How often a name is resolved at most because an address is not among them.
const PAUSE: Duration = Duration::from_secs(1);
const MOST_BYTES: usize = 1024 * 1024;

/// The replicas behind a name. Only they are ever shown a handle.
#[derive(Debug)]
pub struct Peers {
    name: String,
    http: Client,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    since: Option<Instant>,
    /// Whether these are older than they should be, because nobody could say.
    stale: bool,
}

/// Nobody can say at the moment whether an address is one of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replicas cannot be looked up")]
pub(super) struct Unresolved;

impl Peers {
    /// `name` is `host:port`: the headless Service of the replicas, and the port of their tokens faces.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(name: &str) -> Result<Self, OutboundError> {
        Ok(Self {
            name: name.to_owned(),
            http: outbound::client(None, PATIENCE)?,
            known: Mutex::default(),
        })
    }

    /// Whether this is the address of a replica, port included. Those that were known stay when nobody answers.
    ///
    /// # Errors
    /// [`Unresolved`]: it is none that was known, but there may be others.
    pub(super) async fn contains(&self, address: SocketAddr) -> Result<bool, Unresolved> {
        let mut known = self.known.lock().await;
        let age = known.since.map_or(Duration::MAX, |since| since.elapsed());
        let is_among = |known: &Known| known.addresses.iter().any(|peer| same(*peer, address));
        let answer = |known: &Known| match is_among(known) {
            false if known.stale => Err(Unresolved),
            is_among => Ok(is_among),
        };
        if age < PAUSE || (age < FRESH && is_among(&known)) {
            return answer(&known);
        }
        known.since = Some(Instant::now());
        let resolved = self.resolve().await;
        known.stale = resolved.is_err();
        match resolved {
            Ok(addresses) => known.addresses = addresses,
            Err(error) => {
                tracing::warn!(%error, name = self.name, "the name of the replicas led to no address");
            }
        }
        answer(&known)
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::time::timeout(TIMEOUT, lookup_host(&self.name)).await;
        Ok(found.map_err(|_| io::ErrorKind::TimedOut)??.collect())
    }

    /// Shows a handle to the replica that minted it.
    pub(super) async fn show(
        &self,
        peer: SocketAddr,
        policy: &str,
        handle: &HeaderValue,
    ) -> Result<Reply, OutboundError> {
        let mut handle = handle.clone();
        handle.set_sensitive(true);
        let request = self
            .http
            .post(counter(peer, policy))
            .header(&HANDLE, handle)
            .header(&RELAYED, "1");
        outbound::send(request, MOST_BYTES).await
    }
}

/// Where a replica sells what a policy says.
fn counter(peer: SocketAddr, policy: &str) -> String {
    format!("http://{peer}/token/{policy}")
}

fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip().to_canonical() == other.ip().to_canonical() && one.port() == other.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replica_is_known_by_its_address_in_either_family() {
        for (name, address, url) in [
            (
                "10.0.0.1:8082",
                "10.0.0.1:8082",
                "http://10.0.0.1:8082/token/orders",
            ),
            (
                "10.0.0.1:8082",
                "[::ffff:10.0.0.1]:8082",
                "http://[::ffff:10.0.0.1]:8082/token/orders",
            ),
            (
                "[fd00::1]:8082",
                "[fd00::1]:8082",
                "http://[fd00::1]:8082/token/orders",
            ),
        ] {
            let (peers, address) = (Peers::new(name).unwrap(), address.parse().unwrap());
            assert_eq!(peers.contains(address).await, Ok(true), "{name} {address}");
            assert_eq!(counter(address, "orders"), url);
            assert!(reqwest::Url::parse(url).is_ok());
        }
        let peers = Peers::new("[fd00::1]:8082").unwrap();
        for other in ["[fd00::2]:8082", "[fd00::1]:8081", "10.0.0.1:8082"] {
            assert_eq!(peers.contains(other.parse().unwrap()).await, Ok(false), "{other}");
        }
    }

    #[tokio::test]
    async fn what_was_known_stays_while_nobody_answers() {
        let mut peers = Peers::new("127.0.0.1:8082").unwrap();
        let (known, other) = (
            "127.0.0.1:8082".parse().unwrap(),
            "127.0.0.2:8082".parse().unwrap(),
        );
        assert_eq!(peers.contains(known).await, Ok(true));
        assert_eq!(peers.contains(other).await, Ok(false));
        peers.name = "nowhere.invalid:8082".to_owned();
        let aged = Instant::now().checked_sub(FRESH * 2);
        peers.known.lock().await.since = aged;
        assert_eq!(peers.contains(known).await, Ok(true), "the last that was known");
        assert_eq!(
            peers.contains(other).await,
            Err(Unresolved),
            "it may be a new one"
        );
        peers.name = "127.0.0.2:8082".to_owned();
        peers.known.lock().await.since = aged;
        assert_eq!(peers.contains(known).await, Ok(false), "it is gone");
        assert_eq!(peers.contains(other).await, Ok(true));
    }
}
