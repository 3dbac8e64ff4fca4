//! A real Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager.
//!
//! Admission, defaulting, RBAC, garbage collection and namespace deletion are those of any cluster; only pods never
//! start unless there is a [`Node`](crate::node::Node). A cluster that exists already can stand in for it, where
//! somebody asks for that.

mod existing;
mod kubeconfig;
mod layout;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::{
    kubectl::Kubectl,
    node::Place,
    pki::Authority,
    process::Guarded,
    progress,
    tools::ClusterTools,
    wait::{Seen, wait_for},
};

use kubeconfig::{Identity, write_kubeconfig};
use layout::Layout;

pub(crate) use layout::{NODE_NAME, Part};

const START_TIMEOUT: Duration = Duration::from_mins(2);
/// An API server that has a node waits longer than this for calls that nobody will end; nothing is lost with it.
const STOP_GRACE: Duration = Duration::from_secs(2);
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

impl ControlPlane {
    /// Starts a control plane with its data in `dir` and waits until namespaces get their service account.
    pub async fn start(dir: &Path, tools: &ClusterTools, authority: &Authority) -> anyhow::Result<Self> {
        Self::start_at(dir, tools, authority, None).await
    }

    /// The same for a node at `place`, from where it can be reached.
    pub async fn start_at(
        dir: &Path,
        tools: &ClusterTools,
        authority: &Authority,
        place: Option<&Place>,
    ) -> anyhow::Result<Self> {
        let launch = Self::launch(dir, tools, authority, place);
        progress::during("starting the control plane", launch).await
    }

    async fn launch(
        dir: &Path,
        tools: &ClusterTools,
        authority: &Authority,
        place: Option<&Place>,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let layout = Layout::new(dir, place)?;
        layout.write_files(authority)?;

        let etcd = Guarded::spawn("etcd", &layout.etcd(tools), dir.join("etcd.log"))?;
        let api_server = Guarded::spawn(
            "kube-apiserver",
            &layout.api_server(tools),
            dir.join("kube-apiserver.log"),
        )?;
        let cluster = kubeconfig::cluster(&layout.address(), authority.pem());
        let admin_kubeconfig = dir.join(ADMIN_KUBECONFIG);
        let identity = Identity::token(layout.admin_token.clone());
        write_kubeconfig(&admin_kubeconfig, &cluster, &identity)?;
        for (part, token) in &layout.part_tokens {
            write_kubeconfig(&part.kubeconfig(dir), &cluster, &Identity::token(token.clone()))?;
        }
        let client = client(&admin_kubeconfig).await?;
        wait_for_api_server(&api_server, &etcd, &client).await?;
        show_keys_to_all(&client).await?;

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

    /// The kubeconfig of a part of the node, with the rights that it has in any cluster.
    pub(crate) fn part_kubeconfig(&self, part: Part) -> PathBuf {
        part.kubeconfig(&self.dir)
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
        self.service_account_kubeconfig_at(self.address(), namespace, name, lifetime)
            .await
    }

    /// The same for who reaches the API server at another address, which shows a certificate of the run's authority too.
    pub async fn service_account_kubeconfig_at(
        &self,
        address: &str,
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
        let mut cluster = self.cluster.clone();
        cluster["server"] = Value::from(address);
        write_kubeconfig(&file, &cluster, &Identity::token(SecretString::from(token)))?;
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

/// Lets everybody read by which keys the tokens of ServiceAccounts are signed: who trusts them outside the cluster has
/// none of its own.
async fn show_keys_to_all(client: &Client) -> anyhow::Result<()> {
    const ROLE: &str = "system:service-account-issuer-discovery";
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": { "name": "mcp-auth-stories-token-keys" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated" }],
    }))?;
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings.create(&PostParams::default(), &binding).await?;
    Ok(())
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
