//! URIs of resources: the gate's rules hold for every spelling by which a server may look for a resource.

use std::collections::BTreeSet;

use mcp_auth_gate_core::uri;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    meaning::hex,
    subject::{Subject, View, as_it_is},
};

/// URIs of resources.
pub const SUBJECT: Subject = Subject {
    name: "uris",
    make,
    judge: to_the_gate,
    shown: as_it_is,
    beside: &[],
    agree,
    probe: b"note:x",
};

const SCHEMES: [&str; 12] = [
    "note", "NOTE", "file", "FILE", "https", "HTTP", "ws", "urn", "data", "mailto", "x+y", "",
];
const SEPARATORS: [&str; 6] = [":", ":/", "://", ":///", ":////", ""];
const HOSTS: [&str; 16] = [
    "a",
    "A.example",
    "localhost",
    "[::1]",
    "127.1",
    "0x7f.1",
    "user@a",
    "u:p@a",
    "a:443",
    "a:80",
    "a:",
    "xn--",
    "\u{f6}.example",
    "%61",
    "C:",
    "",
];
const SEGMENTS: [&str; 42] = [
    "x", "X", "%78", "%58", "\u{f6}", "%C3%B6", "%c3%b6", "^", "|", "{id}", "%7Bid%7D", "%", "%zz", "%2f",
    "%2F", "%5c", "~", "%7e", "'", "\"", "<", ">", "`", "!", "*", "+", "%00", "%ff", "%c3", ";p=1", "a:b",
    "\u{200d}", "\u{212a}", "[", "]", "@", "$", "&", "=", "..x", "%25", "%2e",
];
const ENDS: [&str; 12] = [
    "", "", "", "/", "//", "?", "?q=x", "?%71", "#", "#f", "?q#f", "?\u{f6}",
];

fn make(seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut uri = String::new();
    let mut add =
        |all: &[&str], random: &mut StdRng| uri.push_str(all.choose(random).copied().unwrap_or_default());
    add(&SCHEMES, &mut random);
    add(&SEPARATORS, &mut random);
    add(&HOSTS, &mut random);
    for _ in 0..random.random_range(0..4) {
        if random.random_ratio(2, 3) {
            add(&["/"], &mut random);
        }
        add(&SEGMENTS, &mut random);
    }
    add(&ENDS, &mut random);
    uri.into_bytes()
}

/// Every spelling for which the gate asks its rules, if it lets the URI through.
fn to_the_gate(made: &[u8]) -> Option<String> {
    let uri = std::str::from_utf8(made).ok()?;
    let spellings = uri::spellings(uri).into_iter();
    let all: Vec<String> = spellings.map(|spelling| hex(spelling.as_bytes())).collect();
    (!uri::is_ambiguous(uri)).then(|| all.join(" "))
}

/// Whether the gate has every spelling of the readers. One that takes it for no URI looks for nothing.
fn agree(views: &[View]) -> bool {
    let Some(((_, gate), readers)) = views.split_first() else {
        return true;
    };
    let known: BTreeSet<&str> = gate.split(' ').collect();
    let mut spelled = readers.iter().flat_map(|(_, view)| view.split(' '));
    spelled.all(|spelling| known.contains(spelling) || spelling.starts_with('!'))
}
