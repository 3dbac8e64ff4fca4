//! A tenant over the network, a live one or the stand-in, as another administrator sees it through the Management API.

use std::{
    env,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::Machine;
use crate::pki::{Authority, Others};

const DOMAIN: &str = "AUTH0_DOMAIN";
const CLIENT_ID: &str = "AUTH0_CLIENT_ID";
const CLIENT_SECRET: &str = "AUTH0_CLIENT_SECRET";

/// What the provider makes, by the names of the Management API, and in the order in which it goes.
const LISTS: [(&str, &str); 3] = [
    ("client_grants", "client-grants"),
    ("resource_servers", "resource-servers"),
    ("clients", "clients"),
];

/// As many as one page of a list holds at most.
const PAGE: usize = 100;

/// So often a call is sent that the tenant had no room for.
const ATTEMPTS: usize = 10;

/// Longer is no limit by the second.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// A tenant, and an application that may do there what an operator may.
pub struct Remote {
    domain: String,
    machine: Machine,
    authority: Authority,
    http: reqwest::Client,
    token: Mutex<Option<SecretString>>,
}

impl Remote {
    /// The live tenant that the environment names. Fails with one line about all that is missing.
    pub fn from_env() -> anyhow::Result<Self> {
        let get = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(domain), Some(client_id), Some(secret)) = (get(DOMAIN), get(CLIENT_ID), get(CLIENT_SECRET))
        else {
            bail!("give {DOMAIN}, {CLIENT_ID} and {CLIENT_SECRET}");
        };
        ensure!(
            !domain.contains('/'),
            "{DOMAIN}={domain}: write the canonical domain alone, such as example.eu.auth0.com"
        );
        let machine = Machine {
            client_id,
            client_secret: SecretString::from(secret),
        };
        Self::new(Authority::beside(Others::System)?, &domain, machine)
    }

    /// A tenant whose certificate `authority` trusts.
    pub fn new(authority: Authority, domain: &str, machine: Machine) -> anyhow::Result<Self> {
        Ok(Self {
            domain: domain.to_owned(),
            machine,
            http: authority.http_client()?.build()?,
            authority,
            token: Mutex::default(),
        })
    }

    /// Its canonical domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// `https://` and its domain.
    pub fn url(&self) -> String {
        format!("https://{}", self.domain)
    }

    /// `iss` of its tokens.
    pub fn issuer(&self) -> String {
        format!("https://{}/", self.domain)
    }

    /// The application.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Whose certificates are trusted there.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Reads something. Paths are those below `/api/v2/`.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Makes something; what was answered.
    pub async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Changes something; what it is then.
    pub async fn patch(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    /// Removes something, unless it is gone.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.call(Method::DELETE, path, None).await?;
        Ok(())
    }

    /// All APIs, applications and client grants, by their ids. Of secrets it holds hashes.
    pub async fn everything(&self) -> anyhow::Result<Value> {
        let mut everything = Map::new();
        for (kind, path) in LISTS {
            let mut found = Map::new();
            for page in 0.. {
                let rows = self.get(&format!("{path}?per_page={PAGE}&page={page}")).await?;
                let rows = rows.as_array().with_context(|| format!("{path} is no list"))?;
                for row in rows {
                    let row = without_secrets(row);
                    let id = row["client_id"].as_str().filter(|_| kind == "clients");
                    let id = id.or_else(|| row["id"].as_str()).context("no id")?.to_owned();
                    found.insert(id, row);
                }
                if rows.len() < PAGE {
                    break;
                }
            }
            everything.insert(kind.to_owned(), Value::Object(found));
        }
        Ok(Value::Object(everything))
    }

    /// Removes the grants, APIs and applications that bear this name, and no other.
    pub async fn remove_all_of(&self, name: &str) -> anyhow::Result<()> {
        let everything = self.everything().await?;
        for (kind, path) in LISTS {
            let all = everything[kind].as_object().into_iter().flatten();
            for (id, _) in all.filter(|(_, thing)| bears(thing, name)) {
                self.delete(&format!("{path}/{id}")).await?;
            }
        }
        let left = self.everything().await?;
        let left: Vec<&String> = LISTS
            .iter()
            .flat_map(|(kind, _)| left[kind].as_object().into_iter().flatten())
            .filter(|(_, thing)| bears(thing, name))
            .map(|(id, _)| id)
            .collect();
        ensure!(left.is_empty(), "{left:?} of {name} are left in the tenant");
        Ok(())
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let url = format!("{}/api/v2/{path}", self.url());
        for _ in 0..ATTEMPTS {
            let token = self.token().await?;
            let mut request = self
                .http
                .request(method.clone(), &url)
                .bearer_auth(token.expose_secret());
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = request.send().await.map_err(reqwest::Error::without_url)?;
            let status = answer.status();
            // Whoever calls next finds room.
            if let Some(wait) = until_there_is_room(answer.headers()) {
                tokio::time::sleep(wait).await;
            }
            if status == StatusCode::TOO_MANY_REQUESTS {
                continue;
            }
            if method == Method::DELETE && status == StatusCode::NOT_FOUND {
                return Ok(Value::Null);
            }
            let bytes = answer.bytes().await.map_err(reqwest::Error::without_url)?;
            let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            ensure!(
                status.is_success(),
                "{method} {path}: {status}: {}",
                answer["message"]
            );
            return Ok(answer);
        }
        bail!("{method} {path}: the tenant has no room for it");
    }

    /// A token of the Management API. One lasts longer than a run.
    async fn token(&self) -> anyhow::Result<SecretString> {
        if let Some(token) = &*self.token.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(token.clone());
        }
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.machine.client_id),
            ("client_secret", self.machine.client_secret.expose_secret()),
            ("audience", &format!("{}/api/v2/", self.url())),
        ];
        let request = self.http.post(format!("{}/oauth/token", self.url())).form(&form);
        let answer = request.send().await.context("the tenant does not answer")?;
        let status = answer.status();
        let answer: Value = answer.json().await.context("no JSON")?;
        let token = answer["access_token"].as_str();
        let token = token.with_context(|| format!("no token: {status}: {}", answer["error"]))?;
        let token = SecretString::from(token.to_owned());
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token)
    }
}

/// Whether this name is anywhere in a thing.
pub fn bears(thing: &Value, name: &str) -> bool {
    thing.to_string().contains(name)
}

/// How long to wait where this answer was the last that the tenant had room for.
fn until_there_is_room(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
    if number("x-ratelimit-remaining")? > 0 {
        return None;
    }
    let reset = number("x-ratelimit-reset")?;
    // Whole seconds, of two clocks.
    let wait = reset.saturating_sub(jsonwebtoken::get_current_timestamp()) + 1;
    Some(Duration::from_secs(wait).min(LONGEST_WAIT))
}

fn without_secrets(row: &Value) -> Value {
    let mut row = row.clone();
    for field in [
        "client_secret",
        "signing_secret",
        "signing_keys",
        "encryption_key",
    ] {
        if let Some(secret) = row.get_mut(field) {
            *secret = json!(URL_SAFE_NO_PAD.encode(Sha256::digest(secret.to_string())));
        }
    }
    row
}
