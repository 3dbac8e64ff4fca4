//! A client's document: where it may be, what it may say, and what Auth0 makes of it.

use jsonwebtoken::{DecodingKey, jwk::JwkSet};
use serde_json::{Value, json};
use url::{Host, Url};

use crate::auth0::{
    web::Web,
    wire::{Object, object, text, texts},
};

/// The sizes that a document and its keys may have.
const MOST: usize = 5 * 1024;
const MOST_KEYS: usize = 12 * 1024;

/// What is read of a document. The rest is told in a warning and left alone.
const READ: [&str; 9] = [
    "client_id",
    "client_name",
    "redirect_uris",
    "logo_uri",
    "grant_types",
    "response_types",
    "token_endpoint_auth_method",
    "application_type",
    "jwks_uri",
];

/// A document as it was read.
pub(super) struct Document {
    address: String,
    /// As the document has it.
    sent: Object,
    pub(super) violations: Vec<String>,
    warnings: Vec<String>,
    /// The keys at its `jwks_uri`, with their ids.
    pub(super) keys: Vec<(String, DecodingKey)>,
}

impl Document {
    /// Reads it, and its keys. An error says why it cannot be read at all.
    pub(super) async fn fetch(web: &Web, address: &str) -> Result<Self, String> {
        let url = Url::parse(address).map_err(|error| error.to_string())?;
        let bytes = web.fetch(&url, MOST).await?;
        let sent: Object = serde_json::from_slice(&bytes).map_err(|_| "The document is no JSON object")?;
        let mut document = Self {
            address: address.to_owned(),
            violations: violations(&sent, &url),
            warnings: warnings(&sent),
            sent,
            keys: Vec::new(),
        };
        if document.method() == "private_key_jwt" && document.violations.is_empty() {
            let url = Url::parse(text(&document.sent, "jwks_uri")).map_err(|error| error.to_string())?;
            let keys = web.fetch(&url, MOST_KEYS).await?;
            document.keys = read_keys(&keys).ok_or("The keys cannot be read")?;
        }
        Ok(document)
    }

    fn method(&self) -> &str {
        match text(&self.sent, "token_endpoint_auth_method") {
            "" => "client_secret_basic",
            method => method,
        }
    }

    /// The fields of the client. Its type is that of an application with a server only if it has keys: this is a choice
    /// where the document does not say.
    pub(super) fn fields(&self) -> Object {
        let web = text(&self.sent, "application_type") == "web" || self.method() == "private_key_jwt";
        let grant_types = match self.sent.get("grant_types") {
            Some(grant_types) => grant_types.clone(),
            None => json!(["authorization_code"]),
        };
        let mut fields = object(json!({
            "name": text(&self.sent, "client_name"),
            "app_type": if web { "regular_web" } else { "native" },
            "is_first_party": false,
            "callbacks": self.sent.get("redirect_uris"),
            "grant_types": grant_types,
        }));
        if self.method() == "none" {
            fields.insert("token_endpoint_auth_method".to_owned(), json!("none"));
        }
        if let Some(logo) = self.sent.get("logo_uri") {
            fields.insert("logo_uri".to_owned(), logo.clone());
        }
        fields
    }

    /// Where the client's metadata come from.
    pub(super) fn origin(&self) -> Object {
        let mut origin = object(json!({
            "external_client_id": self.address,
            "external_metadata_type": "cimd",
            "external_metadata_created_by": "admin",
        }));
        if let Some(keys) = self.sent.get("jwks_uri") {
            origin.insert("jwks_uri".to_owned(), keys.clone());
        }
        origin
    }

    /// What preview and register tell of it.
    pub(super) fn described(&self) -> Object {
        let mut mapped = self.fields();
        mapped.remove("is_first_party");
        mapped.insert("external_client_id".to_owned(), json!(self.address));
        mapped.insert("token_endpoint_auth_method".to_owned(), json!(self.method()));
        if let Some(keys) = self.sent.get("jwks_uri") {
            mapped.insert("jwks_uri".to_owned(), keys.clone());
        }
        object(json!({
            "mapped_fields": mapped,
            "validation": {
                "valid": self.violations.is_empty(),
                "violations": self.violations,
                "warnings": self.warnings,
            },
        }))
    }
}

/// Whether a document can be at this address. Addresses in numbers are refused with `localhost`, which is a choice.
pub(super) fn check_address(address: &str) -> Result<(), &'static str> {
    let url = Url::parse(address).map_err(|_| "external_client_id must be a URL")?;
    let dots = address.split(['/', '?', '#']).any(|part| {
        let part = part.to_ascii_lowercase().replace("%2e", ".");
        part == "." || part == ".."
    });
    let named = matches!(url.host(), Some(Host::Domain(name)) if name != "localhost" && !name.ends_with(".localhost"));
    let plain = url.query().is_none() && url.fragment().is_none();
    let nobody = url.username().is_empty() && url.password().is_none() && !address.contains('@');
    if url.scheme() == "https"
        && address.len() <= 120
        && url.path().len() > 1
        && url.port() != Some(0)
        && named
        && !dots
        && plain
        && nobody
    {
        return Ok(());
    }
    Err("external_client_id is no address of a client metadata document")
}

/// What a document must not say, or does not say.
fn violations(sent: &Object, at: &Url) -> Vec<String> {
    let mut violations = Vec::new();
    let mut rule = |holds: bool, text: &str| {
        if !holds {
            violations.push(text.to_owned());
        }
    };
    rule(
        text(sent, "client_id") == at.as_str(),
        "client_id must be the address of the document",
    );
    rule(!text(sent, "client_name").is_empty(), "client_name is required");
    let callbacks = texts(sent, "redirect_uris");
    rule(!callbacks.is_empty(), "redirect_uris is required");
    rule(
        callbacks
            .iter()
            .all(|uri| Url::parse(uri).is_ok() && !uri.contains('*')),
        "redirect_uris must be URLs",
    );
    let allowed = ["authorization_code", "refresh_token"];
    rule(
        texts(sent, "grant_types")
            .iter()
            .all(|grant| allowed.contains(grant)),
        "grant_types must be authorization_code or refresh_token",
    );
    let method = text(sent, "token_endpoint_auth_method");
    rule(
        ["none", "private_key_jwt"].contains(&method),
        "token_endpoint_auth_method must be none or private_key_jwt",
    );
    rule(!sent.contains_key("jwks"), "jwks must not be inline");
    rule(
        !sent.contains_key("client_secret"),
        "client_secret must not be there",
    );
    let keys = Url::parse(text(sent, "jwks_uri")).ok();
    rule(
        method != "private_key_jwt" || keys.is_some_and(|keys| keys.origin() == at.origin()),
        "jwks_uri must be of the same origin",
    );
    violations
}

fn warnings(sent: &Object) -> Vec<String> {
    let other: Vec<&str> = sent
        .keys()
        .map(String::as_str)
        .filter(|name| !READ.contains(name))
        .collect();
    if other.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "Ignoring unsupported properties: {}. These properties are not validated or mapped to the Auth0 client \
         configuration.",
        other.join(", ")
    )]
}

fn read_keys(bytes: &[u8]) -> Option<Vec<(String, DecodingKey)>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let set: JwkSet = serde_json::from_value(value).ok()?;
    let keys = set.keys.iter().map(|jwk| {
        let kid = jwk.common.key_id.clone()?;
        Some((kid, DecodingKey::from_jwk(jwk).ok()?))
    });
    keys.collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())
}
