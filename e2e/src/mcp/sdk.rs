//! A client of the TypeScript SDK.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Context;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Ended, Scripts, run_client};
use crate::oauth::Browser;

/// A client that is told where the server is and who it is itself, and what to do. See `npm/clients/sdk.mjs`.
pub struct Sdk<'a> {
    /// Where it runs.
    pub scripts: &'a Scripts,
    /// The major version of the SDK.
    pub version: u8,
    /// The only revision of the protocol that it may speak, if it is not to begin with `initialize`.
    pub pin: Option<&'a str>,
    /// The address of the MCP endpoint.
    pub url: &'a str,
    /// Who it is, and where the user comes back to.
    pub client: (Identity<'a>, &'a str),
    /// How the addresses begin at which users sign in.
    pub login_page: &'a str,
}

/// Who a client is.
#[derive(Clone, Copy, Debug)]
pub enum Identity<'a> {
    /// One that somebody registered.
    Registered(&'a str),
    /// One that a document at this address describes.
    Document(&'a str),
    /// Nobody yet: it registers itself (RFC 7591).
    Nobody,
}

/// What a client says while it works.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// The user is to open this page.
    Open(String),
    /// It was granted these scopes.
    #[serde(deserialize_with = "words")]
    Granted(BTreeSet<String>),
    /// What a step gave, or the words of the error.
    #[serde(untagged)]
    Step {
        /// The step.
        step: String,
        /// What it gave.
        result: Option<Value>,
        /// Why it failed.
        error: Option<String>,
    },
}

fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

impl Sdk<'_> {
    /// A file of its own for each run: what one said is not taken for what another says.
    fn log(&self, name: &str) -> PathBuf {
        let file = |run: u32| format!("sdk{}-of-{name}-{run}.log", self.version);
        let mut files = (1..).map(|run| self.scripts.folder().join(file(run)));
        files.find(|file| !file.exists()).unwrap_or_default()
    }

    /// Takes these steps, for example `["call", "echo", {"message": "hello"}]`. Gives also all that it said, but for
    /// the pages to open.
    pub async fn run(&self, steps: &Value, browser: &Browser) -> anyhow::Result<(Ended, Vec<Said>)> {
        let mut plan = json!({
            "sdk": self.version,
            "url": self.url,
            "callback": self.client.1,
            "steps": steps,
        });
        let name = match self.client.0 {
            Identity::Registered(id) => {
                plan["clientId"] = json!(id);
                id
            }
            Identity::Document(address) => {
                plan["document"] = json!(address);
                "a-document"
            }
            Identity::Nobody => "nobody",
        };
        if let Some(pin) = self.pin {
            plan["pin"] = json!(pin);
        }
        let mut command = self.scripts.command("clients/sdk.mjs");
        command.arg(plan.to_string());
        let log = self.log(name);
        let ended = run_client("the SDK's client", &command, &log, self.login_page, browser).await?;
        let lines = ended.printed.lines().filter(|line| line.starts_with('{'));
        let said = lines
            .map(|line| serde_json::from_str(line).with_context(|| format!("the client said {line}")))
            .collect::<anyhow::Result<Vec<Said>>>()?;
        let said = said.into_iter().filter(|said| !matches!(said, Said::Open(_)));
        let said = said.collect();
        Ok((ended, said))
    }
}
