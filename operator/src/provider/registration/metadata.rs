//! What a client is registered with, and how that differs from what the server says that it has. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Method;
use crate::{policy::names, provider::Grant};

/// OpenID Connect Dynamic Client Registration section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// On a server.
    Web,
    /// On the user's device.
    Native,
}

impl Application {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Native => "native",
        }
    }
}

/// What a client is registered with (RFC 7591 section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What people see.
    pub name: String,
    /// Always the same for one client, so that what was lost can be found by the server's administrator.
    pub software_id: String,
    /// Tells the registrations of one client apart.
    pub software_version: String,
    /// Where users are sent back to.
    pub redirect_uris: BTreeSet<String>,
    /// How it gets tokens.
    pub grants: BTreeSet<Grant>,
    /// How it authenticates.
    pub method: Method,
    /// The scopes that it may ask for; empty: the server decides.
    pub scopes: BTreeSet<String>,
    /// Where it runs.
    pub application: Application,
}

/// How a confidential client is to authenticate, where the server says that it takes this: in the header as RFC 6749
/// section 2.3.1 prefers, else in the body. RFC 8414 section 2: a server that says nothing takes the header.
pub fn method(offered: &BTreeSet<String>) -> Option<Method> {
    let takes = |method: Method| offered.contains(method.as_str());
    if offered.is_empty() || takes(Method::Basic) {
        return Some(Method::Basic);
    }
    takes(Method::Post).then_some(Method::Post)
}

const fn grant(grant: Grant) -> &'static str {
    match grant {
        Grant::AuthorizationCode => "authorization_code",
        Grant::RefreshToken => "refresh_token",
        Grant::ClientCredentials => "client_credentials",
    }
}

impl Asked {
    fn grant_types(&self) -> BTreeSet<String> {
        self.grants.iter().map(|known| grant(*known).to_owned()).collect()
    }

    /// The body of a registration.
    pub fn document(&self) -> Map<String, Value> {
        let response_types: &[&str] = if self.grants.contains(&Grant::AuthorizationCode) {
            &["code"]
        } else {
            &[]
        };
        let mut document = Map::from_iter([
            ("client_name".to_owned(), json!(self.name)),
            ("redirect_uris".to_owned(), json!(self.redirect_uris)),
            ("grant_types".to_owned(), json!(self.grant_types())),
            ("response_types".to_owned(), json!(response_types)),
            (
                "token_endpoint_auth_method".to_owned(),
                json!(self.method.as_str()),
            ),
            ("application_type".to_owned(), json!(self.application.as_str())),
            ("software_id".to_owned(), json!(self.software_id)),
            ("software_version".to_owned(), json!(self.software_version)),
        ]);
        if !self.scopes.is_empty() {
            let scope: Vec<_> = self.scopes.iter().map(String::as_str).collect();
            document.insert("scope".to_owned(), json!(scope.join(" ")));
        }
        document
    }

    /// Tells what is asked for from anything else. Which registration it is, and which of the two ways to show a secret,
    /// make no other client.
    pub fn fingerprint(&self) -> String {
        let mut document = self.document();
        document.remove("software_version");
        if self.method != Method::None {
            document.remove("token_endpoint_auth_method");
        }
        names::hash(Value::Object(document).to_string().as_bytes(), 8)
    }
}

/// The metadata that we register with, as the server says that it has it. What it does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    name: Option<String>,
    software_id: Option<String>,
    software_version: Option<String>,
    redirect_uris: Option<BTreeSet<String>>,
    grant_types: Option<BTreeSet<String>>,
    method: Option<String>,
    scopes: Option<BTreeSet<String>>,
    application: Option<String>,
}

impl Told {
    /// What a client information response says (RFC 7591 section 3.2.1).
    pub fn of(answer: &Map<String, Value>) -> Self {
        let text = |name: &str| answer.get(name)?.as_str().map(str::to_owned);
        let list = |name: &str| {
            let values = answer.get(name)?.as_array()?;
            // What is no text is none that we asked for: it stands for itself, so that it is no match.
            let texts = values
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            Some(texts.collect())
        };
        Self {
            name: text("client_name"),
            software_id: text("software_id"),
            software_version: text("software_version"),
            redirect_uris: list("redirect_uris"),
            grant_types: list("grant_types"),
            method: text("token_endpoint_auth_method"),
            scopes: text("scope").map(|scope| scope.split_ascii_whitespace().map(str::to_owned).collect()),
            application: text("application_type"),
        }
    }

    /// How the client authenticates by this; RFC 7591 section 2: in the header where it is not said.
    pub fn method(&self) -> Option<Method> {
        Method::named(self.method.as_deref().unwrap_or(Method::Basic.as_str()))
    }

    /// Tells it from anything else.
    pub fn fingerprint(&self) -> String {
        names::hash(format!("{self:?}").as_bytes(), 8)
    }

    /// The metadata that the server has otherwise than it was asked for, or not at all.
    pub fn altered(&self, asked: &Asked) -> BTreeSet<&'static str> {
        let scopes = (!asked.scopes.is_empty()).then_some(&asked.scopes);
        let same_redirects = match &self.redirect_uris {
            None => asked.redirect_uris.is_empty(),
            Some(told) => *told == asked.redirect_uris,
        };
        [
            ("client_name", self.name.as_ref() == Some(&asked.name)),
            (
                "software_id",
                self.software_id.as_ref() == Some(&asked.software_id),
            ),
            (
                "software_version",
                self.software_version.as_ref() == Some(&asked.software_version),
            ),
            ("redirect_uris", same_redirects),
            (
                "grant_types",
                self.grant_types.as_ref() == Some(&asked.grant_types()),
            ),
            ("token_endpoint_auth_method", self.method() == Some(asked.method)),
            ("scope", self.scopes.as_ref() == scopes || scopes.is_none()),
            (
                "application_type",
                self.application.as_deref() == Some(asked.application.as_str()),
            ),
        ]
        .into_iter()
        .filter_map(|(name, same)| (!same).then_some(name))
        .collect()
    }

    /// Why no client may be used that the server has in this way. A server may replace what it was asked for (RFC 7591
    /// section 3.2.1), but not by where it sends users and their codes, nor by a client that needs no secret.
    pub fn unfit(&self, asked: &Asked) -> Option<&'static str> {
        let altered = self.altered(asked);
        if altered.contains("redirect_uris") {
            return Some("it has other redirect_uris than the client");
        }
        let is_public = self.method() == Some(Method::None);
        if self.method().is_none() || is_public != (asked.method == Method::None) {
            return Some("it has another token_endpoint_auth_method than the client can use");
        }
        let lacks = |told: &BTreeSet<String>| !asked.grant_types().is_subset(told);
        if self.grant_types.as_ref().is_some_and(lacks) {
            return Some("its grant_types lack some of the client's");
        }
        None
    }
}
