//! An authorization server on loopback, which does what a test tells it and counts what is asked of it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, response::IntoResponse, routing};
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use url::form_urlencoded;

/// How an endpoint answers.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// How long it takes.
    pub(crate) delay: Duration,
    pub(crate) location: Option<String>,
}

impl Script {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            delay: Duration::ZERO,
            location: None,
        }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, body.to_string())
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// What came to the token endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) authorization: String,
    pub(crate) form: Vec<(String, String)>,
}

impl Call {
    /// The one value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.form.iter().filter(|(key, _)| key == name);
        let value = all.next()?.1.as_str();
        assert!(all.next().is_none(), "{name} is there twice");
        Some(value)
    }
}

type TokenScript = Box<dyn Fn(&Call) -> Script + Send>;

struct Shared {
    jwks: Mutex<(Script, usize)>,
    token: Mutex<TokenScript>,
    calls: Mutex<Vec<Call>>,
}

pub(crate) struct AuthorizationServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for AuthorizationServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AuthorizationServer {
    /// Starts one that has these keys and exchanges nothing.
    pub(crate) async fn start(jwks: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            jwks: Mutex::new((Script::new(200, jwks), 0)),
            token: Mutex::new(Box::new(|_| Script::new(500, ""))),
            calls: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://{}/realms/mcp", self.address)
    }

    pub(crate) fn set_jwks(&self, script: Script) {
        self.shared.jwks.lock().unwrap().0 = script;
    }

    /// How often the keys were fetched.
    pub(crate) fn jwks_fetches(&self) -> usize {
        self.shared.jwks.lock().unwrap().1
    }

    pub(crate) fn set_token(&self, script: impl Fn(&Call) -> Script + Send + 'static) {
        *self.shared.token.lock().unwrap() = Box::new(script);
    }

    /// What came to the token endpoint so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Goes down: from now on nothing listens.
    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Comes up again at the same address.
    pub(crate) async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.task = tokio::spawn(serve(listener, Arc::clone(&self.shared)));
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let routes = Router::new()
        .route("/jwks", routing::get(jwks))
        .route("/token", routing::post(token))
        .with_state(shared);
    axum::serve(listener, routes).await.unwrap();
}

async fn jwks(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let script = {
        let mut jwks = shared.jwks.lock().unwrap();
        jwks.1 += 1;
        jwks.0.clone()
    };
    answer(script).await
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let call = Call {
        authorization: headers
            .get(header::AUTHORIZATION)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned(),
        form: form_urlencoded::parse(&body).into_owned().collect(),
    };
    let script = (shared.token.lock().unwrap())(&call);
    shared.calls.lock().unwrap().push(call);
    answer(script).await
}

async fn answer(script: Script) -> impl IntoResponse {
    tokio::time::sleep(script.delay).await;
    let mut headers = HeaderMap::new();
    if let Some(location) = script.location {
        headers.insert(header::LOCATION, location.parse().unwrap());
    }
    (StatusCode::from_u16(script.status).unwrap(), headers, script.body)
}
