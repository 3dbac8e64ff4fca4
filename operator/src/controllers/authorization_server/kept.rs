//! The last working credential of an AuthorizationServer, in the operator's own namespace, for clean-up only.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, ResourceExt as _, api::ObjectMeta};
use mcp_auth_crds::{annotations, v1alpha1::AuthorizationServer};

use super::observe::{CA_KEY, CLIENT_ID, CLIENT_SECRET, Credentials, Inputs};
use crate::{
    context::Context,
    controllers::halt::Halt,
    credential::journal,
    error::Error,
    provider::{Credential, SignIn},
};

/// Under which key a private key is kept, in whichever form.
const KEY: &str = "client-key";
/// Under which key an initial access token is kept; what is there is empty where registration is open.
const REGISTRATION: &str = "registration";
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
    let mut values = match &inputs.credentials {
        Credentials::Client { client_id, sign_in } => {
            let shown = match sign_in {
                SignIn::Secret(secret) => (CLIENT_SECRET, secret.expose().to_owned()),
                SignIn::Key(key) => (KEY, key.expose().to_owned()),
                SignIn::Token => (TOKEN, true.to_string()),
            };
            vec![(CLIENT_ID, client_id.clone()), shown]
        }
        Credentials::Registration(Some(token)) => vec![(REGISTRATION, token.expose().to_owned())],
        Credentials::Registration(None) => vec![(REGISTRATION, String::new())],
    };
    values.extend(inputs.ca_bundle.clone().map(|bundle| (CA_KEY, bundle)));
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
                .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
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
    let credentials = match text(REGISTRATION) {
        Some(token) => {
            let token = Some(token).filter(|token| !token.is_empty());
            Credentials::Registration(token.map(Credential::new))
        }
        None => Credentials::Client {
            client_id: text(CLIENT_ID)?,
            sign_in: secret.or_else(key).or_else(token)?,
        },
    };
    Some(Inputs {
        credentials,
        ca_bundle: text(CA_KEY),
    })
}
