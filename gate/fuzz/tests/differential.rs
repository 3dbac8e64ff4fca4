//! A few seconds of what `make fuzz` does for minutes, and that it finds what it is there to find.

use std::time::Duration;

use mcp_auth_gate_fuzz::{
    bodies, differential, meaning, readers,
    subject::{self, Judge, Subject},
    targets, uris,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

/// Longer when `LONG` is set.
fn time() -> Duration {
    let long = std::env::var_os("LONG").is_some();
    Duration::from_secs(if long { 120 } else { 4 })
}

#[test]
fn what_is_let_through_means_one_thing() {
    for subject in &subject::ALL {
        let (mut readers, missing) = readers::start(subject).unwrap();
        for name in missing {
            eprintln!("{name} is not installed: its reader is left out");
        }
        let (progress, found) = differential::run(subject, &mut readers, 0, time()).unwrap();
        if let Some(disagreement) = found {
            panic!("{disagreement}");
        }
        let (name, made, compared) = (subject.name, progress.made, progress.compared);
        eprintln!("{made} {name}, of which {compared} were let through and compared");
        assert!(
            compared > 1000 && compared > made / 10,
            "most of the time must not go into refusals: {name}"
        );
    }
}

/// A judge that reads as many do, though in another way than the reader, must be found out, by each reader alone.
#[test]
fn a_careless_judge_is_found_out() {
    let last_counts = |body: &[u8]| meaning::to_serde_json(body).map(|meaning| meaning.call);
    let first_counts = |body: &[u8]| {
        let First(message) = serde_json::from_slice(body).ok()?;
        Some(meaning::of(&message).call)
    };
    let (readers, _) = readers::start(&bodies::SUBJECT).unwrap();
    for reader in readers {
        let name = reader.name;
        let mut alone = [reader];
        // Python takes the last of two keys as well, and knows no other difference.
        let judges: &[Judge] = match name {
            "Python" => &[first_counts],
            _ => &[first_counts, last_counts],
        };
        for judge in judges {
            let judge = *judge;
            let subject = Subject {
                judge,
                ..bodies::SUBJECT
            };
            let (_, found) = differential::run(&subject, &mut alone, 0, Duration::from_secs(20)).unwrap();
            let found = found.unwrap_or_else(|| panic!("{name} agreed with everything"));
            let (gate, reader) = (&found.views[0].1, &found.views[2].1);
            assert!(!reader.starts_with(gate), "{name} saw the same: {found}");
        }
    }
}

/// A gate that took more targets for its path, or knew fewer spellings, must be found out by each reader alone.
#[test]
fn a_careless_reader_of_addresses_is_found_out() {
    let careless = [
        Subject {
            judge: |made| std::str::from_utf8(made).ok().map(str::to_owned),
            shown: <[u8]>::to_vec,
            ..targets::SUBJECT
        },
        Subject {
            judge: |uri| {
                std::str::from_utf8(uri)
                    .ok()
                    .map(|uri| meaning::hex(uri.as_bytes()))
            },
            ..uris::SUBJECT
        },
    ];
    for subject in careless {
        let (readers, _) = readers::start(&subject).unwrap();
        for reader in readers {
            let name = reader.name;
            let time = Duration::from_secs(20);
            let (_, found) = differential::run(&subject, &mut [reader], 0, time).unwrap();
            assert!(found.is_some(), "{name} agreed with all {}", subject.name);
        }
    }
}

/// JSON of which the first of two keys counts.
struct First(Value);

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Value;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut object = serde_json::Map::new();
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    object.entry(key).or_insert(value);
                }
                Ok(Value::Object(object))
            }
        }
        deserializer.deserialize_map(Object).map(First)
    }
}

#[test]
fn a_seed_always_gives_the_same() {
    for subject in &subject::ALL {
        let make = subject.make;
        for seed in [0, 1, 4711, u64::MAX] {
            assert_eq!(make(seed), make(seed));
        }
        assert!((2..10).any(|seed| make(seed) != make(1)), "{}", subject.name);
    }
}
