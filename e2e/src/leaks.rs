//! Looking for secrets where they do not belong.
//!
//! What is known is looked for as it is and in base64, which is how the API server's own JSON shows it. Of a token the
//! signature is looked for: without it a token is worth nothing, and with it there was all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use aho_corasick::AhoCorasick;
use anyhow::{Context, ensure};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    config::Kubeconfig,
    core::GroupVersionKind,
};
use mcp_auth_crds::GROUP;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::world::World;

/// Anything shorter would also be found by chance.
const SHORTEST: usize = 16;

/// The secrets that are known, by each form in which they could show up. Prints nothing of them.
#[derive(Default)]
pub struct Known(BTreeMap<String, String>);

impl Known {
    /// Adds a secret, under a name to tell it by.
    pub fn add(&mut self, name: &str, secret: &str) {
        let telling = match secret.split('.').collect::<Vec<_>>()[..] {
            [_, _, signature] => signature,
            _ => secret,
        };
        if telling.len() >= SHORTEST {
            for form in forms(telling) {
                self.0.insert(form, name.to_owned());
            }
        }
    }

    /// Adds every generated credential that a Secret of the cluster holds now, in one namespace or in all.
    pub async fn add_secrets(&mut self, client: Client, namespace: Option<&str>) -> anyhow::Result<()> {
        let api: Api<Secret> = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        for secret in api.list(&ListParams::default()).await? {
            let place = format!("{}/{}", secret.namespace().unwrap_or_default(), secret.name_any());
            for (key, value) in secret.data.unwrap_or_default() {
                for value in String::from_utf8(value.0)
                    .iter()
                    .flat_map(|value| generated(&key, value))
                {
                    self.add(&format!("{key} of Secret {place}"), &value);
                }
            }
        }
        Ok(())
    }

    /// Adds the tokens in all kubeconfigs of a folder.
    pub fn add_kubeconfigs(&mut self, folder: &Path) -> anyhow::Result<()> {
        for file in files(folder, "kubeconfig")? {
            let users = Kubeconfig::read_from(&file)?.auth_infos;
            for token in users.into_iter().filter_map(|user| user.auth_info?.token) {
                self.add(&file.display().to_string(), token.expose_secret());
            }
        }
        Ok(())
    }

    /// How many forms of secrets are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gets ready to look for them all at once.
    pub fn search(&self) -> anyhow::Result<Search> {
        Ok(Search {
            automaton: AhoCorasick::new(self.0.keys()).context("too many secrets to look for")?,
            names: self.0.values().cloned().collect(),
        })
    }
}

/// A search for what was known when it was made.
pub struct Search {
    automaton: AhoCorasick,
    /// By the number of the pattern.
    names: Vec<String>,
}

impl Search {
    /// The names of the secrets that a text holds.
    pub fn found_in(&self, text: impl AsRef<[u8]>) -> BTreeSet<&str> {
        self.automaton
            .find_overlapping_iter(&text)
            .map(|found| self.names[found.pattern().as_usize()].as_str())
            .collect()
    }

    /// Fails when a text holds one of them, naming the secret and the place.
    pub fn must_miss(&self, place: &str, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let found = self.found_in(text);
        ensure!(found.is_empty(), "{place} holds {found:?}");
        Ok(())
    }

    /// Fails when a log in a folder holds one of them. Gives the number of logs.
    pub fn must_miss_logs(&self, folder: &Path) -> anyhow::Result<usize> {
        let logs = files(folder, "log")?;
        for log in &logs {
            // Logs of parts that are stopped and cleaned up meanwhile.
            if let Ok(text) = fs::read(log) {
                self.must_miss(&log.display().to_string(), text)?;
            }
        }
        Ok(logs.len())
    }

    /// Fails when anything that everybody may read in the cluster holds one of them: events, our objects with their
    /// conditions, ConfigMaps; in one namespace or in all.
    pub async fn must_miss_cluster(&self, client: &Client, namespace: Option<&str>) -> anyhow::Result<()> {
        let ours = mcp_auth_crds::all().into_iter();
        let ours =
            ours.map(|definition| GroupVersionKind::gvk(GROUP, "v1alpha1", &definition.spec.names.kind));
        let others = ["Event", "ConfigMap"].map(|kind| GroupVersionKind::gvk("", "v1", kind));
        for kind in ours.chain(others) {
            let resource = ApiResource::from_gvk(&kind);
            let api: Api<DynamicObject> = match namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            for object in api.list(&ListParams::default()).await? {
                let namespace = object.namespace().unwrap_or_default();
                let place = format!("{} {namespace}/{}", kind.kind, object.name_any());
                self.must_miss(&place, serde_json::to_vec(&object)?)?;
            }
        }
        Ok(())
    }
}

/// Looks for every secret that is in the cluster or in a kubeconfig of this run, in every log that this run wrote and in
/// everything in the cluster that is not a Secret. Gives a line for the summary.
pub async fn check(world: &World) -> anyhow::Result<String> {
    let client = world.control_plane().client();
    let mut known = Known::default();
    known.add_secrets(client.clone(), None).await?;
    known.add_kubeconfigs(world.folder().path())?;
    let search = known.search()?;
    let logs = search.must_miss_logs(world.folder().path())?;
    search.must_miss_cluster(&client, None).await?;
    let secrets: BTreeSet<_> = known.0.values().collect();
    Ok(format!(
        "none of {} known secrets is in {logs} logs, or in an object that is not a Secret",
        secrets.len()
    ))
}

