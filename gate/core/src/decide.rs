//! The decision, in two steps: who calls, from the head alone, and whether they may, once the body is there.
//!
//! Two steps, so that nobody without a token makes a gate read a body. Faces that have both at once ask [`decide`].

use std::{collections::BTreeSet, sync::Arc};

use http::{HeaderMap, HeaderName, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use url::form_urlencoded;

use crate::{
    answer::{Answer, Reason},
    body::{self, Message, Needle},
    document::Kind,
    policy::Policy,
    token::{Claims, TokenError, Verifier},
    wire::{self, Wire},
};

/// What asks for another protocol on the connection (RFC 9110, 7.8; RFC 7540, 3.2.1; RFC 6455, 4.1). MCP does not, and an
/// engine that asks a gate about it would let everything that follows pass.
const UPGRADES: [&str; 3] = ["upgrade", "http2-settings", "sec-websocket-key"];

/// A request without its body.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, byte for byte.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// Headers hold tokens, and so may queries.
impl std::fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head")
            .field("method", self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The body of a request, as far as it came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// All of it; empty for none.
    Whole(&'a [u8]),
    /// Too large, or cut off.
    Partial,
}

/// Bodies hold what users say.
impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Partial => f.write_str("Partial"),
        }
    }
}

/// Somebody with a good token, whose request is not judged yet.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// What the token says.
    pub claims: Arc<Claims>,
    /// The origin of the page that calls, if one does. It may.
    pub origin: Option<String>,
    /// The scopes of the server that the caller holds, implied ones included.
    pub held: BTreeSet<String>,
    /// The wire of the request.
    pub wire: Wire,
    token: SecretString,
}

/// A request that may reach the server.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// Who calls.
    pub caller: Admitted,
    /// The message, of a POST.
    pub message: Option<Message>,
    /// Headers that must not reach the server.
    pub remove: Vec<HeaderName>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It may reach the server.
    Allow(Box<Allowed>),
    /// The gate answers by itself.
    Answer(Box<Answer>),
    /// The keys must be fetched again, and then it is to be decided once more. If they were just fetched: refuse with
    /// this answer.
    UnknownKey(Box<Answer>),
}

/// Why a request is not admitted.
#[derive(Clone, Debug)]
pub enum Stop {
    /// The gate answers by itself.
    Answer(Box<Answer>),
    /// As [`Decision::UnknownKey`].
    UnknownKey(Box<Answer>),
}

impl From<Answer> for Stop {
    fn from(answer: Answer) -> Self {
        Self::Answer(Box::new(answer))
    }
}

/// Decides about a whole request.
///
/// `now` is in seconds of Unix time.
pub fn decide(
    head: &Head<'_>,
    body: Body<'_>,
    policy: &Policy,
    verifier: &(impl Verifier + ?Sized),
    now: i64,
) -> Decision {
    let admitted = match admit(head, policy, verifier, now) {
        Ok(admitted) => admitted,
        Err(Stop::Answer(answer)) => return Decision::Answer(answer),
        Err(Stop::UnknownKey(answer)) => return Decision::UnknownKey(answer),
    };
    match admitted.judge(head, body, policy) {
        Ok(allowed) => Decision::Allow(Box::new(allowed)),
        Err(answer) => Decision::Answer(Box::new(answer)),
    }
}

