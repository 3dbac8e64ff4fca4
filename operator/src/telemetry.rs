//! Log lines: their form, what gets into them, and the trace id that ties the lines of one reconcile together.
//!
//! Libraries must not turn a log level into a leak: an HTTP stack at `trace`, or one that reports a body it cannot
//! decode, prints what it carried. [`LogFilter`] therefore gives a level without a name to the operator's own code
//! only, and keeps libraries at `info` until a directive names them.

use std::{error::Error, fmt, str::FromStr};

use kube::runtime::reflector::ObjectRef;
use rand::RngExt;
use tracing::Span;
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

#[cfg(test)]
mod tests;

/// What the targets of the operator's own crates begin with.
const OWN_CRATES: &str = "mcp_auth";

/// Modules of libraries that are quieter than `info` unless a directive names exactly them, with the reason.
const QUIETER: [(&str, LevelFilter); 4] = [
    // Prints, as a warning, the whole text of an answer that it cannot decode. Of a Secret, too. Its errors are those
    // that it also returns, so that each would be told twice.
    ("kube_client::client", LevelFilter::OFF),
    // Wraps each reconcile in a second span beside ours and logs nothing at `info`.
    ("kube_runtime::controller", LevelFilter::WARN),
    // Warns at each refused attempt, of which the feeds tell now and then.
    ("kube_runtime::watcher", LevelFilter::ERROR),
    // Tells as an error, at each attempt, what it also returns.
    ("rustls_platform_verifier", LevelFilter::OFF),
];

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

/// Which log lines are written, with libraries capped.
#[derive(Clone, Debug)]
pub struct LogFilter(Targets);

impl Default for LogFilter {
    fn default() -> Self {
        Self(capped(&Targets::new(), Some(LevelFilter::INFO)))
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let typed = readable_directives(text)
            .then(|| text.parse::<Targets>().ok())
            .flatten();
        match typed {
            Some(typed) => Ok(Self(capped(&typed, typed.default_level()))),
            None => Err(format!(
                "{text:?} is not a log filter: write a level (error, warn, info, debug, trace, off) or directives \
                 like info,mcp_auth_operator::lease=debug,hyper=warn"
            )),
        }
    }
}

impl LogFilter {
    /// Whether a line of `target` at `level` is written.
    pub fn enables(&self, target: &str, level: tracing::Level) -> bool {
        self.0.would_enable(target, &level)
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

/// The filter to use for one as typed, with the level that was given without a name.
fn capped(typed: &Targets, unnamed: Option<LevelFilter>) -> Targets {
    let unnamed = unnamed.unwrap_or(LevelFilter::INFO);
    let mut filter = Targets::new()
        .with_default(unnamed.min(LevelFilter::INFO))
        .with_target(OWN_CRATES, unnamed);
    for (target, level) in QUIETER {
        filter = filter.with_target(target, level.min(unnamed));
    }
    for (target, level) in typed {
        filter = filter.with_target(target, level);
        // A directive for the crate does not name the module that leaks; a longer target would win over it anyway.
        for (quiet, cap) in QUIETER
            .iter()
            .filter(|(quiet, _)| quiet.starts_with(target) && *quiet != target)
        {
            let named = typed.iter().find(|(other, _)| other == quiet);
            filter = filter.with_target(*quiet, named.map_or(level.min(*cap), |(_, named)| named));
        }
    }
    filter
}

/// Starts writing log lines to the standard error stream. Can succeed once in a process.
pub fn init(format: LogFormat, filter: &LogFilter) -> Result<(), TryInitError> {
    let lines = lines(format, std::io::stderr).with_filter(filter.0.clone());
    tracing_subscriber::registry().with(lines).try_init()
}

/// The layer that writes lines in `format`.
fn lines<W>(format: LogFormat, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        // The list of spans, because the innermost alone may be one without the trace id.
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(true)
            .boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
    }
}

/// The span of one reconcile: which object, and a fresh trace id that every line within it carries.
///
/// Only the reference enters the span, never the object: objects may hold what must not be logged.
pub fn reconcile_span<K>(kind: &'static str, object: &ObjectRef<K>) -> Span
where
    K: kube::runtime::reflector::Lookup,
{
    tracing::info_span!(
        "reconcile",
        kind,
        namespace = object.namespace.as_deref().unwrap_or_default(),
        object = object.name,
        trace_id = %TraceId::random(),
    )
}

/// 128 random bits that identify one reconcile in the logs. Displays as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl TraceId {
    /// A fresh id.
    pub fn random() -> Self {
        Self(rand::rng().random())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// An error with everything that caused it, as libraries tend to keep the telling part at the bottom.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = inner.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
