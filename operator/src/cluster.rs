//! The API server as reconcilers use it: every call bounded in time, every write behind the leader's fence.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use k8s_openapi::{
    ByteString, NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use mcp_auth_crds::annotations::{FINALIZER, MANAGED_BY, MANAGER};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{error::Error, lease::Leadership};

mod bounded;

pub use bounded::Unanswered;

/// Where the API server says who issues the tokens of ServiceAccounts.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// What every object of ours is, to the API server.
pub trait Owned:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize
{
}
impl<K> Owned for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
{
}

/// The API server, for reading and writing.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    leadership: Leadership,
    issuer: Arc<OnceCell<String>>,
}

/// Whether something that we want to write under a fixed name is there, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Nothing is there.
    Absent,
    /// Ours, by owner reference; `alive` says whether the reference names the owner's present UID (after a restore
    /// it names a dead one).
    Ours {
        /// The UID is the present one.
        alive: bool,
    },
    /// Somebody else's: never overwritten, never deleted.
    Foreign,
}

/// Whose the object is, from the point of view of `owner`.
pub fn ownership(existing: Option<&ObjectMeta>, owner: &OwnerReference) -> Ownership {
    let Some(existing) = existing else {
        return Ownership::Absent;
    };
    let group = |api_version: &str| api_version.split('/').next().unwrap_or_default().to_owned();
    let references = existing.owner_references.as_deref().unwrap_or_default();
    references
        .iter()
        .find(|r| {
            r.kind == owner.kind && r.name == owner.name && group(&r.api_version) == group(&owner.api_version)
        })
        .map_or(Ownership::Foreign, |r| Ownership::Ours {
            alive: r.uid == owner.uid,
        })
}

impl Cluster {
    /// Asks through `client`, and writes while `leadership` is held; must run within a tokio runtime.
    pub fn new(client: Client, leadership: Leadership) -> Self {
        Self {
            client: bounded::bounded(client, leadership.clone()),
            leadership,
            issuer: Arc::default(),
        }
    }

