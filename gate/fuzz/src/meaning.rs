//! What a body means, in a form that can be compared across languages.

use mcp_auth_gate_core::{
    body::{self, Message},
    document::Kind,
};
use serde_json::Value;

use crate::subject::View;

/// A call, as one reader sees it. Text is in hex and numbers are the bits of a double, so that equal calls are equal text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Method, id and subjects.
    pub call: String,
    /// What the tool or prompt is given.
    pub arguments: String,
}

impl Meaning {
    /// From what a reader wrote: four parts with spaces between them.
    pub fn read(line: &str) -> Option<Self> {
        let (call, arguments) = line.rsplit_once(' ')?;
        (!line.starts_with('!')).then(|| Self {
            call: call.to_owned(),
            arguments: arguments.to_owned(),
        })
    }

    /// The arguments without the last bits of their numbers: this build of serde_json may be off by one in them.
    pub fn without_numbers(&self) -> String {
        let mut parts = self.arguments.split('n');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |all, part| all + "n" + part.get(16..).unwrap_or_default())
    }
}

/// What the gate takes a body for, if it lets it through.
pub fn to_the_gate(body: &[u8]) -> Option<String> {
    let message = body::judge(body, None).ok()?;
    Some(call(&message))
}

fn call(message: &Message) -> String {
    let subjects = message.subjects.iter().map(|(kind, name)| {
        let kind = match kind {
            Kind::Tool => "Tool",
            Kind::Prompt => "Prompt",
            Kind::Resource => "Resource",
        };
        Value::from(vec![kind, name.as_str()])
    });
    let parts = [
        message.method().map_or(Value::Null, Value::from),
        message.id.clone().unwrap_or_default(),
        subjects.collect(),
    ];
    parts.iter().map(canonical).collect::<Vec<_>>().join(" ")
}

/// What a body means to serde_json, read without any care: the last of two keys counts.
pub fn to_serde_json(body: &[u8]) -> Option<Meaning> {
    serde_json::from_slice(body).ok().map(|message| of(&message))
}

/// The same, as readers write it.
pub(crate) fn said_by_serde_json(body: &[u8]) -> String {
    to_serde_json(body).map_or("!invalid".to_owned(), |meaning| {
        format!("{} {}", meaning.call, meaning.arguments)
    })
}

/// What a message means that was read in some way.
pub fn of(message: &Value) -> Meaning {
    let method = message["method"].as_str().unwrap_or_default();
    let params = &message["params"];
    let subject = |kind: &str, name: &Value| Value::from(vec![Value::from(kind), name.clone()]);
    let subjects = match method {
        "tools/call" => vec![subject("Tool", &params["name"])],
        "prompts/get" => vec![subject("Prompt", &params["name"])],
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            vec![subject("Resource", &params["uri"])]
        }
        "completion/complete" if params["ref"]["type"] == "ref/prompt" => {
            vec![subject("Prompt", &params["ref"]["name"])]
        }
        "completion/complete" => vec![subject("Resource", &params["ref"]["uri"])],
        "subscriptions/listen" => {
            let uris = params["notifications"]["resourceSubscriptions"].as_array();
            uris.into_iter()
                .flatten()
                .map(|uri| subject("Resource", uri))
                .collect()
        }
        _ => Vec::new(),
    };
    let arguments = match method {
        "tools/call" | "prompts/get" => &params["arguments"],
        _ => &Value::Null,
    };
    let parts = [&message["method"], &message["id"], &Value::from(subjects)];
    Meaning {
        call: parts.map(canonical).join(" "),
        arguments: canonical(arguments),
    }
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "t".to_owned(),
        Value::Bool(false) => "f".to_owned(),
        Value::Number(number) => {
            // With this, -0 is 0.
            let number = number.as_f64().unwrap_or_default() + 0.0;
            format!("n{:016x}", number.to_bits())
        }
        Value::String(text) => format!("\"{}\"", hex(text.as_bytes())),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            let mut pairs: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("\"{}\":{}", hex(key.as_bytes()), canonical(value)))
                .collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(","))
        }
    }
}

/// Whether all readers see the call that the gate sees, and the same arguments. A reader that finds a type wrong for the
/// method does nothing, so it cannot do another thing; but what is let through is JSON to everybody.
pub(crate) fn agree(views: &[View]) -> bool {
    let Some(((_, gate), readers)) = views.split_first() else {
        return true;
    };
    let mut arguments: Option<Meaning> = None;
    for (_, view) in readers.iter().rev().filter(|(_, view)| view != "!mistyped") {
        let Some(meaning) = Meaning::read(view) else {
            return false;
        };
        if meaning.call != *gate {
            return false;
        }
        match &arguments {
            Some(first) if first.without_numbers() != meaning.without_numbers() => return false,
            Some(_) => {}
            None => arguments = Some(meaning),
        }
    }
    numbers_agree(readers)
}

/// Numbers are compared bit by bit among the readers that read them exactly: all but serde_json, the first.
fn numbers_agree(readers: &[View]) -> bool {
    let exact = readers.iter().skip(1).filter_map(|(_, view)| Meaning::read(view));
    let mut exact = exact.map(|meaning| meaning.arguments);
    let first = exact.next();
    exact.all(|other| Some(other) == first)
}

/// Bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
