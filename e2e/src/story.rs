//! What one story has for itself: namespaces, a realm, a proxy and an operator.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use http::StatusCode;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    control_plane::ControlPlane,
    keycloak::{OPERATOR_ROLES, Realm},
    kubectl::Kubectl,
    oauth::Issuer,
    operator::{Operator, OperatorOptions},
    proxy::RecordingProxy,
    wait::{Seen, wait_for},
    world::World,
};

/// The Secret with the operator's credential at Keycloak, in the story's first namespace.
pub const CREDENTIALS_SECRET: &str = "keycloak-operator";

/// The ConfigMap with the certificate of the run's authority, in the story's first namespace.
pub const CA_CONFIG_MAP: &str = "keycloak-ca";

/// Namespace names are at most 63 characters, and stories put suffixes behind them.
const LONGEST_NAME: usize = 40;

/// One story's own part of the [`World`].
pub struct StoryEnv {
    world: Arc<World>,
    name: String,
    operator_namespace: String,
    namespaces: Vec<String>,
    realm: Realm,
    proxy: RecordingProxy,
    folder: PathBuf,
}

impl StoryEnv {
    /// Makes a namespace called like the story, one for the operator, and a realm, with the Secret and the ConfigMap
    /// that an AuthorizationServer for the realm refers to.
    pub async fn new(world: &Arc<World>, name: &str) -> anyhow::Result<Self> {
        Self::with_operator_roles(world, name, &OPERATOR_ROLES).await
    }

    /// The same, with other roles for the operator at Keycloak.
    pub async fn with_operator_roles(world: &Arc<World>, name: &str, roles: &[&str]) -> anyhow::Result<Self> {
        let name = namespace_name(name);
        let realm = world.keycloak().create_realm(&name, roles).await?;
        Self::in_realm(world, name, realm).await
    }

    /// The same around a realm that was made before.
    pub async fn in_realm(world: &Arc<World>, name: String, realm: Realm) -> anyhow::Result<Self> {
        let proxy = RecordingProxy::start_at(world.host(), world.keycloak().url(), world.authority())?;
        let folder = world.folder().subfolder(&name)?;
        let env = Self {
            world: Arc::clone(world),
            operator_namespace: format!("{name}-operator"),
            namespaces: vec![name.clone()],
            name,
            realm,
            proxy,
            folder,
        };
        let objects = [
            namespace(&env.name),
            namespace(&env.operator_namespace),
            env.credentials_secret(&env.name),
            env.ca_config_map(&env.name),
        ];
        for object in &objects {
            env.apply(object).await?;
        }
        Ok(env)
    }

    /// What all stories share.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The control plane.
    pub fn cluster(&self) -> &ControlPlane {
        self.world.control_plane()
    }

    /// The story's first namespace, where its AuthorizationServer is.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// The operator's namespace.
    pub fn operator_namespace(&self) -> &str {
        &self.operator_namespace
    }

    /// The story's realm.
    pub fn realm(&self) -> &Realm {
        &self.realm
    }

    /// What stands between the operator and Keycloak.
    pub fn proxy(&self) -> &RecordingProxy {
        &self.proxy
    }

    /// Another recording proxy, in front of the API server: for an operator whose options name it as `api_server`.
    pub fn api_server_proxy(&self) -> anyhow::Result<RecordingProxy> {
        RecordingProxy::start_at(
            self.world.host(),
            self.cluster().address(),
            self.world.authority(),
        )
    }

    /// Starts an operator that has its rights already, with its log beside those of the others, without waiting.
    pub async fn launch_operator(&self, options: &OperatorOptions) -> anyhow::Result<Operator> {
        Operator::launch(&self.folder, self.cluster(), options).await
    }

    /// A client that may do everything.
    pub fn client(&self) -> Client {
        self.cluster().client()
    }

    /// kubectl as a user who may do everything.
    pub fn kubectl(&self) -> Kubectl {
        self.cluster().kubectl()
    }

    /// The realm as OAuth clients see it, not through the proxy.
    pub async fn issuer(&self) -> anyhow::Result<Issuer> {
        Issuer::discover(self.realm.issuer(), self.world.authority()).await
    }

    /// Makes another namespace, called like the story with a suffix, that the operator serves if it is started later.
    pub async fn add_namespace(&mut self, suffix: &str) -> anyhow::Result<String> {
        let name = format!("{}-{suffix}", self.name);
        self.apply(&namespace(&name)).await?;
        self.namespaces.push(name.clone());
        Ok(name)
    }

    /// `kubectl apply` of one object.
    pub async fn apply(&self, object: &Value) -> anyhow::Result<()> {
        self.kubectl().apply(&object.to_string()).await.map(drop)
    }

