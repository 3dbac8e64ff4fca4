//! A gate by itself, with everything around it under the story's control: an issuer that signs whatever it is asked to,
//! an MCP server that writes down every byte, clients that send bytes as they are, and other people's proxies.
//!
//! ```text
//! RawClient ──► gate (proxy) ─────────────────────────────► Upstream
//!           ──► Envoy ── ext_authz ──► gate  ── allowed ──► Upstream
//!           ──► Traefik ─ forwardAuth ► gate ── allowed ──► Upstream
//!                                       gate ── keys, exchange ──► TestIssuer
//! ```

pub mod client;
pub mod engines;
pub mod http1;
pub mod issuer;
pub mod keys;
pub mod process;
pub mod upstream;
