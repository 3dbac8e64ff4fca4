//! One line for each request, when its answer has ended. Never a token, a query or a body.

use std::{fmt::Write as _, str::FromStr, sync::Arc};

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use http::{HeaderMap, Method};
use mcp_auth_gate_core::{answer::Reason, body::Message, decide::Admitted, wire::Wire};
use tokio::time::Instant;

/// What stands for a text that is longer than this, as tokens are.
const LONGEST: usize = 64;

/// What the line of a request says about who called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogForm {
    /// There are no lines.
    Off,
    /// Subject and client as hashes, under a key that ends with the process: lines of one caller can be found, the
    /// caller cannot.
    #[default]
    Hashed,
    /// Subject and client as the token says them.
    Plain,
}

impl FromStr for AccessLogForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "hashed" => Ok(Self::Hashed),
            "plain" => Ok(Self::Plain),
            _ => Err(format!(
                "{text:?} is not a form of access logs: write off, hashed or plain"
            )),
        }
    }
}

/// Writes the lines.
#[derive(Debug)]
pub struct AccessLog {
    form: AccessLogForm,
    key: hmac::Key,
}

impl AccessLog {
    /// A log with a key of its own.
    pub fn new(form: AccessLogForm) -> Self {
        let mut key = [0; 32];
        // Without randomness nothing else here would work, TLS and sessions least of all.
        let _ = SystemRandom::new().fill(&mut key);
        Self {
            form,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        }
    }

    fn who(&self, text: &str) -> Option<String> {
        match self.form {
            AccessLogForm::Off => None,
            AccessLogForm::Plain => Some(text.to_owned()),
            AccessLogForm::Hashed => {
                let tag = hmac::sign(&self.key, text.as_bytes());
                let first = tag.as_ref().iter().take(8);
                Some(first.fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                }))
            }
        }
    }
}

/// What is known about a request so far. It becomes a line when it is dropped: when the answer has ended, or when
/// nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Record {
    log: Arc<AccessLog>,
    started: Instant,
    method: Method,
    path: String,
    trace_id: Option<String>,
    who: Option<(Option<String>, Option<String>)>,
    wire: Option<Wire>,
    called: Option<(Option<String>, Option<String>)>,
    /// Why it was answered as it was.
    pub(crate) reason: Option<Reason>,
    /// The status of the answer; none if nobody waited for it.
    pub(crate) status: Option<u16>,
}

impl Record {
    pub(crate) fn new(log: &Arc<AccessLog>, method: &Method, path: &str, headers: &HeaderMap) -> Self {
        let on = log.form != AccessLogForm::Off;
        Self {
            log: Arc::clone(log),
            started: Instant::now(),
            method: method.clone(),
            path: if on { shortened_path(path) } else { String::new() },
            trace_id: on.then(|| trace_id(headers)).flatten(),
            who: None,
            wire: None,
            called: None,
            reason: None,
            status: None,
        }
    }

    /// When its head had come.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Notes who calls.
    pub(crate) fn admitted(&mut self, admitted: &Admitted) {
        let claims = &admitted.claims;
        self.who = Some((self.log.who(&claims.subject), self.log.who(&claims.client)));
        self.wire = Some(admitted.wire);
    }

    /// Notes what is called.
    pub(crate) fn called(&mut self, message: &Message) {
        if self.log.form == AccessLogForm::Off {
            return;
        }
        let name = message.subjects.first().map(|(_, name)| shortened(name));
        self.called = Some((message.method().map(shortened), name));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.log.form == AccessLogForm::Off {
            return;
        }
        let (subject, client) = self.who.take().unwrap_or_default();
        let (mcp_method, mcp_name) = self.called.take().unwrap_or_default();
        let wire = self.wire.map(|wire| match wire {
            Wire::Sessions => "sessions",
            Wire::Stateless => "stateless",
        });
        tracing::info!(
            target: "mcp_auth_gate::access",
            method = self.method.as_str(),
            path = self.path,
            status = self.status,
            reason = self.reason.map(Reason::as_str),
            wire,
            mcp_method,
            mcp_name,
            subject,
            client,
            trace_id = self.trace_id,
            seconds = self.started.elapsed().as_secs_f64(),
            "{}",
            if self.status.is_some() { "answered" } else { "abandoned" }
        );
    }
}

/// A text that is short enough not to be a token.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A path without what could be a token.
fn shortened_path(path: &str) -> String {
    let parts = path.split('/').take(16);
    let parts: Vec<&str> = parts
        .map(|part| if part.len() > LONGEST { "…" } else { part })
        .collect();
    parts.join("/")
}

/// The trace that the request belongs to (W3C Trace Context: version, trace id, parent id, flags).
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
    let (_, id) = (parts.next()?, parts.next()?);
    let is_id = id.len() == 32
        && id
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_id.then(|| id.to_owned())
}

#[cfg(test)]
mod tests;
