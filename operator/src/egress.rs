//! The one way out: every URL that a user chose is fetched through here.
//!
//! The operator sits in a trusted place of the network and holds credentials; a URL in a resource must not make it
//! speak to what its author could not reach. So a client made here
//!
//! - speaks https only, unless a flag says otherwise, and follows no redirect;
//! - checks the address that it connects to, not the name: the check is part of name resolution, so a name that
//!   resolves differently the second time gains nothing, and an address written into the URL is checked before;
//! - gives up after five seconds and one mebibyte, counted while the body arrives;
//! - uses no proxy from the environment;
//! - repeats in its errors nothing that the other side sent, nor the URL.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, header::HeaderMap, redirect};
use serde::de::DeserializeOwned;
use url::{Host, Url};

mod address;
pub mod cluster;
mod error;
mod resolver;
#[cfg(test)]
mod tests;

use address::translated;
pub use address::{AddressClass, classify};
pub use error::{EgressError, Refusal, TlsProblem};
use resolver::CheckingResolver;

/// How long a whole exchange may take, body included, unless a client is made with another limit.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// How many bytes of a body are read: 1 MiB.
pub const MAX_BODY: usize = 1024 * 1024;

/// An idle connection is not reused after this, so that a check of its address never gets old.
const IDLE: Duration = Duration::from_secs(30);

/// What URLs that users choose may lead to, as the flags say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Plain http is allowed.
    pub allow_http: bool,
    /// URLs from tenants may lead to private address ranges.
    pub allow_private_for_tenants: bool,
    /// Development only: loopback addresses and the cluster's own machines are allowed.
    pub insecure_allow_loopback: bool,
}

/// Whose URL it is, which decides about private address ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A platform admin wrote it into an AuthorizationServer.
    AuthorizationServer,
    /// A tenant wrote it.
    Tenant,
    /// The operator made it of the address of a pod, as the pod's status says it.
    Pod,
}

/// The addresses of the cluster's nodes and API server, which no URL may lead to. A clone shares the set.
#[derive(Clone, Debug, Default)]
pub struct ClusterAddresses(Arc<RwLock<HashSet<IpAddr>>>);

impl ClusterAddresses {
    /// Replaces the set.
    pub fn replace(&self, addresses: HashSet<IpAddr>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Whether the address leads to one of the cluster's machines, be it by a translation on the way.
    pub fn contains(&self, address: IpAddr) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.contains(&address.to_canonical())
            || translated(address).is_some_and(|address| known.contains(&address.into()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What may be reached on behalf of one audience.
#[derive(Clone, Debug)]
struct Rules {
    policy: EgressPolicy,
    audience: Audience,
    cluster: ClusterAddresses,
}

impl Rules {
    /// Whether plain http will do: what a pod of ours says has no secrets, and no certificate could name its address.
    fn allows_http(&self) -> bool {
        self.policy.allow_http || self.audience == Audience::Pod
    }

    /// Whether a connection to `address` is allowed.
    fn check_address(&self, address: IpAddr) -> Result<(), Refusal> {
        let class = classify(address);
        let development = self.policy.insecure_allow_loopback;
        if class == AddressClass::Loopback && development {
            return Ok(());
        }
        if self.cluster.contains(address) && !development {
            return Err(Refusal::Cluster);
        }
        let private_allowed = self.audience != Audience::Tenant || self.policy.allow_private_for_tenants;
        match class {
            AddressClass::Public => Ok(()),
            AddressClass::Private if private_allowed => Ok(()),
            class => Err(Refusal::Address(class)),
        }
    }

    /// Whether `url` may be asked for at all, as far as its text can tell.
    fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        match url.scheme() {
            "https" => {}
            "http" if self.allows_http() => {}
            _ => return Err(Refusal::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Userinfo);
        }
        match url.host() {
            // Checked when it is resolved.
            Some(Host::Domain(_)) => Ok(()),
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
            None => Err(Refusal::NoHost),
        }
    }
}

/// Makes clients for URLs that users chose. A clone shares the cluster's addresses.
#[derive(Clone, Debug)]
pub struct Egress {
    policy: EgressPolicy,
    cluster: ClusterAddresses,
}

impl Egress {
    /// A way out under `policy`, with no address of the cluster known yet.
    pub fn new(policy: EgressPolicy) -> Self {
        Self {
            policy,
            cluster: ClusterAddresses::default(),
        }
    }

    /// The set of the cluster's own addresses, to keep up to date.
    pub fn cluster_addresses(&self) -> &ClusterAddresses {
        &self.cluster
    }

    /// Whether a connection to `address` is allowed on behalf of `audience`.
    pub fn allows(&self, audience: Audience, address: IpAddr) -> bool {
        self.rules(audience).check_address(address).is_ok()
    }

    fn rules(&self, audience: Audience) -> Rules {
        Rules {
            policy: self.policy,
            audience,
            cluster: self.cluster.clone(),
        }
    }

    /// A client for URLs of `audience`, which trusts the platform's authorities and those in `ca_bundle` (PEM).
    ///
    /// It keeps connections: make it once per authorization server and bundle, not once per call.
    ///
    /// # Errors
    /// [`EgressError::CaBundle`] if the bundle holds no certificate or one that cannot be read.
    pub fn client(&self, audience: Audience, ca_bundle: Option<&[u8]>) -> Result<EgressClient, EgressError> {
        self.client_with_timeout(audience, ca_bundle, TIMEOUT)
    }

    /// As [`Self::client`], with another limit for a whole exchange.
    pub fn client_with_timeout(
        &self,
        audience: Audience,
        ca_bundle: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<EgressClient, EgressError> {
        let rules = self.rules(audience);
        let authorities = ca_bundle.map_or(Ok(Vec::new()), authorities)?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("mcp-auth-operator/", env!("CARGO_PKG_VERSION")))
            .https_only(!rules.allows_http())
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .dns_resolver(CheckingResolver::new(rules.clone()))
            .timeout(timeout)
            .connect_timeout(timeout)
            .pool_idle_timeout(IDLE)
            .tls_certs_merge(authorities)
            .build()
            .map_err(|_| {
                if ca_bundle.is_some() {
                    EgressError::CaBundle
                } else {
                    EgressError::Client
                }
            })?;
        Ok(EgressClient { http, rules })
    }
}

/// The certificates of a PEM bundle; at least one.
fn authorities(bundle: &[u8]) -> Result<Vec<Certificate>, EgressError> {
    match Certificate::from_pem_bundle(bundle) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(EgressError::CaBundle),
    }
}

/// An HTTP client that refuses to go where it must not. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct EgressClient {
    http: reqwest::Client,
    rules: Rules,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status, which is no redirect.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, at most [`MAX_BODY`] bytes.
    pub body: Vec<u8>,
}

impl EgressClient {
    /// Begins a request, to be given headers and a body and then to [`Self::send`] or [`Self::fetch`].
    ///
    /// # Errors
    /// [`EgressError::Refused`] for a URL that must not be asked for.
    pub fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, EgressError> {
        self.rules.check_url(url).map_err(EgressError::Refused)?;
        Ok(self.http.request(method, url.clone()))
    }

