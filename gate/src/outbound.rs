//! The one way out to the authorization server.
//!
//! The addresses come from the policy file, which the operator writes from what the authorization server's metadata
//! say. A client trusts the authorities that were compiled in (`webpki-roots`: the image has no certificates) and those
//! of the policy's CA bundle; speaks https only, plain http to loopback hosts or where a flag allows it; follows no
//! redirect; gives up after five seconds; and reads no more than it was asked to.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderValue, StatusCode, header};
use reqwest::{Client, RequestBuilder, redirect};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use url::{Host, Url};

#[cfg(test)]
mod tests;

/// How long a whole exchange may take, body included.
pub const TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 4;

/// Why there is no answer. Never names the address nor what the other side sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// Not https, and not a loopback host.
    #[error("the address is not https")]
    Scheme,
    /// No certificate in the bundle, or one that cannot be read.
    #[error("the CA bundle cannot be read")]
    CaBundle,
    /// Out of time.
    #[error("there was no answer in time")]
    Timeout,
    /// No connection, none that is trusted, or one that broke.
    #[error("there was no answer")]
    NoAnswer,
    /// More than may be read.
    #[error("the answer is too large")]
    TooLarge,
}

/// A whole answer, whatever its status.
pub struct Reply {
    /// Its status; redirects are not followed.
    pub status: StatusCode,
    /// Its body.
    pub body: Vec<u8>,
}

/// Bodies hold tokens.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// Makes requests to the authorization server. A clone shares the connections.
#[derive(Clone, Debug, Default)]
pub struct Outbound {
    insecure_allow_http: bool,
    /// The client of the present CA bundle. There is one authorization server, so one is enough.
    client: Arc<Mutex<Slot>>,
}

/// A client, and the CA bundle that it was made for.
type Slot = Option<(Option<String>, Client)>;

impl Outbound {
    /// `insecure_allow_http`: plain http to any host, not only to loopback ones.
    pub fn new(insecure_allow_http: bool) -> Self {
        Self {
            insecure_allow_http,
            client: Arc::default(),
        }
    }

    /// Gets a JSON document of at most `most` bytes.
    pub async fn get(
        &self,
        address: &str,
        ca_bundle: Option<&str>,
        most: usize,
    ) -> Result<Reply, OutboundError> {
        let url = self.checked(address)?;
        let request = self.client(ca_bundle)?.get(url);
        send(request, most).await
    }

    /// Posts a form, and reads at most `most` bytes of the answer.
    pub async fn post(
        &self,
        address: &str,
        ca_bundle: Option<&str>,
        authorization: Option<HeaderValue>,
        form: &[(&str, &str)],
        most: usize,
    ) -> Result<Reply, OutboundError> {
        let url = self.checked(address)?;
        let request = self.client(ca_bundle)?.post(url);
        let request = match authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        };
        send(request.form(form), most).await
    }

    fn checked(&self, address: &str) -> Result<Url, OutboundError> {
        let url = Url::parse(address).map_err(|_| OutboundError::Scheme)?;
        let allowed = match url.scheme() {
            "https" => true,
            "http" => self.insecure_allow_http || is_loopback(&url),
            _ => false,
        };
        if allowed {
            Ok(url)
        } else {
            Err(OutboundError::Scheme)
        }
    }

    fn client(&self, ca_bundle: Option<&str>) -> Result<Client, OutboundError> {
        let mut slot = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bundle, client)) = &*slot
            && bundle.as_deref() == ca_bundle
        {
            return Ok(client.clone());
        }
        let client = client(ca_bundle, TIMEOUT)?;
        *slot = Some((ca_bundle.map(str::to_owned), client.clone()));
        Ok(client)
    }
}

/// A client that goes where it is sent and nowhere else.
pub(crate) fn client(ca_bundle: Option<&str>, timeout: Duration) -> Result<Client, OutboundError> {
    Client::builder()
        .user_agent(concat!("mcp-auth-gate/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .timeout(timeout)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .tls_backend_preconfigured(tls(ca_bundle)?)
        .build()
        .map_err(|_| OutboundError::CaBundle)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn tls(ca_bundle: Option<&str>) -> Result<ClientConfig, OutboundError> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(bundle) = ca_bundle {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            let certificate = certificate.map_err(|_| OutboundError::CaBundle)?;
            roots.add(certificate).map_err(|_| OutboundError::CaBundle)?;
        }
        if roots.len() == before {
            return Err(OutboundError::CaBundle);
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| OutboundError::CaBundle)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Sends a request, and reads at most `most` bytes of the answer.
pub(crate) async fn send(request: RequestBuilder, most: usize) -> Result<Reply, OutboundError> {
    let request = request.header(header::ACCEPT, "application/json");
    let mut response = request.send().await.map_err(|error| failure(&error))?;
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |announced| announced > most) {
        return Err(OutboundError::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
        if body.len() + chunk.len() > most {
            return Err(OutboundError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply {
        status: response.status(),
        body,
    })
}

fn failure(error: &reqwest::Error) -> OutboundError {
    if error.is_timeout() {
        OutboundError::Timeout
    } else {
        OutboundError::NoAnswer
    }
}
