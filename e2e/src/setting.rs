//! Which parts a run starts, and which exist already and are somebody's own.

use std::{env, path::PathBuf};

use anyhow::bail;
use secrecy::SecretString;

use crate::{keycloak::ExistingKeycloak, pki::Others};

/// `existing`: the cluster of KUBECONFIG.
const CLUSTER: &str = "CLUSTER";
const KEYCLOAK_URL: &str = "KEYCLOAK_URL";
const KEYCLOAK_CLIENT_ID: &str = "KEYCLOAK_CLIENT_ID";
const KEYCLOAK_CLIENT_SECRET: &str = "KEYCLOAK_CLIENT_SECRET";
/// An image of the gate that the existing cluster can pull.
const GATE_IMAGE: &str = "GATE_IMAGE";
/// A file of certificates in PEM.
const KEYCLOAK_CA: &str = "KEYCLOAK_CA";

/// What a run stands on. By default it starts everything itself.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Whether the cluster that `kubectl` speaks to is used, instead of one that the run starts.
    pub existing_cluster: bool,
    /// The Keycloak to use, instead of one that the run starts.
    pub keycloak: Option<ExistingKeycloak>,
    /// Whose certificates are trusted besides those that the run makes.
    pub others: Others,
    /// The image of the gate that the existing cluster is to run.
    pub gate_image: Option<String>,
    /// Whether the cluster gets a node. Not where it exists already.
    pub node: bool,
}

impl Setting {
    /// What the environment asks for. Fails with a line for each thing that is wrong.
    pub fn from_env() -> anyhow::Result<Self> {
        Self::read(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn read(get: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let mut problems = Vec::new();
        let existing_cluster = match get(CLUSTER).as_deref() {
            None => false,
            Some("existing") => true,
            Some(other) => {
                problems.push(format!(
                    "{CLUSTER}={other}: write {CLUSTER}=existing for the cluster of KUBECONFIG, or leave it out"
                ));
                false
            }
        };
        let keycloak = get(KEYCLOAK_URL).and_then(|url| {
            if !url.starts_with("https://") {
                problems.push(format!("{KEYCLOAK_URL}={url}: write an https address"));
            }
            let mut needed = |name: &str| {
                let value = get(name);
                if value.is_none() {
                    problems.push(format!(
                        "{KEYCLOAK_URL} needs {name}: a client of the realm master whose service account may create realms"
                    ));
                }
                value
            };
            let (client_id, secret) = (needed(KEYCLOAK_CLIENT_ID), needed(KEYCLOAK_CLIENT_SECRET));
            Some(ExistingKeycloak {
                url,
                client_id: client_id?,
                client_secret: SecretString::from(secret?),
            })
        });
        let others = match (get(KEYCLOAK_URL), get(KEYCLOAK_CA)) {
            (None, None) => Others::Nobody,
            (None, Some(_)) => {
                problems.push(format!("{KEYCLOAK_CA} is of use only with {KEYCLOAK_URL}"));
                Others::Nobody
            }
            (Some(_), None) => Others::System,
            (Some(_), Some(file)) => Others::File(PathBuf::from(file)),
        };
        let gate_image = get(GATE_IMAGE);
        if gate_image.is_some() && !existing_cluster {
            problems.push(format!(
                "{GATE_IMAGE} is of use only with {CLUSTER}=existing: elsewhere the gate is built here"
            ));
        }
        if !problems.is_empty() {
            bail!("{}", problems.join("\n"));
        }
        Ok(Self {
            existing_cluster,
            keycloak,
            others,
            gate_image,
            node: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> anyhow::Result<Setting> {
        Setting::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn everything_is_started_unless_something_is_named() {
        let setting = read(&[]).unwrap();
        assert!(!setting.existing_cluster && setting.keycloak.is_none());
        let setting = read(&[
            (CLUSTER, "existing"),
            (KEYCLOAK_URL, "https://sso.example.com"),
            (KEYCLOAK_CLIENT_ID, "demo"),
            (KEYCLOAK_CLIENT_SECRET, "hunter2"),
        ])
        .unwrap();
        assert!(setting.existing_cluster && matches!(setting.others, Others::System));
        assert!(!format!("{setting:?}").contains("hunter2"));
    }

    #[test]
    fn everything_that_is_wrong_is_a_line() {
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: [Case<'_>; 4] = [
            (&[(CLUSTER, "kind")], &["CLUSTER=kind: write CLUSTER=existing"]),
            (
                &[(KEYCLOAK_URL, "http://sso")],
                &["an https address", "KEYCLOAK_CLIENT_ID", "KEYCLOAK_CLIENT_SECRET"],
            ),
            (&[(KEYCLOAK_CA, "ca.pem")], &["only with KEYCLOAK_URL"]),
            (&[(GATE_IMAGE, "gate:1")], &["only with CLUSTER=existing"]),
        ];
        for (variables, expected) in cases {
            let text = read(variables).unwrap_err().to_string();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), expected.len(), "{text}");
            for (line, part) in lines.iter().zip(expected) {
                assert!(line.contains(part), "{line}");
            }
        }
    }
}
