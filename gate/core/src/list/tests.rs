use serde_json::json;

use super::*;

/// Tools: `read_*` and `tool "q"` need `read`, `write_*` needs `write`. Prompts and resources of `open` need `read`.
fn policy() -> Policy {
    let document = json!({
        "version": 1,
        "server": {"namespace": "team", "name": "notes"},
        "resource": "https://notes.example.com/mcp",
        "authorizationServer": {
            "issuer": "https://as.example.com",
            "jwksUri": "https://as.example.com/keys",
            "tokenEndpoint": "https://as.example.com/token",
            "tokenTypes": [{"header": "at+jwt"}],
        },
        "scopes": [{"name": "read", "challenge": true}, {"name": "write"}],
        "rules": [
            {"kind": "Tool", "match": "read_*", "scopes": ["read"]},
            {"kind": "Tool", "match": "tool \"q\"", "scopes": ["read"]},
            {"kind": "Tool", "match": "write_*", "scopes": ["write"]},
            {"kind": "Prompt", "match": "open", "scopes": ["read"]},
            {"kind": "Resource", "match": "note://open/*", "scopes": ["read"]},
        ],
    });
    Policy::parse(document.to_string().as_bytes()).unwrap()
}

fn filtered(message: &str, listing: Listing) -> Result<Option<String>, Unreadable> {
    let held = BTreeSet::from(["read".to_owned()]);
    let out = filter(message.as_bytes(), listing, &policy(), &held)?;
    Ok(out.map(|bytes| String::from_utf8(bytes).unwrap()))
}

const TOOLS: Listing = Listing::Of(Kind::Tool);

