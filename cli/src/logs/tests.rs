use tracing::Level;

use super::*;

const OWN: &str = "mcp_auth_program::part";
const LEAKY: &str = "leaky::client";

const TARGETS: LogTargets = LogTargets {
    example: "mcp_auth_program::part=debug",
    quieter: &[(LEAKY, LevelFilter::OFF), ("chatty::watcher", LevelFilter::ERROR)],
};

/// Checks a table of filter, target and level against whether such a line is written.
#[track_caller]
fn check(expected: bool, table: &[(&str, &str, Level)]) {
    for (filter, target, level) in table {
        let enabled = TARGETS.filter(filter).unwrap().enables(target, *level);
        assert_eq!(enabled, expected, "{filter} for {target} at {level}");
    }
}

#[test]
fn what_is_written() {
    let table = [
        ("info", OWN, Level::INFO),
        ("INFO", OWN, Level::INFO),
        ("info", "hyper::client", Level::INFO),
        // A level without a name is for all of our own code.
        ("trace", OWN, Level::TRACE),
        ("trace", "mcp_auth_crds", Level::TRACE),
        ("trace", "hyper::proto", Level::INFO),
        // A library that is named gets what it is given, and leaves ours where it was.
        ("debug,hyper=trace", "hyper::proto::h1", Level::TRACE),
        ("info,hyper=trace", "hyper::proto", Level::TRACE),
        ("hyper=trace", OWN, Level::INFO),
        ("trace,leaky=trace", "leaky::api", Level::TRACE),
        ("info", "chatty::watcher", Level::ERROR),
        // A quieter module is opened by its own name only, in any order.
        ("leaky::client=trace", LEAKY, Level::TRACE),
        ("leaky::client=trace,leaky=debug", LEAKY, Level::TRACE),
        ("leaky=debug,leaky::client=trace", LEAKY, Level::TRACE),
        ("mcp_auth_program::part=debug", OWN, Level::DEBUG),
        ("warn", "hyper", Level::WARN),
    ];
    check(true, &table);
}

#[test]
fn what_is_not_written() {
    let table = [
        ("info", OWN, Level::DEBUG),
        // A level without a name is not for libraries.
        ("trace", "hyper::proto::h1", Level::DEBUG),
        ("trace", "hyper::proto", Level::TRACE),
        ("trace", "reqwest::async_impl", Level::TRACE),
        ("trace", "h2", Level::DEBUG),
        ("debug,hyper=trace", "reqwest::connect", Level::DEBUG),
        ("hyper=trace", OWN, Level::DEBUG),
        // Neither is a directive for its crate for a quieter module, nor for what is in it.
        ("trace", LEAKY, Level::WARN),
        ("trace,leaky=trace", LEAKY, Level::WARN),
        ("trace,lea=trace", LEAKY, Level::WARN),
        ("info", "leaky::client::builder", Level::ERROR),
        ("debug", "chatty::watcher", Level::WARN),
        // Quiet means quiet, for libraries too.
        ("warn", OWN, Level::INFO),
        ("warn", "mcp_auth_program", Level::INFO),
        ("warn", "hyper", Level::INFO),
        ("off", OWN, Level::ERROR),
        ("off", LEAKY, Level::ERROR),
        ("off", "chatty::watcher", Level::ERROR),
        ("trace,leaky=off", LEAKY, Level::ERROR),
        (
            "mcp_auth_program::part=debug",
            "mcp_auth_program::other",
            Level::DEBUG,
        ),
    ];
    check(false, &table);
}

#[test]
fn unreadable_filters_are_refused_with_what_to_write() {
    for filter in [
        "",
        "inof",
        "loud",
        "loud!",
        "=info",
        "=trace",
        "hyper=",
        "hyper=loud",
        "info,",
        "info,,",
        "[reconcile]=trace",
        "hyper[{x}]=trace",
        "a b=info",
    ] {
        assert_eq!(
            TARGETS.filter(filter).unwrap_err(),
            format!(
                "{filter:?} is not a log filter: write a level (error, warn, info, debug, trace, off) or directives \
                 like info,mcp_auth_program::part=debug,hyper=warn"
            )
        );
    }
}

#[test]
fn formats_are_json_and_text() {
    assert_eq!("json".parse(), Ok(LogFormat::Json));
    assert_eq!("text".parse(), Ok(LogFormat::Text));
    assert_eq!(
        "xml".parse::<LogFormat>(),
        Err("\"xml\" is not a log format: write json or text".to_owned())
    );
}
