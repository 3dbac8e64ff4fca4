//! A policy file, checked and made ready for use.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderValue;
use serde_json::json;

use crate::{
    document::{AuthorizationServer, Delivery, Document, Exchange, Kind, Upstream},
    glob::Glob,
    uri,
};

mod addresses;

use addresses::{check_authorization_server, check_upstream, is_origin, resource};

/// The well-known name of RFC 9728, between host and path.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Everything that decisions rest on.
#[derive(Debug)]
pub struct Policy {
    /// By what it is told from others: [`Document::hash`].
    pub hash: String,
    /// `namespace/name` of the server, for logs.
    pub server: String,
    /// The audience that tokens must name.
    pub resource: String,
    /// Path of the resource, byte for byte.
    pub path: String,
    /// Where the metadata are served.
    pub metadata_paths: Vec<String>,
    /// Where the metadata are, in public.
    pub metadata_url: String,
    /// The metadata document.
    pub metadata: String,
    /// Who issues tokens.
    pub authorization_server: AuthorizationServer,
    /// Client ids that are refused.
    pub denied_clients: BTreeSet<String>,
    /// Where the server listens.
    pub upstream: Option<Upstream>,
    /// What tokens may be exchanged for.
    pub exchanges: Vec<Exchange>,
    origins: BTreeSet<String>,
    scopes: Scopes,
    rules: Vec<(Kind, Glob, BTreeSet<String>)>,
    default_scopes: Option<BTreeSet<String>>,
}

/// The scopes of the server.
#[derive(Debug)]
struct Scopes {
    /// All of them, in the order of the document.
    order: Vec<String>,
    /// Those of the challenge.
    challenge: BTreeSet<String>,
    /// What each stands for: itself, and all that it implies in any number of steps.
    stands_for: BTreeMap<String, BTreeSet<String>>,
}

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error(transparent)]
    Document(#[from] crate::document::DocumentError),
    /// A value makes no sense.
    #[error("the policy file is wrong: {0}")]
    Wrong(String),
}

