//! The last working credential of an AuthorizationServer, in the operator's own namespace, for clean-up only.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, ResourceExt as _, api::ObjectMeta};
use mcp_auth_crds::{annotations, v1alpha1::AuthorizationServer};

use super::observe::{CA_KEY, CLIENT_ID, CLIENT_SECRET, Inputs};
use crate::{
    context::Context, controllers::halt::Halt, credential::journal, error::Error, provider::Credential,
};

fn name(server: &AuthorizationServer) -> String {
    journal::name(
        "AuthorizationServer",
        &server.namespace().unwrap_or_default(),
        &server.name_any(),
    )
}

/// Keeps the credential, if it is not kept already.
pub(super) async fn keep(server: &AuthorizationServer, inputs: &Inputs, ctx: &Context) -> Result<(), Halt> {
    let api: Api<Secret> = ctx.cluster.api(&ctx.config.namespace);
    let existing = api.get_opt(&name(server)).await?;
    if existing.as_ref().and_then(parse).as_ref() == Some(inputs) {
        return Ok(());
    }
    let values = [
        (CLIENT_ID, Some(inputs.client_id.clone())),
        (CLIENT_SECRET, Some(inputs.client_secret.expose().to_owned())),
        (CA_KEY, inputs.ca_bundle.clone()),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            namespace: Some(ctx.config.namespace.clone()),
            name: Some(name(server)),
            labels: Some(BTreeMap::from([(
                annotations::MANAGED_BY.to_owned(),
                annotations::MANAGER.to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        data: Some(
            values
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), ByteString(value?.into_bytes()))))
                .collect(),
        ),
        ..Secret::default()
    };
    ctx.cluster.apply(&secret).await?;
    Ok(())
}

/// What was kept.
pub(super) async fn read(server: &AuthorizationServer, ctx: &Context) -> Result<Option<Inputs>, Error> {
    let api: Api<Secret> = ctx.cluster.api(&ctx.config.namespace);
    Ok(api.get_opt(&name(server)).await?.as_ref().and_then(parse))
}

/// Deletes what was kept.
pub(super) async fn forget(server: &AuthorizationServer, ctx: &Context) -> Result<(), Error> {
    let api: Api<Secret> = ctx.cluster.api(&ctx.config.namespace);
    match api.get_opt(&name(server)).await? {
        Some(secret) => ctx.cluster.delete(&secret).await,
        None => Ok(()),
    }
}

fn parse(secret: &Secret) -> Option<Inputs> {
    let text = |key: &str| {
        let value = secret.data.as_ref()?.get(key)?;
        String::from_utf8(value.0.clone()).ok()
    };
    Some(Inputs {
        client_id: text(CLIENT_ID)?,
        client_secret: Credential::new(text(CLIENT_SECRET)?),
        ca_bundle: text(CA_KEY),
    })
}
