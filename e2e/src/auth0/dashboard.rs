//! Somebody in front of the tenant's dashboard: another administrator, who may do everything and is not limited.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    clients::Client,
    management,
    server::Shared,
    table::Table,
    tenant::management_scopes,
    wire::{Answer, Body, Object, Request, text},
};

/// The endpoints of the Management API with the same rules as for everybody, but without token, scopes and limits, and
/// without going over the network, so that nobody's calls are counted with it. Paths are those below `/api/v2/`.
pub struct Dashboard {
    shared: Arc<Shared>,
}

impl Dashboard {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
        }
    }

    /// Reads something.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Makes something; what was answered.
    pub async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Changes something; what it is then.
    pub async fn patch(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    /// Removes something.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.call(Method::DELETE, path, None).await?;
        Ok(())
    }

    /// Everything that is configured, to see what has changed and what has not. Of secrets it holds hashes.
    pub fn everything(&self) -> Value {
        let tenant = self.shared.tenant();
        let connections = tenant.connections.values().map(|connection| {
            let mut fields = connection.fields.clone();
            fields.insert("enabled_clients".to_owned(), json!(connection.clients));
            (connection.id().to_owned(), Value::Object(fields))
        });
        let roles = tenant.roles.values().map(|role| {
            let role = json!({"fields": role.fields, "permissions": role.permissions});
            (text_of(&role["fields"], "id"), role)
        });
        let clients = tenant
            .clients
            .values()
            .map(|client| (client.id().to_owned(), of_client(client)));
        json!({
            "settings": tenant.settings,
            "resource_servers": by_id(&tenant.resource_servers),
            "clients": clients.collect::<Object>(),
            "client_grants": by_id(&tenant.grants),
            "token_exchange_profiles": by_id(&tenant.exchange_profiles),
            "actions": by_id(&tenant.actions),
            "connections": connections.collect::<Object>(),
            "roles": roles.collect::<Object>(),
        })
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let request = http::Request::builder()
            .method(method.clone())
            .uri(format!("/api/v2/{path}"))
            .header(header::CONTENT_TYPE, "application/json");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let (parts, ()) = request.body(())?.into_parts();
        let request = Request::new(&parts, body.into()).context("the path is not UTF-8")?;
        let all: BTreeSet<String> = management_scopes().into_iter().collect();
        let Some((route, ids)) = management::route(&request) else {
            bail!("{method} {path}: there is no such endpoint");
        };
        let outcome = management::carry_out(&self.shared, &request, route, ids, &all).await;
        let answer = outcome.unwrap_or_else(Answer::from);
        let body = match answer.body {
            Body::Json(body) => body,
            Body::Empty | Body::Page(_) => Value::Null,
        };
        if answer.status < StatusCode::BAD_REQUEST {
            return Ok(body);
        }
        bail!("{method} {path}: {}: {}", answer.status, body["message"])
    }
}

fn by_id(table: &Table<Object>) -> Object {
    let rows = table.values();
    rows.map(|row| (text(row, "id").to_owned(), Value::Object(row.clone())))
        .collect()
}

fn of_client(client: &Client) -> Value {
    let keys: Vec<&Object> = client.credentials.iter().map(|key| &key.shown).collect();
    let secret = URL_SAFE_NO_PAD.encode(Sha256::digest(client.secret.current()));
    json!({"fields": client.fields, "external": client.external, "credentials": keys, "secret": secret})
}

fn text_of(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
