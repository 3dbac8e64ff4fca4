//! The face for proxies that ask over HTTP: Traefik's `forwardAuth`.
//!
//! The proxy asks `/forward-auth` with the method and address of the request in `X-Forwarded-Method` and
//! `X-Forwarded-Uri`, its headers as they are, and its whole body. Every answer that is no success is passed on to the
//! client as it is; a success lets the request pass, so metadata and preflight cannot be answered here. With it the
//! proxy takes from the client's request each header that it is configured to take from the answer, and puts there what
//! the answer has under that name: so the answer names only what may stay or is new. Such a proxy removes nothing else,
//! and a request that holds the token elsewhere is refused.

use std::time::Duration;

use axum::{
    Router,
    body::Body as HttpBody,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use mcp_auth_gate_core::{
    answer::Answer,
    decide::{Allowed, Head, NEVER_FORWARDED},
    wire,
};
use secrecy::{ExposeSecret as _, zeroize::Zeroizing};
use tokio::time::{Instant, timeout_at};

use crate::{
    arbiter::{Arbiter, Read, Verdict},
    metrics::Face,
    proxy::budget::Share,
};

#[cfg(test)]
mod tests;

static METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
static URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// How long a body may take that the proxy has in its memory.
const BODY_READ: Duration = Duration::from_secs(10);
/// How long the rest of a refused one may take.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Answers Traefik.
#[derive(Clone, Debug)]
pub struct ForwardAuth(Arbiter);

/// What the proxy says about the request of the client.
struct Described<'a> {
    method: Method,
    path: &'a str,
    query: Option<&'a str>,
}

impl ForwardAuth {
    /// A face that decides by this.
    pub fn new(arbiter: Arbiter) -> Self {
        Self(arbiter)
    }

    /// The routes of the face.
    pub fn router(self) -> Router {
        Router::new()
            .route("/forward-auth", routing::any(answer))
            .with_state(self)
    }

    async fn judge(&self, headers: &HeaderMap, body: &mut HttpBody) -> Result<Verdict, Box<Answer>> {
        let _place = self.0.place(Face::ForwardAuth)?;
        let described = described(headers).map_err(Answer::head_refused)?;
        let head = Head {
            method: &described.method,
            path: described.path,
            query: described.query,
            headers,
        };
        let mut share = self.0.budget.share();
        let body = read(body, self.0.largest_body, &mut share);
        self.0.judge(Face::ForwardAuth, &head, body, can_remove).await
    }
}

/// Reads a body whole, into `share` of the memory.
async fn read(body: &mut HttpBody, most: usize, share: &mut Share) -> Read<Vec<u8>> {
    let deadline = Instant::now() + BODY_READ;
    let mut all = Vec::new();
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Read::Whole(all),
            _ => return Read::Partial,
        };
        // Trailers were not judged, and go nowhere.
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > most {
            return Read::Partial;
        }
        if share.resize(all.len() + data.len()).is_err() {
            return Read::Exhausted;
        }
        all.extend_from_slice(&data);
    }
}

/// Reads what is left of a refused request's body and keeps nothing: a proxy that is still sending it would not see the
/// refusal.
async fn drain(mut body: HttpBody, most: usize) {
    let deadline = Instant::now() + DRAIN_TIME;
    let mut drained = 0;
    while drained <= most {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => drained += frame.data_ref().map_or(0, hyper::body::Bytes::len),
            _ => return,
        }
    }
}

async fn answer(State(face): State<ForwardAuth>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    match face.judge(&parts.headers, &mut body).await {
        Ok(verdict) => allowed(&verdict, &parts.headers),
        Err(answer) => {
            drain(body, face.0.largest_body).await;
            refused(*answer)
        }
    }
}

fn described(headers: &HeaderMap) -> Result<Described<'_>, &'static str> {
    let only = |name| {
        let mut all = headers.get_all(name).iter();
        match (all.next(), all.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    };
    let error = "The proxy must say once what is asked for, in X-Forwarded-Method and X-Forwarded-Uri";
    let (method, uri) = (only(&METHOD).ok_or(error)?, only(&URI).ok_or(error)?);
    let (path, query) = match uri.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (uri, None),
    };
    Ok(Described {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| error)?,
        path,
        query,
    })
}

/// Whether the proxy takes this header from the client's request, as it must be configured to.
fn is_taken(name: &HeaderName) -> bool {
    NEVER_FORWARDED.contains(&name.as_str()) || is_of_wire(name)
}

/// Each belongs to one wire, so the proxy has to take them all; the answer gives back those of the request's own.
fn is_of_wire(name: &HeaderName) -> bool {
    *name == wire::METHOD || *name == wire::NAME || *name == wire::SESSION_ID
}

fn can_remove(allowed: &Allowed) -> Result<(), Answer> {
    if allowed.remove.iter().all(is_taken) {
        return Ok(());
    }
    let message = "A header holds what must not reach the server, and the proxy in front cannot remove it";
    Err(Answer::head_refused(message))
}

/// 200, with what the request to the server has under the names that the proxy takes from it.
fn allowed(verdict: &Verdict, given: &HeaderMap) -> Response {
    let mut headers = HeaderMap::new();
    let remove = &verdict.allowed.remove;
    for (name, value) in given
        .iter()
        .filter(|(name, _)| is_of_wire(name) && !remove.contains(name))
    {
        headers.append(name.clone(), value.clone());
    }
    if let Some(token) = &verdict.token {
        let text = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        // What cannot stand in a header was not taken for a token.
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (StatusCode::OK, headers).into_response()
}

fn refused(answer: Answer) -> Response {
    let mut response = answer.body.into_response();
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers.into_iter().collect();
    response
}
