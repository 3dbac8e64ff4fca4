//! A request as the tenant reads it, and an answer as it writes it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::body::Bytes;
use serde_json::{Map, Value};

use super::errors::{OAuthRefusal, Refusal};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// What a caller sent.
pub(super) struct Request {
    pub(super) method: Method,
    /// The segments of the path, each decoded by itself: an identifier may hold slashes (`https:%2F%2Fapi%2F`).
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    /// None if the target is not UTF-8 once decoded.
    pub(super) fn new(parts: &http::request::Parts, body: Bytes) -> Option<Self> {
        let segments = parts.uri.path().strip_prefix('/')?.split('/');
        let query = parts.uri.query().unwrap_or_default();
        Some(Self {
            method: parts.method.clone(),
            path: segments.map(percent_decoded).collect::<Option<_>>()?,
            query: url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            headers: parts.headers.clone(),
            body,
        })
    }

    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// The token that it carries.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.header(&header::AUTHORIZATION)?.strip_prefix("Bearer ")
    }

    /// A header that is text.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The JSON that was sent, whatever it is.
    pub(super) fn json(&self) -> Result<Value, Refusal> {
        if self.media_type() != "application/json" {
            return Err(Refusal::body("Expected a body of type application/json"));
        }
        serde_json::from_slice(&self.body).map_err(|_| Refusal::body("Expected a body in JSON"))
    }

    /// The JSON object that was sent.
    pub(super) fn object(&self) -> Result<Object, Refusal> {
        match self.json()? {
            Value::Object(object) => Ok(object),
            _ => Err(Refusal::body("Expected type object")),
        }
    }

    /// The parameters of a request for a token, which Auth0 takes as a form and as JSON. None may come twice
    /// (RFC 6749 section 3.2).
    pub(super) fn parameters(&self) -> Result<Parameters, OAuthRefusal> {
        let pairs: Vec<(String, String)> = match self.media_type() {
            "application/x-www-form-urlencoded" => {
                url::form_urlencoded::parse(&self.body).into_owned().collect()
            }
            "application/json" => {
                let object: Object = serde_json::from_slice(&self.body)
                    .map_err(|_| OAuthRefusal::request("the body is not an object in JSON"))?;
                let texts = object.into_iter().map(|(name, value)| match value {
                    Value::String(text) => Ok((name, text)),
                    _ => Err(OAuthRefusal::request(&format!("{name} must be a string"))),
                });
                texts.collect::<Result<_, _>>()?
            }
            _ => return Err(OAuthRefusal::request("the body is neither a form nor JSON")),
        };
        Parameters::new(pairs)
    }

    fn media_type(&self) -> &str {
        let sent = self.header(&header::CONTENT_TYPE).unwrap_or_default();
        sent.split(';').next().unwrap_or_default().trim()
    }
}

/// Parameters of OAuth, each there once. They hold secrets, and so print nothing.
#[derive(Clone)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn new(pairs: Vec<(String, String)>) -> Result<Self, OAuthRefusal> {
        for (number, (name, _)) in pairs.iter().enumerate() {
            if pairs[..number].iter().any(|(other, _)| other == name) {
                return Err(OAuthRefusal::request(&format!("{name} is there twice")));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter; one without a value counts as left out (RFC 6749 section 3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        find(&self.0, name).filter(|value| !value.is_empty())
    }

    pub(super) fn need(&self, name: &str) -> Result<&str, OAuthRefusal> {
        self.get(name)
            .ok_or_else(|| OAuthRefusal::request(&format!("Missing required parameter: {name}")))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The scopes that are asked for; None if the parameter was left out.
    pub(super) fn scopes(&self) -> Option<Vec<String>> {
        let scopes = self.get("scope")?.split_ascii_whitespace();
        Some(scopes.map(str::to_owned).collect())
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

/// A segment of a path (RFC 3986 section 2.1).
fn percent_decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// What a caller gets.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Body,
}

pub(super) enum Body {
    Empty,
    Json(Value),
    Page(String),
}

impl Answer {
    pub(super) fn new(status: StatusCode, body: Body) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
        }
    }

    pub(super) fn ok(body: impl Into<Value>) -> Self {
        Self::new(StatusCode::OK, Body::Json(body.into()))
    }

    pub(super) fn created(body: impl Into<Value>) -> Self {
        Self::new(StatusCode::CREATED, Body::Json(body.into()))
    }

    pub(super) fn nothing() -> Self {
        Self::new(StatusCode::NO_CONTENT, Body::Empty)
    }

    /// Sends a browser on.
    pub(super) fn redirect(url: &str) -> Self {
        Self::new(StatusCode::FOUND, Body::Empty).with(header::LOCATION, url)
    }

    /// With one more header, if it can be one.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

/// A field that is a text; empty when it is missing.
pub(super) fn text<'a>(object: &'a Object, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The texts of a list; none when it is missing.
pub(super) fn texts<'a>(object: &'a Object, field: &str) -> Vec<&'a str> {
    let list = object.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether a field is there and true.
pub(super) fn is_true(object: &Object, field: &str) -> bool {
    object.get(field).and_then(Value::as_bool).unwrap_or(false)
}

/// An object from what `json!` wrote; empty if it is none.
pub(super) fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
