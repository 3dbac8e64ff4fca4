//! oidc-provider: a real authorization server at which clients can only register themselves (RFC 7591) and manage their
//! own registration (RFC 7592), with rotating registration access tokens and resource indicators (RFC 8707).

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    mcp::Scripts,
    pki::Authority,
    ports,
    process::Guarded,
    wait::{Seen, wait_for},
};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What the server can do.
#[derive(Clone, Debug)]
pub struct Options {
    /// What registration needs; `None`: anybody may register.
    pub initial_access_token: Option<String>,
    /// Whether registrations can be read, changed and removed.
    pub manages: bool,
    /// The resources for which it issues tokens, with their scopes separated by spaces.
    pub resources: BTreeMap<String, String>,
    /// Who may sign in, by name, with a password.
    pub users: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            initial_access_token: None,
            manages: true,
            resources: BTreeMap::new(),
            users: BTreeMap::new(),
        }
    }
}

/// A running server. It is killed when it is dropped.
pub struct OidcProvider {
    process: Guarded,
    issuer: String,
    http: reqwest::Client,
}

impl OidcProvider {
    /// Starts it at this address of the machine, and waits until it listens.
    pub async fn start(
        scripts: &Scripts,
        authority: &Authority,
        host: Ipv4Addr,
        options: &Options,
    ) -> anyhow::Result<Self> {
        let address = SocketAddr::from((host, ports::free()?));
        let issuer = format!("https://{address}");
        let name = format!("oidc-provider-{}", address.port());
        let [certificate, key] =
            ["certificate", "key"].map(|part| scripts.folder().join(format!("{name}.{part}.pem")));
        authority
            .server_certificate_at(&host.to_string())?
            .write(&certificate, &key)?;
        let wanted = json!({
            "initialAccessToken": options.initial_access_token,
            "manages": options.manages,
            "rotates": options.manages,
            "resources": options.resources,
            "users": options.users,
        });
        let mut command = scripts.command("servers/authorization-server.mjs");
        command
            .env("ISSUER", &issuer)
            .env("HOST", host.to_string())
            .env("PORT", address.port().to_string())
            .env("CERTIFICATE", certificate)
            .env("KEY", key)
            .env("OPTIONS", wanted.to_string());
        let log = scripts.folder().join(format!("{name}.log"));
        let server = Self {
            process: Guarded::spawn(&name, &command, log)?,
            issuer,
            http: authority.http_client()?.build()?,
        };
        let what = format!("{name} to listen");
        let listens = wait_for(&what, START_TIMEOUT, async || {
            TcpStream::connect(address).await.context("not yet")?;
            Ok(Seen::Done(()))
        });
        tokio::select! {
            listens = listens => listens.with_context(|| server.process.log_tail())?,
            status = server.process.wait() => bail!("{name} ended ({}):\n{}", status?, server.process.log_tail()),
        }
        Ok(server)
    }

    /// Its issuer, which is its address too.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// How it errs from now on; see `npm/servers/authorization-server.mjs`.
    pub async fn behave(&self, behaviour: &Value) -> anyhow::Result<()> {
        self.control(reqwest::Method::PUT, "behaviour", behaviour)
            .await
            .map(drop)
    }

    /// The clients that it holds, with all that it knows of them.
    pub async fn clients(&self) -> anyhow::Result<Vec<Value>> {
        self.control(reqwest::Method::GET, "clients", &json!({})).await
    }

    /// Changes a client behind the back of whoever registered it.
    pub async fn change(&self, client_id: &str, patch: &Value) -> anyhow::Result<()> {
        let path = format!("clients/{client_id}");
        self.control(reqwest::Method::PATCH, &path, patch).await.map(drop)
    }

    /// Removes a client the same way.
    pub async fn remove(&self, client_id: &str) -> anyhow::Result<()> {
        let path = format!("clients/{client_id}");
        self.control(reqwest::Method::DELETE, &path, &json!({}))
            .await
            .map(drop)
    }

    async fn control(&self, method: reqwest::Method, path: &str, body: &Value) -> anyhow::Result<Vec<Value>> {
        let url = format!("{}/control/{path}", self.issuer);
        let answer = self.http.request(method, url).json(body).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}
