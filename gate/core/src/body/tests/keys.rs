//! Keys that readers understand in different ways.

use super::*;

/// Wherever a key stands, and in whatever order.
#[test]
fn a_key_twice_is_refused_at_every_level() {
    refused(
        &[
            (
                r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"}"#,
                "jsonrpc",
            ),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, "id"),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
                "method",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping"}"#,
                "method, the other way",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":{"name":"x"}}"#,
                "params",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","x":1,"x":1}"#,
                "a key that nobody knows",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","meth\u006fd":"x"}"#,
                "one of them escaped",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","":1,"":2}"#,
                "the empty key",
            ),
        ],
        BodyError::AmbiguousKey,
    );
    for params in [
        r#"{"name":"write_note","name":"read_note"}"#,
        r#"{"name":"read_note","name":"write_note"}"#,
        r#"{"name":"read_note","arguments":{},"name":"read_note"}"#,
        r#"{"name":"read_note","\u006eame":"write_note"}"#,
        r#"{"name":"read_note","arguments":{"a":1},"arguments":{"a":2}}"#,
        r#"{"name":"read_note","arguments":{"a":1,"a":2}}"#,
        r#"{"name":"read_note","arguments":{"a":[{"b":[{"c":1,"c":1}]}]}}"#,
        r#"{"name":"read_note","_meta":{"a":1,"a":1}}"#,
        r#"{"name":"read_note","arguments":{"\ud83d\ude00":1,"😀":1}}"#,
    ] {
        assert_eq!(read(&call(params)), Err(BodyError::AmbiguousKey), "{params}");
    }
}

/// More keys than are compared one by one, with the one that is there twice at every distance.
#[test]
fn a_key_twice_is_found_among_many() {
    for count in [1usize, 15, 16, 17, 18, 40] {
        for again in [0, count / 2, count - 1] {
            let mut keys: Vec<String> = (0..count).map(|n| format!("\"k{n}\":0")).collect();
            let once = format!("{{\"name\":\"x\",\"arguments\":{{{}}}}}", keys.join(","));
            assert!(read(&call(&once)).is_ok(), "{count}");
            keys.push(format!("\"k{again}\":0"));
            let twice = format!("{{\"name\":\"x\",\"arguments\":{{{}}}}}", keys.join(","));
            assert_eq!(
                read(&call(&twice)),
                Err(BodyError::AmbiguousKey),
                "{again} of {count}"
            );
        }
    }
}

/// Keys that some reader takes for a known one, where that matters.
#[test]
fn disguised_keys_are_refused() {
    refused(
        &[
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
                "Go ignores case",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"METHOD":"tools/call"}"#,
                "alone as well",
            ),
            (
                r#"{"jsonrpc":"2.0","ID":1,"method":"ping"}"#,
                "a notification, or not",
            ),
            (r#"{"JsonRpc":"2.0","id":1,"method":"ping"}"#, "the version"),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","Params":{}}"#,
                "parameters",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","param\u017f":{}}"#,
                "long s folds to s",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","paramſ":{}}"#,
                "long s as it is",
            ),
            (r#"{"jsonrpc":"2.0","id":1,"Result":{}}"#, "an answer, or not"),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","eRRor":{}}"#,
                "an answer, or not",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","__proto__":{}}"#,
                "some readers obey it",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","\u005f_proto__":{}}"#,
                "escaped",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","method\u0000":"x"}"#,
                "text ends at NUL for C",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","method\u0000x":"x"}"#,
                "text ends at NUL for C",
            ),
        ],
        BodyError::AmbiguousKey,
    );
    for params in [
        r#"{"name":"read_note","Name":"write_note"}"#,
        r#"{"Name":"write_note","name":"read_note"}"#,
        r#"{"name":"read_note","Arguments":{}}"#,
        r#"{"name":"read_note","argument\u017f":{}}"#,
        r#"{"name":"read_note","URI":"x"}"#,
        r#"{"name":"read_note","_META":{}}"#,
        r#"{"name":"read_note","arguments":{"__proto__":{"a":1}}}"#,
        r#"{"name":"read_note","__proto__":{"name":"write_note"}}"#,
        r#"{"name":"read_note","name\u0000":"write_note"}"#,
        r#"{"name":"read_note","ref":{"Type":"ref/prompt"}}"#,
        r#"{"name":"read_note","notifications":{"resource\u017fubscriptions":[]}}"#,
    ] {
        assert_eq!(read(&call(params)), Err(BodyError::AmbiguousKey), "{params}");
    }
    // No known key has a k, but the sign for kelvin would fold to one.
    assert!(strict::folds_to("to\u{212a}en", "token"));
    // What a tool is given is its own affair.
    let own =
        r#"{"name":"read_note","arguments":{"Name":1,"name":2,"NAME":3,"method":"x","constructor":{}}}"#;
    assert!(read(&call(own)).is_ok());
}
