//! A client that makes the very calls which the operator made for each of many objects, and nothing else: what Keycloak
//! and the API server can bear.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};
use futures::{StreamExt as _, TryStreamExt as _, channel::mpsc, stream};
use http::{Request, StatusCode, header::CONTENT_TYPE};
use kube::{
    Client, ResourceExt as _,
    api::{DynamicObject, PostParams},
    client::Body,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use super::{
    crowd::{self, AT_ONCE, Kind},
    record::{Recording, Sent, Side},
    scene::Scene,
};
use crate::{control_plane, operator::SERVICE_ACCOUNT};

/// Below the shortest lifetime of a token.
const TOKEN_AGE: Duration = Duration::from_secs(30);
/// With what its ids begin, in place of the first characters of the operator's.
const IDS: &str = "ba5e";
/// As long as its tokens are needed.
const LIFETIME: Duration = Duration::from_hours(2);

/// The calls that are repeated, and who repeats them.
pub(super) struct Bare<'a> {
    scene: &'a Scene,
    recording: &'a Recording,
    kind: &'a Kind,
    http: reqwest::Client,
    /// The API server, with the operator's rights and through the same proxy.
    cluster: Client,
    token: Mutex<Option<(Instant, SecretString)>>,
    /// How many calls were answered otherwise than the operator's were.
    differs: AtomicU32,
}

/// What it came to.
pub(super) struct Repeated {
    pub(super) took: Duration,
    /// How many calls were answered otherwise than the operator's were.
    pub(super) differs: u32,
}

/// What the API server made of an object, by its path: UID and resourceVersion.
type Versions = HashMap<String, (Option<String>, Option<String>)>;

impl<'a> Bare<'a> {
    /// For these calls, which were made for objects of this kind.
    pub(super) async fn new(
        scene: &'a Scene,
        kind: &'a Kind,
        recording: &'a Recording,
    ) -> anyhow::Result<Self> {
        let env = &scene.env;
        let http = env.world().authority().http_client()?;
        let (address, own) = (scene.api_server.url(), env.operator_namespace());
        let kubeconfig = env
            .cluster()
            .service_account_kubeconfig_at(&address, own, SERVICE_ACCOUNT, LIFETIME)
            .await?;
        Ok(Self {
            scene,
            recording,
            kind,
            http: http.timeout(Duration::from_mins(1)).http1_only().build()?,
            cluster: control_plane::client(&kubeconfig).await?,
            token: Mutex::default(),
            differs: AtomicU32::new(0),
        })
    }

    /// Makes as many objects as there were, as fast as they were made then, and the calls for each in their order, for
    /// `at_once` objects at a time.
    pub(super) async fn repeat(&self, at_once: u32) -> anyhow::Result<Repeated> {
        let began = Instant::now();
        let (sender, made) = mpsc::unbounded();
        let sender = &sender;
        let making = stream::iter(self.recording.objects.keys())
            .map(Ok::<_, anyhow::Error>)
            .try_for_each_concurrent(AT_ONCE, |number| async move {
                let object = self.make(*number).await?;
                // The other side lasts as long as this one.
                let _ = sender.unbounded_send((*number, object));
                Ok(())
            });
        let calling = made
            .take(self.recording.objects.len())
            .map(Ok)
            .try_for_each_concurrent(usize::try_from(at_once)?, |(number, object)| {
                self.one(number, object)
            });
        tokio::try_join!(making, calling)?;
        Ok(Repeated {
            took: began.elapsed(),
            differs: self.differs.load(Ordering::Relaxed),
        })
    }

    async fn make(&self, number: u32) -> anyhow::Result<DynamicObject> {
        let object = crowd::object(self.kind, &self.name(number), number)?;
        let api = crowd::api(&self.scene.env, &self.scene.bare, self.kind);
        Ok(api.create(&PostParams::default(), &object).await?)
    }

    fn name(&self, number: u32) -> String {
        crowd::name(self.kind.bare, number)
    }