#[test]
fn lists_that_depend_on_the_token_are_not_kept() {
    for (result, expected, why) in [
        (
            r#"{"tools":[{"name":"read_a"}],"ttlMs":60000,"cacheScope":"public"}"#,
            Some(r#"{"tools":[{"name":"read_a"}],"ttlMs":0,"cacheScope":"private"}"#),
            "nothing is left out for this caller, but for others",
        ),
        (
            r#"{"ttlMs":6e4,"tools":[{"name":"write_a"}],"cacheScope":"private"}"#,
            Some(r#"{"ttlMs":0,"tools":[],"cacheScope":"private"}"#),
            "their own scopes may grow",
        ),
        (
            r#"{"tools":[{"name":"read_a"}],"ttlMs":0,"cacheScope":"private"}"#,
            None,
            "as it is to be",
        ),
        (
            r#"{"contents":[],"ttlMs":60000,"cacheScope":"public"}"#,
            None,
            "no list",
        ),
    ] {
        let message = |result: &str| format!(r#"{{"id":1,"result":{result}}}"#);
        let out = filtered(&message(result), TOOLS).unwrap();
        assert_eq!(out, expected.map(message), "{why}");
    }
}

#[test]
fn what_may_not_be_called_is_left_out_and_all_else_keeps_its_bytes() {
    for (message, expected, why) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read_note"},{"name":"write_note"}]}}"#,
            Some(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read_note"}]}}"#),
            "one may not be called",
        ),
        (
            r#"{ "id" : 1, "result":{"tools":[{"name":"read_note"}]} }"#,
            None,
            "nothing is to be left out",
        ),
        (
            r#"{"z":1.0,"result":{"nextCursor":"é","tools":[{"x":1E2, "name":"read_a","y":12345678901234567890123},{"name":"write_a"}],"_meta":{"b":1,"a":2}},"a":2}"#,
            Some(
                r#"{"z":1.0,"result":{"nextCursor":"é","tools":[{"x":1E2, "name":"read_a","y":12345678901234567890123}],"_meta":{"b":1,"a":2}},"a":2}"#,
            ),
            "numbers, escapes, spaces within entries and the order of keys stay",
        ),
        (
            r#"{"result":{"tools":[{"name":"write_a"},{"name":"write_b"}]}}"#,
            Some(r#"{"result":{"tools":[]}}"#),
            "nothing may be called",
        ),
        (
            r#"{"result":{"tools":[{"name":"unmatched"},{"title":"no name"},{"name":7},"text",null]}}"#,
            Some(r#"{"result":{"tools":[]}}"#),
            "no rule, and no name: nobody could call it",
        ),
        (
            r#"{"result":{"tools":[{"name":"write_\u0061"},{"n\u0061me":"read_a"},{"name":"tool \"q\""}]}}"#,
            Some(r#"{"result":{"tools":[{"n\u0061me":"read_a"},{"name":"tool \"q\""}]}}"#),
            "names are compared as they are read",
        ),
        (
            r#"{"result":{"tools":[{"name":"read_a","name":"write_a"},{"name":"write_a","name":"read_a"}]}}"#,
            Some(r#"{"result":{"tools":[]}}"#),
            "whichever name a reader takes",
        ),
        (
            r#"{"result":{"tools":[]},"result":{"tools":[{"name":"write_a"}]}}"#,
            Some(r#"{"result":{"tools":[]},"result":{"tools":[]}}"#),
            "whichever result a reader takes",
        ),
        (
            r#"{"result":{"prompts":[{"name":"shut"}],"resources":[{"uri":"note://shut/1"}]}}"#,
            None,
            "other lists are no answer to this request",
        ),
        (
            r#"{"method":"sampling/createMessage","params":{"tools":[{"name":"write_a"}]}}"#,
            None,
            "a request of the server",
        ),
        (
            r#"{"id":1,"error":{"code":1,"message":"tools"}}"#,
            None,
            "an error",
        ),
        (r#"{"result":{"tools":{"name":"write_a"}}}"#, None, "no list"),
        (
            r#"{"result":[{"tools":[{"name":"write_a"}]}]}"#,
            None,
            "no result",
        ),
        (
            r#"[{"id":1,"result":{}},{"id":2,"result":{"tools":[{"name":"write_a"}]}}]"#,
            Some(r#"[{"id":1,"result":{}},{"id":2,"result":{"tools":[]}}]"#),
            "a batch, as servers of 2025-03-26 may answer",
        ),
    ] {
        assert_eq!(filtered(message, TOOLS).unwrap().as_deref(), expected, "{why}");
    }
}

#[test]
fn a_stream_that_is_taken_up_again_may_list_anything() {
    let message = r#"{"result":{"tools":[{"name":"write_a"}],"prompts":[{"name":"shut"},{"name":"open"}],"resources":[{"uri":"note://shut/1","name":"open"},{"uri":"note://open/1"}]}}"#;
    let expected =
        r#"{"result":{"tools":[],"prompts":[{"name":"open"}],"resources":[{"uri":"note://open/1"}]}}"#;
    assert_eq!(
        filtered(message, Listing::Any).unwrap().as_deref(),
        Some(expected)
    );
}

#[test]
fn what_is_no_json_is_told_apart_from_what_lists_nothing() {
    for message in ["", "x", "{", r#"{"result":{"tools":[]}} x"#, "{'a':1}"] {
        assert_eq!(filtered(message, TOOLS), Err(Unreadable), "{message}");
    }
    let not_utf8 = filter(b"\"\xff\"", TOOLS, &policy(), &BTreeSet::new());
    assert_eq!(not_utf8, Err(Unreadable));
}

#[test]
fn what_is_nested_deeply_takes_no_more_stack() {
    const DEPTH: usize = 100_000;
    let nested = |inner: &str| format!("{}{inner}{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let messages = [
        nested(""),
        nested(r#"{"result":{"tools":[{"name":"write_a"}]}}"#),
        format!(r#"{{"result":{{"tools":{}}}}}"#, nested("")),
        format!(r#"{{"result":{{"tools":[{{"name":{}}}]}}}}"#, nested("")),
        format!(
            r#"{{"result":{}}}"#,
            r#"{"result":"#.repeat(DEPTH) + "1" + &"}".repeat(DEPTH)
        ),
    ];
    let small = std::thread::Builder::new().stack_size(128 << 10);
    let done = small.spawn(move || messages.map(|message| filtered(&message, Listing::Any).is_ok()));
    assert_eq!(done.unwrap().join().unwrap(), [true; 5]);
}