/// What of a value of a Secret nobody else may see: a generated text, the private numbers of a JWK, or what a journal of
/// registrations holds. The ids of keys and of clients are public, also under names that somebody chose for them, such as
/// `OAUTH_CLIENT_ID`.
fn generated(key: &str, value: &str) -> Vec<String> {
    let key = key.to_ascii_lowercase().replace('_', "-");
    if ["key-id", "client-id"].iter().any(|public| key.ends_with(public)) {
        return Vec::new();
    }
    if is_generated(value) {
        return vec![value.to_owned()];
    }
    let document: Value = serde_json::from_str(value).unwrap_or_default();
    let numbers = ["d", "p", "q", "dp", "dq", "qi"].into_iter();
    let numbers = numbers.filter_map(|name| document[name].as_str().map(str::to_owned));
    numbers.chain(registered(&document)).collect()
}

/// The secrets and registration access tokens in a journal of registrations, wherever they are in it.
fn registered(document: &Value) -> Vec<String> {
    match document {
        Value::Object(members) => {
            let private = |name: &str| ["secret", "token"].contains(&name);
            members
                .iter()
                .flat_map(|(name, value)| match value {
                    Value::String(text) if private(name) && is_generated(text) => vec![text.clone()],
                    value => registered(value),
                })
                .collect()
        }
        Value::Array(values) => values.iter().flat_map(registered).collect(),
        _ => Vec::new(),
    }
}

/// Whether a value looks like a credential that a program made: long, and letters and digits in no order. Names, URLs,
/// times, certificates and fingerprints in hexadecimal digits do not.
fn is_generated(value: &str) -> bool {
    let all = |allowed: fn(&u8) -> bool| value.bytes().any(|byte| allowed(&byte));
    (32..=128).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        && all(u8::is_ascii_lowercase)
        && all(u8::is_ascii_uppercase)
        && all(u8::is_ascii_digit)
}

/// A secret as it is, and in both alphabets of base64, wherever in what was encoded it stood.
fn forms(secret: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([secret.to_owned()]);
    for before in 0..3 {
        let bytes = [&[0; 3][..before], secret.as_bytes()].concat();
        // Characters that also depend on what stands before or behind are left out.
        let (start, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            forms.insert(text[start..end].to_owned());
        }
    }
    forms
}

/// All files below a folder with this extension. What goes away meanwhile is left out.
fn files(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| folder.display().to_string()),
        };
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|is| is == extension) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "Zm9vYmFy-QUJDREVG_0123456789abcdefghijklmno";

    fn search(secret: &str) -> Search {
        let mut known = Known::default();
        known.add("it", secret);
        known.search().unwrap()
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let search = search(SECRET);
        for prefix in ["", "x", "xy", "xyz"] {
            let text = format!("{prefix}{SECRET}{prefix}");
            for text in [
                format!("client_secret={text}&scope="),
                STANDARD_NO_PAD.encode(&text),
                URL_SAFE_NO_PAD.encode(&text),
            ] {
                assert!(search.must_miss("here", &text).is_err(), "{text}");
            }
        }
        assert!(search.must_miss("here", SECRET.to_lowercase()).is_ok());
    }

    #[test]
    fn of_a_token_its_signature_is_looked_for() {
        let signature = "s1gnatureOfTheToken";
        let search = search(&format!("e30.eyJhIjoxfQ.{signature}"));
        assert!(
            search
                .must_miss("here", format!("Bearer e30.eyJhIjoxfQ.{signature}"))
                .is_err()
        );
        assert!(search.must_miss("here", "e30.eyJhIjoxfQ.other").is_ok());
    }

    #[test]
    fn a_journal_of_registrations_holds_secrets_and_a_client_id_is_none() {
        let journal = format!(
            r#"{{"current":{{"clientId":"{SECRET}","secret":"{SECRET}a","managed":{{"token":"{SECRET}b"}}}},"old":[{{"entry":{{"secret":"{SECRET}c"}}}}]}}"#
        );
        let found = generated("registrations", &journal);
        assert_eq!(found, ["b", "a", "c"].map(|end| format!("{SECRET}{end}")));
        for id in ["client-id", "OAUTH_CLIENT_ID"] {
            assert!(generated(id, SECRET).is_empty(), "{id}");
        }
        assert_eq!(generated("OAUTH_CLIENT_SECRET", SECRET), [SECRET]);
    }

    #[test]
    fn credentials_are_told_from_other_values() {
        assert!(is_generated(SECRET));
        for other in [
            "numbers-ready.numbers-ready.reporter",
            "https://127.0.0.1:8443/realms/numbers/protocol/openid-connect/token",
            "0123456789abcdef0123456789abcdef",
            "2026-01-01T00:00:00.123456789Z-2026",
            "short1A",
        ] {
            assert!(!is_generated(other), "{other}");
        }
    }

    #[test]
    fn of_a_key_its_private_numbers_are_secret() {
        let jwk = r#"{"kid":"id","n":"public","d":"private","q":"too"}"#;
        assert_eq!(generated("client-key.jwk", jwk), ["private", "too"]);
        assert_eq!(generated("client-secret", SECRET), [SECRET]);
        assert!(generated("key-id", SECRET).is_empty());
    }
}