    /// Sends a request and returns the answer as soon as its headers are there; read it with [`read_bounded`].
    ///
    /// # Errors
    /// When there is no answer, or a redirect.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, EgressError> {
        // The request is taken apart once more: a builder can come from elsewhere.
        let (_, request) = request.build_split();
        let request = request.map_err(|error| EgressError::of(&error))?;
        self.rules
            .check_url(request.url())
            .map_err(EgressError::Refused)?;
        let response = self
            .http
            .execute(request)
            .await
            .map_err(|error| EgressError::of(&error))?;
        // 304 answers a conditional request and leads nowhere.
        if response.status().is_redirection() && response.status() != StatusCode::NOT_MODIFIED {
            return Err(EgressError::Redirect);
        }
        Ok(response)
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// When there is no answer, a redirect, or more than [`MAX_BODY`].
    pub async fn fetch(&self, request: RequestBuilder) -> Result<Answer, EgressError> {
        let mut response = self.send(request).await?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        Ok(Answer {
            status,
            headers,
            body: read_bounded(response, MAX_BODY).await?,
        })
    }

    /// Gets `url`.
    ///
    /// # Errors
    /// As [`Self::fetch`], and for a URL that must not be asked for.
    pub async fn get(&self, url: &Url) -> Result<Answer, EgressError> {
        self.fetch(self.request(Method::GET, url)?).await
    }

    /// Gets `url` and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`Self::get`], for a status other than 2xx, and for what is not a `T` in JSON.
    pub async fn get_json<T: DeserializeOwned>(&self, url: &Url) -> Result<T, EgressError> {
        let request = self
            .request(Method::GET, url)?
            .header(reqwest::header::ACCEPT, "application/json");
        let answer = self.fetch(request).await?;
        if !answer.status.is_success() {
            return Err(EgressError::Status(answer.status.as_u16()));
        }
        // The decoder's own message would quote the answer.
        serde_json::from_slice(&answer.body).map_err(|_| EgressError::NotJson)
    }
}

/// Reads a body of at most `max` bytes, and stops reading as soon as there are more.
///
/// # Errors
/// [`EgressError::TooLarge`], or what interrupted it.
pub async fn read_bounded(mut response: Response, max: usize) -> Result<Vec<u8>, EgressError> {
    let too_large = EgressError::TooLarge { limit: max };
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |announced| announced > max) {
        return Err(too_large);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| EgressError::of(&error))? {
        if body.len() + chunk.len() > max {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
