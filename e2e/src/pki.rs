//! A certificate authority for one run, so that everything speaks https as it would in production.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// A certificate authority that only this run trusts.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate, with its key.
pub struct ServerIdentity {
    certificate: String,
    key: String,
}

impl Authority {
    /// A new authority with a new key.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "mcp-auth stories");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's own certificate, what `caBundleRef` needs.
    pub fn pem(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a server on the loopback interface.
    pub fn server_certificate(&self) -> anyhow::Result<ServerIdentity> {
        self.server_certificate_for(&["127.0.0.1", "::1", "localhost"])
    }

    /// A certificate for a server under these addresses and names.
    pub fn server_certificate_for(&self, names: &[&str]) -> anyhow::Result<ServerIdentity> {
        let mut params =
            CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, "stories");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(ServerIdentity {
            certificate,
            key: key.serialize_pem(),
        })
    }

    /// An http client that trusts this authority and no other. Redirects are for the caller to follow.
    pub fn http_client(&self) -> anyhow::Result<reqwest::ClientBuilder> {
        let certificate = reqwest::Certificate::from_pem(self.certificate.as_bytes())?;
        Ok(reqwest::Client::builder()
            .tls_certs_only([certificate])
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(30)))
    }
}

impl ServerIdentity {
    /// Writes certificate and key as PEM files, the key readable for this user only.
    pub fn write(&self, certificate: &Path, key: &Path) -> anyhow::Result<()> {
        fs::write(certificate, &self.certificate)?;
        write_private(key, &self.key)
    }

    /// The TLS configuration of a server with this certificate that speaks HTTP/1.1.
    pub fn tls_config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let chain = vec![CertificateDer::from_pem_slice(self.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Writes a file that only this user can read.
pub fn write_private(path: &Path, content: &str) -> anyhow::Result<()> {
    let mut file: File = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file.write_all(content.as_bytes())?)
}