/// Decides who calls, or answers what needs nobody.
///
/// # Errors
/// The answer, when the request is not to be judged further.
pub fn admit(
    head: &Head<'_>,
    policy: &Policy,
    verifier: &(impl Verifier + ?Sized),
    now: i64,
) -> Result<Admitted, Stop> {
    if policy.metadata_paths.iter().any(|path| path == head.path) {
        return Err(metadata(head, policy).into());
    }
    let origin = origin(head, policy)?;
    let answered = |answer: Answer| Stop::from(answer.for_origin(origin.as_deref()));
    if head.path != policy.path {
        return Err(answered(Answer::not_found()));
    }
    if UPGRADES.iter().any(|name| head.headers.contains_key(*name)) {
        return Err(answered(Answer::upgrade_refused()));
    }
    if head.method == Method::OPTIONS {
        let asked = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let asked = asked.and_then(|value| value.to_str().ok()).unwrap_or_default();
        return Err(Answer::preflight(origin.as_deref(), asked).into());
    }
    let token = bearer(head, policy).map_err(answered)?;
    let claims = match verifier.verify(token, &policy.authorization_server.issuer) {
        Ok(claims) => claims,
        Err(error) => {
            let answer = Answer::token_refused(policy, error).for_origin(origin.as_deref());
            return Err(match error {
                TokenError::UnknownKey | TokenError::NoKeys => Stop::UnknownKey(Box::new(answer)),
                _ => answer.into(),
            });
        }
    };
    let refused = |error| answered(Answer::token_refused(policy, error));
    claims.check(policy, now).map_err(refused)?;
    let wire = wire::wire(head.headers).map_err(|error| answered(Answer::wire_refused(error, None)))?;
    check_method(head, wire).map_err(answered)?;
    Ok(Admitted {
        held: policy.held(claims.scopes.iter().map(String::as_str)),
        claims,
        origin: origin.clone(),
        wire,
        token: SecretString::from(token),
    })
}

impl Admitted {
    /// The caller's own token, which is exchanged and never sent to the server.
    pub fn token(&self) -> &SecretString {
        &self.token
    }

    /// Decides whether the caller may do what the request asks for.
    ///
    /// # Errors
    /// The answer, when they may not.
    pub fn judge(self, head: &Head<'_>, body: Body<'_>, policy: &Policy) -> Result<Allowed, Answer> {
        let origin = self.origin.clone();
        self.judge_plainly(head, body, policy)
            .map_err(|answer| answer.for_origin(origin.as_deref()))
    }

    fn judge_plainly(self, head: &Head<'_>, body: Body<'_>, policy: &Policy) -> Result<Allowed, Answer> {
        let needle = Needle::new(self.token.expose_secret());
        if needle
            .as_ref()
            .is_some_and(|needle| query_holds(head.query, needle))
        {
            return Err(Answer::token_place(policy));
        }
        let message = if head.method == Method::POST {
            Some(self.read(head, body, needle.as_ref())?)
        } else if body == Body::Whole(b"") {
            None
        } else {
            let message = "A request with this method has no body";
            return Err(Answer::bad_request(Reason::BodyPresence, message));
        };
        let id = message.as_ref().and_then(|message| message.id.as_ref());
        let needed = match &message {
            Some(message) => needed(message, policy).ok_or_else(|| Answer::unmatched(id))?,
            None => policy.needed_otherwise().clone(),
        };
        if !needed.is_subset(&self.held) {
            return Err(Answer::scope_insufficient(policy, &policy.in_order(&needed), id));
        }
        let remove = removed(head.headers, self.wire, needle.as_ref());
        Ok(Allowed {
            message,
            remove,
            caller: self,
        })
    }

    fn read(&self, head: &Head<'_>, body: Body<'_>, needle: Option<&Needle<'_>>) -> Result<Message, Answer> {
        if !is_plain_json(head.headers) {
            let message = "A body is application/json, in UTF-8 and without encoding";
            return Err(Answer::bad_request(Reason::ContentType, message));
        }
        let bytes = match body {
            Body::Partial => return Err(Answer::too_large()),
            Body::Whole(b"") => {
                let message = "A POST has a message as its body";
                return Err(Answer::bad_request(Reason::BodyPresence, message));
            }
            Body::Whole(bytes) => bytes,
        };
        let message =
            body::judge(bytes, needle).map_err(|error| Answer::body_refused(error, bytes, self.wire))?;
        if self.wire == Wire::Stateless {
            let id = message.id.as_ref();
            wire::compare(head.headers, &message).map_err(|error| Answer::wire_refused(error, id))?;
        }
        Ok(message)
    }
}

