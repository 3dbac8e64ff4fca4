//! The harness of the stories and of the demo.
//!
//! It starts the real parts (etcd, kube-apiserver, kube-controller-manager, Keycloak and the operator's binary) as
//! processes of this machine, because only they know what they accept, and stops every one of them
//! however it ends itself. Nothing needs a container engine; only stories with pods need root, for a node.
//!
//! ```text
//! Cache ── Tools ──► World ─┬─ ControlPlane     one per run
//!                           ├─ Keycloak         one per run
//!                           ├─ Node             one per run, if a story needs it and the machine can have it
//!                           ├─ Auth0            a stand-in for a tenant, for stories that want one
//!                           └─ StoryEnv         one per story: namespaces, a realm, an operator,
//!                                │              and between the two:
//!                                └─ RecordingProxy   in front of Keycloak, and of the API server where a story wants it
//!
//! Caller ──► Edge ──► gate ──► MCP server      gates as pods of the node (gates), or for the samples where there is
//!                                              none, as a process (stand)
//! ```

pub mod auth0;
pub mod bench;
pub mod cache;
pub mod caller;
pub mod control_plane;
pub mod demo;
pub mod documents;
pub mod edge;
pub mod gate;
pub mod gates;
pub mod image;
pub mod interrupt;
pub mod keycloak;
pub mod kubectl;
pub mod leaks;
pub mod lengths;
pub mod mcp;
pub mod node;
pub mod oauth;
pub mod oidc_provider;
pub mod operator;
pub mod pki;
pub mod ports;
pub mod prerequisites;
pub mod process;
pub mod progress;
pub mod proxy;
pub mod run_folder;
pub mod runner;
pub mod samples;
pub mod secrets;
pub mod setting;
pub mod stand;
pub mod story;
pub mod tools;
pub mod wait;
pub mod world;

/// Makes aws-lc-rs the one TLS provider of this process: with several compiled in, rustls would not choose.
pub fn use_aws_lc() {
    // An error only says that it was installed before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
