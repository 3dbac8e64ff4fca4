//! A real Kubernetes control plane without nodes: etcd, kube-apiserver and kube-controller-manager.
//!
//! Admission, defaulting, RBAC, garbage collection and namespace deletion are those of any cluster; only pods never
//! start. A cluster that exists already can stand in for it, where somebody asks for that.

mod existing;
mod kubeconfig;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use rcgen::KeyPair;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::{
    kubectl::Kubectl,
    pki::{Authority, write_private},
    ports,
    process::Guarded,
    progress, secrets,
    tools::ClusterTools,
    wait::{Seen, wait_for},
};

use kubeconfig::{Identity, write_kubeconfig};

const START_TIMEOUT: Duration = Duration::from_mins(2);
const STOP_GRACE: Duration = Duration::from_secs(5);
const FIELD_MANAGER: &str = "mcp-auth-stories";
const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";

/// A running control plane.
pub struct ControlPlane {
    dir: PathBuf,
    kubectl: PathBuf,
    /// The cluster as a kubeconfig describes it: where it is, and whose certificates it has.
    cluster: Value,
    admin_kubeconfig: PathBuf,
    client: Client,
    /// What this run started, in the order in which it is stopped.
    processes: Vec<Guarded>,
}

/// The files and addresses that the parts share.
struct Layout<'a> {
    dir: &'a Path,
    port: u16,
    admin_token: SecretString,
}

impl ControlPlane {
    /// Starts a control plane with its data in `dir` and waits until namespaces get their service account.
    pub async fn start(dir: &Path, tools: &ClusterTools, authority: &Authority) -> anyhow::Result<Self> {
        progress::during("starting the control plane", Self::launch(dir, tools, authority)).await
    }

    async fn launch(dir: &Path, tools: &ClusterTools, authority: &Authority) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let layout = Layout {
            dir,
            port: ports::free()?,
            admin_token: secrets::random(),
        };
        layout.write_files(authority)?;

        let etcd = Guarded::spawn("etcd", &layout.etcd(tools), dir.join("etcd.log"))?;
        let api_server = Guarded::spawn(
            "kube-apiserver",
            &layout.api_server(tools),
            dir.join("kube-apiserver.log"),
        )?;
        let cluster = kubeconfig::cluster(&format!("https://127.0.0.1:{}", layout.port), authority.pem());
        let admin_kubeconfig = dir.join(ADMIN_KUBECONFIG);
        let identity = Identity::token(layout.admin_token.clone());
        write_kubeconfig(&admin_kubeconfig, &cluster, &identity)?;
        let client = client(&admin_kubeconfig).await?;
        wait_for_api_server(&api_server, &etcd, &client).await?;

        let manager = layout.controller_manager(tools, &admin_kubeconfig);
        let log = dir.join("kube-controller-manager.log");
        let controller_manager = Guarded::spawn("kube-controller-manager", &manager, log)?;
        wait_for_controllers(&controller_manager, &client).await?;
        Ok(Self {
            dir: dir.to_owned(),
            kubectl: tools.kubectl(),
            cluster,
            admin_kubeconfig,
            client,
            // The API server after those who talk to it.
            processes: vec![controller_manager, api_server, etcd],
        })
    }

    /// The address of the API server, such as `https://127.0.0.1:port`.
    pub fn address(&self) -> &str {
        self.cluster["server"].as_str().unwrap_or_default()
    }

    /// The kubeconfig of a user who may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// A client that may do everything.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// kubectl as a user who may do everything.
    pub fn kubectl(&self) -> Kubectl {
        self.kubectl_with(&self.admin_kubeconfig)
    }

    /// kubectl with another kubeconfig.
    pub fn kubectl_with(&self, kubeconfig: &Path) -> Kubectl {
        Kubectl::new(self.kubectl.clone(), kubeconfig, self.dir.join("kubectl-cache"))
    }

    /// Applies a folder, as a kustomization if it is one, and waits until the definitions in it are served. Does
    /// nothing when the folder does not exist.
    pub async fn install_manifests(&self, folder: &Path) -> anyhow::Result<()> {
        if !folder.is_dir() {
            return Ok(());
        }
        let [kind, folder] = manifests(folder)?;
        let kubectl = self.kubectl();
        kubectl.must(&["apply", "--server-side", kind, folder]).await?;
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd",
            "--all",
        ];
        let output = kubectl.run(&wait).await?;
        if !output.success && !output.stderr.contains("no matching resources") {
            bail!("the definitions are not served: {}", output.stderr);
        }
        Ok(())
    }

    /// Makes the ServiceAccount unless it exists, and a kubeconfig with a token of it that lives for `lifetime`
    /// (the API server allows no less than 10 minutes).
    pub async fn service_account_kubeconfig(
        &self,
        namespace: &str,
        name: &str,
        lifetime: Duration,
    ) -> anyhow::Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        accounts
            .patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(&account))
            .await?;
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(i64::try_from(lifetime.as_secs())?),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await?;
        let token = answer
            .status
            .ok_or_else(|| anyhow!("a token request without an answer"))?
            .token;
        let file = self.dir.join(format!("{namespace}.{name}.kubeconfig"));
        write_kubeconfig(&file, &self.cluster, &Identity::token(SecretString::from(token)))?;
        Ok(file)
    }

    /// A kubeconfig of a user in these groups, who may do what RBAC gives them (the admin impersonates the user).
    pub fn user_kubeconfig(&self, user: &str, groups: &[&str]) -> anyhow::Result<PathBuf> {
        let file = self.dir.join(format!("user.{user}.kubeconfig"));
        let admin = Kubeconfig::read_from(&self.admin_kubeconfig)?;
        let token = admin
            .auth_infos
            .into_iter()
            .find_map(|named| named.auth_info?.token);
        let token = token.context("the admin's kubeconfig has no token")?;
        let identity = Identity {
            token: SecretString::from(token.expose_secret()),
            user: Some(user.to_owned()),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        };
        write_kubeconfig(&file, &self.cluster, &identity)?;
        Ok(file)
    }

    /// Stops everything that this run started.
    pub async fn stop(&self) -> anyhow::Result<()> {
        for process in &self.processes {
            process.stop(STOP_GRACE).await?;
        }
        Ok(())
    }
}

