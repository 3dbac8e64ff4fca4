//! Looks for what a gate lets through and two readers understand differently.
//!
//! What a gate allows must be the same to whoever reads it afterwards. So bodies, targets of requests and URIs of resources
//! are made up at random, by a grammar and by breaking what it made, and whatever the gate lets through is given to readers
//! of other languages: each must see the same call with the same arguments, the same path, and no spelling of a resource
//! that the gate does not know.

pub mod bodies;
pub mod differential;
pub mod meaning;
pub mod readers;
pub mod subject;
pub mod targets;
pub mod uris;
