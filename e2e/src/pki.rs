//! A certificate authority for one run, so that everything speaks https as it would in production.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
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
    trust: Trust,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom clients of a run trust.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The run's own authority, in PEM.
    certificate: String,
    others: Others,
}

/// Whose certificates clients trust besides those of the run's own authority.
#[derive(Clone, Debug, Default)]
pub enum Others {
    /// Nobody's: everything was started by the run.
    #[default]
    Nobody,
    /// Those that this machine trusts.
    System,
    /// Those of the authorities in this file, in PEM.
    File(PathBuf),
}

/// A certificate with its key.
pub struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    /// A new authority with a new key.
    pub fn new() -> anyhow::Result<Self> {
        Self::beside(Others::Nobody)
    }

    /// The same for a run that also speaks with servers that it did not start.
    pub fn beside(others: Others) -> anyhow::Result<Self> {
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
            trust: Trust { certificate, others },
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's own certificate, what `caBundleRef` needs.
    pub fn pem(&self) -> &str {
        &self.trust.certificate
    }

    /// Whom clients trust.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// An http client that trusts whom [`Authority::trust`] says.
    pub fn http_client(&self) -> anyhow::Result<reqwest::ClientBuilder> {
        self.trust.http_client()
    }

    /// A certificate for a server on the loopback interface.
    pub fn server_certificate(&self) -> anyhow::Result<Identity> {
        self.server_certificate_for(&["127.0.0.1", "::1", "localhost"])
    }

    /// A certificate for a server on the loopback interface and under one more address of this machine.
    pub fn server_certificate_at(&self, address: &str) -> anyhow::Result<Identity> {
        self.server_certificate_for(&["127.0.0.1", "::1", "localhost", address])
    }

    /// A certificate for a server under these addresses and names.
    pub fn server_certificate_for(&self, names: &[&str]) -> anyhow::Result<Identity> {
        let mut params =
            CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, "stories");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A certificate for a client whom Kubernetes takes for `user` in `group`.
    pub fn client_certificate(&self, user: &str, group: &str) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> anyhow::Result<Identity> {
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

impl Trust {
    /// An http client that trusts the run's own authority, and of others only those that were named. Redirects are for the
    /// caller to follow.
    pub fn http_client(&self) -> anyhow::Result<reqwest::ClientBuilder> {
        let mut trusted = vec![reqwest::Certificate::from_pem(self.certificate.as_bytes())?];
        let builder = reqwest::Client::builder();
        let builder = match &self.others {
            Others::Nobody => builder.tls_certs_only(trusted),
            Others::System => builder.tls_certs_merge(trusted),
            Others::File(file) => {
                let bundle = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
                let bundle = reqwest::Certificate::from_pem_bundle(&bundle)
                    .with_context(|| format!("{} holds no certificates in PEM", file.display()))?;
                trusted.extend(bundle);
                builder.tls_certs_only(trusted)
            }
        };
        Ok(builder
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(30)))
    }
}

impl Identity {
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
