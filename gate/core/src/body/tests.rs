use serde_json::json;

use super::*;

mod keys;
mod values;

/// What a body is taken for: its method and what it is about, or why it is refused.
fn read(body: &[u8]) -> Result<(Option<String>, Vec<String>), BodyError> {
    let message = judge(body, None)?;
    let method = message.method().map(str::to_owned);
    let subjects = message.subjects.into_iter();
    Ok((
        method,
        subjects.map(|(kind, name)| format!("{kind:?} {name}")).collect(),
    ))
}

fn call(params: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#).into_bytes()
}

fn refused(table: &[(&str, &str)], with: BodyError) {
    for (body, why) in table {
        assert_eq!(read(body.as_bytes()), Err(with), "{body}: {why}");
    }
}

#[test]
fn names_are_read_as_servers_read_them() {
    for (params, name) in [
        (r#"{"name":"write_note"}"#, "Tool write_note"),
        (r#"{"name":"write\u005fnote"}"#, "Tool write_note"),
        (r#"{"\u006e\u0061\u006d\u0065":"write_note"}"#, "Tool write_note"),
        (r#"{"name":"\ud83d\ude00"}"#, "Tool 😀"),
        (r#"{"name":"a\"\\\/\b\f\n\r\t"}"#, "Tool a\"\\/\u{8}\u{c}\n\r\t"),
        (
            r#"{"arguments":{"name":"read_note"},"name":"write_note"}"#,
            "Tool write_note",
        ),
        (
            r#"{"name":"write_note","arguments":{"params":{"name":"read_note"}}}"#,
            "Tool write_note",
        ),
        (r#"{"uri":"x","name":""}"#, "Tool "),
    ] {
        assert_eq!(read(&call(params)).unwrap().1, [name], "{params}");
    }
    let large = format!(
        r#"{{"arguments":{{"text":"{}"}},"name":"write_note"}}"#,
        "x".repeat(9000)
    );
    assert_eq!(
        read(&call(&large)).unwrap().1,
        ["Tool write_note"],
        "arguments of 9 KB before the name"
    );
    let first = br#"{"params":{"name":"write_note"},"method":"tools/call","id":1,"jsonrpc":"2.0"}"#;
    assert_eq!(
        read(first).unwrap().1,
        ["Tool write_note"],
        "parameters before the method"
    );
}

/// Every method with subjects: what its parameters say, and what they must say.
#[test]
fn calls_say_what_they_are_about() {
    let none = Ok(vec![]);
    let no_name = Err(BodyError::NoName);
    let one = |text: &str| Ok(vec![text.to_owned()]);
    let listen = |value: Value| json!({"notifications": {"resourceSubscriptions": value}});
    for (method, params, expected) in [
        ("tools/call", json!({"name": "t"}), one("Tool t")),
        ("tools/call", json!({}), no_name.clone()),
        ("tools/call", json!({"name": 1}), no_name.clone()),
        ("tools/call", json!({"name": null}), no_name.clone()),
        ("tools/call", json!({"name": ["t"]}), no_name.clone()),
        ("tools/call", json!({"name": {"name": "t"}}), no_name.clone()),
        ("tools/call", json!({"uri": "t"}), no_name.clone()),
        ("tools/call", json!({"name": "t\u{0}"}), no_name.clone()),
        ("tools/call", json!({"name": "t\u{0}x"}), no_name.clone()),
        ("prompts/get", json!({"name": "p"}), one("Prompt p")),
        ("prompts/get", json!({}), no_name.clone()),
        ("resources/read", json!({"uri": "u"}), one("Resource u")),
        ("resources/read", json!({"name": "u"}), no_name.clone()),
        ("resources/subscribe", json!({"uri": "u"}), one("Resource u")),
        ("resources/unsubscribe", json!({"uri": "u"}), one("Resource u")),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "p"}}),
            one("Prompt p"),
        ),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": "u"}}),
            one("Resource u"),
        ),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "uri": "u"}}),
            no_name.clone(),
        ),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/tool", "name": "t"}}),
            no_name.clone(),
        ),
        (
            "completion/complete",
            json!({"ref": [{"type": "ref/prompt", "name": "p"}]}),
            no_name.clone(),
        ),
        (
            "completion/complete",
            json!({"ref": "ref/prompt"}),
            no_name.clone(),
        ),
        ("completion/complete", json!({}), no_name.clone()),
        ("subscriptions/listen", json!({}), none.clone()),
        ("subscriptions/listen", json!({"notifications": {}}), none.clone()),
        (
            "subscriptions/listen",
            listen(json!(["u", "v"])),
            Ok(vec!["Resource u".into(), "Resource v".into()]),
        ),
        ("subscriptions/listen", listen(json!([])), none.clone()),
        ("subscriptions/listen", listen(json!(["u", 1])), no_name.clone()),
        ("subscriptions/listen", listen(json!([["u"]])), no_name.clone()),
        ("subscriptions/listen", listen(json!("u")), no_name.clone()),
        (
            "subscriptions/listen",
            listen(json!({"u": true})),
            no_name.clone(),
        ),
        (
            "subscriptions/listen",
            json!({"notifications": [{"resourceSubscriptions": ["u"]}]}),
            no_name.clone(),
        ),
        (
            "subscriptions/listen",
            json!({"notifications": "u"}),
            no_name.clone(),
        ),
        ("tools/list", json!({"name": "t"}), none.clone()),
        ("Tools/call", json!({"name": "t"}), none.clone()),
        ("tools/call ", json!({"name": "t"}), none),
    ] {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let found = read(body.to_string().as_bytes());
        let expected = expected.map(|subjects| (Some(method.to_owned()), subjects));
        assert_eq!(found, expected, "{body}");
    }
    let missing = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    assert_eq!(read(missing), Err(BodyError::NoName), "no parameters");
}

