//! An API server in memory: enough of get, list, watch, create, replace, patch and delete for one kind's reconciler.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower_test::mock;

use super::Writes;

/// The objects by path (`/api/v1/namespaces/a/secrets/b`), each with a growing resourceVersion.
#[derive(Clone, Default)]
pub(crate) struct FakeCluster {
    state: Arc<Mutex<State>>,
    writes: Writes,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    /// What was applied last: what is not applied again goes.
    applied: BTreeMap<String, Value>,
    /// The objects that were read, each by itself.
    reads: Vec<String>,
    /// What was told in Events.
    notes: Vec<String>,
    /// After so many writes one fails, and either happens or does not.
    falters: Option<(usize, bool)>,
    /// What somebody else writes once the object at its path was read.
    meanwhile: BTreeMap<String, Value>,
    version: u64,
}

impl FakeCluster {
    pub(super) fn new(writes: Writes) -> Self {
        Self {
            state: Arc::default(),
            writes,
        }
    }

    /// Puts an object there, as a user would.
    pub(crate) fn put(&self, object: Value) {
        let path = path(&object);
        self.lock().store(path, object);
    }

    /// Puts an object there as soon as the one at its place was read, as somebody who is faster would.
    pub(crate) fn put_once_read(&self, object: Value) {
        self.lock().meanwhile.insert(path(&object), object);
    }

    /// The object at a path.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    /// Removes the object at a path, as a user would.
    pub(crate) fn remove(&self, path: &str) {
        let mut state = self.lock();
        state.applied.remove(path);
        state.objects.remove(path);
    }

    /// The paths of the objects that were read, each by itself, since this was asked last.
    pub(crate) fn reads(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().reads)
    }

    /// After so many more writes one fails: it happens and nobody is told, or it does not happen.
    pub(crate) fn falter_after(&self, writes: usize, happens: bool) {
        self.lock().falters = Some((writes, happens));
    }

    /// Whether that is still to come.
    pub(crate) fn is_to_falter(&self) -> bool {
        self.lock().falters.is_some()
    }

    /// What was told in Events.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.lock().notes.clone()
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Client {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let cluster = self.clone();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Some((request, respond)) = handle.next_request().await {
                if request.uri().query().unwrap_or_default().contains("watch=true") {
                    // Nothing ever changes for those who watch: these tests hand the object to the reconciler.
                    open.push(respond);
                    continue;
                }
                match cluster.answer(request).await {
                    Some((status, body)) => {
                        let body = Body::from(body.to_string().into_bytes());
                        respond.send_response(Response::builder().status(status).body(body).unwrap());
                    }
                    None => respond.send_error("the process died"),
                }
            }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Option<(u16, Value)> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if parts.method == Method::GET {
            return Some(self.lock().read(&path));
        }
        if path.contains("/events") {
            if !self.writes.go_on() {
                return None;
            }
            let body = body.collect_bytes().await.unwrap();
            let sent: Value = serde_json::from_slice(&body).unwrap();
            self.lock().notes.extend(sent["note"].as_str().map(str::to_owned));
            return Some((201, json!({"metadata": {}})));
        }
        if !self.writes.happens() {
            return None;
        }
        let falters = self.lock().falters();
        if falters == Some(false) {
            return None;
        }
        let is_forced = parts.uri.query().unwrap_or_default().contains("force=true");
        let body = body.collect_bytes().await.unwrap();
        let sent: Value = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap()
        };
        let mut state = self.lock();
        let answer = match parts.method {
            Method::POST => state.create(&path, sent),
            Method::PUT => state.replace(&path, sent),
            Method::PATCH if is_apply(&parts.headers) => state.apply(&path, &sent, is_forced),
            Method::PATCH => state.patch(&path, &sent),
            Method::DELETE => state.delete(&path),
            method => panic!("{method} {path}"),
        };
        (falters != Some(true)).then_some(answer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    /// Whether this write is the one that fails, and if so, whether it happens.
    fn falters(&mut self) -> Option<bool> {
        let (left, happens) = self.falters.take()?;
        if left == 0 {
            return Some(happens);
        }
        self.falters = Some((left - 1, happens));
        None
    }

    fn store(&mut self, path: String, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let within = path
            .split_once("/namespaces/")
            .and_then(|(_, rest)| rest.split('/').next());
        object["metadata"]["namespace"] = json!(within);
        self.objects.insert(path, object.clone());
        object
    }

    fn read(&mut self, path: &str) -> (u16, Value) {
        let plural = path.rsplit('/').next().unwrap_or_default();
        let is_list = plural.ends_with('s') && !path.contains("/namespaces/");
        if !is_list {
            self.reads.push(path.to_owned());
            let found = self.objects.get(path);
            let answer = found.map_or_else(|| failure(404, "NotFound"), |object| (200, object.clone()));
            if let Some(object) = self.meanwhile.remove(path) {
                self.store(path.to_owned(), object);
            }
            return answer;
        }
        let within = |found: &&String| found.rsplit('/').nth(1) == Some(plural);
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(path, _)| within(path))
            .map(|(_, object)| object)
            .collect();
        (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
        )
    }

    fn create(&mut self, path: &str, object: Value) -> (u16, Value) {
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
        if self.objects.contains_key(&path) {
            failure(409, "AlreadyExists")
        } else {
            (201, self.store(path, object))
        }
    }

    fn replace(&mut self, path: &str, object: Value) -> (u16, Value) {
        match self.objects.get(path) {
            None => failure(404, "NotFound"),
            Some(found) if found["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] => {
                failure(409, "Conflict")
            }
            Some(_) => (200, self.store(path.to_owned(), object)),
        }
    }

    fn patch(&mut self, path: &str, sent: &Value) -> (u16, Value) {
        let path = path.strip_suffix("/status").unwrap_or(path).to_owned();
        let mut object = self.objects.get(&path).cloned().unwrap_or_else(|| json!({}));
        let expected = &sent["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != object["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        if sent["status"].is_object() {
            object["status"] = sent["status"].clone();
        }
        merge(&mut object, sent);
        (200, self.store(path, object))
    }

    /// Server-side apply, with one manager for the object and one for its status.
    fn apply(&mut self, path: &str, sent: &Value, is_forced: bool) -> (u16, Value) {
        let is_ours = is_forced || self.applied.contains_key(path);
        if !is_ours && self.objects.get(path).is_some_and(|found| differs(found, sent)) {
            return failure(409, "Conflict");
        }
        let before = self.applied.insert(path.to_owned(), sent.clone());
        let of_object = path.strip_suffix("/status").is_none();
        if let Some(object) = self.objects.get_mut(path).filter(|_| of_object) {
            give_up(object, &before.unwrap_or_default(), sent);
        }
        self.patch(path, sent)
    }

    fn delete(&mut self, path: &str) -> (u16, Value) {
        self.applied.remove(path);
        match self.objects.remove(path) {
            Some(object) => (200, object),
            None => failure(404, "NotFound"),
        }
    }
}

