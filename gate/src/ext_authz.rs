//! The face for Envoy, and what is built on it: `envoy.service.auth.v3.Authorization/Check` over gRPC.
//!
//! Envoy sends the request with its whole body, and does what the answer says: it sends the request on, without the
//! headers that are named and with the exchanged token, or it gives the answer of the gate, metadata and preflight
//! included. Whatever cannot be read, or did not come whole, is refused.

use std::time::Duration;

use envoy_types::{
    ext_authz::v3::pb::{
        Authorization, AuthorizationServer, CheckRequest, CheckResponse, DeniedHttpResponse,
        HeaderAppendAction, HeaderValue as PbHeader, HeaderValueOption, HttpResponse, HttpStatus,
        OkHttpResponse,
    },
    pb::{envoy::service::auth::v3::attribute_context::HttpRequest, google::rpc},
};
use http::header;
use mcp_auth_gate_core::{answer::Answer, decide::Head};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::{
    arbiter::{Arbiter, Read, Verdict},
    metrics::Face,
};

mod request;
#[cfg(test)]
mod tests;

/// What a message holds besides the body: headers of at most this many bytes.
const HEADERS: usize = 1024 * 1024;
/// A proxy has many requests open at a time.
const MOST_STREAMS: u32 = 256;
const ALIVE: Duration = Duration::from_secs(30);

/// Answers Envoy.
#[derive(Clone, Debug)]
pub struct ExtAuthz(Arbiter);

impl ExtAuthz {
    /// A face that decides by this.
    pub fn new(arbiter: Arbiter) -> Self {
        Self(arbiter)
    }

    /// Serves until `stop` completes, and finishes what is running then.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let largest = self.0.largest_body.saturating_add(HEADERS);
        let service = AuthorizationServer::new(self).max_decoding_message_size(largest);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Server::builder()
            .max_concurrent_streams(MOST_STREAMS)
            .http2_keepalive_interval(Some(ALIVE))
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop)
            .await
    }

    async fn judge(&self, http: &HttpRequest) -> Result<Verdict, Box<Answer>> {
        let _place = self.0.place(Face::ExtAuthz)?;
        let read = request::read(http).map_err(Answer::head_refused)?;
        let head = Head {
            method: &read.method,
            path: read.path,
            query: read.query,
            headers: &read.headers,
        };
        let body = request::body(http, &read.headers, self.0.largest_body);
        let body = std::future::ready(Read::from(body));
        // Envoy removes every header that it is told to.
        self.0.judge(Face::ExtAuthz, &head, body, |_| Ok(())).await
    }
}

#[tonic::async_trait]
impl Authorization for ExtAuthz {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let request = request.into_inner();
        let http = request
            .attributes
            .and_then(|attributes| attributes.request)
            .and_then(|request| request.http)
            .ok_or_else(|| Status::invalid_argument("there is no HTTP request to decide about"))?;
        Ok(Response::new(match self.judge(&http).await {
            Ok(verdict) => allow(&verdict),
            Err(answer) => deny(*answer),
        }))
    }
}

fn allow(verdict: &Verdict) -> CheckResponse {
    let mut remove: Vec<String> = verdict.allowed.remove.iter().map(ToString::to_string).collect();
    let mut headers = Vec::new();
    match &verdict.token {
        // Envoy removes after it has set: what is to be set must not be on the list.
        Some(token) => {
            remove.retain(|name| *name != header::AUTHORIZATION.as_str());
            headers.push(bearer(token));
        }
        None if !remove.iter().any(|name| *name == header::AUTHORIZATION.as_str()) => {
            remove.push(header::AUTHORIZATION.to_string());
        }
        None => {}
    }
    let ok = OkHttpResponse {
        headers,
        headers_to_remove: remove,
        ..OkHttpResponse::default()
    };
    response(Code::Ok, HttpResponse::OkResponse(ok))
}

fn bearer(token: &SecretString) -> HeaderValueOption {
    let value = format!("Bearer {}", token.expose_secret());
    set(header::AUTHORIZATION.as_str(), value)
}

fn deny(answer: Answer) -> CheckResponse {
    let headers = answer.headers.iter();
    // The gate writes no header that is not text.
    let headers =
        headers.filter_map(|(name, value)| Some(set(name.as_str(), value.to_str().ok()?.to_owned())));
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus {
            code: i32::from(answer.status.as_u16()),
        }),
        headers: headers.collect(),
        body: answer.body,
    };
    response(Code::PermissionDenied, HttpResponse::DeniedResponse(denied))
}

/// One value, whatever was there.
fn set(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(PbHeader {
            key: name.to_owned(),
            value,
            ..PbHeader::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

fn response(code: Code, http: HttpResponse) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status {
            code: code.into(),
            ..rpc::Status::default()
        }),
        http_response: Some(http),
        ..CheckResponse::default()
    }
}
