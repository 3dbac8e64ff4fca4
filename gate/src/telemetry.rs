//! Log lines: their form, and what gets into them.
//!
//! Libraries must not turn a log level into a leak: an HTTP stack at `trace` prints what it carries. [`LogFilter`]
//! therefore gives a level without a name to the gate's own code only, and keeps libraries at `info` until a directive
//! names them.

use std::str::FromStr;

use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

/// What the targets of the gate's own crates begin with.
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

/// Which log lines are written, with libraries capped.
#[derive(Clone, Debug)]
pub struct LogFilter(Targets);

impl Default for LogFilter {
    fn default() -> Self {
        Self(capped(&Targets::new(), LevelFilter::INFO))
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let typed = readable_directives(text)
            .then(|| text.parse::<Targets>().ok())
            .flatten();
        match typed {
            Some(typed) => {
                let unnamed = typed.default_level().unwrap_or(LevelFilter::INFO);
                Ok(Self(capped(&typed, unnamed)))
            }
            None => Err(format!(
                "{text:?} is not a log filter: write a level (error, warn, info, debug, trace, off) or directives \
                 like info,mcp_auth_gate::watch=debug,hyper=warn"
            )),
        }
    }
}

/// Whether every directive is a level or `target=level`. The parser takes any word for a target at `trace`, so that a
/// misspelt level would silence everything else.
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
fn capped(typed: &Targets, unnamed: LevelFilter) -> Targets {
    let filter = Targets::new()
        .with_default(unnamed.min(LevelFilter::INFO))
        .with_target(OWN_CRATES, unnamed);
    typed.iter().fold(filter, |filter, (target, level)| {
        filter.with_target(target, level)
    })
}

/// Starts writing log lines to the standard error stream. Can succeed once in a process.
pub fn init(format: LogFormat, filter: &LogFilter) -> Result<(), TryInitError> {
    let lines = lines(format, std::io::stderr).with_filter(filter.0.clone());
    tracing_subscriber::registry().with(lines).try_init()
}

/// The layer that writes lines in `format`.
pub(crate) fn lines<W>(format: LogFormat, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_stay_quiet_until_they_are_named() {
        for (typed, target, level, written) in [
            ("trace", "mcp_auth_gate::proxy", Level::TRACE, true),
            ("trace", "hyper::proto", Level::TRACE, false),
            ("trace", "hyper::proto", Level::INFO, true),
            ("info,hyper=trace", "hyper::proto", Level::TRACE, true),
            ("warn", "mcp_auth_gate", Level::INFO, false),
            ("warn", "hyper", Level::INFO, false),
            ("off", "mcp_auth_gate", Level::ERROR, false),
        ] {
            let filter: LogFilter = typed.parse().unwrap();
            assert_eq!(filter.0.would_enable(target, &level), written, "{typed} {target}");
        }
        for wrong in ["", "inof", "=info", "hyper=", "info,,"] {
            assert!(wrong.parse::<LogFilter>().is_err(), "{wrong}");
        }
    }
}
