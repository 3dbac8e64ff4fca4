//! How JSON is written: what is no JSON to anybody, or to somebody; and where a token can hide.

use proptest::prelude::*;

use super::*;

fn with_arguments(arguments: &[u8]) -> Vec<u8> {
    let mut body =
        br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":"#.to_vec();
    body.extend_from_slice(arguments);
    body.extend_from_slice(b"}}");
    body
}

#[test]
fn text_is_utf8_without_a_mark() {
    let good = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let utf16 = |order: fn(u16) -> [u8; 2]| good.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let marked = |mark: &[u8], text: &[u8]| [mark, text].concat();
    for (body, why) in [
        (marked(b"\xef\xbb\xbf", good.as_bytes()), "a byte order mark"),
        (marked(b"\xff\xfe", &utf16(u16::to_le_bytes)), "UTF-16"),
        (utf16(u16::to_le_bytes), "UTF-16 without a mark"),
        (utf16(u16::to_be_bytes), "UTF-16, the other way"),
        (with_arguments(b"{\"a\":\"\xff\"}"), "a byte of no text"),
        (with_arguments(b"{\"\xc0\xafa\":1}"), "an overlong form in a key"),
        (
            with_arguments(b"{\"a\":\"\xed\xa0\x80\"}"),
            "a surrogate in UTF-8",
        ),
        (with_arguments(b"{\"a\":\"\xf4\x90\x80\x80\"}"), "beyond Unicode"),
        (with_arguments(b"{\"a\":\"\xc3\"}"), "half a character"),
        (with_arguments(b"{\"a\":1\xa0}"), "a byte between values"),
        (
            with_arguments("{\"a\":\u{a0}1}".as_bytes()),
            "a space that is none",
        ),
        (
            with_arguments("{\u{2028}\"a\":1}".as_bytes()),
            "an end of line that is none",
        ),
    ] {
        assert_eq!(read(&body), Err(BodyError::NotJson), "{why}");
    }
    assert!(read(&with_arguments("{\"ä\":\"\u{2028}\u{feff}😀\"}".as_bytes())).is_ok());
}

/// Written as arguments of a tool, which nobody looks at.
#[test]
fn only_json_is_json() {
    for (arguments, why) in [
        (&b""[..], "nothing"),
        (b"{", "cut off"),
        (b"{}}", "an end too many"),
        (b"{\"a\":1,}", "a comma at the end"),
        (b"[1,]", "in a list as well"),
        (b"{\"a\" 1}", "no colon"),
        (b"{a:1}", "a key without quotes"),
        (b"{'a':1}", "other quotes"),
        (b"{1:1}", "a number as key"),
        (b"// x\n{}", "a comment"),
        (b"/* x */{}", "a comment"),
        (b"{}# x\n", "a comment"),
        (b"NaN", "not a number"),
        (b"Infinity", "too much of a number"),
        (b"-Infinity", "too little of one"),
        (b"undefined", "JavaScript"),
        (b"True", "Python"),
        (b"01", "a zero in front"),
        (b"-01", "a zero in front"),
        (b"+1", "a sign too many"),
        (b".5", "nothing before the point"),
        (b"5.", "nothing behind it"),
        (b"0x10", "another base"),
        (b"1_000", "grouped"),
        (b"1e", "half an exponent"),
        (b"1e999", "beyond a double: infinite to some, an error to others"),
        (b"-1e999", "beyond a double"),
        (b"\"a\nb\"", "a line break in text"),
        (b"\"a\tb\"", "a tab in text"),
        (b"\"a\0b\"", "NUL in text"),
        (b"\"\\x41\"", "an escape of other languages"),
        (b"\"\\u12\"", "half an escape"),
        (b"\"\\u{41}\"", "an escape of other languages"),
        (b"\"\\ud800\"", "half a pair"),
        (b"\"\\udc00\"", "the other half"),
        (b"\"\\ud800\\u0041\"", "half a pair and a letter"),
        (b"\"\\udc00\\ud800\"", "a pair the wrong way round"),
        (b"{\"\\ud800\":1}", "half a pair in a key"),
        (b"{}\0", "NUL"),
        (b"\0{}", "NUL"),
    ] {
        let shown = String::from_utf8_lossy(arguments).into_owned();
        assert_eq!(
            read(&with_arguments(arguments)),
            Err(BodyError::NotJson),
            "{shown}: {why}"
        );
    }
    for good in [
        "-0",
        "0.1e-10",
        "1E+2",
        "1e-999",
        "123456789012345678901234567890",
        "\"\\ud83d\\ude00\\u0000\"",
        " [ ] ",
    ] {
        assert!(read(&with_arguments(good.as_bytes())).is_ok(), "{good}");
    }
}

