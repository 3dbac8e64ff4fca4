//! Keycloak from its Maven distribution, prepared so that a new instance starts in seconds.
//!
//! Two entries of the cache. The *distribution* is unpacked and built with the features we want. The *warm start*
//! is what one first start of it leaves behind: the database with its schema and master realm, and an archive of
//! the loaded Java classes. An instance gets a home folder of its own, with links into the distribution and a copy
//! of that database, so that any number of them run from one read-only install.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    cache::{Cache, Entry, Key},
    keycloak::wait_until_ready,
    pki::{Authority, write_private},
    ports,
    process::Guarded,
    progress, secrets,
    tools::source_folder,
};

/// The client with all rights on the master realm, made at the first start.
pub const ADMIN_CLIENT: &str = "e2e-admin";

/// Decided when the distribution is built; they cannot be changed at a start.
const BUILD_OPTIONS: [&str; 4] = [
    "--db=dev-file",
    "--health-enabled=true",
    "--metrics-enabled=true",
    "--features=cimd,client-secret-rotation,identity-brokering-api:v2,identity-assertion-jwt",
];

/// For a server that lives for minutes on few cores, the optimising compiler costs more than it gives.
const JAVA_OPTIONS: &str = "-XX:TieredStopAtLevel=1";
const JAVA_HEAP: &str = "-Xms64m -Xmx768m";

/// What of the distribution an instance's home folder links to.
const SHARED_FOLDERS: [&str; 4] = ["conf", "lib", "providers", "themes"];

const DATABASE: &str = "data/h2/keycloakdb.mv.db";
const CLASS_ARCHIVE: &str = "classes.jsa";
const ADMIN_SECRET: &str = "admin-secret";

/// A Keycloak that is ready to be started.
#[derive(Clone, Debug)]
pub struct KeycloakTools {
    distribution: PathBuf,
    warm_start: PathBuf,
}

/// How one instance is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The instance's own folder, made by [`KeycloakTools::make_home`].
    pub home: PathBuf,
    /// The address of this machine where it speaks https.
    pub host: Ipv4Addr,
    /// The port there.
    pub https_port: u16,
    /// The port on 127.0.0.1 of its health and metrics endpoints, plain http.
    pub management_port: u16,
    /// The server's certificate, a PEM file.
    pub certificate: PathBuf,
    /// Its key, a PEM file.
    pub key: PathBuf,
    /// Whose certificates it trusts, a PEM file.
    pub trust: PathBuf,
}

impl KeycloakTools {
    /// The secret of [`ADMIN_CLIENT`].
    pub fn admin_secret(&self) -> anyhow::Result<SecretString> {
        let file = self.warm_start.join(ADMIN_SECRET);
        let secret = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(SecretString::from(secret))
    }

    /// Makes the folder of a new instance.
    pub fn make_home(&self, home: &Path) -> anyhow::Result<()> {
        link_distribution(&self.distribution, home)?;
        let database = home.join(DATABASE);
        fs::create_dir_all(database.parent().unwrap_or(home))?;
        fs::copy(self.warm_start.join(DATABASE), &database).context("cannot copy Keycloak's database")?;
        Ok(())
    }

    /// The command that starts an instance.
    pub fn command(&self, launch: &Launch) -> Command {
        let archive = self.warm_start.join(CLASS_ARCHIVE);
        start_command(
            &self.distribution,
            launch,
            &format!("-XX:SharedArchiveFile={}", archive.display()),
        )
    }
}

/// The place in the cache that belongs to the present `pom.xml` and options.
pub(super) fn entry(cache: &Cache) -> anyhow::Result<Entry> {
    let key = Key::new()
        .with_file(&source_folder("keycloak/pom.xml"))?
        .with(BUILD_OPTIONS.join(" "));
    Ok(cache.entry("keycloak", key))
}

/// Builds what is not in the cache.
pub(super) async fn build(cache: &Cache, distribution: &Entry, logs: &Path) -> anyhow::Result<KeycloakTools> {
    distribution
        .build(async |folder: &Path| unpack(folder, logs).await)
        .await?;

    // The class archive is good for one path and one Java only.
    let key = Key::new()
        .with(distribution.path().to_string_lossy().as_bytes())
        .with(java_version()?)
        .with(format!("{JAVA_OPTIONS} {JAVA_HEAP}"));
    let warm_start = cache.entry("keycloak-warm", key);
    warm_start
        .build(async |folder: &Path| {
            let step = "starting Keycloak once, so that later starts are fast";
            progress::during(step, warm_up(distribution.path(), folder, logs)).await
        })
        .await?;
    Ok(KeycloakTools {
        distribution: distribution.path().to_owned(),
        warm_start: warm_start.path().to_owned(),
    })
}

