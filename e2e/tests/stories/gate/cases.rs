//! The rows, by topic.

mod bodies;
mod framing;
mod headers;
mod places;
mod protocols;
mod targets;
mod tokens;

use super::case::{Case, Framing};

const NOTHING: Framing = Framing::Nothing;

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let topics = [
        tokens::cases(),
        bodies::cases(),
        headers::cases(),
        places::cases(),
        targets::cases(),
        protocols::cases(),
        framing::cases(),
    ];
    topics.into_iter().flatten().collect()
}
