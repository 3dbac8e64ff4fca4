//! The body of a POST, judged: which call it means to whoever reads it, or that readers could disagree on that.
//!
//! The whole text is read strictly. What one reader takes for one call and another for another is refused: a key that is
//! there twice, one that differs from a known key only in case (some readers ignore it), `__proto__` (some readers obey
//! it), text that ends early for readers written in C, text after the end, what is not UTF-8, numbers out of range, half a
//! surrogate pair, and whole batches.

mod strict;

use serde_json::Value;

use crate::{document::Kind, uri};
pub use strict::Needle;

/// How many resources one message may subscribe to.
const MOST_SUBSCRIPTIONS: usize = 256;

/// What a body may be refused for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not one JSON text in UTF-8.
    #[error("The body is not one JSON text in UTF-8")]
    NotJson,
    /// A key that readers may understand in different ways.
    #[error("The body has a key twice, or one that readers may take for another")]
    AmbiguousKey,
    /// An array of messages; gone from MCP since 2025-06-18.
    #[error("Batches are not accepted: send one message")]
    Batch,
    /// JSON, but no JSON-RPC 2.0 message.
    #[error("The body is no JSON-RPC 2.0 message")]
    NotAMessage,
    /// A call that does not say of what.
    #[error("The parameters do not say what is called")]
    NoName,
    /// A URI that readers may take for another one.
    #[error(
        "A URI has spaces, backslashes or dot segments, which readers may resolve: send it as it is resolved"
    )]
    AmbiguousUri,
    /// More resources at a time than are looked at.
    #[error("Too many resources are subscribed to at a time")]
    TooMany,
    /// The caller's token is in it, and would reach the server.
    #[error("The body holds the access token")]
    HoldsToken,
}

/// A message that can be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: MessageKind,
    /// Its `id`; none for notifications.
    pub id: Option<Value>,
    /// What it is about, by the rules: nothing for most methods.
    pub subjects: Vec<(Kind, String)>,
    /// The task that it is about, which no rule knows.
    pub task: Option<String>,
}

/// The three kinds of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A request, with its method.
    Request(String),
    /// A notification, with its method.
    Notification(String),
    /// An answer to a request of the server.
    Response,
}

impl Message {
    /// The method, of requests and notifications.
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            MessageKind::Request(method) | MessageKind::Notification(method) => Some(method),
            MessageKind::Response => None,
        }
    }

    /// Whether what it is about is a template of resources.
    pub fn is_about_template(&self) -> bool {
        self.method() == Some("completion/complete")
    }

    /// Whether it is about what has this name, URI or id.
    pub fn is_about(&self, name: &str) -> bool {
        let named = self.subjects.iter().any(|(_, subject)| subject == name);
        named || self.task.as_deref() == Some(name)
    }

    /// What `Mcp-Name` has to say: name or URI of the calls that must carry it.
    pub fn header_name(&self) -> Option<&str> {
        let method = self.method()?;
        let carries = matches!(method, "tools/call" | "prompts/get" | "resources/read");
        carries.then(|| self.subjects.first().map(|(_, name)| name.as_str()))?
    }
}

/// Reads a body. `needle` finds the caller's token in it.
///
/// # Errors
/// [`BodyError`]: the body must not reach the server.
pub fn judge(body: &[u8], needle: Option<&Needle<'_>>) -> Result<Message, BodyError> {
    if needle.is_some_and(|needle| needle.is_in(body)) {
        return Err(BodyError::HoldsToken);
    }
    let Value::Object(mut root) = strict::parse(body, needle)? else {
        return Err(BodyError::NotAMessage);
    };
    if root.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(BodyError::NotAMessage);
    }
    let id = root.remove("id");
    // MCP: a string or an integer, and never null.
    if id
        .as_ref()
        .is_some_and(|id| !id.is_string() && !id.is_i64() && !id.is_u64())
    {
        return Err(BodyError::NotAMessage);
    }
    let answers = root.contains_key("result") || root.contains_key("error");
    let method = match root.remove("method") {
        Some(Value::String(method)) if !answers && !method.contains('\0') => method,
        None if answers && id.is_some() && !(root.contains_key("result") && root.contains_key("error")) => {
            return Ok(Message {
                kind: MessageKind::Response,
                id,
                subjects: Vec::new(),
                task: None,
            });
        }
        _ => return Err(BodyError::NotAMessage),
    };
    let params = match root.remove("params") {
        None => Value::Null,
        Some(params @ Value::Object(_)) => params,
        Some(_) => return Err(BodyError::NotAMessage),
    };
    let subjects = subjects(&method, &params)?;
    let task = method
        .starts_with("tasks/")
        .then(|| params["taskId"].as_str().map(str::to_owned))
        .flatten();
    let kind = match id {
        Some(_) => MessageKind::Request(method),
        None => MessageKind::Notification(method),
    };
    Ok(Message {
        kind,
        id,
        subjects,
        task,
    })
}

/// The method and the `id` of a message that was refused for what it is about, for the answer to it.
pub fn outline(body: &[u8]) -> Option<(String, Option<Value>)> {
    let Value::Object(mut root) = strict::parse(body, None).ok()? else {
        return None;
    };
    match root.remove("method") {
        Some(Value::String(method)) => Some((method, root.remove("id"))),
        _ => None,
    }
}

/// What a call is about.
fn subjects(method: &str, params: &Value) -> Result<Vec<(Kind, String)>, BodyError> {
    // For what is written in C, text ends at NUL.
    let text = |value: &Value| {
        let text = value.as_str().filter(|text| !text.contains('\0'));
        text.map(str::to_owned).ok_or(BodyError::NoName)
    };
    let uri = |value: &Value| {
        let uri = text(value)?;
        if uri::is_ambiguous(&uri) {
            return Err(BodyError::AmbiguousUri);
        }
        Ok((Kind::Resource, uri))
    };
    let one = |kind, value: &Value| Ok(vec![(kind, text(value)?)]);
    match method {
        "tools/call" => one(Kind::Tool, &params["name"]),
        "prompts/get" => one(Kind::Prompt, &params["name"]),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Ok(vec![uri(&params["uri"])?]),
        // Completions tell about arguments of a prompt, or of a template of resources.
        "completion/complete" => match params["ref"]["type"].as_str() {
            Some("ref/prompt") => one(Kind::Prompt, &params["ref"]["name"]),
            Some("ref/resource") => Ok(vec![uri(&params["ref"]["uri"])?]),
            _ => Err(BodyError::NoName),
        },
        "subscriptions/listen" => {
            let notifications = &params["notifications"];
            match &notifications["resourceSubscriptions"] {
                Value::Array(all) if all.len() > MOST_SUBSCRIPTIONS => Err(BodyError::TooMany),
                Value::Array(all) => all.iter().map(uri).collect(),
                Value::Null if notifications.is_null() || notifications.is_object() => Ok(Vec::new()),
                _ => Err(BodyError::NoName),
            }
        }
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests;
