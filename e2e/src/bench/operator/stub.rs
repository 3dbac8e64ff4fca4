//! A stand-in for Keycloak, where not Keycloak is measured but what the operator takes with more objects than a Keycloak
//! on this machine could be filled with: it answers the calls for clients and client scopes from memory, and checks
//! nothing but the secrets of clients.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::pki::Authority;

/// It ends when it is dropped.
pub(super) struct Stub {
    url: String,
    serving: AbortHandle,
}

/// What it knows of its one realm.
struct Realm {
    name: String,
    url: String,
    /// Who may do everything.
    operator: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By client id.
    clients: BTreeMap<String, Value>,
    /// Client ids by id.
    ids: HashMap<String, String>,
    /// By id.
    scopes: BTreeMap<String, Value>,
    /// Ids by name.
    names: HashMap<String, String>,
}

type Answer = (StatusCode, Value);

impl Stub {
    /// Starts one with a realm of this name, whose administrator is the client `operator`.
    pub(super) async fn start(authority: &Authority, name: &str, operator: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("https://{}", listener.local_addr()?);
        let tls = TlsAcceptor::from(authority.server_certificate()?.tls_config()?);
        let mut state = State::default();
        // Every realm has some.
        let basic = json!({"id": "basic", "name": "basic", "protocol": "openid-connect"});
        state.put_scope("basic", basic);
        let own = json!({"id": operator, "clientId": operator, "access": {"manage": true}});
        state.put_client(operator, own);
        let realm = Arc::new(Realm {
            name: name.to_owned(),
            url: url.clone(),
            operator: operator.to_owned(),
            state: Mutex::new(state),
        });
        let serving = tokio::spawn(serve(listener, tls, realm)).abort_handle();
        Ok(Self { url, serving })
    }

    /// Its address, `https://host:port`.
    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, realm: Arc<Realm>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, tls.clone(), Arc::clone(&realm)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, realm: Arc<Realm>) {
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request| respond(request, Arc::clone(&realm)));
    // Whoever goes away has gone.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(request: Request<Incoming>, realm: Arc<Realm>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let query = parse(parts.uri.query().unwrap_or_default().as_bytes());
    let (status, answer) = realm.answer(&parts.method, parts.uri.path(), &query, &body);
    let mut response = Response::new(Full::from(answer.to_string()));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

fn parse(encoded: &[u8]) -> HashMap<String, String> {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;

impl Realm {
    fn answer(&self, method: &Method, path: &str, query: &HashMap<String, String>, body: &[u8]) -> Answer {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let protocol = format!("/realms/{}/", self.name);
        if let Some(rest) = path.strip_prefix(&protocol) {
            return match rest {
                ".well-known/openid-configuration" => (StatusCode::OK, self.metadata()),
                "protocol/openid-connect/token" => self.token(&state, &parse(body)),
                _ => (NOT_FOUND, Value::Null),
            };
        }
        let admin = format!("/admin/realms/{}/", self.name);
        let Some(rest) = path.strip_prefix(&admin) else {
            // What it is able to do besides.
            return (StatusCode::OK, json!({}));
        };
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let (what, id) = rest.split_once('/').unwrap_or((rest, ""));
        match (method, what, id) {
            (&Method::GET, "clients", "") => (StatusCode::OK, state.find(query)),
            (&Method::GET, "client-scopes", "") => {
                let all: Vec<_> = state.scopes.values().cloned().collect();
                (StatusCode::OK, json!(all))
            }
            (&Method::GET, "client-scopes", id) => found(state.scopes.get(id)),
            (&Method::POST, "clients", "") => state.make_client(body),
            (&Method::POST, "client-scopes", "") => state.make_scope(body),
            (&Method::PUT, "clients", id) => state.change_client(id, &body),
            _ => (NOT_FOUND, Value::Null),
        }
    }

    fn issuer(&self) -> String {
        format!("{}/realms/{}", self.url, self.name)
    }

    fn metadata(&self) -> Value {
        let issuer = self.issuer();
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/protocol/openid-connect/auth"),
            "token_endpoint": format!("{issuer}/protocol/openid-connect/token"),
            "jwks_uri": format!("{issuer}/protocol/openid-connect/certs"),
            "grant_types_supported": ["client_credentials"],
        })
    }

    /// A token that nobody has signed: who gets it here over TLS does not check that.
    fn token(&self, state: &State, form: &HashMap<String, String>) -> Answer {
        let text = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let client = state.clients.get(text("client_id"));
        let is_operator = text("client_id") == self.operator;
        let knows = client.is_some_and(|client| client["secret"] == text("client_secret"));
        if !is_operator && !knows {
            return (StatusCode::UNAUTHORIZED, json!({"error": "invalid_client"}));
        }
        let scopes = text("scope").split_ascii_whitespace();
        let audiences: Vec<_> = scopes
            .filter_map(|name| state.scopes.get(state.names.get(name)?))
            .map(|scope| scope["protocolMappers"][0]["config"]["included.client.audience"].clone())
            .collect();
        let claims = json!({"iss": self.issuer(), "aud": audiences, "scope": text("scope")});
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        let token = format!("{}.{payload}.x", URL_SAFE_NO_PAD.encode("{}"));
        (StatusCode::OK, json!({"access_token": token, "expires_in": 300}))
    }
}

