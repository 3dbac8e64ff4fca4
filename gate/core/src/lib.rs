//! What a gate decides, without any I/O: no clock, no network, no files.
//!
//! A [`Document`](document::Document) is the policy file; [`Policy`](policy::Policy) is what it comes to. Whoever has a
//! request asks [`decide`](decide::decide), whatever it came through, so that every face of the gate decides alike.

pub mod answer;
pub mod body;
pub mod decide;
pub mod document;
mod glob;
pub mod list;
pub mod policy;
pub mod sse;
#[cfg(test)]
mod testing;
pub mod token;
pub mod uri;
pub mod wire;
