//! The tenant as an https server: one port for the Management API, OAuth, and the pages that users see.

use std::{
    convert::Infallible,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    authorize,
    clock::Clock,
    errors::{OAuthRefusal, Refusal},
    keys::Keys,
    limits::Limits,
    management, metadata, registration,
    tenant::{Place, Tenant},
    token,
    web::Web,
    wire::{Answer, Body, Request},
};

/// More than any body that a tenant takes.
const MOST: usize = 1 << 20;

/// The tenant as one caller sees it, who came to one of its domains.
pub(super) struct Shared {
    pub(super) place: Place,
    core: Arc<Core>,
}

/// What all connections share.
pub(super) struct Core {
    /// The canonical domain, and the custom one if there is one.
    pub(super) domain: String,
    pub(super) custom_domain: Option<String>,
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    pub(super) web: Web,
    pub(super) tenant: Mutex<Tenant>,
    pub(super) limits: Mutex<Limits>,
    /// Whether answers hold fields that nobody has heard of.
    pub(super) unknown_fields: AtomicBool,
    /// Whether metadata lists `none` among the ways of authentication at the token endpoint.
    pub(super) lists_none: AtomicBool,
}

impl Shared {
    /// As it is seen at its canonical domain.
    pub(super) fn new(core: Core) -> Self {
        let place = Place {
            domain: core.domain.clone(),
            host: core.domain.clone(),
        };
        Self {
            place,
            core: Arc::new(core),
        }
    }

    /// As it is seen at this host; None if it is none of its domains.
    fn seen_at(&self, host: &str) -> Option<Self> {
        let custom = self.core.custom_domain.as_deref() == Some(host);
        (custom || host == self.core.domain).then(|| Self {
            place: Place {
                domain: self.core.domain.clone(),
                host: host.to_owned(),
            },
            core: Arc::clone(&self.core),
        })
    }
}

impl Deref for Shared {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Core {
    pub(super) fn tenant(&self) -> MutexGuard<'_, Tenant> {
        self.tenant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts until it is dropped; connections end with it.
pub(super) async fn serve(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        // An error of accept concerns one connection that is already gone.
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(connection(stream, tls.clone(), Arc::clone(&shared)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(request, &shared).await) }
    });
    // Whoever goes away has gone.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(request: http::Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let answer = match Limited::new(body, MOST).collect().await {
        Err(_) => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request entity too large").into(),
        Ok(body) => match Request::new(&parts, body.to_bytes()) {
            None => Refusal::new(StatusCode::BAD_REQUEST, "Bad Request").into(),
            Some(request) => {
                let host = request
                    .header(&header::HOST)
                    .and_then(|host| shared.seen_at(host));
                match host {
                    Some(shared) => answer(&request, &shared).await,
                    None => Refusal::new(StatusCode::BAD_REQUEST, "Unknown host").into(),
                }
            }
        },
    };
    written(answer, shared.unknown_fields.load(Ordering::SeqCst))
}

async fn answer(request: &Request, shared: &Shared) -> Answer {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    if path.starts_with(&["api", "v2"]) {
        return management::respond(shared, request).await;
    }
    let name = format!("{} /{}", request.method, path.join("/"));
    let standing = shared.limits().take(&[name.as_str()], shared.clock.now());
    let answer = if standing.is_some_and(|standing| !standing.allowed) {
        let description = "Global limit has been reached";
        OAuthRefusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", description).into()
    } else {
        match (request.method.as_str(), path.as_slice()) {
            (
                "GET",
                [
                    ".well-known",
                    "openid-configuration" | "oauth-authorization-server",
                ],
            ) => Answer::ok(metadata::document(shared)),
            ("GET", [".well-known", "jwks.json"]) => Answer::ok(shared.keys.document()),
            ("GET", ["authorize"]) => authorize::begin(shared, request),
            ("GET", ["authorize", "resume"]) => authorize::resume(shared, request),
            ("GET" | "POST", ["u", "login"]) => authorize::login(shared, request),
            ("GET" | "POST", ["u", "consent"]) => authorize::consent(shared, request),
            ("POST", ["oauth", "token"]) => token::respond(shared, request),
            ("POST", ["oauth", "revoke"]) => token::revoke(shared, request),
            ("POST", ["oidc", "register"]) => registration::register(shared, request),
            ("GET", ["userinfo"]) => token::userinfo(shared, request),
            _ => Refusal::not_found("Not Found").into(),
        }
    };
    match standing {
        Some(standing) => standing.mark(answer),
        None => answer,
    }
}

fn written(answer: Answer, unknown_fields: bool) -> Response<Full<Bytes>> {
    let (content_type, body) = match answer.body {
        Body::Empty => (None, String::new()),
        Body::Page(html) => (Some("text/html; charset=utf-8"), html),
        Body::Json(mut value) => {
            if unknown_fields {
                add_unknown_fields(&mut value);
            }
            (Some("application/json; charset=utf-8"), value.to_string())
        }
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = answer.status;
    if let Some(content_type) = content_type {
        let value = http::HeaderValue::from_static(content_type);
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    // Tokens and secrets are not for caches (RFC 6749 section 5.1).
    let no_store = http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    for (name, value) in answer.headers {
        response.headers_mut().append(name, value);
    }
    response
}

/// Puts fields into every object of an answer that no documentation of today names.
fn add_unknown_fields(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(add_unknown_fields);
            object.insert(
                "x_introduced_later".to_owned(),
                json!({"enabled": true, "modes": [1, null]}),
            );
        }
        Value::Array(list) => list.iter_mut().for_each(add_unknown_fields),
        _ => {}
    }
}
