//! What well-known MCP clients send: where they send users back to, and where their documents are.
//!
//! Each entry says when it was last compared with its source. Codex and ChatGPT are here as they are in front of an
//! authorization server that names itself in its answers (RFC 9207); elsewhere they send users back to a path that differs
//! from server to server.

use std::collections::BTreeSet;

use mcp_auth_crds::v1alpha1::WellKnownClient;

/// A client.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name.
    pub client: WellKnownClient,
    /// Where it sends users back to. Without a port, any port is meant.
    pub redirect_uris: &'static [&'static str],
    /// The host of its client ID metadata document, if it has one.
    pub domain: Option<&'static str>,
    /// Hosts that its document or registration names besides those of its redirect URIs.
    pub hosts: &'static [&'static str],
    /// When this was checked.
    pub checked: &'static str,
    /// Where it is said.
    pub source: &'static str,
}

/// When all of them were checked last.
const CHECKED: &str = "2026-11-26";

/// All of them.
pub const ALL: [Preset; 9] = [
    Preset {
        client: WellKnownClient::ChatGPT,
        redirect_uris: &["https://chatgpt.com/connector_platform_oauth_redirect"],
        domain: Some("chatgpt.com"),
        hosts: &[],
        checked: CHECKED,
        source: "makeplane/plane#165",
    },
    Preset {
        client: WellKnownClient::Claude,
        redirect_uris: &[
            "https://claude.ai/api/mcp/auth_callback",
            "https://claude.com/api/mcp/auth_callback",
        ],
        domain: Some("claude.ai"),
        hosts: &[],
        checked: CHECKED,
        source: "anthropics/claude-ai-mcp#96",
    },
    Preset {
        client: WellKnownClient::ClaudeCode,
        redirect_uris: &["http://localhost/callback", "http://127.0.0.1/callback"],
        domain: Some("claude.ai"),
        hosts: &[],
        checked: CHECKED,
        source: "anthropics/claude-code#56557",
    },
    Preset {
        client: WellKnownClient::Codex,
        redirect_uris: &["http://127.0.0.1/callback", "http://localhost/callback"],
        domain: Some("chatgpt.com"),
        hosts: &["persistent.oaistatic.com"],
        checked: CHECKED,
        source: "developers.openai.com/docs/extend/mcp",
    },
    Preset {
        client: WellKnownClient::Cursor,
        redirect_uris: &[
            "http://localhost:8787/callback",
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback",
        ],
        domain: None,
        hosts: &[],
        checked: CHECKED,
        source: "cursor.com/docs/mcp",
    },
    Preset {
        client: WellKnownClient::GeminiCLI,
        redirect_uris: &["http://localhost:7777/oauth/callback"],
        domain: None,
        hosts: &[],
        checked: CHECKED,
        source: "google-gemini/gemini-cli#7465",
    },
    Preset {
        client: WellKnownClient::Inspector,
        redirect_uris: &[
            "http://localhost:6274/oauth/callback",
            "http://localhost:6274/oauth/callback/debug",
            "http://127.0.0.1:6276/oauth/callback",
        ],
        domain: None,
        hosts: &["github.com"],
        checked: CHECKED,
        source: "modelcontextprotocol/inspector 2.12.0",
    },
    Preset {
        client: WellKnownClient::OpenCode,
        redirect_uris: &[
            "http://127.0.0.1:19876/mcp/oauth/callback",
            "http://127.0.0.1/callback",
            "http://localhost/callback",
        ],
        domain: Some("opencode.ai"),
        hosts: &[],
        checked: CHECKED,
        source: "anomalyco/opencode#47737",
    },
    Preset {
        client: WellKnownClient::VSCode,
        redirect_uris: &[
            "http://127.0.0.1/",
            "http://127.0.0.1:33418/",
            "https://vscode.dev/redirect",
            "https://insiders.vscode.dev/redirect",
        ],
        domain: Some("vscode.dev"),
        hosts: &["code.visualstudio.com"],
        checked: CHECKED,
        source: "microsoft/vscode#278512",
    },
];

/// Those of these names.
fn of(clients: &[WellKnownClient]) -> impl Iterator<Item = &'static Preset> {
    ALL.iter().filter(|preset| clients.contains(&preset.client))
}

/// Where these clients send users back to.
pub fn redirect_uris(clients: &[WellKnownClient]) -> impl Iterator<Item = String> {
    of(clients).flat_map(|preset| preset.redirect_uris.iter().map(|uri| (*uri).to_owned()))
}

/// The hosts of their documents.
pub fn domains(clients: &[WellKnownClient]) -> impl Iterator<Item = String> {
    of(clients).filter_map(|preset| preset.domain.map(str::to_owned))
}

/// The hosts of all addresses that they name.
pub fn hosts(clients: &[WellKnownClient]) -> BTreeSet<String> {
    let named = of(clients).flat_map(|preset| preset.hosts.iter().map(|host| (*host).to_owned()));
    let uris = redirect_uris(clients).filter_map(|uri| host_of(&uri));
    named.chain(domains(clients)).chain(uris).collect()
}

/// The host of an address, whatever its scheme is.
fn host_of(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let end = rest.find(['/', ':']).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_those_of_everything_that_a_client_names() {
        let expect = |client, hosts: &[&str]| {
            let hosts: BTreeSet<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            assert_eq!(super::hosts(&[client]), hosts);
        };
        expect(WellKnownClient::Claude, &["claude.ai", "claude.com"]);
        expect(
            WellKnownClient::ClaudeCode,
            &["127.0.0.1", "claude.ai", "localhost"],
        );
        expect(
            WellKnownClient::Codex,
            &[
                "127.0.0.1",
                "chatgpt.com",
                "localhost",
                "persistent.oaistatic.com",
            ],
        );
        // Its document names both, and is refused as a whole if one of them is not trusted.
        expect(
            WellKnownClient::OpenCode,
            &["127.0.0.1", "localhost", "opencode.ai"],
        );
        expect(
            WellKnownClient::Cursor,
            &["anysphere.cursor-mcp", "localhost", "www.cursor.com"],
        );
        expect(
            WellKnownClient::Inspector,
            &["127.0.0.1", "github.com", "localhost"],
        );
        assert_eq!(super::hosts(&[]), BTreeSet::new());
        assert_eq!(domains(&[WellKnownClient::Cursor]).count(), 0);
    }

    #[test]
    fn each_client_is_there_once_in_the_order_of_the_alphabet() {
        assert!(ALL.is_sorted_by(|one, other| one.client < other.client));
    }
}
