//! The gate of an MCP server: the faces around [`mcp_auth_gate_core`], and the keys and tokens that they need.

pub mod authorizer;
pub mod clock;
pub mod credentials;
pub mod exchange;
pub mod keys;
pub mod outbound;
#[cfg(test)]
mod testing;
