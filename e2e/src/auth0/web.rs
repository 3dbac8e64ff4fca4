//! How the tenant fetches what clients publish.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use url::Url;

use crate::pki::Trust;

/// The web as far as it exists for the tenant: names that a test has given an address.
pub(super) struct Web {
    trust: Trust,
    hosts: Mutex<BTreeMap<String, SocketAddr>>,
}

impl Web {
    pub(super) fn new(trust: &Trust) -> Self {
        Self {
            trust: trust.clone(),
            hosts: Mutex::default(),
        }
    }

    pub(super) fn publish(&self, host: &str, address: SocketAddr) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(host.to_owned(), address);
    }

    /// The bytes at an address, at most so many. It follows no redirect.
    pub(super) async fn fetch(&self, url: &Url, most: usize) -> Result<Vec<u8>, String> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let address = {
            let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.get(&host).copied()
        };
        let address = address.ok_or_else(|| format!("getaddrinfo ENOTFOUND {host}"))?;
        let client = self.trust.http_client().map_err(|error| error.to_string())?;
        let client = client.resolve(&host, address).build();
        let client = client.map_err(|error| error.to_string())?;
        let answer = client.get(url.clone()).send().await;
        let mut answer = answer.map_err(|error| error.without_url().to_string())?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!("Unexpected status {}", answer.status().as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > most {
                return Err(format!("The response is larger than {most} bytes"));
            }
        }
        Ok(bytes)
    }
}