/// JSON merge patch (RFC 7396), which for what we send does what server-side apply does.
fn merge(into: &mut Value, from: &Value) {
    let (Some(target), Some(source)) = (into.as_object_mut(), from.as_object()) else {
        *into = from.clone();
        return;
    };
    for (key, value) in source {
        merge(target.entry(key).or_insert(Value::Null), value);
    }
    target.retain(|_, value| !value.is_null());
}

fn is_apply(headers: &http::HeaderMap) -> bool {
    let type_ = headers.get(http::header::CONTENT_TYPE);
    type_
        .and_then(|type_| type_.to_str().ok())
        .is_some_and(|type_| type_.contains("apply-patch"))
}

/// Takes out of an object what was applied before and is not any more.
fn give_up(object: &mut Value, before: &Value, now: &Value) {
    let (Some(object), Some(before)) = (object.as_object_mut(), before.as_object()) else {
        return;
    };
    for (key, before) in before {
        match (object.get_mut(key), now.get(key)) {
            (Some(inner), Some(now)) => give_up(inner, before, now),
            (Some(_), None) => drop(object.remove(key)),
            (None, _) => {}
        }
    }
}

/// Whether somebody else's object says anything else than what is sent, where both say something.
fn differs(found: &Value, sent: &Value) -> bool {
    match (found, sent) {
        (Value::Object(found), Value::Object(sent)) => sent
            .iter()
            .any(|(key, sent)| found.get(key).is_some_and(|found| differs(found, sent))),
        _ => found != sent,
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason}),
    )
}

/// Where an object lives.
fn path(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (api, kind) = (text(&object["apiVersion"]), text(&object["kind"]).to_lowercase());
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    let prefix = if api.contains('/') {
        format!("/apis/{api}")
    } else {
        format!("/api/{api}")
    };
    let (namespace, name) = (
        text(&object["metadata"]["namespace"]),
        text(&object["metadata"]["name"]),
    );
    format!("{prefix}/namespaces/{namespace}/{plural}/{name}")
}
