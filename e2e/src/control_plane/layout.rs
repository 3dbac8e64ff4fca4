//! The files, addresses and command lines of the parts.

use std::{
    fmt::Write,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::KeyPair;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    node::Place,
    pki::{self, Authority, write_private},
    ports, secrets,
    tools::ClusterTools,
};

/// What the node is called.
pub(crate) const NODE_NAME: &str = "stories";

/// A part of the node that calls the API server as itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// kubelet.
    Kubelet,
    /// kube-scheduler.
    Scheduler,
    /// kube-proxy.
    Proxy,
    /// CoreDNS and kube-router, which have no identity that the API server knows by itself.
    AddOn,
}

impl Part {
    const ALL: [Self; 4] = [Self::Kubelet, Self::Scheduler, Self::Proxy, Self::AddOn];

    /// The user and the group to which Kubernetes itself gives what the part needs.
    fn identity(self) -> (String, &'static str) {
        match self {
            Self::Kubelet => (format!("system:node:{NODE_NAME}"), "system:nodes"),
            Self::Scheduler => ("system:kube-scheduler".to_owned(), "system:authenticated"),
            Self::Proxy => ("system:kube-proxy".to_owned(), "system:authenticated"),
            Self::AddOn => ("add-on".to_owned(), "system:masters"),
        }
    }

    pub(super) fn kubeconfig(self, dir: &Path) -> PathBuf {
        let name = match self {
            Self::Kubelet => "kubelet",
            Self::Scheduler => "kube-scheduler",
            Self::Proxy => "kube-proxy",
            Self::AddOn => "add-on",
        };
        dir.join(format!("{name}.kubeconfig"))
    }
}

/// The files and addresses that the parts share.
pub(super) struct Layout<'a> {
    dir: &'a Path,
    place: Option<&'a Place>,
    host: Ipv4Addr,
    port: u16,
    pub(super) admin_token: SecretString,
    pub(super) part_tokens: Vec<(Part, SecretString)>,
}

impl<'a> Layout<'a> {
    /// A control plane in `dir`. Where there is a node it listens where pods reach it, else on the loopback interface.
    pub(super) fn new(dir: &'a Path, place: Option<&'a Place>) -> anyhow::Result<Self> {
        Ok(Self {
            dir,
            place,
            host: place.map_or(Ipv4Addr::LOCALHOST, Place::host),
            port: ports::free()?,
            admin_token: secrets::random(),
            part_tokens: Part::ALL
                .map(|part| (part, secrets::random()))
                .into_iter()
                .filter(|_| place.is_some())
                .collect(),
        })
    }

    /// The address of the API server.
    pub(super) fn address(&self) -> String {
        format!("https://{}:{}", self.host, self.port)
    }

    /// For everything that the API server is called, from the machine and from pods.
    fn server_certificate(&self, authority: &Authority) -> anyhow::Result<pki::Identity> {
        let Some(place) = self.place else {
            return authority.server_certificate();
        };
        let (host, service) = (place.host().to_string(), place.api_service().to_string());
        authority.server_certificate_for(&[
            "127.0.0.1",
            "localhost",
            &host,
            &service,
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ])
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    pub(super) fn write_files(&self, authority: &Authority) -> anyhow::Result<()> {
        self.server_certificate(authority)?
            .write(&self.dir.join("apiserver.pem"), &self.dir.join("apiserver.key"))?;
        authority
            .client_certificate("kube-apiserver", "system:masters")?
            .write(
                &self.dir.join("kubelet-client.pem"),
                &self.dir.join("kubelet-client.key"),
            )?;
        fs::write(self.dir.join("ca.pem"), authority.pem())?;
        let accounts = KeyPair::generate()?;
        write_private(&self.dir.join("accounts.key"), &accounts.serialize_pem())?;
        fs::write(self.dir.join("accounts.pub"), accounts.public_key_pem())?;
        let mut tokens = format!(
            "{},admin,admin,system:masters\n",
            self.admin_token.expose_secret()
        );
        for (part, token) in &self.part_tokens {
            let (user, group) = part.identity();
            writeln!(tokens, "{},{user},{user},{group}", token.expose_secret())?;
        }
        write_private(&self.dir.join("tokens.csv"), &tokens)
    }

    /// etcd listens on sockets in the folder: no port to collide on, and nobody else can reach it.
    pub(super) fn etcd(&self, tools: &ClusterTools) -> Command {
        let mut command = Command::new(tools.etcd());
        command
            .current_dir(self.dir)
            .arg("--data-dir=etcd")
            // A crash of the machine loses the run anyway; syncing each write to disk makes everything slower.
            .arg("--unsafe-no-fsync")
            .args([
                "--listen-client-urls=unix://etcd.sock:0",
                "--advertise-client-urls=unix://etcd.sock:0",
            ])
            .args(["--listen-peer-urls=unix://peer.sock:0", "--log-level=warn"]);
        command
    }

    pub(super) fn api_server(&self, tools: &ClusterTools) -> Command {
        let mut command = Command::new(tools.kube_apiserver());
        command
            .current_dir(self.dir)
            .arg(format!("--etcd-servers=unix://{}", self.path("etcd.sock:0")))
            .arg(format!("--bind-address={}", self.host))
            .arg(format!("--advertise-address={}", self.host))
            .arg(format!("--secure-port={}", self.port))
            .arg(format!("--tls-cert-file={}", self.path("apiserver.pem")))
            .arg(format!("--tls-private-key-file={}", self.path("apiserver.key")))
            // An address that somebody outside, such as Keycloak, can read keys from.
            .arg(format!("--service-account-issuer={}", self.address()))
            .arg(format!(
                "--service-account-jwks-uri={}/openid/v1/jwks",
                self.address()
            ))
            .arg(format!(
                "--service-account-key-file={}",
                self.path("accounts.pub")
            ))
            .arg(format!(
                "--service-account-signing-key-file={}",
                self.path("accounts.key")
            ))
            .arg(format!("--token-auth-file={}", self.path("tokens.csv")))
            .arg("--allow-privileged=true");
        match self.place {
            None => command.args([
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
                // Nobody is there to reach the API server through its Service, and a loopback address is no endpoint.
                "--endpoint-reconciler-type=none",
            ]),
            Some(place) => command
                .args([
                    "--authorization-mode=Node,RBAC",
                    "--enable-admission-plugins=NodeRestriction",
                    "--kubelet-preferred-address-types=InternalIP",
                ])
                .arg(format!("--service-cluster-ip-range={}", place.services()))
                .arg(format!("--kubelet-certificate-authority={}", self.path("ca.pem")))
                .arg(format!(
                    "--kubelet-client-certificate={}",
                    self.path("kubelet-client.pem")
                ))
                .arg(format!(
                    "--kubelet-client-key={}",
                    self.path("kubelet-client.key")
                )),
        };
        command
    }

    pub(super) fn controller_manager(&self, tools: &ClusterTools, kubeconfig: &Path) -> Command {
        let mut command = Command::new(tools.kube_controller_manager());
        command
            .current_dir(self.dir)
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!(
                "--service-account-private-key-file={}",
                self.path("accounts.key")
            ))
            .arg(format!("--root-ca-file={}", self.path("ca.pem")))
            .args([
                "--use-service-account-credentials",
                "--leader-elect=false",
                "--authentication-skip-lookup",
            ])
            .args(["--secure-port=0", "--concurrent-namespace-syncs=20"])
            // Stories run in parallel; the defaults are meant to spare a cluster of thousands of nodes.
            .args(["--kube-api-qps=300", "--kube-api-burst=600"]);
        command
    }
}
