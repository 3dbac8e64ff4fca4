//! From what was typed to what it means: everything that is wrong is reported at once, one line per flag, in words that
//! say what to write instead.

use std::{
    fmt::Display,
    io::{self, Write},
    net::SocketAddr,
    str::FromStr,
    time::Duration,
};

use thiserror::Error;

#[cfg(test)]
mod tests;

/// One flag whose value cannot be used. Displays as one line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{flag}: {problem}")]
pub struct FlagError {
    /// The flag as it is typed.
    pub flag: &'static str,
    /// What is wrong with its value and what to write instead.
    pub problem: String,
}

/// Why a program cannot use its command line.
#[derive(Debug)]
pub enum Unusable {
    /// The command line asks for help or the version, or does not parse at all.
    CommandLine(clap::Error),
    /// Values that cannot be used; at least one.
    Values(Vec<FlagError>),
}

impl Unusable {
    /// Shows the help or version that was asked for, or one line of `program` for each thing that is wrong.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn report(&self, program: &str) -> io::Result<()> {
        let mut lines = io::stderr().lock();
        match self {
            Self::CommandLine(asked) if !asked.use_stderr() => asked.print(),
            Self::CommandLine(error) => {
                // The rest repeats the usage, which --help explains better.
                let text = error.to_string();
                let first = text
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches("error: ");
                writeln!(lines, "{program}: {first} (--help explains every flag)")
            }
            Self::Values(problems) => problems
                .iter()
                .try_for_each(|problem| writeln!(lines, "{program}: {problem}")),
        }
    }

    /// 0 for help that was asked for, 2 for a command line that cannot be used, as is the custom.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::CommandLine(asked) if !asked.use_stderr() => 0,
            _ => 2,
        }
    }
}

/// Collects what is wrong, so that all of it can be reported at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<FlagError>);

impl Problems {
    /// The value, or a placeholder that never gets out because a problem was noted.
    pub fn keep<T: Default, E: Display>(&mut self, flag: &'static str, value: Result<T, E>) -> T {
        self.keep_or(flag, value, T::default())
    }

    /// As [`Self::keep`], for types without a default.
    pub fn keep_or<T, E: Display>(&mut self, flag: &'static str, value: Result<T, E>, placeholder: T) -> T {
        value.unwrap_or_else(|problem| {
            self.0.push(FlagError {
                flag,
                problem: problem.to_string(),
            });
            placeholder
        })
    }

    /// `config` if there were no problems.
    pub fn none_or<T>(self, config: T) -> Result<T, Vec<FlagError>> {
        if self.0.is_empty() {
            Ok(config)
        } else {
            Err(self.0)
        }
    }
}

/// What was given; an empty text, as an unset variable of a manifest gives it, is nothing.
pub fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// A duration as the custom resources write it: hours, minutes and seconds in this order, each at most once.
fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text:?} is not a duration: write it as 90s, 10m or 1h30m");
    let mut rest = text;
    let mut seconds = 0;
    for (unit, worth) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((count, after)) = rest.split_once(unit) {
            if count.is_empty() || count.len() > 6 || !count.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(malformed());
            }
            seconds += count.parse::<u64>().map_err(|_| malformed())? * worth;
            rest = after;
        }
    }
    if text.is_empty() || !rest.is_empty() {
        Err(malformed())
    } else {
        Ok(Duration::from_secs(seconds))
    }
}

/// A duration of at least `min` and at most `max` seconds.
pub fn duration_within(text: &str, min: u64, max: Option<u64>) -> Result<Duration, String> {
    let value = duration(text)?;
    if value < Duration::from_secs(min) {
        return Err(format!("{text:?} is too short: the least is {min}s"));
    }
    match max {
        Some(max) if value > Duration::from_secs(max) => {
            Err(format!("{text:?} is too long: the most is {max}s"))
        }
        _ => Ok(value),
    }
}

/// A whole number between `min` and `max`, both included.
pub fn number_within<N: FromStr + PartialOrd + Display + Copy>(
    text: &str,
    min: N,
    max: N,
) -> Result<N, String> {
    match text.parse::<N>() {
        Ok(number) if min <= number && number <= max => Ok(number),
        _ => Err(format!("{text:?} is not a whole number from {min} to {max}")),
    }
}

/// An address to listen on.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an address: write it as 0.0.0.0:8080 or [::]:8080"))
}
