//! Bodies by a grammar that knows what readers quarrel about, and the same with bytes broken.

use rand::{
    RngExt, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};

use crate::{
    meaning,
    subject::{Subject, as_it_is},
};

/// Bodies.
pub const SUBJECT: Subject = Subject {
    name: "bodies",
    make,
    judge: meaning::to_the_gate,
    shown: as_it_is,
    beside: &[("serde_json", meaning::said_by_serde_json)],
    agree: meaning::agree,
    probe: br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":[1.5,true,null]}}}"#,
};

const METHODS: [&str; 12] = [
    "tools/call",
    "tools/call",
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "completion/complete",
    "subscriptions/listen",
    "tools/list",
    "Tools/call",
    "initialize",
    "tools/call\\u0000",
];
const NAMES: [&str; 9] = [
    "read_note",
    "write_note",
    "write\\u005fnote",
    "WRITE_NOTE",
    "",
    "\\ud83d\\ude00",
    "write_note\\u0000",
    "größe",
    "a\\\"b",
];
const KEYS: [&str; 12] = [
    "name",
    "uri",
    "ref",
    "notifications",
    "arguments",
    "_meta",
    "type",
    "resourceSubscriptions",
    "__proto__",
    "constructor",
    "a",
    "",
];
/// What is put into bodies to break them.
const FRAGMENTS: [&[u8]; 34] = [
    b"\"name\":\"write_note\",",
    b",\"name\":\"write_note\"",
    b",\"Name\":\"write_note\"",
    b",\"n\\u0061me\":\"write_note\"",
    b"\"method\":\"tools/call\",",
    b",\"METHOD\":\"tools/call\"",
    b",\"param\xc5\xbf\":{}",
    b",\"param\\u017f\":{}",
    b",\"__proto__\":{\"name\":\"write_note\"}",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\0",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00",
    b"\\u",
    b"//",
    b"/**/",
    b"#",
    b"NaN",
    b"Infinity",
    b"1e999",
    b"-0",
    b"01",
    b"0x1",
    b"9007199254740993",
    b"1E-400",
    b"{}",
    b"[]",
    b",",
    b"\x0b",
    b"\xe2\x80\xa8",
];

/// The body of a seed: always the same one.
pub fn make(seed: u64) -> Vec<u8> {
    let mut maker = Maker(StdRng::seed_from_u64(seed));
    let mut body = maker.message().into_bytes();
    if maker.one_in(2) {
        for _ in 0..maker.0.random_range(1..4) {
            maker.break_it(&mut body);
        }
    }
    body
}

struct Maker(StdRng);

impl Maker {
    fn one_in(&mut self, n: u32) -> bool {
        self.0.random_ratio(1, n)
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all.choose(&mut self.0).copied().unwrap_or_default()
    }

    fn message(&mut self) -> String {
        let method = self.pick(&METHODS);
        let version = if self.one_in(50) { "2" } else { "\"2.0\"" };
        let mut fields = vec![("jsonrpc", version.to_owned())];
        if !self.one_in(8) {
            fields.push(("id", self.id()));
        }
        if self.one_in(12) {
            fields.push(("result", self.value(2)));
        } else {
            fields.push(("method", format!("\"{method}\"")));
        }
        if !self.one_in(10) {
            fields.push(("params", self.params(method)));
        }
        if self.one_in(20) {
            fields.push(("extra", self.value(2)));
        }
        let message = self.object(fields);
        match self.0.random_range(0..60) {
            0 => format!("[{message}]"),
            1 => format!("{message}{message}"),
            _ => message,
        }
    }

    fn id(&mut self) -> String {
        let ids = [
            "1",
            "0",
            "-1",
            "\"a\"",
            "\"\\u0061\"",
            "9007199254740993",
            "18446744073709551615",
            "1.0",
            "null",
            "-0",
        ];
        let often = self.0.random_range(0..7);
        let all = if often == 0 { &ids[..] } else { &ids[..7] };
        self.pick(all).to_owned()
    }

    fn params(&mut self, method: &str) -> String {
        let name = format!("\"{}\"", self.pick(&NAMES));
        let mut fields = match method {
            "resources/read" | "resources/subscribe" => vec![("uri", name)],
            "completion/complete" => {
                let kind = self.pick(&[
                    "\"ref/prompt\"",
                    "\"ref/resource\"",
                    "\"ref\\/prompt\"",
                    "\"ref/tool\"",
                ]);
                let other = self.pick(&["name", "uri"]);
                let fields = vec![("type", kind.to_owned()), (other, name)];
                vec![("ref", self.object(fields))]
            }
            "subscriptions/listen" => {
                let fields = vec![("resourceSubscriptions", format!("[{name}]"))];
                vec![("notifications", self.object(fields))]
            }
            _ => vec![("name", name)],
        };
        if !self.one_in(3) {
            fields.push(("arguments", self.value(4)));
        }
        while self.one_in(8) {
            let key = self.pick(&KEYS);
            fields.push((key, self.value(3)));
        }
        self.object(fields)
    }

