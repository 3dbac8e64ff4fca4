//! What a gate answers by itself.

use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    body::{self, BodyError},
    policy::Policy,
    token::TokenError,
    wire::{Wire, WireError},
};

mod preflight;

/// Headers that pages may read (RFC 9728 needs the first).
pub const EXPOSED: &str = "WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version";
const ALLOWED_METHODS: &str = "GET, POST, DELETE, OPTIONS";
/// How long browsers keep what a preflight said, in seconds.
const PREFLIGHT_AGE: &str = "600";
const METADATA_CACHE: &str = "public, max-age=300";

/// Why a request was answered without the server, or let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It may reach the server.
    Allowed,
    /// A browser asked whether it may ask.
    Preflight,
    /// The metadata were asked for.
    Metadata,
    /// Nothing is at this path.
    NotFound,
    /// Not a method of MCP, or not one of this wire.
    Method,
    /// The page that calls is not one that may.
    Origin,
    /// No token came.
    TokenMissing,
    /// More than one token came, or one in the query.
    TokenPlace,
    /// The token was refused.
    Token(TokenError),
    /// The token lacks scopes that the call needs.
    Scope,
    /// No rule is for this call.
    Unmatched,
    /// There is no body where one is needed, or one where none may be.
    BodyPresence,
    /// The body is too large, or not all of it came.
    BodySize,
    /// A head that cannot be read, or not be passed on as it must be.
    Head,
    /// Not `application/json` without encoding.
    ContentType,
    /// The message is of a method that the wire does not have.
    MethodUnknown,
    /// The body was refused.
    Body(BodyError),
    /// The headers of the wire were refused.
    Wire(WireError),
    /// The session is not the caller's, or is gone.
    Session,
    /// There is no policy yet.
    NotReady,
    /// More requests at a time than are served.
    Overload,
    /// The server did not answer, or not in time.
    Upstream,
    /// A token for the server could not be had.
    Exchange,
}

impl Reason {
    /// For metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Preflight => "preflight",
            Self::Metadata => "metadata",
            Self::NotFound => "not_found",
            Self::Method => "method",
            Self::Origin => "origin",
            Self::TokenMissing => "token_missing",
            Self::TokenPlace => "token_place",
            Self::Token(error) => match error {
                TokenError::Malformed => "token_malformed",
                TokenError::Algorithm => "token_algorithm",
                TokenError::Issuer => "token_issuer",
                TokenError::UnknownKey => "token_unknown_key",
                TokenError::NoKeys => "keys_unavailable",
                TokenError::Signature => "token_signature",
                TokenError::Type => "token_type",
                TokenError::Audience => "token_audience",
                TokenError::Expired => "token_expired",
                TokenError::NotYetValid => "token_not_yet_valid",
                TokenError::ClientDenied => "client_denied",
                TokenError::Revoked => "token_revoked",
                TokenError::Anonymous => "token_anonymous",
            },
            Self::Scope => "scope",
            Self::Unmatched => "unmatched",
            Self::BodyPresence => "body_presence",
            Self::BodySize => "body_size",
            Self::Head => "head",
            Self::ContentType => "content_type",
            Self::MethodUnknown => "method_unknown",
            Self::Body(error) => match error {
                BodyError::NotJson => "body_not_json",
                BodyError::AmbiguousKey => "body_ambiguous_key",
                BodyError::Batch => "body_batch",
                BodyError::NotAMessage => "body_not_a_message",
                BodyError::NoName => "body_no_name",
                BodyError::AmbiguousUri => "body_ambiguous_uri",
                BodyError::TooMany => "body_too_many",
                BodyError::HoldsToken => "body_holds_token",
            },
            Self::Wire(WireError::Version) => "protocol_version",
            Self::Wire(WireError::HeaderMismatch) => "header_mismatch",
            Self::Session => "session",
            Self::NotReady => "not_ready",
            Self::Overload => "overload",
            Self::Upstream => "upstream",
            Self::Exchange => "exchange",
        }
    }
}

/// An answer of the gate itself. Never holds anything that the caller sent, but the `id` of its message.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Why.
    pub reason: Reason,
    /// The status.
    pub status: StatusCode,
    /// Headers, those of CORS and the challenge included.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; empty for none.
    pub body: String,
}

