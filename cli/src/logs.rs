//! Log lines: their form, and what gets into them.
//!
//! Libraries must not turn a log level into a leak: an HTTP stack at `trace`, or one that reports a body it cannot
//! decode, prints what it carried. [`LogFilter`] therefore gives a level without a name to our own code only, and keeps
//! libraries at `info` until a directive names them.

use std::str::FromStr;

use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

#[cfg(test)]
mod tests;

/// What the targets of our own crates begin with.
const OWN_CRATES: &str = "mcp_auth";

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Text for people.
    Text,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(format!("{text:?} is not a log format: write json or text")),
        }
    }
}

/// What a program knows about its lines before anything is typed.
#[derive(Clone, Copy, Debug)]
pub struct LogTargets {
    /// A directive for some of its own code, for people to see how one is written.
    pub example: &'static str,
    /// Modules of libraries that are quieter than `info` unless a directive names exactly them.
    pub quieter: &'static [(&'static str, LevelFilter)],
}

impl LogTargets {
    /// What is logged by a level or directives, as typed.
    ///
    /// # Errors
    /// What to write instead.
    pub fn filter(&self, text: &str) -> Result<LogFilter, String> {
        let typed = readable_directives(text)
            .then(|| text.parse::<Targets>().ok())
            .flatten();
        match typed {
            Some(typed) => Ok(LogFilter(self.capped(&typed))),
            None => Err(format!(
                "{text:?} is not a log filter: write a level (error, warn, info, debug, trace, off) or directives \
                 like info,{},hyper=warn",
                self.example
            )),
        }
    }

    /// The filter to use for one as typed.
    fn capped(&self, typed: &Targets) -> Targets {
        let unnamed = typed.default_level().unwrap_or(LevelFilter::INFO);
        let mut filter = Targets::new()
            .with_default(unnamed.min(LevelFilter::INFO))
            .with_target(OWN_CRATES, unnamed);
        for (target, level) in self.quieter {
            filter = filter.with_target(*target, unnamed.min(*level));
        }
        for (target, level) in typed {
            filter = filter.with_target(target, level);
            // A directive for the crate does not name the module that leaks; a longer target would win over it anyway.
            for (quiet, cap) in self
                .quieter
                .iter()
                .filter(|(quiet, _)| quiet.starts_with(target) && *quiet != target)
            {
                let named = typed.iter().find(|(other, _)| other == quiet);
                filter = filter.with_target(*quiet, named.map_or(level.min(*cap), |(_, named)| named));
            }
        }
        filter
    }
}

/// Whether every directive is a level or `target=level`.
///
/// The parser takes any word for a target at `trace`, so that a misspelt level would silence everything else, and an
/// empty target for all of them, which would undo the cap.
fn readable_directives(text: &str) -> bool {
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let is_target = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
    };
    !text.is_empty()
        && text.split(',').all(|directive| match directive.split_once('=') {
            Some((target, level)) => is_target(target) && is_level(level),
            None => is_level(directive),
        })
}

/// Which log lines are written, with libraries capped. By default none, until [`LogTargets`] knows which.
#[derive(Clone, Debug, Default)]
pub struct LogFilter(Targets);

impl LogFilter {
    /// Whether a line of `target` at `level` is written.
    pub fn enables(&self, target: &str, level: tracing::Level) -> bool {
        self.0.would_enable(target, &level)
    }
}

/// Starts writing log lines to the standard error stream. Can succeed once in a process.
///
/// # Errors
/// When log lines are written already.
pub fn init(format: LogFormat, filter: &LogFilter) -> Result<(), TryInitError> {
    let lines = lines(format, filter, std::io::stderr);
    tracing_subscriber::registry().with(lines).try_init()
}

/// The layer that writes lines in `format`, as far as `filter` lets them.
pub fn lines<W>(format: LogFormat, filter: &LogFilter, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let filter = filter.0.clone();
    match format {
        // The list of spans, because the innermost alone may be one that says little.
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(true)
            .with_filter(filter)
            .boxed(),
        LogFormat::Text => lines.with_ansi(false).with_filter(filter).boxed(),
    }
}