fn wrong(what: impl Into<String>) -> PolicyError {
    PolicyError::Wrong(what.into())
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// When it cannot be read, or anything in it makes no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        Self::new(Document::parse(bytes)?, Document::hash(bytes))
    }

    fn new(document: Document, hash: String) -> Result<Self, PolicyError> {
        let resource = resource(&document.resource)?;
        let scopes = Scopes::new(&document)?;
        let rules = scopes.rules(&document)?;
        let default_scopes = match &document.default_scopes {
            Some(names) if names.is_empty() => return Err(wrong("defaultScopes needs no scope")),
            Some(names) => Some(scopes.known(names)?),
            None => None,
        };
        if let Some(origin) = document.allowed_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(wrong(format!("{origin:?} is no origin of pages")));
        }
        check_exchanges(&document, &scopes)?;
        check_authorization_server(&document.authorization_server)?;
        check_upstream(document.upstream.as_ref())?;
        let origin = resource.origin().ascii_serialization();
        let path = resource.path().to_owned();
        let inserted = inserted_path(&path);
        let metadata_url = format!("{origin}{inserted}");
        HeaderValue::from_str(&metadata_url).map_err(|_| wrong("resource cannot stand in a header"))?;
        let mut metadata_paths = vec![inserted];
        if document.alone_on_host && metadata_paths[0] != WELL_KNOWN {
            metadata_paths.push(WELL_KNOWN.to_owned());
        }
        let mut origins = document.allowed_origins.clone();
        origins.insert(origin);
        Ok(Self {
            hash,
            server: format!("{}/{}", document.server.namespace, document.server.name),
            metadata: metadata(&document, &scopes),
            resource: document.resource,
            path,
            metadata_paths,
            metadata_url,
            authorization_server: document.authorization_server,
            denied_clients: document.denied_clients,
            upstream: document.upstream,
            exchanges: document.exchanges,
            origins,
            scopes,
            rules,
            default_scopes,
        })
    }

    /// Whether pages of this origin may call.
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.origins.contains(origin)
    }

    /// The scopes of the challenge, in the order of the policy.
    pub fn challenge(&self) -> Vec<&str> {
        self.in_order(&self.scopes.challenge)
    }

    /// These scopes in the order of the policy, so that a challenge is always spelled the same.
    pub fn in_order<'a>(&'a self, scopes: &BTreeSet<String>) -> Vec<&'a str> {
        let order = self.scopes.order.iter();
        order
            .filter(|scope| scopes.contains(*scope))
            .map(String::as_str)
            .collect()
    }

    /// What somebody holds who was given `granted`: those scopes of this server, and all that they imply.
    pub fn held<'a>(&self, granted: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let known = granted
            .into_iter()
            .filter_map(|scope| self.scopes.stands_for.get(scope));
        known.flatten().cloned().collect()
    }

    /// What a call of this needs; `None`: nobody may call it. Of a resource, everything that any of its spellings
    /// needs: nobody knows by which one the server looks for it.
    pub fn needed(&self, kind: Kind, name: &str) -> Option<BTreeSet<String>> {
        match kind {
            Kind::Resource => self.needed_for_all(name, uri::spellings),
            Kind::Tool | Kind::Prompt => self.needed_as_spelled(kind, name),
        }
    }

    /// What a question about a template of resources needs (RFC 6570), as [`needed`](Self::needed).
    pub fn needed_for_template(&self, template: &str) -> Option<BTreeSet<String>> {
        self.needed_for_all(template, uri::template_spellings)
    }

    fn needed_for_all(
        &self,
        uri: &str,
        spellings: impl Fn(&str) -> BTreeSet<String>,
    ) -> Option<BTreeSet<String>> {
        if !self.tells_calls_apart() {
            return Some(self.scopes.challenge.clone());
        }
        if uri::is_ambiguous(uri) {
            return None;
        }
        let mut all = BTreeSet::new();
        for spelling in spellings(uri) {
            all.extend(self.needed_as_spelled(Kind::Resource, &spelling)?);
        }
        Some(all)
    }

    fn needed_as_spelled(&self, kind: Kind, name: &str) -> Option<BTreeSet<String>> {
        let mut matched = self
            .rules
            .iter()
            .filter(|(of, glob, _)| *of == kind && glob.matches(name))
            .map(|(_, _, scopes)| scopes)
            .peekable();
        if matched.peek().is_some() {
            return Some(matched.flatten().cloned().collect());
        }
        match &self.default_scopes {
            Some(scopes) => Some(scopes.clone()),
            None if self.rules.is_empty() => Some(self.scopes.challenge.clone()),
            None => None,
        }
    }

    /// What everything else needs: other methods, notifications, streams.
    pub fn needed_otherwise(&self) -> &BTreeSet<String> {
        &self.scopes.challenge
    }

    /// Whether calls are told apart at all: if not, whoever may list may call whatever is listed.
    pub fn tells_calls_apart(&self) -> bool {
        !self.rules.is_empty() || self.default_scopes.is_some()
    }

    /// Whether somebody who holds these scopes may call this.
    pub fn may(&self, kind: Kind, name: &str, held: &BTreeSet<String>) -> bool {
        self.needed(kind, name)
            .is_some_and(|needed| needed.is_subset(held))
    }

    /// The exchange whose token goes into the header of the request.
    pub fn header_exchange(&self) -> Option<&Exchange> {
        let mut all = self.exchanges.iter();
        all.find(|exchange| exchange.delivery == Delivery::Header)
    }
}

