//! The last working credential of an AuthorizationServer, in the operator's own namespace, for clean-up only.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, ResourceExt as _, api::ObjectMeta};
use mcp_auth_crds::{annotations, v1alpha1::AuthorizationServer};

use super::observe::{CA_KEY, CLIENT_ID, CLIENT_SECRET, Inputs};
use crate::{
    context::Context,
    controllers::halt::Halt,
    credential::journal,
    error::Error,
    provider::{Credential, SignIn},
};

/// Under which key a private key is kept, in whichever form.
const KEY: &str = "client-key";
/// Under which key it is kept that there is nothing to keep.
const TOKEN: &str = "service-account-token";

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
    let (secret, key, token) = match &inputs.sign_in {
        SignIn::Secret(secret) => (Some(secret.expose().to_owned()), None, None),
        SignIn::Key(key) => (None, Some(key.expose().to_owned()), None),
        SignIn::Token => (None, None, Some(true.to_string())),
    };
    let values = [
        (CLIENT_ID, Some(inputs.client_id.clone())),
        (CLIENT_SECRET, secret),
        (KEY, key),
        (TOKEN, token),
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
    let secret = text(CLIENT_SECRET).map(|secret| SignIn::Secret(Credential::new(secret)));
    let key = || text(KEY).map(|key| SignIn::Key(Credential::new(key)));
    let token = || text(TOKEN).map(|_| SignIn::Token);
    Some(Inputs {
        client_id: text(CLIENT_ID)?,
        sign_in: secret.or_else(key).or_else(token)?,
        ca_bundle: text(CA_KEY),
    })
}