    /// An AuthorizationServer for the realm, reached through the proxy, to apply as it is or changed.
    pub fn authorization_server(&self, name: &str) -> Value {
        let proxy = self.proxy.url();
        let realm = format!("{proxy}/realms/{}", self.realm.name());
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1",
            "kind": "AuthorizationServer",
            "metadata": { "name": name, "namespace": self.name },
            "spec": {
                "issuer": self.realm.issuer(),
                "keycloak": { "realm": self.realm.name() },
                "credentials": { "secretRef": { "name": CREDENTIALS_SECRET } },
                "caBundleRef": { "name": CA_CONFIG_MAP },
                "endpoints": {
                    "discovery": format!("{realm}/.well-known/openid-configuration"),
                    "admin": proxy,
                    "jwks": format!("{realm}/protocol/openid-connect/certs"),
                    "token": format!("{realm}/protocol/openid-connect/token"),
                },
            },
        })
    }

    /// The Secret that holds the operator's credential, for a namespace.
    pub fn credentials_secret(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": CREDENTIALS_SECRET, "namespace": namespace },
            "stringData": {
                "client-id": self.realm.operator_client_id(),
                "client-secret": self.realm.operator_client_secret().expose_secret(),
            },
        })
    }

    /// The ConfigMap that holds the authority's certificate, for a namespace.
    pub fn ca_config_map(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": CA_CONFIG_MAP, "namespace": namespace },
            "data": { "ca.crt": self.world.authority().pem() },
        })
    }

    /// A file with the authority's certificate.
    pub fn authority_file(&self) -> anyhow::Result<PathBuf> {
        let file = self.folder.join("authority.pem");
        std::fs::write(&file, self.world.authority().pem())?;
        Ok(file)
    }

    /// How this story's operator is run unless the story changes something: it serves the story's namespaces, and
    /// marks what it makes with the story's name.
    pub fn operator_options(&self) -> OperatorOptions {
        let mut options = OperatorOptions::new(&self.operator_namespace, self.namespaces.clone());
        options.installation = Some(self.name.clone());
        options
    }

    /// Starts the story's operator and waits until it is ready.
    pub async fn start_operator(&self) -> anyhow::Result<Operator> {
        self.start_operator_with(&self.operator_options()).await
    }

    /// Starts an operator with other options and waits until it is ready. May be called again, for a replica.
    pub async fn start_operator_with(&self, options: &OperatorOptions) -> anyhow::Result<Operator> {
        Operator::start(&self.folder, self.cluster(), options).await
    }

    /// One of our objects, as it is now. `kind` is, for example, `McpServer`.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<Option<Value>> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("mcpauth.dev", "v1alpha1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client(), namespace, &resource);
        Ok(api
            .get_opt(name)
            .await?
            .map(|object| serde_json::to_value(&object))
            .transpose()?)
    }

    /// Waits until a condition of one of our objects has this status and is about its present generation. Gives the
    /// condition.
    pub async fn wait_condition(
        &self,
        (kind, namespace, name): (&str, &str, &str),
        (condition, status): (&str, &str),
        timeout: Duration,
    ) -> anyhow::Result<Value> {
        let what = format!("{condition}={status} of {kind} {namespace}/{name}");
        wait_for(&what, timeout, async || {
            let Some(object) = self.get(kind, namespace, name).await? else {
                return Ok(Seen::NotYet("no such object".to_owned()));
            };
            let conditions = object["status"]["conditions"]
                .as_array()
                .map_or(&[][..], Vec::as_slice);
            let found = conditions.iter().find(|found| {
                found["type"] == condition
                    && found["status"] == status
                    && found["observedGeneration"] == object["metadata"]["generation"]
            });
            Ok(match found {
                Some(found) => Seen::Done(found.clone()),
                None => Seen::NotYet(format!(
                    "generation {}, {}",
                    object["metadata"]["generation"],
                    short(conditions)
                )),
            })
        })
        .await
    }

    /// Waits until an object of any kind is gone.
    pub async fn wait_gone(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        timeout: Duration,
    ) -> anyhow::Result<()> {
        wait_for(
            &format!("the end of {kind} {namespace}/{name}"),
            timeout,
            async || {
                let object = self
                    .kubectl()
                    .run(&["get", kind, name, "--namespace", namespace])
                    .await?;
                match object.success {
                    false if object.stderr.contains("NotFound") => Ok(Seen::Done(())),
                    false => bail!("{}", object.stderr),
                    true => Ok(Seen::NotYet("it is there".to_owned())),
                }
            },
        )
        .await
    }

    /// Waits until the proxy has seen a call that matches and was answered. Gives its status.
    pub async fn wait_for_call(
        &self,
        what: &str,
        timeout: Duration,
        matches: impl Fn(&crate::proxy::Call) -> bool,
    ) -> anyhow::Result<StatusCode> {
        wait_for(what, timeout, async || {
            let calls = self.proxy.calls();
            let status = calls
                .iter()
                .filter(|call| matches(call))
                .find_map(|call| call.status);
            Ok(status.map_or_else(
                || Seen::NotYet(format!("{} other calls", calls.len())),
                Seen::Done,
            ))
        })
        .await
    }

    /// A value of a Secret.
    pub async fn secret_value(&self, namespace: &str, name: &str, key: &str) -> anyhow::Result<String> {
        use k8s_openapi::api::core::v1::Secret;
        let secret = Api::<Secret>::namespaced(self.client(), namespace)
            .get(name)
            .await?;
        let mut data = secret.data.unwrap_or_default();
        let value = data
            .remove(key)
            .with_context(|| format!("Secret {namespace}/{name} has no key {key}"))?;
        Ok(String::from_utf8(value.0)?)
    }
}

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// A story's name as part of namespace names.
fn namespace_name(story: &str) -> String {
    let name: String = story
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    name.chars()
        .take(LONGEST_NAME)
        .collect::<String>()
        .trim_matches('-')
        .to_owned()
}

/// Conditions in one line.
fn short(conditions: &[Value]) -> String {
    let line = conditions.iter().map(|condition| {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        let (generation, message) = (&condition["observedGeneration"], text("message"));
        format!(
            "{}={} ({}, of generation {generation}: {message})",
            text("type"),
            text("status"),
            text("reason")
        )
    });
    let line = line.collect::<Vec<_>>().join("; ");
    if line.is_empty() {
        "no conditions".to_owned()
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_stories_become_names_of_namespaces() {
        for (story, expected) in [
            ("login", "login"),
            ("tenants::redirect_host", "tenants--redirect-host"),
            (
                "_A story of more than forty characters in all",
                "a-story-of-more-than-forty-characters-i",
            ),
        ] {
            assert_eq!(super::namespace_name(story), expected);
        }
    }
}
