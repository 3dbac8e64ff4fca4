mod controlling;
mod feeding;
mod merging;
mod troubled;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{api::ObjectMeta, runtime::reflector::ObjectRef};

/// A ConfigMap that holds one value.
fn config_map(namespace: &str, name: &str, value: u32) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            resource_version: Some((value + 1).to_string()),
            ..ObjectMeta::default()
        },
        data: Some([("value".to_owned(), value.to_string())].into()),
        ..ConfigMap::default()
    }
}

/// The value of [`config_map`].
fn value(object: &ConfigMap) -> u32 {
    object.data.as_ref().unwrap()["value"].parse().unwrap()
}

/// A reference to [`config_map`].
fn reference(namespace: &str, name: &str) -> ObjectRef<ConfigMap> {
    ObjectRef::new(name).within(namespace)
}
