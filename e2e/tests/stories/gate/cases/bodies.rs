//! What a body is, how it is spelled, and that no spelling lets a reader write.

use crate::gate::case::{
    Case, Challenge, Difference, Expect, NO_NAME, NOT_A_MESSAGE, NOT_JSON, REFUSED, call, passes,
};

const MEBI: usize = 1 << 20;
const WRITING: &str = "notes:write mcp:use";

pub(crate) fn cases() -> Vec<Case> {
    [calls(), keys(), messages(), text(), types(), sizes()]
        .into_iter()
        .flatten()
        .collect()
}

/// The token may read and not write.
fn calls() -> Vec<Case> {
    let unmatched = |case: Case| case.answers(403, Challenge::Absent, REFUSED);
    vec![
        Case::new("a call that may be made").call("read_note"),
        Case::new("a call that may not be made").call("write_note").needs(WRITING),
        Case::new("a call that may not be made, again").call("write_note").needs(WRITING),
        Case::new("one of two overlapping rules is met").scopes("notes:write").call("write_note").needs(WRITING),
        Case::new("the other of two overlapping rules is met").scopes("mcp:use").call("write_note").needs(WRITING),
        Case::new("both overlapping rules are met").scopes("mcp:use notes:write").call("write_note"),
        Case::new("one rule of two matches").scopes("notes:write").call("write_all"),
        unmatched(Case::new("a tool that no rule knows").call("drop_database")),
        unmatched(Case::new("a tool that no rule knows, with every scope").scopes("notes:admin").call("drop_database")),
        unmatched(Case::new("a tool of that name in other case").call("READ_ALL")),
        Case::new("a tool of that name with a space").call("write_note ").needs("notes:write"),
        unmatched(Case::new("a prompt by a tool's name").body(r#"{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"read_note"}}"#)),
        Case::new("a name with an escape").call_with(r#"{"name":"write\u005fnote"}"#).needs(WRITING),
        Case::new("a key with an escape").call_with(r#"{"n\u0061me":"write_note"}"#).needs(WRITING),
        Case::new("parameters before the method").body(r#"{"params":{"name":"write_note"},"method":"tools/call","id":7,"jsonrpc":"2.0"}"#).needs(WRITING),
        Case::new("9 KB of arguments before the name").call_with(&format!(r#"{{"arguments":{{"a":"{}"}},"name":"write_note"}}"#, "x".repeat(9000))).needs(WRITING),
        Case::new("300 KB of arguments before the name").call_with(&format!(r#"{{"arguments":{{"a":"{}"}},"name":"write_note"}}"#, "x".repeat(300_000))).needs(WRITING),
        Case::new("arguments that look like a call").call_with(r#"{"name":"write_note","arguments":{"method":"ping","name":"read_note","params":{"name":"read_note"}}}"#).needs(WRITING),
        Case::new("a call as a notification").body(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"write_note"}}"#).needs(WRITING),
        Case::new("a method that nobody knows").scopes("notes:read").body(r#"{"jsonrpc":"2.0","id":7,"method":"x/y"}"#).needs("mcp:use"),
        Case::new("a method that nobody knows, with the scope").body(r#"{"jsonrpc":"2.0","id":7,"method":"x/y"}"#),
        Case::new("a method in other case").body(r#"{"jsonrpc":"2.0","id":7,"method":"TOOLS/CALL","params":{"name":"write_note"}}"#),
        Case::new("an answer to the server").body(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#),
        Case::new("an answer to the server, without the scope").scopes("notes:read").body(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#).needs("mcp:use"),
        Case::new("a resource that may be read").scopes("notes:read").body(r#"{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"uri":"note:///1"}}"#),
        unmatched(Case::new("one resource of two that may be read").body(r#"{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["note:///1","file:///etc/passwd"]}}}"#)),
        Case::new("a completion for a prompt").scopes("mcp:use").body(r#"{"jsonrpc":"2.0","id":7,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"summary"}}}"#).needs("notes:read"),
    ]
}

fn keys() -> Vec<Case> {
    let twice = |case: Case| case.bad(NOT_A_MESSAGE);
    vec![
        twice(Case::new("the name twice, the forbidden one first").call_with(r#"{"name":"write_note","name":"read_note"}"#)),
        twice(Case::new("the name twice, the forbidden one last").call_with(r#"{"name":"read_note","name":"write_note"}"#)),
        twice(Case::new("the name twice, once escaped").call_with(r#"{"name":"read_note","n\u0061me":"write_note"}"#)),
        twice(Case::new("the method twice").body(r#"{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/call","params":{"name":"write_note"}}"#)),
        twice(Case::new("the method twice, the other way").body(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","method":"ping","params":{"name":"write_note"}}"#)),
        twice(Case::new("the parameters twice").body(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read_note"},"params":{"name":"write_note"}}"#)),
        twice(Case::new("the id twice").body(r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#)),
        twice(Case::new("an argument twice").call_with(r#"{"name":"read_note","arguments":{"a":1,"a":2}}"#)),
        twice(Case::new("an argument twice, deep inside").call_with(r#"{"name":"read_note","arguments":{"a":[{"b":1,"b":2}]}}"#)),
        twice(Case::new("the name in other case besides").call_with(r#"{"name":"read_note","Name":"write_note"}"#)),
        twice(Case::new("the name in other case alone").call_with(r#"{"NAME":"write_note"}"#)),
        twice(Case::new("a long s in the parameters").body(r#"{"jsonrpc":"2.0","id":7,"method":"ping","paramſ":{"name":"write_note"}}"#)),
        twice(Case::new("a prototype").call_with(r#"{"name":"read_note","__proto__":{"name":"write_note"}}"#)),
        twice(Case::new("a key that ends early").call_with(r#"{"name":"read_note","name\u0000":"write_note"}"#)),
    ]
}

fn messages() -> Vec<Case> {
    let no_message = |case: Case| case.bad(NOT_A_MESSAGE);
    vec![
        no_message(Case::new("a batch").body(format!("[{}]", call("write_note")))),
        no_message(Case::new("a batch of what may be done").body(format!("[{}]", call("read_note")))),
        no_message(Case::new("an empty batch").body("[]")),
        no_message(Case::new("no jsonrpc").body(r#"{"id":7,"method":"ping"}"#)),
        no_message(Case::new("another jsonrpc").body(r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#)),
        no_message(
            Case::new("the method is no text").body(r#"{"jsonrpc":"2.0","id":7,"method":["tools/call"]}"#),
        ),
        no_message(Case::new("the id is null").body(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#)),
        no_message(
            Case::new("parameters in a list")
                .body(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[{"name":"write_note"}]}"#),
        ),
        no_message(Case::new("a call and an answer in one").body(
            r#"{"jsonrpc":"2.0","id":7,"result":{},"method":"tools/call","params":{"name":"write_note"}}"#,
        )),
        no_message(Case::new("a message in text").body(r#""{\"jsonrpc\":\"2.0\"}""#)),
        no_message(Case::new("an empty body").body("")),
        Case::new("a call of nothing").call_with("{}").bad(NO_NAME),
        Case::new("a call of a number")
            .call_with(r#"{"name":1}"#)
            .bad(NO_NAME),
        Case::new("a call of a list")
            .call_with(r#"{"name":["write_note"]}"#)
            .bad(NO_NAME),
        Case::new("a name that ends early")
            .call_with(r#"{"name":"write_note\u0000"}"#)
            .bad(NO_NAME),
        Case::new("a body with spaces around it").body(format!(" \r\n\t{}\n ", call("read_note"))),
        Case::new("an id that is text").body(r#"{"jsonrpc":"2.0","id":"ä","method":"ping"}"#),
    ]
}

fn text() -> Vec<Case> {
    let no_json = |case: Case| case.bad(NOT_JSON);
    let arguments = |bytes: &[u8]| {
        [
            br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read_note","arguments":"#
                .as_slice(),
            bytes,
            b"}}",
        ]
        .concat()
    };
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    let utf16: Vec<u8> = call("write_note")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    vec![
        no_json(Case::new("half a body").body(&call("read_note").as_bytes()[..20])),
        no_json(Case::new("two messages in one body").body(call("read_note") + &call("write_note"))),
        no_json(Case::new("a word behind the message").body(call("read_note") + "x")),
        no_json(Case::new("NUL behind the message").body(call("read_note") + "\0")),
        no_json(Case::new("a comment").body(format!("/* */{}", call("read_note")))),
        no_json(Case::new("a byte order mark").body(format!("\u{feff}{}", call("read_note")))),
        no_json(Case::new("UTF-16").body(utf16)),
        no_json(Case::new("a byte that is no text").body(arguments(b"\"\xff\""))),
        no_json(Case::new("a surrogate in UTF-8").body(arguments(b"\"\xed\xa0\x80\""))),
        no_json(Case::new("half a pair of surrogates").body(arguments(b"\"\\ud800\""))),
        no_json(Case::new("NaN").body(arguments(b"NaN"))),
        no_json(Case::new("a number that is too large").body(arguments(b"1e999"))),
        no_json(Case::new("a zero in front").body(arguments(b"01"))),
        no_json(Case::new("200 levels").body(arguments(&deep(200)))),
        no_json(Case::new("100 000 levels").body(arguments(&deep(100_000)))),
        Case::new("100 levels").body(arguments(&deep(100))),
        Case::new("text of all kinds").body(arguments(
            "{\"ä\":\"\u{2028}😀\\ud83d\\ude00\\u0000\"}".as_bytes(),
        )),
    ]
}

fn types() -> Vec<Case> {
    let typed = |why, value: &str| {
        Case::new(why)
            .call("write_note")
            .set("content-type", value)
            .bad(NOT_A_MESSAGE)
    };
    vec![
        typed("text/plain", "text/plain"),
        typed("a form", "application/x-www-form-urlencoded"),
        typed("a name that only begins right", "application/json-rpc"),
        typed("two types in one", "application/json, text/plain"),
        typed("JSON in UTF-16", "application/json; charset=utf-16"),
        Case::new("no type").without("content-type").bad(NOT_A_MESSAGE),
        Case::new("two headers of type")
            .header("content-type", "text/plain")
            .bad(NOT_A_MESSAGE),
        Case::new("compressed")
            .header("content-encoding", "gzip")
            .bad(NOT_A_MESSAGE),
        Case::new("compressed in another way")
            .header("content-encoding", "br")
            .bad(NOT_A_MESSAGE),
        Case::new("said to be compressed, twice")
            .header("content-encoding", "identity, gzip")
            .bad(NOT_A_MESSAGE),
        Case::new("not compressed, in so many words").header("content-encoding", "identity"),
        Case::new("JSON in UTF-8").set("content-type", "Application/JSON; charset=UTF-8"),
        Case::new("only JSON is accepted in return")
            .call("write_note")
            .set("accept", "application/json")
            .needs(WRITING),
        Case::new("anything is accepted in return")
            .call("write_note")
            .set("accept", "*/*")
            .needs(WRITING),
        Case::new("GET with a body").method("GET").bad(NOT_A_MESSAGE),
        Case::new("DELETE with a body")
            .method("DELETE")
            .bad(NOT_A_MESSAGE),
    ]
}

/// A call with arguments that make the body this long.
fn sized(length: usize) -> Vec<u8> {
    let call = |text: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"read_note","arguments":{{"a":"{text}"}}}}}}"#
        )
    };
    call(&"x".repeat(length - call("").len())).into_bytes()
}

fn sizes() -> Vec<Case> {
    let too_large = Expect::Answers {
        status: 413,
        challenge: Challenge::Absent,
        code: Some(NOT_A_MESSAGE),
    };
    let large = |why, length| {
        Case::new(why)
            .body(sized(length))
            .expect(too_large.clone())
            .envoy(Difference::TooLarge, Expect::Front(&[413]))
            .traefik(Difference::TooLarge, Expect::Front(&[401]))
    };
    vec![
        Case::new("exactly as large as may be")
            .body(sized(MEBI))
            .expect(passes()),
        large("one byte too large", MEBI + 1),
        large("2 MiB", 2 * MEBI),
        large("2 MiB, by a page", 2 * MEBI).header("origin", crate::gate::case::OWN_PAGE),
    ]
}