    async fn one(&self, number: u32, object: DynamicObject) -> anyhow::Result<()> {
        let calls = self.recording.objects.get(&number).map_or(&[][..], Vec::as_slice);
        let mut versions = Versions::new();
        let path = format!(
            "/apis/mcpauth.dev/v1alpha1/namespaces/{}/{}/{}",
            self.scene.bare,
            self.kind.plural,
            self.name(number)
        );
        let owner = object.uid();
        versions.insert(path, (object.uid(), object.resource_version()));
        for sent in calls {
            let (target, body) = self.renamed(number, sent)?;
            let status = match sent.side {
                Side::AuthorizationServer => self.ask(sent, &target, body).await?,
                Side::ApiServer => {
                    let (from, to) = self.spaces();
                    let target =
                        target.replace(&format!("/namespaces/{from}/"), &format!("/namespaces/{to}/"));
                    let body = adapted(
                        &body,
                        path_of(&target),
                        owner.as_deref(),
                        &versions,
                        self.spaces(),
                    );
                    self.ask_cluster(sent, &target, body, &mut versions).await?
                }
            };
            if sent.call.status.is_some_and(|expected| expected != status) {
                self.differs.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// What was sent, about the object of the same number here.
    fn renamed(&self, number: u32, sent: &Sent) -> anyhow::Result<(String, String)> {
        let (theirs, ours) = (crowd::name(self.kind.prefix, number), self.name(number));
        ensure!(theirs.len() == ours.len(), "it would be another amount of text");
        let ids = self.recording.ids.get(&number);
        let renamed = |text: &str| {
            let text = text.replace(&theirs, &ours);
            let ids = ids.into_iter().flatten();
            ids.fold(text, |text, id| {
                text.replace(id, &format!("{IDS}{}", &id[IDS.len()..]))
            })
        };
        let body = std::str::from_utf8(&sent.call.body)?;
        Ok((renamed(&sent.call.target), renamed(body)))
    }

    /// The namespace of the operator's objects, and of those that are made here.
    fn spaces(&self) -> (&str, &str) {
        (self.scene.env.namespace(), &self.scene.bare)
    }

    async fn ask(&self, sent: &Sent, target: &str, body: String) -> anyhow::Result<StatusCode> {
        let url = format!("{}{target}", self.scene.env.proxy().url());
        let mut request = self.http.request(sent.call.method.clone(), url);
        if let Some(content_type) = &sent.call.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if !sent.call.is_protocol() {
            request = request.bearer_auth(self.token().await?.expose_secret());
        }
        let answer = request.body(body).send().await?;
        let status = answer.status();
        answer.bytes().await?;
        Ok(status)
    }

    async fn ask_cluster(
        &self,
        sent: &Sent,
        target: &str,
        body: Vec<u8>,
        versions: &mut Versions,
    ) -> anyhow::Result<StatusCode> {
        let mut request = Request::builder().method(sent.call.method.clone()).uri(target);
        if let Some(content_type) = &sent.call.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let answer = self.cluster.send(request.body(Body::from(body))?).await?;
        let status = answer.status();
        let body = answer.into_body().collect_bytes().await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            let metadata = |field: &str| answer["metadata"][field].as_str().map(str::to_owned);
            let name = metadata("name").unwrap_or_default();
            let path = path_of(target);
            // What is made is found under its name.
            let path = if path.ends_with(&format!("/{name}")) || path.ends_with("/status") {
                path.to_owned()
            } else {
                format!("{path}/{name}")
            };
            let path = path_of(&path).to_owned();
            versions.insert(path, (metadata("uid"), metadata("resourceVersion")));
        }
        Ok(status)
    }

    /// A token of the operator's own client.
    async fn token(&self) -> anyhow::Result<SecretString> {
        let mut held = self.token.lock().await;
        if let Some((_, token)) = held.as_ref().filter(|(asked, _)| asked.elapsed() < TOKEN_AGE) {
            return Ok(token.clone());
        }
        let (env, asked) = (&self.scene.env, Instant::now());
        let realm = env.realm();
        let url = format!(
            "{}/realms/{}/protocol/openid-connect/token",
            env.proxy().url(),
            realm.name()
        );
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", realm.operator_client_id()),
            ("client_secret", realm.operator_client_secret().expose_secret()),
        ];
        let answer = self.http.post(url).form(&form).send().await?.error_for_status()?;
        let answer: Value = answer.json().await?;
        let token = answer["access_token"].as_str().context("no token")?;
        let token = SecretString::from(token);
        *held = Some((asked, token.clone()));
        Ok(token)
    }
}

/// The path of an object, whichever part of it a call is about.
fn path_of(target: &str) -> &str {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    path.strip_suffix("/status").unwrap_or(path)
}

/// A body with the UIDs and versions of the objects that are here, in place of those that were there, and the namespace
/// `to` in place of `from`.
fn adapted(
    body: &str,
    path: &str,
    owner: Option<&str>,
    versions: &Versions,
    (from, to): (&str, &str),
) -> Vec<u8> {
    let Ok(mut body) = serde_json::from_str::<Value>(body) else {
        return body.as_bytes().to_vec();
    };
    let set = |place: Option<&mut Value>, value: Option<&str>| {
        if let (Some(place), Some(value)) = (place.filter(|place| place.is_string()), value) {
            *place = Value::from(value);
        }
    };
    if let Some((uid, version)) = versions.get(path) {
        set(body.pointer_mut("/metadata/uid"), uid.as_deref());
        set(body.pointer_mut("/metadata/resourceVersion"), version.as_deref());
    }
    set(body.pointer_mut("/regarding/uid"), owner);
    for namespace in ["/metadata/namespace", "/regarding/namespace"] {
        let place = body.pointer_mut(namespace);
        set(place.filter(|place| **place == from), Some(to));
    }
    let owners = body
        .pointer_mut("/metadata/ownerReferences")
        .and_then(Value::as_array_mut);
    for reference in owners.into_iter().flatten() {
        set(reference.pointer_mut("/uid"), owner);
    }
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_the_objects_that_are_here() {
        let versions = Versions::from([("/a".to_owned(), (Some("2".to_owned()), Some("20".to_owned())))]);
        let body = r#"{"metadata":{"uid":"1","resourceVersion":"10","ownerReferences":[{"uid":"8"}]},"regarding":{"uid":"8","namespace":"n"}}"#;
        let adapted = adapted(body, "/a", Some("9"), &versions, ("n", "m"));
        let expected = serde_json::json!({
            "metadata": {"uid": "2", "resourceVersion": "20", "ownerReferences": [{"uid": "9"}]},
            "regarding": {"uid": "9", "namespace": "m"},
        });
        assert_eq!(serde_json::from_slice::<Value>(&adapted).unwrap(), expected);
    }

    #[test]
    fn a_status_belongs_to_its_object() {
        assert_eq!(path_of("/a/b/status?fieldManager=m"), "/a/b");
        assert_eq!(path_of("/a/b?x=y"), "/a/b");
    }
}
