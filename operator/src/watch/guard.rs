//! Reading objects so that one that cannot be read does not stop the watch of all others, and keeping no more of them
//! than is needed.

use std::borrow::Cow;

use kube::{
    Resource,
    api::ObjectMeta,
    core::DeserializeGuard,
    runtime::{reflector::ObjectRef, watcher::Event},
};
use mcp_auth_crds::GROUP;
use serde::{Deserialize, Deserializer};

use super::merge::Seen;

/// A `K`, or what is known of an object that is not one.
///
/// kube's [`DeserializeGuard`], except that it stays metadata-only where `K` is: without that, a watch of the metadata
/// of Secrets would quietly become one of the Secrets.
#[derive(Clone, Debug)]
pub struct Guarded<K>(DeserializeGuard<K>);

impl<'de, K> Deserialize<'de> for Guarded<K>
where
    K: Deserialize<'de> + Resource,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DeserializeGuard::deserialize(deserializer).map(Self)
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

impl<K> Guarded<K>
where
    K: Resource<DynamicType = ()> + Clone,
{
    fn seen(self) -> Seen<K> {
        match self.0.0 {
            Ok(mut object) => {
                trim::<K>(object.meta_mut());
                Seen::Object(object)
            }
            Err(invalid) => {
                let mut object = ObjectRef::new(invalid.metadata.name.as_deref().unwrap_or_default());
                object.namespace = invalid.metadata.namespace;
                Seen::Unreadable {
                    object,
                    why: invalid.error,
                }
            }
        }
    }

    /// The event, with what it says about its object: as much as is worth keeping.
    pub(super) fn open(event: Event<Self>) -> Event<Seen<K>> {
        match event {
            Event::Apply(object) => Event::Apply(object.seen()),
            Event::Delete(object) => Event::Delete(object.seen()),
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(object.seen()),
            Event::InitDone => Event::InitDone,
        }
    }
}

/// Leaves out of an object what nobody here reads, which can be most of it.
///
/// It also keeps the values of Secrets out of memory: `kubectl apply` writes whole objects into an annotation.
fn trim<K: Resource>(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if K::metadata_api() {
        metadata.annotations = None;
    } else if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| is_ours(key));
    }
}

/// Whether an annotation's key is one of those that speak to the operator.
fn is_ours(key: &str) -> bool {
    key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'))
}