fn found(object: Option<&Value>) -> Answer {
    object.map_or((NOT_FOUND, Value::Null), |object| {
        (StatusCode::OK, object.clone())
    })
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

impl State {
    /// Exactly one client, or those whose client ids contain a text, in pages.
    fn find(&self, query: &HashMap<String, String>) -> Value {
        let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let (client_id, number) = (text("clientId"), |name| text(name).parse::<usize>().ok());
        if text("search") != "true" {
            let found: Vec<_> = self.clients.get(client_id).into_iter().collect();
            return json!(found);
        }
        let found = self.clients.range(client_id.to_owned()..);
        let found = found.take_while(|(id, _)| id.starts_with(client_id));
        let found = found.skip(number("first").unwrap_or_default());
        let found: Vec<_> = found
            .take(number("max").unwrap_or(usize::MAX))
            .map(|(_, client)| client)
            .collect();
        json!(found)
    }

    fn put_client(&mut self, client_id: &str, client: Value) {
        self.ids
            .insert(text(&client, "id").to_owned(), client_id.to_owned());
        self.clients.insert(client_id.to_owned(), client);
    }

    fn put_scope(&mut self, id: &str, scope: Value) {
        self.names.insert(text(&scope, "name").to_owned(), id.to_owned());
        self.scopes.insert(id.to_owned(), scope);
    }

    fn make_client(&mut self, client: Value) -> Answer {
        let client_id = text(&client, "clientId").to_owned();
        if self.clients.contains_key(&client_id) {
            return (StatusCode::CONFLICT, Value::Null);
        }
        self.put_client(&client_id, client);
        (StatusCode::CREATED, Value::Null)
    }

    fn make_scope(&mut self, mut scope: Value) -> Answer {
        let id = text(&scope, "id").to_owned();
        let mappers = scope["protocolMappers"].as_array_mut();
        for (number, mapper) in mappers.into_iter().flatten().enumerate() {
            mapper["id"] = json!(format!("{id}-{number}"));
        }
        if self.names.contains_key(text(&scope, "name")) {
            return (StatusCode::CONFLICT, Value::Null);
        }
        self.put_scope(&id, scope);
        (StatusCode::CREATED, Value::Null)
    }

    /// Fields are replaced, attributes merged by name.
    fn change_client(&mut self, id: &str, body: &Value) -> Answer {
        let client = self
            .ids
            .get(id)
            .and_then(|client_id| self.clients.get_mut(client_id));
        let (Some(client), Some(body)) = (client, body.as_object()) else {
            return (NOT_FOUND, Value::Null);
        };
        for (field, value) in body {
            let before = client["attributes"].as_object().cloned();
            client[field] = match (field.as_str(), value.as_object()) {
                ("attributes", Some(changed)) => {
                    let mut merged: Map<_, _> = before.unwrap_or_default();
                    merged.extend(changed.clone());
                    Value::Object(merged)
                }
                _ => value.clone(),
            };
        }
        (StatusCode::NO_CONTENT, Value::Null)
    }
}