#[test]
fn requests_notifications_and_answers_are_told_apart() {
    use MessageKind::{Notification, Request, Response};
    for (body, kind) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            Request("ping".into()),
        ),
        (
            r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#,
            Request("ping".into()),
        ),
        (
            r#"{"jsonrpc":"2.0","id":-1,"method":"ping","params":{}}"#,
            Request("ping".into()),
        ),
        (
            r#"{"jsonrpc":"2.0","id":18446744073709551615,"method":"ping"}"#,
            Request("ping".into()),
        ),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            Notification("notifications/initialized".into()),
        ),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Response),
        (r#"{"jsonrpc":"2.0","id":1,"result":null}"#, Response),
        (
            r#"{"jsonrpc":"2.0","id":"a","error":{"code":1,"message":""}}"#,
            Response,
        ),
        (
            " \t\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}} \t\r\n",
            Response,
        ),
    ] {
        assert_eq!(judge(body.as_bytes(), None).unwrap().kind, kind, "{body}");
    }
}

#[test]
fn what_is_no_message_is_refused() {
    refused(
        &[
            ("{}", "nothing"),
            ("1", "a number"),
            ("null", "null"),
            ("\"ping\"", "text"),
            (r#"{"id":1,"method":"ping"}"#, "no jsonrpc"),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, "another jsonrpc"),
            (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, "jsonrpc is no text"),
            (r#"{"jsonrpc":["2.0"],"id":1,"method":"ping"}"#, "nor a list"),
            (r#"{"jsonrpc":"2.0","id":1}"#, "neither method nor result"),
            (r#"{"jsonrpc":"2.0","id":1,"method":1}"#, "the method is no text"),
            (r#"{"jsonrpc":"2.0","id":1,"method":null}"#, "nor null"),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":["tools/call"]}"#,
                "nor a list",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":{"a":"tools/call"}}"#,
                "nor an object",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping\u0000"}"#,
                "text ends at NUL for C",
            ),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, "the id is null"),
            (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, "a truth"),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, "a fraction"),
            (
                r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#,
                "written as a fraction",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1e3,"method":"ping"}"#,
                "with an exponent",
            ),
            (
                r#"{"jsonrpc":"2.0","id":18446744073709551616,"method":"ping"}"#,
                "beyond 64 bits",
            ),
            (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, "a list"),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, "an object"),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
                "parameters by position",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[{"name":"x"}]}"#,
                "in a list",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#,
                "null",
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}"#, "text"),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
                "request and answer",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping","error":null}"#,
                "request and answer",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":null,"result":{}}"#,
                "answer and request",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
                "good and bad",
            ),
            (r#"{"jsonrpc":"2.0","result":{}}"#, "an answer to nothing"),
            (
                r#"{"jsonrpc":"2.0","id":null,"error":{}}"#,
                "an answer to nothing",
            ),
        ],
        BodyError::NotAMessage,
    );
}

#[test]
fn batches_are_refused() {
    refused(
        &[
            ("[]", "an empty one"),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, "one message"),
            (
                r#" [{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]"#,
                "two",
            ),
        ],
        BodyError::Batch,
    );
}
