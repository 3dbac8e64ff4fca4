//! Where the MCP server buys tokens with the handles that came with its requests.
//!
//! `POST /token/{policy}` with the handle in `Mcp-Auth-Handle` answers as a token endpoint does (RFC 6749, 5.1). The
//! caller's token is checked by the present policy at each purchase: a client that was suspended meanwhile, or an
//! exchange that was taken away, is refused although the handle lives. A handle of another replica is shown to that
//! replica, once, and only if it is one of the peers.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use mcp_auth_gate_core::{
    document::{Delivery, Exchange},
    policy::Policy,
};
use secrecy::{ExposeSecret as _, zeroize::Zeroizing};
use serde_json::json;

use crate::{
    authorizer::Authorizer,
    exchange::{ExchangeError, Exchanges, Issued, Subject},
    handles::{HANDLE, Handles, Presented, Record},
};

mod metrics;
mod peers;
#[cfg(test)]
mod tests;

pub use metrics::Purchases;
pub use peers::Peers;

/// Says that another replica showed the handle; it is not passed on again.
static RELAYED: HeaderName = HeaderName::from_static("mcp-auth-relayed");

/// What the face needs.
#[derive(Clone, Debug)]
pub struct TokensFace {
    /// Has the policy and the clock.
    pub authorizer: Arc<Authorizer>,
    /// Exchanges tokens.
    pub exchanges: Arc<Exchanges>,
    /// The handles of this replica.
    pub handles: Handles,
    /// The other replicas, if there may be any.
    pub peers: Option<Arc<Peers>>,
    /// Counts.
    pub purchases: Purchases,
}

/// Why nothing is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Not a handle that is good here and now: unknown, ended, made up, somebody else's. Which it is, is not told.
    Handle,
    /// No such exchange is sold for handles.
    Policy,
    /// There was no token.
    Exchange(ExchangeError),
    /// The replica that minted the handle, or this one, cannot say.
    Unavailable,
}

impl TokensFace {
    /// The routes of the face.
    pub fn router(self) -> Router {
        Router::new()
            .route("/token/{policy}", routing::post(sell))
            .with_state(self)
    }

    async fn sell(&self, name: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        if !is_name(name) {
            return Err(Refusal::Policy);
        }
        let mut all = headers.get_all(&HANDLE).iter();
        let (Some(value), None) = (all.next(), all.next()) else {
            return Err(Refusal::Handle);
        };
        let presented = Presented::parse(value).ok_or(Refusal::Handle)?;
        if presented.minted_by != self.handles.own() {
            return self.relay(presented, value, name, headers).await;
        }
        let record = self.handles.find(&presented).ok_or(Refusal::Handle)?;
        let policy = self.authorizer.policy().ok_or(Refusal::Unavailable)?;
        let now = self.authorizer.clock().now();
        let issued = self.buy(&policy, name, &record, now).await?;
        self.purchases.count("sold");
        Ok(token(&issued, now))
    }

    async fn buy(
        &self,
        policy: &Policy,
        name: &str,
        record: &Record,
        now: i64,
    ) -> Result<Arc<Issued>, Refusal> {
        let accepted = || self.authorizer.recheck(&record.token, &record.claims);
        accepted().map_err(|_| Refusal::Handle)?;
        let held = record.held(policy, now).map_err(|_| Refusal::Handle)?;
        let exchange = sold(policy, name).ok_or(Refusal::Policy)?;
        let subject = Subject {
            token: &record.token,
            claims: &record.claims,
            held: &held,
        };
        let issued = self.exchanges.buy(policy, exchange, subject).await;
        // It may have taken seconds.
        accepted().map_err(|_| Refusal::Handle)?;
        issued.map_err(Refusal::Exchange)
    }

    async fn relay(
        &self,
        presented: Presented,
        handle: &HeaderValue,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let peers = self.peers.as_ref().ok_or(Refusal::Handle)?;
        if headers.contains_key(&RELAYED) {
            return Err(Refusal::Handle);
        }
        let is_peer = peers.contains(presented.minted_by).await;
        if !is_peer.map_err(|_| Refusal::Unavailable)? {
            return Err(Refusal::Handle);
        }
        let reply = peers.show(presented.minted_by, name, handle).await;
        let reply = reply.map_err(|error| {
            tracing::warn!(%error, peer = %presented.minted_by, "a handle could not be shown to its replica");
            Refusal::Unavailable
        })?;
        match reply.status.as_u16() {
            200 | 401 | 403 | 404 | 503 => {
                self.purchases.count("relayed");
                Ok(answer(reply.status, reply.body))
            }
            _ => Err(Refusal::Unavailable),
        }
    }
}

async fn sell(State(face): State<TokensFace>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match face.sell(&name, &headers).await {
        Ok(response) => response,
        Err(refusal) => {
            face.purchases.count(refusal.code());
            refusal.into_response()
        }
    }
}

/// The exchange of this name, if it is sold for handles.
fn sold<'a>(policy: &'a Policy, name: &str) -> Option<&'a Exchange> {
    let mut all = policy.exchanges.iter();
    all.find(|exchange| exchange.name == name && exchange.delivery == Delivery::Endpoint)
}

/// The names that Kubernetes gives to policies: nothing in them means anything in a path.
fn is_name(name: &str) -> bool {
    let is_fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(is_fine)
}

fn token(issued: &Issued, now: i64) -> Response {
    let mut body = json!({
        "access_token": issued.token.expose_secret(),
        "token_type": "Bearer",
    });
    if let Some(expires) = issued.expires {
        body["expires_in"] = json!(expires - now);
    }
    if let Some(scope) = &issued.scope {
        body["scope"] = json!(scope);
    }
    let text = Zeroizing::new(body.to_string());
    answer(StatusCode::OK, text.as_bytes().to_vec())
}

fn answer(status: StatusCode, body: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body).into_response()
}

impl Refusal {
    /// The code, as in RFC 6749, 5.2.
    fn code(self) -> &'static str {
        match self {
            Self::Handle => "invalid_handle",
            Self::Policy => "unknown_policy",
            Self::Exchange(ExchangeError::NothingToAsk) => "insufficient_scope",
            Self::Exchange(ExchangeError::ClientNotAllowed | ExchangeError::NotPermitted(_)) => {
                "access_denied"
            }
            Self::Exchange(ExchangeError::Subject(_)) => "invalid_token",
            Self::Exchange(_) | Self::Unavailable => "temporarily_unavailable",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.code();
        let status = match code {
            "invalid_handle" | "invalid_token" => StatusCode::UNAUTHORIZED,
            "insufficient_scope" | "access_denied" => StatusCode::FORBIDDEN,
            "unknown_policy" => StatusCode::NOT_FOUND,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        answer(status, json!({ "error": code }).to_string().into_bytes())
    }
}