/// How kubectl is told to take a folder of manifests.
fn manifests(folder: &Path) -> anyhow::Result<[&str; 2]> {
    let kind = if folder.join("kustomization.yaml").is_file() {
        "--kustomize"
    } else {
        "--filename"
    };
    Ok([kind, folder.to_str().context("a folder whose name is not UTF-8")?])
}

/// A client with what a kubeconfig says.
pub async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    crate::use_aws_lc();
    let content = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(content, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

impl Layout<'_> {
    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn write_files(&self, authority: &Authority) -> anyhow::Result<()> {
        authority
            .server_certificate()?
            .write(&self.dir.join("apiserver.pem"), &self.dir.join("apiserver.key"))?;
        fs::write(self.dir.join("ca.pem"), authority.pem())?;
        let accounts = KeyPair::generate()?;
        write_private(&self.dir.join("accounts.key"), &accounts.serialize_pem())?;
        fs::write(self.dir.join("accounts.pub"), accounts.public_key_pem())?;
        let tokens = format!(
            "{},admin,admin,system:masters\n",
            self.admin_token.expose_secret()
        );
        write_private(&self.dir.join("tokens.csv"), &tokens)
    }

    /// etcd listens on sockets in the folder: no port to collide on, and nobody else can reach it.
    fn etcd(&self, tools: &ClusterTools) -> Command {
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

    fn api_server(&self, tools: &ClusterTools) -> Command {
        let mut command = Command::new(tools.kube_apiserver());
        command
            .current_dir(self.dir)
            .arg(format!("--etcd-servers=unix://{}", self.path("etcd.sock:0")))
            .args([
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
            ])
            .arg(format!("--secure-port={}", self.port))
            .arg(format!("--tls-cert-file={}", self.path("apiserver.pem")))
            .arg(format!("--tls-private-key-file={}", self.path("apiserver.key")))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!(
                "--service-account-key-file={}",
                self.path("accounts.pub")
            ))
            .arg(format!(
                "--service-account-signing-key-file={}",
                self.path("accounts.key")
            ))
            .arg(format!("--token-auth-file={}", self.path("tokens.csv")))
            .args([
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
            ])
            .arg("--allow-privileged=true");
        command
    }

    fn controller_manager(&self, tools: &ClusterTools, kubeconfig: &Path) -> Command {
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

async fn wait_for_api_server(api_server: &Guarded, etcd: &Guarded, client: &Client) -> anyhow::Result<()> {
    let ready = wait_for("kube-apiserver to be ready", START_TIMEOUT, async || {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let answer = client.request_text(request).await?;
        Ok(if answer == "ok" {
            Seen::Done(())
        } else {
            Seen::NotYet(answer)
        })
    });
    tokio::select! {
        ready = ready => ready.with_context(|| format!("its last lines:\n{}", api_server.log_tail())),
        status = api_server.wait() => bail!("kube-apiserver ended ({}); its last lines:\n{}", status?, api_server.log_tail()),
        status = etcd.wait() => bail!("etcd ended ({}); its last lines:\n{}", status?, etcd.log_tail()),
    }
}

/// The controllers run once the namespace `default` has the service account that one of them makes.
async fn wait_for_controllers(controller_manager: &Guarded, client: &Client) -> anyhow::Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let ready = wait_for("the controllers to run", START_TIMEOUT, async || {
        let account = accounts.get_opt("default").await?;
        Ok(account.map_or_else(
            || Seen::NotYet("no default service account".to_owned()),
            |_| Seen::Done(()),
        ))
    });
    tokio::select! {
        ready = ready => ready.with_context(|| format!("last lines:\n{}", controller_manager.log_tail())),
        status = controller_manager.wait() => {
            bail!("kube-controller-manager ended ({}); its last lines:\n{}", status?, controller_manager.log_tail())
        }
    }
}
