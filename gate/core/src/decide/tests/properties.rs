//! Whatever comes, there is an answer; and nobody does what they may not.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const SCOPES: [&str; 4] = ["notes:write", "mcp:use", "notes:read", "notes:admin"];

/// What a call needs, read from the rules of the test policy by hand; `None`: nobody may.
fn naive(message: &Value) -> Option<BTreeSet<&'static str>> {
    let params = &message["params"];
    let tool = |name: &str| {
        let mut all = BTreeSet::new();
        all.extend(name.starts_with("read_").then_some("notes:read"));
        all.extend(name.starts_with("write_").then_some("notes:write"));
        all.extend(name.ends_with("_note").then_some("mcp:use"));
        (!all.is_empty()).then_some(all)
    };
    let one = |is_known: bool| is_known.then(|| BTreeSet::from(["notes:read"]));
    match message["method"].as_str() {
        Some("tools/call") => tool(params["name"].as_str()?),
        Some("prompts/get") => one(params["name"] == "summary"),
        Some("resources/read") => one(params["uri"].as_str()?.starts_with("note:///")),
        _ => Some(BTreeSet::from(["mcp:use"])),
    }
}

/// Who holds these: by hand as well.
fn holds(granted: &[&str]) -> BTreeSet<&'static str> {
    let mut held: BTreeSet<&str> = granted.iter().copied().collect();
    if held.contains("notes:admin") {
        held.extend(["notes:write", "mcp:use"]);
    }
    if held.contains("notes:write") {
        held.insert("notes:read");
    }
    SCOPES.into_iter().filter(|scope| held.contains(scope)).collect()
}

fn message() -> impl Strategy<Value = String> {
    let method = prop_oneof![
        4 => Just("tools/call"),
        1 => Just("prompts/get"),
        1 => Just("resources/read"),
        1 => Just("tools/list"),
        1 => Just("Tools/call"),
    ];
    let name = prop_oneof![
        Just("read_note"),
        Just("write_note"),
        Just("delete_note"),
        Just("read_x"),
        Just("summary"),
        Just("note:///1"),
        Just("delete"),
        Just("write\\u005fnote"),
        Just("Write_note"),
    ];
    let key = prop_oneof![6 => Just("name"), 3 => Just("uri"), 1 => Just("Name"), 1 => Just("n\\u0061me"), 1 => Just("arguments")];
    let pair = (key, name).prop_map(|(key, name)| format!("\"{key}\":\"{name}\""));
    let pairs = proptest::collection::vec(pair, 0..3).prop_map(|pairs| pairs.join(","));
    let field = prop_oneof![
        3 => (method, pairs.clone()).prop_map(|(method, params)| format!("\"method\":\"{method}\",\"params\":{{{params}}}")),
        1 => pairs.prop_map(|params| format!("\"params\":{{{params}}},\"method\":\"tools/call\"")),
        1 => Just("\"result\":{}".to_owned()),
    ];
    let fields = proptest::collection::vec(field, 1..3).prop_map(|fields| fields.join(","));
    (fields, any::<bool>()).prop_map(|(fields, batch)| {
        let message = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{fields}}}");
        if batch && message.len() % 5 == 0 {
            format!("[{message}]")
        } else {
            message
        }
    })
}

proptest! {
    /// The gate allows a message only if it is one to a plain parser too, whose caller holds what it needs by hand.
    #[test]
    fn nobody_does_what_they_may_not(body in message(), granted in proptest::sample::subsequence(SCOPES.to_vec(), 0..4)) {
        let request = post(&token(&granted.join(" ")), &body);
        let message: Value = serde_json::from_str(&body).unwrap();
        let held = holds(&granted);
        match request.decide() {
            Decision::Allow(_) => {
                let needed = naive(&message);
                prop_assert!(needed.is_some_and(|needed| needed.is_subset(&held)), "{}", body);
            }
            Decision::Answer(answer) if answer.status == StatusCode::FORBIDDEN => {
                let needed = naive(&message);
                prop_assert!(needed.is_none_or(|needed| !needed.is_subset(&held)), "{}", body);
            }
            decision => prop_assert_eq!(answer(decision).status, StatusCode::BAD_REQUEST),
        }
    }

    #[test]
    fn any_request_is_answered(
        method in prop_oneof![Just("GET"), Just("POST"), Just("DELETE"), Just("OPTIONS"), Just("X")],
        target in "/a/mcp(\\?\\PC{0,20})?|\\PC{0,20}",
        headers in proptest::collection::vec((0usize..12, proptest::collection::vec(any::<u8>(), 0..20)), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..60),
        partial: bool,
        good: bool,
    ) {
        const NAMES: [&str; 12] = ["origin", "authorization", "content-type", "content-encoding", "mcp-protocol-version", "mcp-method",
            "mcp-name", "mcp-session-id", "access-control-request-headers", "cookie", "x-y", "host"];
        let mut request = bare(method, &target);
        request.body = body;
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request.headers.append(NAMES[name], value);
            }
        }
        if good {
            let value = format!("Bearer {}", token("mcp:use"));
            request.headers.insert("authorization", HeaderValue::from_str(&value).unwrap());
        }
        let decision = request.decide_by(&policy(), &issuer_keys(), partial);
        if let Decision::Allow(allowed) = decision {
            prop_assert!(good && target.starts_with("/a/mcp") && !partial);
            prop_assert!(allowed.remove.iter().any(|name| name == "authorization"));
        }
    }
}