/// What a message needs; `None`: nobody may send it.
fn needed(message: &Message, policy: &Policy) -> Option<BTreeSet<String>> {
    if message.subjects.is_empty() {
        return Some(policy.needed_otherwise().clone());
    }
    let subjects = message.subjects.iter();
    subjects
        .map(|(kind, name)| match kind {
            Kind::Resource if message.is_about_template() => policy.needed_for_template(name),
            _ => policy.needed(*kind, name),
        })
        .try_fold(BTreeSet::new(), |mut all, needed| {
            all.extend(needed?);
            Some(all)
        })
}

fn metadata(head: &Head<'_>, policy: &Policy) -> Answer {
    match *head.method {
        Method::GET | Method::HEAD => Answer::metadata(policy),
        Method::OPTIONS => Answer::metadata_preflight(),
        _ => Answer::method_not_allowed("GET, HEAD, OPTIONS"),
    }
}

/// The origin of the page that calls; before anything else, so that no page of a stranger learns anything.
fn origin(head: &Head<'_>, policy: &Policy) -> Result<Option<String>, Answer> {
    let mut all = head.headers.get_all(header::ORIGIN).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(origin), None) => match origin.to_str() {
            Ok(origin) if policy.allows_origin(origin) => Ok(Some(origin.to_owned())),
            _ => Err(Answer::origin_refused()),
        },
        _ => Err(Answer::origin_refused()),
    }
}

/// The one token of the request (RFC 6750, 2.1; never in the query, RFC 9700, 4.3.2).
fn bearer<'a>(head: &Head<'a>, policy: &Policy) -> Result<&'a str, Answer> {
    let in_query = head.query.is_some_and(|query| {
        form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name.eq_ignore_ascii_case("access_token"))
    });
    let mut all = head.headers.get_all(header::AUTHORIZATION).iter();
    let (value, second) = (all.next(), all.next());
    let Some(value) = value else {
        return Err(Answer::token_missing(policy));
    };
    if second.is_some() || in_query {
        return Err(Answer::token_place(policy));
    }
    let malformed = || Answer::token_refused(policy, TokenError::Malformed);
    let text = value.to_str().map_err(|_| malformed())?;
    let Some((scheme, token)) = text.split_once(' ') else {
        return Err(Answer::token_missing(policy));
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Answer::token_missing(policy));
    }
    let token = token.trim_matches(' ');
    let is_token_character = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if token.is_empty() || !token.bytes().all(is_token_character) {
        return Err(malformed());
    }
    Ok(token)
}

fn check_method(head: &Head<'_>, wire: Wire) -> Result<(), Answer> {
    match (wire, head.method) {
        (_, &Method::POST) | (Wire::Sessions, &Method::GET | &Method::DELETE) => Ok(()),
        (Wire::Sessions, _) => Err(Answer::method_not_allowed("GET, POST, DELETE, OPTIONS")),
        (Wire::Stateless, _) => Err(Answer::method_not_allowed("POST, OPTIONS")),
    }
}

/// `application/json`, in UTF-8, as it is.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let values = |name: HeaderName| {
        headers
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap_or("?"))
    };
    let mut types = values(header::CONTENT_TYPE);
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return false;
    };
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|parameter| {
        let known = ["charset=utf-8", "charset=\"utf-8\""];
        known.iter().any(|known| parameter.eq_ignore_ascii_case(known))
    });
    let is_identity =
        values(header::CONTENT_ENCODING).all(|encoding| encoding.trim().eq_ignore_ascii_case("identity"));
    is_json && is_utf8 && is_identity
}

fn query_holds(query: Option<&str>, needle: &Needle<'_>) -> bool {
    let Some(query) = query else { return false };
    let holds = |text: &str| needle.is_in(text.as_bytes());
    holds(query)
        || form_urlencoded::parse(query.as_bytes()).any(|(name, value)| holds(&name) || holds(&value))
}

mod removal;
#[cfg(test)]
mod tests;

pub use removal::NEVER_FORWARDED;
use removal::removed;