/// Fetches the distribution, checks its hash (both are Maven's work, see `pom.xml`) and builds it.
async fn unpack(folder: &Path, logs: &Path) -> anyhow::Result<()> {
    let download = folder.join("maven");
    let mut maven = Command::new("mvn");
    maven
        .args([
            "--batch-mode",
            "--no-transfer-progress",
            "generate-sources",
            "--file",
        ])
        .arg(source_folder("keycloak/pom.xml"))
        .arg(format!("-Dout={}", download.display()));
    let log = logs.join("get-keycloak.log");
    let step = "getting Keycloak with Maven";
    progress::during(step, async {
        Guarded::spawn("mvn", &maven, log)?.succeed().await
    })
    .await?;

    let unpacked = fs::read_dir(&download)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.join("bin/kc.sh").exists())
        .context("the distribution of Keycloak has no bin/kc.sh")?;
    for child in fs::read_dir(&unpacked)? {
        let child = child?;
        fs::rename(child.path(), folder.join(child.file_name()))?;
    }
    fs::remove_dir_all(&download)?;

    let mut build = Command::new("sh");
    build
        .arg(folder.join("bin/kc.sh"))
        .arg("build")
        .args(BUILD_OPTIONS);
    let log = logs.join("build-keycloak.log");
    let step = "building Keycloak with the features that the stories use";
    progress::during(step, async {
        Guarded::spawn("kc.sh build", &build, log)?.succeed().await
    })
    .await
}

/// Starts Keycloak for the first time and keeps what a later start can use.
async fn warm_up(distribution: &Path, folder: &Path, logs: &Path) -> anyhow::Result<()> {
    let scratch = logs.join("warm-keycloak");
    let home = scratch.join("home");
    link_distribution(distribution, &home)?;
    let authority = Authority::new()?;
    let identity = authority.server_certificate()?;
    let launch = Launch {
        host: Ipv4Addr::LOCALHOST,
        https_port: ports::free()?,
        management_port: ports::free()?,
        certificate: scratch.join("server.pem"),
        key: scratch.join("server.key"),
        trust: scratch.join("authority.pem"),
        home,
    };
    fs::write(&launch.trust, authority.pem())?;
    identity.write(&launch.certificate, &launch.key)?;

    let secret = secrets::random();
    let dump = format!(
        "-XX:ArchiveClassesAtExit={}",
        folder.join(CLASS_ARCHIVE).display()
    );
    let mut command = start_command(distribution, &launch, &dump);
    command
        .env("KC_BOOTSTRAP_ADMIN_CLIENT_ID", ADMIN_CLIENT)
        .env("KC_BOOTSTRAP_ADMIN_CLIENT_SECRET", secret.expose_secret());
    let server = Guarded::spawn("Keycloak", &command, logs.join("warm-keycloak.log"))?;
    wait_until_ready(&server, launch.management_port, Duration::from_mins(5)).await?;
    server.stop(Duration::from_mins(2)).await?;

    let database = folder.join(DATABASE);
    fs::create_dir_all(database.parent().unwrap_or(folder))?;
    fs::copy(launch.home.join(DATABASE), &database).context("Keycloak's first start left no database")?;
    ensure!(
        folder.join(CLASS_ARCHIVE).exists(),
        "Java wrote no class archive:\n{}",
        server.log_tail()
    );
    write_private(&folder.join(ADMIN_SECRET), secret.expose_secret())
}

fn start_command(distribution: &Path, launch: &Launch, class_archive: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .arg(distribution.join("bin/kc.sh"))
        .args(["start", "--optimized", "--cache=local", "--http-enabled=false"])
        .arg(format!("--http-host={}", launch.host))
        // The script looks for its home beside itself; the last setting of a Java property is the one that counts.
        .arg(format!("-Dkc.home.dir={}", launch.home.display()))
        .arg(format!("--https-port={}", launch.https_port))
        .arg(format!(
            "--https-certificate-file={}",
            launch.certificate.display()
        ))
        .arg(format!("--https-certificate-key-file={}", launch.key.display()))
        .arg(format!("--truststore-paths={}", launch.trust.display()))
        // A full URL: the issuer stays the same whichever address a request came by.
        .arg(format!(
            "--hostname=https://{}:{}",
            launch.host, launch.https_port
        ))
        .args([
            "--http-management-host=127.0.0.1",
            "--http-management-scheme=http",
        ])
        .arg(format!("--http-management-port={}", launch.management_port))
        .env("JAVA_OPTS_APPEND", format!("{JAVA_OPTIONS} {class_archive}"))
        .env("JAVA_OPTS_KC_HEAP", JAVA_HEAP)
        .env_remove("JAVA_OPTS");
    command
}

fn link_distribution(distribution: &Path, home: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(home)?;
    for folder in SHARED_FOLDERS {
        symlink(distribution.join(folder), home.join(folder))
            .with_context(|| format!("cannot make {}", home.join(folder).display()))?;
    }
    Ok(())
}

fn java_version() -> anyhow::Result<Vec<u8>> {
    let output = Command::new("java")
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .context("cannot run java")?;
    Ok(output.stderr)
}
