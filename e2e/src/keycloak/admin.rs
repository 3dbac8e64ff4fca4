//! The Admin REST API of Keycloak, as an administrator with a script would use it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use http::{Method, StatusCode, header::LOCATION};
use reqwest::Response;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

/// A token is renewed when it has less than this left.
const MARGIN: Duration = Duration::from_secs(15);

/// A caller of the Admin API with a token of its own, renewed in time. Clones share the token.
#[derive(Clone)]
pub struct Admin {
    http: reqwest::Client,
    url: String,
    base: String,
    client_id: String,
    client_secret: SecretString,
    token: Arc<Mutex<Option<Token>>>,
}

struct Token {
    value: SecretString,
    expires: Instant,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: SecretString,
    expires_in: u64,
}

impl Admin {
    pub(super) fn new(
        http: reqwest::Client,
        url: &str,
        client_id: &str,
        client_secret: SecretString,
    ) -> Self {
        Self {
            http,
            url: url.to_owned(),
            base: url.to_owned(),
            client_id: client_id.to_owned(),
            client_secret,
            token: Arc::default(),
        }
    }

    /// The same caller for paths inside a realm, like `/clients`.
    pub(super) fn in_realm(&self, realm: &str) -> Self {
        Self {
            base: format!("{}/admin/realms/{realm}", self.url),
            ..self.clone()
        }
    }

    /// Reads. An answer without a body is `null`.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        body(self.call(Method::GET, path, None::<&()>).await?).await
    }

    /// Reads what may be missing: None for 404.
    pub async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let response = self.send(Method::GET, path, None::<&()>).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        body(accepted(Method::GET, path, response).await?).await.map(Some)
    }

    /// Makes something and gives its id, from the `Location` header.
    pub async fn create(&self, path: &str, content: &impl Serialize) -> anyhow::Result<String> {
        let response = self.call(Method::POST, path, Some(content)).await?;
        let location = response
            .headers()
            .get(LOCATION)
            .context("Keycloak named no location")?
            .to_str()?;
        Ok(location.rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// Posts where nothing with an id is made.
    pub async fn post(&self, path: &str, content: &impl Serialize) -> anyhow::Result<Value> {
        body(self.call(Method::POST, path, Some(content)).await?).await
    }

    /// Replaces.
    pub async fn put(&self, path: &str, content: &impl Serialize) -> anyhow::Result<Value> {
        body(self.call(Method::PUT, path, Some(content)).await?).await
    }

    /// Deletes.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.call(Method::DELETE, path, None::<&()>).await.map(drop)
    }

    /// Deletes with a body, as the removal of role mappings wants it.
    pub async fn delete_with(&self, path: &str, content: &impl Serialize) -> anyhow::Result<()> {
        self.call(Method::DELETE, path, Some(content)).await.map(drop)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content: Option<&impl Serialize>,
    ) -> anyhow::Result<Response> {
        let response = self.send(method.clone(), path, content).await?;
        accepted(method, path, response).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Option<&impl Serialize>,
    ) -> anyhow::Result<Response> {
        let token = self.token().await?;
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        request = request.bearer_auth(token.expose_secret());
        if let Some(content) = content {
            request = request.json(content);
        }
        request.send().await.with_context(|| format!("{method} {path}"))
    }

    async fn token(&self) -> anyhow::Result<SecretString> {
        let mut cached = self.token.lock().await;
        if let Some(token) = cached
            .as_ref()
            .filter(|token| token.expires > Instant::now() + MARGIN)
        {
            return Ok(token.value.clone());
        }
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose_secret()),
        ];
        let asked = Instant::now();
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.url);
        let response = self
            .http
            .post(url)
            .form(&form)
            .send()
            .await
            .context("cannot ask for an admin token")?;
        let answer: TokenResponse = response
            .error_for_status()
            .context("no admin token")?
            .json()
            .await?;
        let token = Token {
            value: answer.access_token,
            expires: asked + Duration::from_secs(answer.expires_in),
        };
        Ok(cached.insert(token).value.clone())
    }
}

async fn accepted(method: Method, path: &str, response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    bail!(
        "{method} {path}: Keycloak answered {status}: {}",
        response.text().await.unwrap_or_default()
    )
}

async fn body(response: Response) -> anyhow::Result<Value> {
    let bytes = response.bytes().await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).context("Keycloak answered with something that is not JSON")
}
