//! MCP clients that many people use, by name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A well-known MCP client. What each stands for is in docs/clients.md.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WellKnownClient {
    /// ChatGPT on the web.
    ChatGPT,
    /// Claude on the web and on the desktop.
    Claude,
    /// Claude Code.
    ClaudeCode,
    /// Codex.
    Codex,
    /// Cursor.
    Cursor,
    /// Gemini CLI.
    GeminiCLI,
    /// The MCP Inspector.
    Inspector,
    /// opencode.
    OpenCode,
    /// Visual Studio Code.
    VSCode,
}
