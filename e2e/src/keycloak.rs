//! A real Keycloak that speaks https with a certificate of the run's authority.

mod admin;
mod realm;

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, bail};

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
    server: Guarded,
    url: String,
    admin: Admin,
}

impl Keycloak {
    /// Starts Keycloak in the folder `dir` and waits until it is ready.
    pub async fn start(dir: &Path, tools: &KeycloakTools, authority: &Authority) -> anyhow::Result<Self> {
        progress::during("starting Keycloak", Self::launch(dir, tools, authority)).await
    }

    async fn launch(dir: &Path, tools: &KeycloakTools, authority: &Authority) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let launch = Launch {
            home: dir.join("home"),
            https_port: ports::free()?,
            management_port: ports::free()?,
            certificate: dir.join("server.pem"),
            key: dir.join("server.key"),
        };
        tools.make_home(&launch.home)?;
        authority
            .server_certificate()?
            .write(&launch.certificate, &launch.key)?;
        let server = Guarded::spawn("Keycloak", &tools.command(&launch), dir.join("keycloak.log"))?;
        wait_until_ready(&server, launch.management_port, START_TIMEOUT).await?;

        let url = format!("https://127.0.0.1:{}", launch.https_port);
        let http = authority.http_client()?.build()?;
        let admin = Admin::new(http, &url, ADMIN_CLIENT, tools.admin_secret()?);
        Ok(Self { server, url, admin })
    }

    /// Its address, `https://127.0.0.1:port`: what every issuer of it begins with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls of the Admin API with all rights, on paths like `/admin/realms`.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The file with its log.
    pub fn log(&self) -> &Path {
        self.server.log()
    }

    /// Makes a realm with an operator client that has `roles` of `realm-management`
    /// (mostly [`OPERATOR_ROLES`]).
    pub async fn create_realm(&self, name: &str, roles: &[&str]) -> anyhow::Result<Realm> {
        Realm::create(&self.url, &self.admin, name, roles).await
    }

    /// Stops it.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.server.stop(STOP_GRACE).await.map(drop)
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
