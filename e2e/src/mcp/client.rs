//! Clients that somebody else wrote, with a user in front of them.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use anyhow::bail;

use crate::{oauth::Browser, process::Guarded};

/// Between two looks at what a client printed.
const PAUSE: Duration = Duration::from_millis(25);

/// Longer than any client takes, logins included.
const TIMEOUT: Duration = Duration::from_mins(1);

/// How a client ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; None when a signal ended it.
    pub code: Option<i32>,
    /// Everything that it printed, on both streams.
    pub printed: String,
    /// The logins that it asked the user for.
    pub logins: Vec<Login>,
}

/// A login that a client asked for.
#[derive(Clone, Debug)]
pub struct Login {
    /// A parameter of the authorization request by its name.
    parameters: Vec<(String, String)>,
    /// What the user was asked to consent to; None when there was no such page.
    pub consent: Option<Vec<String>>,
    /// Whether the user had to give the password.
    pub password: bool,
}

impl Login {
    /// A parameter of the authorization request; empty when it is missing.
    pub fn asked(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The scopes that it asked for.
    pub fn scopes(&self) -> BTreeSet<&str> {
        self.asked("scope").split_whitespace().collect()
    }
}

/// Runs a client to its end, with what it prints in the file `log`. Whenever it prints an address that begins with
/// `login_page`, the user opens that in the browser.
pub async fn run_client(
    name: &str,
    command: &Command,
    log: &Path,
    login_page: &str,
    browser: &Browser,
) -> anyhow::Result<Ended> {
    let process = Guarded::spawn(name, command, log)?;
    let run = async {
        let mut logins = Vec::new();
        loop {
            let ended = !process.is_running();
            let printed = String::from_utf8_lossy(&fs::read(log)?).into_owned();
            if let Some(page) = addresses(&printed, login_page).get(logins.len()) {
                let arrival = browser.visit(page).await?;
                logins.push(Login {
                    parameters: url::Url::parse(page)?.query_pairs().into_owned().collect(),
                    consent: arrival.consent,
                    password: arrival.password,
                });
            } else if ended {
                return anyhow::Ok((printed, logins));
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let outcome = tokio::time::timeout(TIMEOUT, run).await;
    let (printed, logins) = match outcome {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => return Err(error.context(format!("{name} printed:\n{}", process.log_tail()))),
        Err(_) => bail!(
            "{name} is not done after {} s; it printed:\n{}",
            TIMEOUT.as_secs(),
            process.log_tail()
        ),
    };
    Ok(Ended {
        code: process.wait().await?.code(),
        printed,
        logins,
    })
}

/// The addresses in a text that begin so, each once, in order. Only whole ones: what follows must be there.
fn addresses<'a>(text: &'a str, beginning: &str) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for (start, _) in text.match_indices(beginning) {
        let rest = &text[start..];
        let end =
            rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '\\' | '\u{7}'));
        if let Some(end) = end {
            let address = &rest[..end];
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn addresses_are_found_once_and_whole() {
        let page = "https://as/auth?";
        for (text, expected, why) in [
            ("", vec![], "nothing"),
            ("go to https://as/auth?a=1", vec![], "more may come"),
            (
                "go to https://as/auth?a=1\n",
                vec!["https://as/auth?a=1"],
                "a line",
            ),
            (
                r#"{"open":"https://as/auth?a=1"}"#,
                vec!["https://as/auth?a=1"],
                "JSON",
            ),
            ("https://other/auth?a=1\n", vec![], "somebody else's"),
            (
                "https://as/auth?a=1\nhttps://as/auth?a=2\nhttps://as/auth?a=1\n",
                vec!["https://as/auth?a=1", "https://as/auth?a=2"],
                "one of them twice",
            ),
        ] {
            assert_eq!(addresses(text, page), expected, "{why}");
        }
    }
}
