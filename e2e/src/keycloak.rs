//! A real Keycloak that speaks https with a certificate of the run's authority.

mod admin;
mod realm;

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context, bail};
use secrecy::SecretString;

use crate::{
    pki::Authority,
    ports,
    process::Guarded,
    progress,
    tools::{ADMIN_CLIENT, KeycloakTools, Launch},
    wait::{Seen, wait_for},
};

pub use admin::Admin;
pub use realm::{OPERATOR_CLIENT, OPERATOR_ROLES, Realm};

const START_TIMEOUT: Duration = Duration::from_mins(3);
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A running Keycloak.
pub struct Keycloak {
    /// None when somebody else runs it.
    server: Option<Guarded>,
    url: String,
    admin: Admin,
}

/// A Keycloak that somebody else runs, and a client of its realm `master` that may create realms.
#[derive(Clone, Debug)]
pub struct ExistingKeycloak {
    /// Its address, without a path unless Keycloak is served under one.
    pub url: String,
    /// The client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
}

impl Keycloak {
    /// Starts Keycloak in the folder `dir`, at the address `host` of this machine, and waits until it is ready.
    pub async fn start(
        dir: &Path,
        tools: &KeycloakTools,
        authority: &Authority,
        host: Ipv4Addr,
    ) -> anyhow::Result<Self> {
        progress::during("starting Keycloak", Self::launch(dir, tools, authority, host)).await
    }

    async fn launch(
        dir: &Path,
        tools: &KeycloakTools,
        authority: &Authority,
        host: Ipv4Addr,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let launch = Launch {
            home: dir.join("home"),
            host,
            https_port: ports::free()?,
            management_port: ports::free()?,
            certificate: dir.join("server.pem"),
            key: dir.join("server.key"),
            trust: dir.join("authority.pem"),
        };
        fs::write(&launch.trust, authority.pem())?;
        tools.make_home(&launch.home)?;
        authority
            .server_certificate_at(&host.to_string())?
            .write(&launch.certificate, &launch.key)?;
        let server = Guarded::spawn("Keycloak", &tools.command(&launch), dir.join("keycloak.log"))?;
        wait_until_ready(&server, launch.management_port, START_TIMEOUT).await?;

        let url = format!("https://{host}:{}", launch.https_port);
        let http = authority.http_client()?.build()?;
        let admin = Admin::new(http, &url, ADMIN_CLIENT, tools.admin_secret()?);
        Ok(Self {
            server: Some(server),
            url,
            admin,
        })
    }

    /// A Keycloak that runs already.
    pub async fn existing(existing: &ExistingKeycloak, authority: &Authority) -> anyhow::Result<Self> {
        let url = existing.url.trim_end_matches('/').to_owned();
        let http = authority.http_client()?.build()?;
        let admin = Admin::new(http, &url, &existing.client_id, existing.client_secret.clone());
        admin
            .get("/admin/realms/master")
            .await
            .with_context(|| format!("cannot administer the Keycloak at {url}"))?;
        Ok(Self {
            server: None,
            url,
            admin,
        })
    }

    /// Its address, `https://host:port`: what every issuer of it begins with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls of the Admin API with all rights, on paths like `/admin/realms`.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Makes a realm with an operator client that has `roles` of `realm-management`
    /// (mostly [`OPERATOR_ROLES`]).
    pub async fn create_realm(&self, name: &str, roles: &[&str]) -> anyhow::Result<Realm> {
        Realm::create(&self.admin, name, roles).await
    }

    /// Removes a realm with everything in it, if there is one of this name.
    pub async fn remove_realm(&self, name: &str) -> anyhow::Result<()> {
        let path = format!("/admin/realms/{name}");
        match self.admin.find(&path).await? {
            Some(_) => self.admin.delete(&path).await,
            None => Ok(()),
        }
    }

    /// Stops it, unless somebody else runs it.
    pub async fn stop(&self) -> anyhow::Result<()> {
        match &self.server {
            Some(server) => server.stop(STOP_GRACE).await.map(drop),
            None => Ok(()),
        }
    }
}

/// Waits until the health endpoint on `management_port` says ready; fails at once when the server ends.
pub(crate) async fn wait_until_ready(
    server: &Guarded,
    management_port: u16,
    timeout: Duration,
) -> anyhow::Result<()> {
    let url = format!("http://127.0.0.1:{management_port}/health/ready");
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()?;
    let ready = wait_for("Keycloak to be ready", timeout, async || {
        let status = http
            .get(&url)
            .send()
            .await
            .context("no answer from its health endpoint")?
            .status();
        Ok(if status.is_success() {
            Seen::Done(())
        } else {
            Seen::NotYet(status.to_string())
        })
    });
    tokio::select! {
        ready = ready => ready.with_context(|| format!("its last lines:\n{}", server.log_tail())),
        status = server.wait() => bail!("Keycloak ended ({}); its last lines:\n{}", status?, server.log_tail()),
    }
}
