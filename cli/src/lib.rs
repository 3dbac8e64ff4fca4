//! What both programs do alike: flags with all errors at once, log lines, an orderly stop.

pub mod flags;
pub mod logs;
pub mod program;
pub mod shutdown;
