//! Pure decisions over Kubernetes objects: who may do what with what. No I/O, no clock, no randomness.

pub mod access;
pub mod delivery;
pub mod denial;
pub mod enforcement;
pub mod exchange;
pub mod external;
pub mod grants;
pub mod homes;
pub mod hosts;
pub mod names;
pub mod presets;
pub mod redirects;
pub mod scopes;

/// A decision against what somebody asked for, in the words of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// CamelCase, stable.
    pub reason: &'static str,
    /// What is refused and what to ask for.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}