    /// What `iss` of the tokens is that the API server gives ServiceAccounts. Read once: it changes with the API server's
    /// flags only.
    pub async fn token_issuer(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
        }
        let read = || async {
            let request = http::Request::get(DISCOVERY).body(Vec::new());
            let request = request.map_err(kube::Error::HttpError)?;
            let discovery: Discovery = self.client.request(request).await?;
            Ok::<_, kube::Error>(discovery.issuer)
        };
        Ok(self.issuer.get_or_try_init(read).await?.clone())
    }

    /// A typed API in a namespace, for anything but a watch.
    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(
        &self,
        namespace: &str,
    ) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Fails when this replica does not lead: asked before each write, so that none is even prepared.
    pub fn fence(&self) -> Result<(), Error> {
        if self.leadership.is_held() {
            Ok(())
        } else {
            Err(Error::NotLeading)
        }
    }

    /// Puts our finalizer on the object, guarded by the resourceVersion that was seen.
    pub async fn add_finalizer<K: Owned>(&self, object: &K) -> Result<(), Error> {
        if has_finalizer(object) {
            return Ok(());
        }
        let finalizers = object
            .finalizers()
            .iter()
            .map(String::as_str)
            .chain([FINALIZER])
            .collect();
        self.set_finalizers(object, finalizers).await
    }

    /// Takes our finalizer off the object. It being gone already is fine; returns whether it was this call that let
    /// it go.
    pub async fn remove_finalizer<K: Owned>(&self, object: &K) -> Result<bool, Error> {
        if !has_finalizer(object) {
            return Ok(false);
        }
        let finalizers = object
            .finalizers()
            .iter()
            .map(String::as_str)
            .filter(|f| *f != FINALIZER)
            .collect();
        match self.set_finalizers(object, finalizers).await {
            Err(Error::Cluster {
                reason: "NotFound", ..
            }) => Ok(false),
            other => other.map(|()| true),
        }
    }

    async fn set_finalizers<K: Owned>(&self, object: &K, finalizers: Vec<&str>) -> Result<(), Error> {
        self.fence()?;
        let api: Api<K> = self.api(&object.namespace().unwrap_or_default());
        let patch =
            json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}});
        api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Applies the status: fields that are left out are removed, conditions of others stay.
    pub async fn write_status<K: Owned, S: Serialize + Sync>(
        &self,
        object: &K,
        status: &S,
    ) -> Result<(), Error> {
        self.fence()?;
        let api: Api<K> = self.api(&object.namespace().unwrap_or_default());
        let body = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status});
        match api
            .patch_status(
                &object.name_any(),
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&body),
            )
            .await
        {
            Ok(_) => Ok(()),
            // Deleted meanwhile: there is nothing left to say it on.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Applies an object of ours. Keys that others added stay; keys that we no longer name go.
    pub async fn apply<K: Owned>(&self, object: &K) -> Result<K, Error> {
        self.apply_with(object, &PatchParams::apply(MANAGER).force())
            .await
    }

    /// Applies an object of ours that was not there. If somebody made one of its name meanwhile that says anything else,
    /// that is a conflict: it is not merged into theirs.
    pub async fn apply_new<K: Owned>(&self, object: &K) -> Result<K, Error> {
        self.apply_with(object, &PatchParams::apply(MANAGER)).await
    }

    async fn apply_with<K: Owned>(&self, object: &K, parameters: &PatchParams) -> Result<K, Error> {
        self.fence()?;
        let api: Api<K> = self.api(&object.namespace().unwrap_or_default());
        let applied = api
            .patch(&object.name_any(), parameters, &Patch::Apply(object))
            .await?;
        Ok(applied)
    }

    /// Sets an annotation of an object. It being gone is fine.
    pub async fn annotate<K: Owned>(&self, object: &K, key: &str, value: &str) -> Result<(), Error> {
        self.fence()?;
        let api: Api<K> = self.api(&object.namespace().unwrap_or_default());
        let patch = json!({"metadata": {"uid": object.uid(), "annotations": {key: value}}});
        match api
            .patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks whether the API server would take an object if nothing of its name were there. Nothing is written.
    pub async fn try_create<K: Owned>(&self, object: &K) -> Result<(), Error> {
        self.fence()?;
        let api: Api<K> = self.api(&object.namespace().unwrap_or_default());
        let parameters = PostParams {
            dry_run: true,
            field_manager: Some(MANAGER.to_owned()),
        };
        match api.create(&parameters, object).await {
            Ok(_) => Ok(()),
            // It looks at the object before it looks for others.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes an object if it is still the incarnation that was seen. It being gone already is fine.
    pub async fn delete<K: Owned>(&self, object: &K) -> Result<(), Error> {
        self.fence()?;
        let api: Api<K> = self.api(&object.namespace().unwrap_or_default());
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: object.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(&object.name_any(), &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether our finalizer is on the object: there may be something at the authorization server to clean up.
pub fn has_finalizer<K: Resource>(object: &K) -> bool {
    object
        .meta()
        .finalizers
        .as_ref()
        .is_some_and(|finalizers| finalizers.iter().any(|f| f == FINALIZER))
}

/// Whether the object is being deleted.
pub fn is_deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// A Secret of ours.
pub fn secret(
    namespace: &str,
    name: &str,
    owner: &OwnerReference,
    labels: BTreeMap<String, String>,
    data: &BTreeMap<String, String>,
) -> Secret {
    let bytes = |(key, value): (&String, &String)| (key.clone(), ByteString(value.clone().into_bytes()));
    Secret {
        metadata: metadata(namespace, name, owner, labels),
        data: Some(data.iter().map(bytes).collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// A ConfigMap of ours.
pub fn config_map(
    namespace: &str,
    name: &str,
    owner: &OwnerReference,
    data: BTreeMap<String, String>,
) -> ConfigMap {
    let labels = BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())]);
    ConfigMap {
        metadata: metadata(namespace, name, owner, labels),
        data: Some(data),
        ..ConfigMap::default()
    }
}

fn metadata(
    namespace: &str,
    name: &str,
    owner: &OwnerReference,
    labels: BTreeMap<String, String>,
) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        labels: Some(labels),
        owner_references: Some(vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(kind: &str, name: &str, uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: "mcpauth.dev/v1alpha1".into(),
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
            ..OwnerReference::default()
        }
    }

    #[test]
    fn ownership_is_by_reference_and_survives_a_restore() {
        let me = owner("McpClient", "c", "1");
        let with = |references: Vec<OwnerReference>| ObjectMeta {
            owner_references: Some(references),
            ..ObjectMeta::default()
        };
        let other_group = OwnerReference {
            api_version: "example.com/v1".into(),
            ..me.clone()
        };
        let cases = [
            ("nothing there", None, Ownership::Absent),
            ("nobody's", Some(ObjectMeta::default()), Ownership::Foreign),
            (
                "ours",
                Some(with(vec![me.clone()])),
                Ownership::Ours { alive: true },
            ),
            (
                "ours from before",
                Some(with(vec![owner("McpClient", "c", "0")])),
                Ownership::Ours { alive: false },
            ),
            (
                "another name",
                Some(with(vec![owner("McpClient", "d", "1")])),
                Ownership::Foreign,
            ),
            (
                "another kind",
                Some(with(vec![owner("McpServer", "c", "1")])),
                Ownership::Foreign,
            ),
            ("another group", Some(with(vec![other_group])), Ownership::Foreign),
        ];
        for (name, existing, expected) in cases {
            assert_eq!(ownership(existing.as_ref(), &me), expected, "{name}");
        }
    }
}