#[test]
fn nothing_comes_after_the_end() {
    for rest in [
        "{}",
        "x",
        "\0",
        ",",
        "]",
        "\u{feff}",
        "//",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}",
        "\u{1a}",
    ] {
        let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}}\n{rest}");
        assert_eq!(read(body.as_bytes()), Err(BodyError::NotJson), "{rest:?}");
    }
}

/// As deep as serde_json goes, and far deeper than any stack.
#[test]
fn deep_values_are_refused_and_break_nothing() {
    let nested = |open: &str, close: &str, depth: usize| {
        with_arguments(format!("{}1{}", open.repeat(depth), close.repeat(depth)).as_bytes())
    };
    // The message and its parameters are two levels.
    for (depth, expected) in [
        (1, true),
        (100, true),
        (125, true),
        (126, false),
        (127, false),
        (128, false),
        (100_000, false),
    ] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert_eq!(
                read(&nested(open, close, depth)).is_ok(),
                expected,
                "{open} {depth}"
            );
        }
    }
    assert!(read("[".repeat(1_000_000).as_bytes()).is_err());
    assert!(read("{\"a\":".repeat(200_000).as_bytes()).is_err());
}

/// The signature makes a token good: wherever it stands, the server would have the token.
#[test]
fn the_token_is_found_in_every_disguise() {
    let signature = "c2lnbmF0dXJlLW9mLWEtdG9rZW4tdGhhdC1pcy1sb25nLWVub3VnaA";
    let token = format!("eyJhbGciOiJFUzI1NiJ9.e30.{signature}");
    let needle = Needle::new(&token);
    let letters = signature.bytes().map(|b| format!("\\u{b:04x}"));
    let all_escaped = letters.collect::<Vec<_>>().concat();
    let one_escaped = signature.replacen('l', "\\u006c", 1);
    for (arguments, why) in [
        (format!("\"{token}\""), "as it is"),
        (format!("\"{signature}\""), "its signature alone"),
        (format!("{{\"a\":[\"x {signature} y\"]}}"), "in other text"),
        (format!("{{\"{signature}\":1}}"), "as a key"),
        (format!("\"{all_escaped}\""), "escaped"),
        (format!("\"{one_escaped}\""), "one letter of it escaped"),
        (format!("{{\"{one_escaped}\":1}}"), "escaped in a key"),
        (
            format!("{{\"a\":{{\"b\":\"{one_escaped}\"}}}}"),
            "escaped, deep inside",
        ),
    ] {
        let body = with_arguments(arguments.as_bytes());
        assert_eq!(judge(&body, needle.as_ref()), Err(BodyError::HoldsToken), "{why}");
        assert!(
            judge(&body, None).is_ok(),
            "{why}: it is the token alone that is refused"
        );
    }
    for place in ["id", "method", "x"] {
        let fields = [("id", "1"), ("method", "ping"), ("x", "y")];
        let fields = fields.map(|(name, value)| {
            format!(
                "\"{name}\":\"{}\"",
                if name == place { &one_escaped } else { value }
            )
        });
        let body = format!("{{\"jsonrpc\":\"2.0\",{}}}", fields.join(","));
        assert_eq!(
            judge(body.as_bytes(), needle.as_ref()),
            Err(BodyError::HoldsToken),
            "in {place}"
        );
    }
    let half = with_arguments(format!("\"{}\"", &signature[1..]).as_bytes());
    assert!(judge(&half, needle.as_ref()).is_ok(), "not the whole signature");
    assert!(Needle::new("a.b.short").is_none() && Needle::new("").is_none());
    assert_eq!(format!("{:?}", needle.unwrap()), "Needle(…)");
}

proptest! {
    #[test]
    fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = judge(&body, None);
    }

    /// A byte that is changed, lost or added makes the message another one at most in what it says.
    #[test]
    fn broken_messages_are_answered(at: prop::sample::Index, byte: u8, how in 0..3) {
        let mut body = call(r#"{"name":"read\u005fnote","arguments":{"a":[1,-2.5e3,"x\n"],"b":{"c":null}}}"#);
        let at = at.index(body.len());
        match how {
            0 => body[at] = byte,
            1 => { body.remove(at); }
            _ => body.insert(at, byte),
        }
        if let Ok(message) = judge(&body, None) {
            let plain: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(message.method(), plain["method"].as_str());
            if message.method() == Some("tools/call") {
                prop_assert_eq!(message.subjects[0].1.as_str(), plain["params"]["name"].as_str().unwrap());
            }
        }
    }
}
