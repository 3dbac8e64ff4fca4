//! Calls of an MCP server over Streamable HTTP, as a client makes them.

use anyhow::{Context, ensure};
use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// The revision of MCP that is spoken: the last one with sessions.
const VERSION: &str = "2025-11-25";
const SESSION: &str = "mcp-session-id";

/// A client of one MCP server.
#[derive(Clone, Debug)]
pub struct Caller {
    http: reqwest::Client,
    url: String,
    token: Option<SecretString>,
    session: Option<String>,
}

/// What a call came to.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The JSON-RPC message, out of the event stream if it came in one; null if there is none.
    pub message: Value,
}

impl Caller {
    /// A client without a token.
    pub fn new(http: reqwest::Client, url: impl Into<String>) -> Self {
        Self {
            http,
            url: url.into(),
            token: None,
            session: None,
        }
    }

    /// The same with a token. A session goes on with it.
    #[must_use]
    pub fn with_token(mut self, token: &SecretString) -> Self {
        self.token = Some(token.clone());
        self
    }

    /// The same server, and the same session, at another address: that of one pod, for example.
    #[must_use]
    pub fn at(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// Begins a session. Fails unless the server agrees.
    pub async fn begin(&mut self) -> anyhow::Result<()> {
        let client = json!({ "name": "stories", "version": "1" });
        let params = json!({ "protocolVersion": VERSION, "capabilities": {}, "clientInfo": client });
        let reply = self.call("initialize", params).await?;
        ensure!(
            reply.message["result"]["serverInfo"].is_object(),
            "no session: {reply}"
        );
        let session = reply.headers.get(SESSION).context("no id of a session")?;
        self.session = Some(session.to_str()?.to_owned());
        let reply = self
            .send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await?;
        ensure!(reply.status == StatusCode::ACCEPTED, "no session: {reply}");
        Ok(())
    }

    /// Sends a request and waits for what it comes to.
    pub async fn call(&self, method: &str, params: Value) -> anyhow::Result<Reply> {
        self.send(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
            .await
    }

    /// Calls a tool.
    pub async fn tool(&self, name: &str, arguments: Value) -> anyhow::Result<Reply> {
        self.call("tools/call", json!({ "name": name, "arguments": arguments }))
            .await
    }

    /// The names of the tools that it may see.
    pub async fn tools(&self) -> anyhow::Result<Vec<String>> {
        let reply = self.call("tools/list", json!({})).await?;
        let tools = reply.message["result"]["tools"].as_array();
        let tools = tools.with_context(|| format!("no tools: {reply}"))?;
        let names = tools.iter().filter_map(|tool| tool["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    async fn send(&self, message: &Value) -> anyhow::Result<Reply> {
        let mut request = self
            .http
            .post(&self.url)
            .header(header::ACCEPT, "application/json, text/event-stream")
            .json(message);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(session) = &self.session {
            request = request
                .header(SESSION, session)
                .header("mcp-protocol-version", VERSION);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        Ok(Reply {
            status,
            headers,
            message: answer(&text),
        })
    }
}

impl Reply {
    /// The challenge, if the call was refused for want of a token or of a scope.
    pub fn challenge(&self) -> Option<&str> {
        self.headers.get(header::WWW_AUTHENTICATE)?.to_str().ok()
    }

    /// A parameter of the challenge, such as `scope`.
    pub fn challenged(&self, parameter: &str) -> Option<&str> {
        let (_, rest) = self.challenge()?.split_once(&format!("{parameter}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let challenge = self.challenge().unwrap_or("no challenge");
        write!(f, "{}, {challenge}, {}", self.status, self.message)
    }
}

/// The message that answers: a whole body, or the last event with a result or an error.
fn answer(text: &str) -> Value {
    if let Ok(message) = serde_json::from_str(text) {
        return message;
    }
    let events = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let messages = events.filter_map(|data| serde_json::from_str::<Value>(data.trim()).ok());
    let mut answers =
        messages.filter(|message| message["result"].is_object() || message["error"].is_object());
    answers.next_back().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_in_whatever_it_comes() {
        let stream = "event: message\ndata: {\"method\":\"notifications/x\"}\n\nevent: message\ndata: {\"result\":{\"a\":1}}\n\n";
        assert_eq!(answer(stream)["result"]["a"], 1);
        assert_eq!(answer(r#"{"error":{"code":1}}"#)["error"]["code"], 1);
        assert_eq!(answer(""), Value::Null);
    }

    #[test]
    fn parameters_of_a_challenge_are_read() {
        let challenge = r#"Bearer error="insufficient_scope", scope="a b", resource_metadata="https://h/""#;
        let mut reply = Reply {
            status: StatusCode::FORBIDDEN,
            headers: HeaderMap::new(),
            message: Value::Null,
        };
        assert_eq!(reply.challenged("scope"), None);
        reply
            .headers
            .insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        assert_eq!(reply.challenged("scope"), Some("a b"));
        assert_eq!(reply.challenged("resource_metadata"), Some("https://h/"));
    }
}
