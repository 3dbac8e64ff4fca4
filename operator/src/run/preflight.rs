//! What must be true of the cluster before anything starts, so that what is wrong is said in one line.

use std::{future::Future, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use mcp_auth_crds::GROUP;
use thiserror::Error;
use tokio::time::timeout;

use crate::telemetry::in_one_line;

/// The version of our kinds that this operator speaks.
const VERSION: &str = "v1alpha1";

/// How long the API server may take for one answer at the start.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long reading from the API server may stall. A watch says something at least every 290 s.
const READ_TIMEOUT: Duration = Duration::from_mins(5);

/// Why the operator cannot start in this cluster.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// Neither a kubeconfig nor a pod's service account.
    #[error("no cluster to work with: set KUBECONFIG or run in a pod ({0})")]
    NoCluster(String),
    /// The API server gives no answer.
    #[error("cannot reach the API server at {url}: {problem}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        problem: String,
    },
    /// The API server does not accept who we are.
    #[error("the API server at {url} does not accept the operator's credentials: {problem}")]
    Unauthorized {
        /// Where it is.
        url: String,
        /// Its words.
        problem: String,
    },
    /// The API server does not say which kinds there are.
    #[error("the API server does not tell which custom resources it serves: {0}")]
    NoDiscovery(String),
    /// The definitions of our kinds are not installed.
    #[error(
        "the cluster lacks the custom resource definitions {}: install them with \
         `kubectl apply --server-side -f crds/yaml/` and start again", .0.join(", ")
    )]
    MissingDefinitions(Vec<String>),
    /// There is nothing to name the installation after.
    #[error(
        "cannot read the UID of the namespace kube-system ({0}): give --installation, or let the operator get namespaces"
    )]
    NoInstallation(String),
}

/// A way to the API server.
pub(super) struct Connection {
    /// Speaks to it.
    pub(super) client: Client,
    /// Its host, as the URL names it.
    pub(super) host: String,
}

/// Connects to the cluster of KUBECONFIG, or the one around us, and makes sure that its API server answers.
pub(super) async fn connect() -> Result<Connection, PreflightError> {
    let config = kube::Config::infer()
        .await
        .map_err(|problem| PreflightError::NoCluster(in_one_line(&problem)))?;
    let config = adjusted(config);
    let url = config.cluster_url.to_string();
    let host = config.cluster_url.host().unwrap_or_default().to_owned();
    let client =
        Client::try_from(config).map_err(|problem| PreflightError::NoCluster(in_one_line(&problem)))?;
    answers(&client, &url).await?;
    Ok(Connection { client, host })
}

/// With our limits, and without repetitions: kube's own would go on for minutes, and repeat writes without asking
/// whether we still lead. Passes, watches and the election each try again by themselves.
fn adjusted(mut config: kube::Config) -> kube::Config {
    config.connect_timeout = Some(PATIENCE);
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    config.default_retry = false;
    config
}

/// Makes sure that the API server is there and knows us.
async fn answers(client: &Client, url: &str) -> Result<(), PreflightError> {
    match bounded(client.apiserver_version()).await {
        Ok(_) => Ok(()),
        Err(Trouble::Kube(kube::Error::Api(status))) if status.code == 401 => {
            Err(PreflightError::Unauthorized {
                url: url.to_owned(),
                problem: status.message.clone(),
            })
        }
        Err(problem) => Err(PreflightError::Unreachable {
            url: url.to_owned(),
            problem: problem.to_string(),
        }),
    }
}

/// Makes sure that our kinds are there, and returns the name of the installation.
pub(super) async fn check(client: &Client, installation: Option<&str>) -> Result<String, PreflightError> {
    let missing = missing_definitions(client).await?;
    if !missing.is_empty() {
        return Err(PreflightError::MissingDefinitions(missing));
    }
    if let Some(installation) = installation {
        return Ok(installation.to_owned());
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let kube_system = bounded(namespaces.get_metadata("kube-system"))
        .await
        .map_err(|problem| PreflightError::NoInstallation(problem.to_string()))?;
    kube_system
        .metadata
        .uid
        .ok_or_else(|| PreflightError::NoInstallation("it has none".to_owned()))
}

/// The definitions that are not served, by their full names. Discovery needs no rights beyond being known.
async fn missing_definitions(client: &Client) -> Result<Vec<String>, PreflightError> {
    let served = match bounded(client.list_api_group_resources(&format!("{GROUP}/{VERSION}"))).await {
        Ok(resources) => resources
            .resources
            .into_iter()
            .map(|resource| resource.name)
            .collect(),
        // By its code: for a group that it never heard of, the API server answers with plain text.
        Err(Trouble::Kube(kube::Error::Api(status))) if status.code == 404 => Vec::new(),
        Err(problem) => return Err(PreflightError::NoDiscovery(problem.to_string())),
    };
    let needed = mcp_auth_crds::all()
        .into_iter()
        .map(|definition| definition.spec.names.plural);
    Ok(needed
        .filter(|plural| !served.contains(plural))
        .map(|plural| format!("{plural}.{GROUP}"))
        .collect())
}

/// What went wrong with one question.
#[derive(Debug)]
enum Trouble {
    Kube(kube::Error),
    Silence,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kube(kube::Error::Api(status)) if !status.message.is_empty() => {
                f.write_str(&status.message)
            }
            Self::Kube(error) => f.write_str(&in_one_line(error)),
            Self::Silence => write!(f, "no answer within {} s", PATIENCE.as_secs()),
        }
    }
}

async fn bounded<T>(question: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    match timeout(PATIENCE, question).await {
        Ok(answer) => answer.map_err(Trouble::Kube),
        Err(_) => Err(Trouble::Silence),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::PostParams;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

    use super::*;

    #[tokio::test]
    async fn a_call_is_sent_once() {
        for status in [429, 503, 504] {
            let server = MockServer::start().await;
            Mock::given(any())
                .respond_with(ResponseTemplate::new(status))
                .mount(&server)
                .await;
            let config = adjusted(kube::Config::new(server.uri().parse().unwrap()));
            let maps: Api<ConfigMap> = Api::namespaced(Client::try_from(config).unwrap(), "n");
            let mut map = ConfigMap::default();
            map.metadata.name = Some("m".to_owned());
            maps.create(&PostParams::default(), &map).await.unwrap_err();
            assert_eq!(server.received_requests().await.unwrap().len(), 1, "{status}");
        }
    }
}
