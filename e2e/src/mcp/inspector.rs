//! The MCP Inspector on the command line.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Context;
use serde_json::Value;

use super::{Ended, Identity, Scripts, run_client};
use crate::oauth::Browser;

/// Its answer to the one question that it asks: whether to sign in again for more scopes.
const YES: &str = "y\n";

/// Reads the answer from the file that is its first argument.
const ANSWERING: &str = r#"exec "$@" <"$0""#;

/// An Inspector with a memory of its own: what it was given in one run it has in the next.
pub struct Inspector<'a> {
    scripts: &'a Scripts,
    home: PathBuf,
    /// Of the server, of the client, and of the place where the user comes back to.
    arguments: Vec<String>,
    login_page: String,
}

impl<'a> Inspector<'a> {
    /// An Inspector in front of the server at `url`, whose user signs in at `login_page` for this
    /// client.
    pub fn new(
        scripts: &'a Scripts,
        url: &str,
        (client_id, callback): (&str, &str),
        login_page: &str,
    ) -> anyhow::Result<Self> {
        let client = (Identity::Registered(client_id), callback);
        Self::of(scripts, "inspector", url, client, login_page)
    }

    /// The same for a client that may have to be registered yet, with its memory in the folder `home`.
    pub fn of(
        scripts: &'a Scripts,
        home: &str,
        url: &str,
        (identity, callback): (Identity<'_>, &str),
        login_page: &str,
    ) -> anyhow::Result<Self> {
        let home = scripts.folder().join(home);
        fs::create_dir_all(&home)?;
        fs::write(home.join("answers"), YES)?;
        let who = match identity {
            Identity::Registered(id) => vec!["--client-id", id],
            Identity::Document(address) => vec!["--client-metadata-url", address],
            Identity::Nobody => Vec::new(),
        };
        let arguments = [
            &["--cli", url, "--transport", "http", "--callback-url", callback],
            who.as_slice(),
        ]
        .concat();
        Ok(Self {
            scripts,
            home,
            arguments: arguments.into_iter().map(str::to_owned).collect(),
            login_page: login_page.to_owned(),
        })
    }

    /// Runs it once. Gives also its result, which is null when there is none.
    pub async fn run(
        &self,
        name: &str,
        arguments: &[&str],
        browser: &Browser,
    ) -> anyhow::Result<(Ended, Value)> {
        let result = self.home.join(format!("{name}.json"));
        let inspector = self.scripts.npm().inspector();
        let mut command = Command::new("sh");
        command
            .args(["-c", ANSWERING])
            .arg(self.home.join("answers"))
            .arg(inspector.get_program())
            .args(inspector.get_args())
            .args(&self.arguments)
            .args(arguments)
            .arg("--output")
            .arg(&result)
            .env("HOME", &self.home)
            .env("NODE_EXTRA_CA_CERTS", self.scripts.certificates())
            // In its home, not in the keychain of whoever runs this.
            .env("MCP_INSPECTOR_SECRET_STORE", "file")
            // It asks the user to sign in although it has no terminal, and need not open a browser by itself.
            .env("MCP_AUTO_OPEN_ENABLED", "true")
            .env("BROWSER", "true")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY");
        let log = self.home.join(format!("{name}.log"));
        let ended = run_client("the Inspector", &command, &log, &self.login_page, browser).await?;
        let result = match fs::read(&result) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("the Inspector wrote no JSON")?,
            Err(_) => Value::Null,
        };
        Ok((ended, result))
    }
}