impl Answer {
    fn new(reason: Reason, status: StatusCode) -> Self {
        Self {
            reason,
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// A refusal as MCP clients read it: a JSON-RPC error, for the message with this `id` if it is known.
    pub fn refusal(reason: Reason, status: StatusCode, message: &str, id: Option<&Value>) -> Self {
        let error = json!({
            "jsonrpc": "2.0",
            "id": id,
            "error": {"code": code(reason), "message": message},
        });
        let mut answer = Self::new(reason, status);
        answer.body = error.to_string();
        answer
            .with(header::CONTENT_TYPE, "application/json")
            .with(header::CACHE_CONTROL, "no-store")
    }

    /// A refusal of what a request is made of.
    pub(crate) fn bad_request(reason: Reason, message: &str) -> Self {
        Self::bad_message(reason, message, None)
    }

    /// The same, of the message with this `id`.
    pub(crate) fn bad_message(reason: Reason, message: &str, id: Option<&Value>) -> Self {
        Self::refusal(reason, StatusCode::BAD_REQUEST, message, id)
    }

    /// A refusal of the headers of the wire.
    pub(crate) fn wire_refused(error: WireError, id: Option<&Value>) -> Self {
        Self::bad_message(Reason::Wire(error), &error.to_string(), id)
    }

    /// A refusal of this body. A call that does not say of what is a message all the same, and its answer names it; if
    /// it is of a method that the wire does not have, 404: that is what is wrong with it.
    pub(crate) fn body_refused(error: BodyError, body: &[u8], wire: Wire) -> Self {
        let is_message = matches!(
            error,
            BodyError::NoName | BodyError::AmbiguousUri | BodyError::TooMany
        );
        let outline = is_message.then(|| body::outline(body)).flatten();
        let (method, id) = outline.unwrap_or_default();
        let of_sessions = matches!(method.as_str(), "resources/subscribe" | "resources/unsubscribe");
        if wire == Wire::Stateless && of_sessions {
            let message = "There is no such method in this version of the protocol";
            return Self::refusal(Reason::MethodUnknown, StatusCode::NOT_FOUND, message, id.as_ref());
        }
        Self::bad_message(Reason::Body(error), &error.to_string(), id.as_ref())
    }

    #[must_use]
    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    #[must_use]
    fn with_text(mut self, name: HeaderName, value: &str) -> Self {
        // What cannot stand in a header was refused with the policy.
        self.headers
            .extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// Lets the page of this origin read the answer.
    #[must_use]
    pub fn for_origin(mut self, origin: Option<&str>) -> Self {
        self.headers.extend(cors(origin));
        self
    }

    pub(crate) fn metadata(policy: &Policy) -> Self {
        let mut answer = Self::new(Reason::Metadata, StatusCode::OK);
        answer.body.clone_from(&policy.metadata);
        answer
            .with(header::CONTENT_TYPE, "application/json")
            .with(header::CACHE_CONTROL, METADATA_CACHE)
            .with(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
    }

    /// Anybody may read the metadata, whatever headers they send for it.
    pub(crate) fn metadata_preflight() -> Self {
        Self::new(Reason::Preflight, StatusCode::NO_CONTENT)
            .with(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
            .with(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS")
            .with(header::ACCESS_CONTROL_ALLOW_HEADERS, "*")
            .with(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE)
    }

    /// What a page may send. `asked` are the headers that it wants to send: any of MCP's own are fine.
    pub(crate) fn preflight(origin: Option<&str>, asked: &str) -> Self {
        let allowed = preflight::allowed_headers(asked);
        Self::new(Reason::Preflight, StatusCode::NO_CONTENT)
            .with(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS)
            .with_text(header::ACCESS_CONTROL_ALLOW_HEADERS, &allowed)
            .with(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE)
            .for_origin(origin)
    }

    pub(crate) fn not_found() -> Self {
        Self::refusal(Reason::NotFound, StatusCode::NOT_FOUND, "Nothing is here", None)
    }

    /// 400: after an upgrade nobody would judge what follows.
    pub(crate) fn upgrade_refused() -> Self {
        Self::head_refused("A connection is not turned into one of another protocol here")
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::refusal(Reason::Method, status, "This method is not served here", None)
            .with(header::ALLOW, allowed)
    }

    pub(crate) fn origin_refused() -> Self {
        let message = "Pages of this origin may not call this server";
        Self::refusal(Reason::Origin, StatusCode::FORBIDDEN, message, None)
    }

    /// 401 without an `error`: no token came (RFC 6750, 3.1).
    pub(crate) fn token_missing(policy: &Policy) -> Self {
        let message = "A token is needed: see the metadata that WWW-Authenticate names";
        let challenge = challenge(policy, "", &policy.challenge());
        Self::refusal(Reason::TokenMissing, StatusCode::UNAUTHORIZED, message, None)
            .with_text(header::WWW_AUTHENTICATE, &challenge)
    }

    /// 400: the token came twice, or where it must not be (RFC 6750, 3.1).
    pub(crate) fn token_place(policy: &Policy) -> Self {
        let message = "Send the token once, in the Authorization header";
        let challenge = challenge(policy, "error=\"invalid_request\", ", &policy.challenge());
        Self::bad_request(Reason::TokenPlace, message).with_text(header::WWW_AUTHENTICATE, &challenge)
    }

    /// 401: the client should get another token. 503 while tokens cannot be checked: another one would not help.
    pub fn token_refused(policy: &Policy, error: TokenError) -> Self {
        let reason = Reason::Token(error);
        if error == TokenError::NoKeys {
            let message = "Tokens cannot be checked at the moment";
            return Self::refusal(reason, StatusCode::SERVICE_UNAVAILABLE, message, None)
                .with(header::RETRY_AFTER, "5");
        }
        let error = format!("error=\"invalid_token\", error_description=\"{error}\", ");
        let challenge = challenge(policy, &error, &policy.challenge());
        let message = "The token is not accepted: get another one";
        Self::refusal(reason, StatusCode::UNAUTHORIZED, message, None)
            .with_text(header::WWW_AUTHENTICATE, &challenge)
    }

    /// 403 that names every scope of the call, so that one more login is enough.
    pub(crate) fn scope_insufficient(policy: &Policy, needed: &[&str], id: Option<&Value>) -> Self {
        let message = "The token lacks a scope that this call needs";
        let error = "error=\"insufficient_scope\", error_description=\"the token lacks a scope that this call needs\", ";
        let challenge = challenge(policy, error, needed);
        Self::refusal(Reason::Scope, StatusCode::FORBIDDEN, message, id)
            .with_text(header::WWW_AUTHENTICATE, &challenge)
    }

    /// 403 without a challenge: no token would help.
    pub(crate) fn unmatched(id: Option<&Value>) -> Self {
        let message = "No rule of this server lets anybody make this call";
        Self::refusal(Reason::Unmatched, StatusCode::FORBIDDEN, message, id)
    }

    pub(crate) fn too_large() -> Self {
        let message = "The body is too large, or not all of it came";
        Self::refusal(Reason::BodySize, StatusCode::PAYLOAD_TOO_LARGE, message, None)
    }

    /// 400: what another proxy asked about makes no sense, or could not be passed on as it must be.
    pub fn head_refused(message: &str) -> Self {
        Self::bad_request(Reason::Head, message)
    }

    /// 403 without a challenge: the authorization server lets this caller's token not be exchanged, nor another one.
    pub fn exchange_refused(id: Option<&Value>) -> Self {
        let message = "The authorization server does not exchange this caller's token for the server";
        Self::refusal(Reason::Exchange, StatusCode::FORBIDDEN, message, id)
    }

    /// 503: the token that the server needs cannot be had at the moment.
    pub fn exchange_unavailable(id: Option<&Value>) -> Self {
        let message = "A token for the server cannot be had at the moment";
        Self::refusal(Reason::Exchange, StatusCode::SERVICE_UNAVAILABLE, message, id)
            .with(header::RETRY_AFTER, "5")
    }

    /// 503: more requests at a time than are served.
    pub fn overloaded() -> Self {
        let message = "Too many requests at a time";
        Self::refusal(Reason::Overload, StatusCode::SERVICE_UNAVAILABLE, message, None)
            .with(header::RETRY_AFTER, "1")
    }

    /// 503: nothing is let through before there is a policy.
    pub fn not_ready() -> Self {
        let message = "The gate has no policy yet";
        Self::refusal(Reason::NotReady, StatusCode::SERVICE_UNAVAILABLE, message, None)
            .with(header::RETRY_AFTER, "5")
    }
}

/// The headers by which a page of an origin that may call may read an answer. They vary by origin in any case.
pub fn cors(origin: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = vec![(header::VARY, HeaderValue::from_static("Origin"))];
    if let Some(origin) = origin.and_then(|origin| HeaderValue::from_str(origin).ok()) {
        headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin));
        let exposed = HeaderValue::from_static(EXPOSED);
        headers.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed));
    }
    headers
}

/// A challenge (RFC 6750, 3; RFC 9728, 5.1). `Bearer` stands first: clients look at the beginning.
fn challenge(policy: &Policy, error: &str, scopes: &[&str]) -> String {
    format!(
        "Bearer {error}scope=\"{}\", resource_metadata=\"{}\"",
        scopes.join(" "),
        policy.metadata_url
    )
}

/// The code of a JSON-RPC error: its own and MCP's where there is one, else one that is left to servers.
fn code(reason: Reason) -> i32 {
    match reason {
        Reason::Body(BodyError::NotJson) => -32700,
        Reason::Body(BodyError::NoName | BodyError::AmbiguousUri | BodyError::TooMany) => -32602,
        Reason::MethodUnknown => -32601,
        Reason::Wire(WireError::HeaderMismatch) => -32020,
        Reason::Wire(WireError::Version) => -32022,
        Reason::Body(_) | Reason::BodyPresence | Reason::BodySize | Reason::ContentType => -32600,
        _ => -32001,
    }
}
