//! Looks for bodies that a gate lets through and that two readers understand differently.
//!
//! What a gate allows must be the same call to whoever reads it afterwards. So bodies are made up at random, by a grammar
//! and by breaking what it made, and whatever [`judge`](mcp_auth_gate_core::body::judge) lets through is given to
//! readers of other languages: each must see the same method, the same subjects and the same arguments.

pub mod bodies;
pub mod differential;
pub mod meaning;
pub mod readers;
