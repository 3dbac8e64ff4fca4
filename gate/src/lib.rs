//! The gate of an MCP server: the faces around [`mcp_auth_gate_core`], and the keys and tokens that they need.

mod accept;
pub mod access_log;
pub mod admin;
pub mod arbiter;
pub mod authorizer;
pub mod callers;
pub mod changes;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod exchange;
pub mod ext_authz;
mod faces;
pub mod forward_auth;
pub mod handles;
pub mod http_face;
pub mod keys;
pub mod listen;
pub mod metrics;
pub mod outbound;
pub mod proxy;
pub mod run;
pub mod session;
#[cfg(test)]
mod testing;
pub mod tokens_face;
pub mod watch;
