//! The certificate of the proxy, exchanged while it serves.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::watch::Files;

/// The name of the chain among the files of a certificate.
pub const CERTIFICATE: &str = "certificate";
/// The name of the key.
pub const KEY: &str = "key";

/// What a handshake is done with at the moment. A clone shares it.
#[derive(Clone, Debug, Default)]
pub struct Tls(Arc<RwLock<Option<Arc<ServerConfig>>>>);

impl Tls {
    /// Takes a certificate and its key from now on.
    ///
    /// # Errors
    /// When they cannot be read or do not belong together.
    pub fn set(&self, files: &Files) -> Result<(), String> {
        let file = |name: &str| files.get(name).map(Vec::as_slice).unwrap_or_default();
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(file(CERTIFICATE)).collect();
        let chain = chain.map_err(|error| format!("the certificate is no PEM: {error}"))?;
        // What the key file holds is never repeated.
        let key = PrivateKeyDer::from_pem_slice(file(KEY)).map_err(|_| "the key is no private key in PEM")?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| format!("certificate and key cannot be used: {error}"))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(config));
        Ok(())
    }

    /// Does the handshake of a connection.
    ///
    /// # Errors
    /// When it fails, takes too long, or there is no certificate yet.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        within: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let config = config.ok_or_else(|| io::Error::other("there is no certificate yet"))?;
        timeout(within, TlsAcceptor::from(config).accept(stream)).await?
    }
}

/// The files of a certificate, as they are watched.
pub fn place(certificate: PathBuf, key: PathBuf) -> crate::watch::Place {
    crate::watch::Place::Files(vec![(CERTIFICATE, certificate), (KEY, key)])
}