    fn object(&mut self, mut fields: Vec<(&str, String)>) -> String {
        if self.one_in(3) {
            fields.shuffle(&mut self.0);
        }
        if self.one_in(25) && !fields.is_empty() {
            let again = self.0.random_range(0..fields.len());
            let key = fields[again].0;
            let value = if self.one_in(2) {
                fields[again].1.clone()
            } else {
                self.value(1)
            };
            let at = self.0.random_range(0..=fields.len());
            fields.insert(at, (key, value));
        }
        let written: Vec<String> = fields
            .iter()
            .map(|(key, value)| {
                let (before, after) = (self.space(), self.space());
                format!("{before}\"{}\"{after}:{value}", self.spelled(key))
            })
            .collect();
        format!("{{{}{}}}", written.join(","), self.space())
    }

    /// A key as it is, mostly; else escaped, or as some reader takes it for the same.
    fn spelled(&mut self, key: &str) -> String {
        let at = self.0.random_range(0..key.len().max(1));
        let Some(letter) = key.chars().nth(at) else {
            return key.to_owned();
        };
        let swap = |by: &str| {
            key.chars()
                .enumerate()
                .map(|(n, c)| if n == at { by.to_owned() } else { c.to_string() })
                .collect()
        };
        match self.0.random_range(0..120) {
            0..=4 => swap(&format!("\\u{:04x}", letter as u32)),
            5 => swap(&letter.to_uppercase().to_string()),
            6 => key.to_uppercase(),
            7 => key.replace('s', "\u{17f}"),
            8 => key.replace('k', "\u{212a}"),
            9 => format!("{key}\\u0000"),
            10 => format!("{key} "),
            _ => key.to_owned(),
        }
    }

    fn space(&mut self) -> &'static str {
        if self.one_in(12) {
            self.pick(&[" ", "\n", "\t", "\r\n  "])
        } else {
            ""
        }
    }

    fn value(&mut self, depth: u32) -> String {
        let scalars = [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1",
            "-1.5",
            "1e3",
            "1E-400",
            "9007199254740993",
            "0.1",
            "123456789012345678901234567890",
            "1.7976931348623157e308",
            "5e-324",
            "2.2250738585072011e-308",
            "\"\"",
            "\"x\"",
            "\"\\ud83d\\ude00\"",
            "\"\\u0000\"",
            "\"\u{feff}\u{2028}\"",
            "\"\\\\\\/\\b\"",
            "\"ä\"",
            "1e400",
            "\"\\ud800\"",
            "NaN",
            "01",
        ];
        let often = self.0.random_range(0..25);
        let plain = if often == 0 { &scalars[..] } else { &scalars[..22] };
        if depth == 0 || self.one_in(2) {
            return self.pick(plain).to_owned();
        }
        let count = self.0.random_range(0..4);
        if self.one_in(3) {
            let items: Vec<String> = (0..count).map(|_| self.value(depth - 1)).collect();
            return format!("[{}]", items.join(","));
        }
        if self.one_in(60) {
            let deep = self.0.random_range(100..140);
            return format!("{}1{}", "[".repeat(deep), "]".repeat(deep));
        }
        let mut keys = KEYS.to_vec();
        keys.shuffle(&mut self.0);
        let keys = keys.into_iter().filter(|key| *key != "__proto__").take(count);
        let fields: Vec<(&str, String)> = keys.map(|key| (key, self.value(depth - 1))).collect();
        self.object(fields)
    }

    fn break_it(&mut self, body: &mut Vec<u8>) {
        if body.is_empty() {
            return;
        }
        let at = self.0.random_range(0..body.len());
        let end = (at + self.0.random_range(1..12)).min(body.len());
        match self.0.random_range(0..7) {
            0 => body[at] = self.0.random(),
            1 => body[at] ^= 1 << self.0.random_range(0..8),
            2 => drop(body.drain(at..end)),
            3 => {
                let again = body[at..end].to_vec();
                body.splice(at..at, again);
            }
            4 => body.truncate(at),
            _ => {
                let fragment = FRAGMENTS.choose(&mut self.0).copied().unwrap_or_default();
                body.splice(at..at, fragment.iter().copied());
            }
        }
    }
}