impl Scopes {
    fn new(document: &Document) -> Result<Self, PolicyError> {
        let order: Vec<String> = document.scopes.iter().map(|scope| scope.name.clone()).collect();
        let names: BTreeSet<&String> = order.iter().collect();
        if names.len() != order.len() {
            return Err(wrong("a scope is there twice"));
        }
        if let Some(name) = order.iter().find(|name| !is_scope_token(name)) {
            return Err(wrong(format!("{name:?} is no scope token")));
        }
        let challenge: BTreeSet<String> = document
            .scopes
            .iter()
            .filter(|scope| scope.challenge)
            .map(|scope| scope.name.clone())
            .collect();
        if challenge.is_empty() {
            return Err(wrong("no scope is part of the challenge"));
        }
        let mut scopes = Self {
            order,
            challenge,
            stands_for: BTreeMap::new(),
        };
        for scope in &document.scopes {
            scopes.known(&scope.implies)?;
        }
        let implies: BTreeMap<&str, &[String]> = document
            .scopes
            .iter()
            .map(|scope| (scope.name.as_str(), scope.implies.as_slice()))
            .collect();
        scopes.stands_for = scopes
            .order
            .iter()
            .map(|name| (name.clone(), reachable(name, &implies)))
            .collect();
        Ok(scopes)
    }

    /// These names as a set, if all are scopes of the server.
    fn known(&self, names: &[String]) -> Result<BTreeSet<String>, PolicyError> {
        match names.iter().find(|name| !self.order.contains(name)) {
            Some(name) => Err(wrong(format!("{name:?} is not among the scopes"))),
            None => Ok(names.iter().cloned().collect()),
        }
    }

    fn rules(&self, document: &Document) -> Result<Vec<(Kind, Glob, BTreeSet<String>)>, PolicyError> {
        let rules = document.rules.iter().map(|rule| {
            if rule.scopes.is_empty() {
                return Err(wrong(format!("the rule for {:?} needs no scope", rule.pattern)));
            }
            Ok((rule.kind, Glob::new(&rule.pattern), self.known(&rule.scopes)?))
        });
        rules.collect()
    }
}

fn reachable(from: &str, implies: &BTreeMap<&str, &[String]>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        if found.insert(name.to_owned()) {
            let next = implies.get(name).copied().unwrap_or_default();
            open.extend(next.iter().map(String::as_str));
        }
    }
    found
}

/// RFC 6749, 3.3: visible ASCII without quotes and backslashes, so that it can stand in a challenge as it is.
fn is_scope_token(text: &str) -> bool {
    let is_scope_character = |b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    !text.is_empty() && text.bytes().all(is_scope_character)
}

/// RFC 9728, 3.1: the well-known name goes between host and path; a slash that is the whole path is left out.
fn inserted_path(path: &str) -> String {
    match path {
        "/" => WELL_KNOWN.to_owned(),
        path => format!("{WELL_KNOWN}{path}"),
    }
}

fn check_exchanges(document: &Document, scopes: &Scopes) -> Result<(), PolicyError> {
    let headers = document
        .exchanges
        .iter()
        .filter(|e| e.delivery == Delivery::Header);
    if headers.count() > 1 {
        return Err(wrong("two exchanges want the Authorization header"));
    }
    let names: BTreeSet<&str> = document.exchanges.iter().map(|e| e.name.as_str()).collect();
    if names.len() != document.exchanges.len() {
        return Err(wrong("two exchanges have one name"));
    }
    for exchange in &document.exchanges {
        if exchange.scopes.is_empty() || exchange.audience.is_empty() {
            return Err(wrong(format!(
                "exchange {:?} has no scopes or no audience",
                exchange.name
            )));
        }
        for scope in &exchange.scopes {
            if !is_scope_token(&scope.name) {
                return Err(wrong(format!("{:?} is no scope token", scope.name)));
            }
            scopes.known(&scope.requires)?;
        }
    }
    Ok(())
}

/// The document of RFC 9728; never `offline_access`, and no full catalogue of scopes.
fn metadata(document: &Document, scopes: &Scopes) -> String {
    let challenge: Vec<&String> = scopes
        .order
        .iter()
        .filter(|scope| scopes.challenge.contains(*scope))
        .collect();
    let mut metadata = json!({
        "resource": document.resource,
        "authorization_servers": [document.authorization_server.issuer],
        "scopes_supported": challenge,
        "bearer_methods_supported": ["header"],
    });
    if let (Some(name), Some(fields)) = (&document.resource_name, metadata.as_object_mut()) {
        fields.insert("resource_name".to_owned(), json!(name));
    }
    metadata.to_string()
}

#[cfg(test)]
mod tests;
