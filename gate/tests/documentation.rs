//! What docs/gate.md says of flags and metrics is what the binary has, no more and no less.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use common::{Gate, POLICY, PROGRAM};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gate.md");
    fs::read_to_string(path).unwrap()
}

/// The words in back-quotes in a piece of Markdown.
fn quoted(markdown: &str) -> impl Iterator<Item = &str> {
    markdown.split('`').skip(1).step_by(2)
}

/// The cells of the rows of the table under a heading.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, below) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = below.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// Each flag with its default, as `--help` tells them.
fn flags() -> BTreeMap<String, Option<String>> {
    let help = Command::new(PROGRAM).arg("--help").env_clear().output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (mut flags, mut last) = (BTreeMap::new(), String::new());
    for line in help.lines().map(str::trim) {
        if line.starts_with("--") || line.starts_with("-h,") || line.starts_with("-V,") {
            let mut words = line.split_whitespace();
            let name = words.find(|word| word.starts_with("--")).unwrap();
            name.trim_end_matches("[=<BOOL>]").clone_into(&mut last);
            flags.insert(last.clone(), None);
        } else if let Some((_, default)) = line.split_once("[default: ") {
            flags.insert(last.clone(), Some(default.trim_end_matches(']').to_owned()));
        }
    }
    flags.retain(|flag, _| !["--help", "--version"].contains(&flag.as_str()));
    flags
}

#[test]
fn every_flag_is_documented_with_its_default() {
    let (page, flags) = (page(), flags());
    let mut documented = BTreeMap::new();
    for row in rows(&page, "Flags") {
        let defaults = row[1].split(", ");
        for (flag, default) in quoted(row[0]).zip(defaults) {
            documented.insert(flag.to_owned(), default.to_owned());
        }
    }
    assert_eq!(
        flags.keys().collect::<Vec<_>>(),
        documented.keys().collect::<Vec<_>>()
    );
    for (flag, default) in flags {
        if let Some(default) = default {
            assert_eq!(documented[&flag], default, "{flag}");
        }
    }
}

/// The names of all metrics, as the sources register them: a family without a sample does not show at `/metrics`.
fn families(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            families(&path, found);
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let names = source.split("registry.register(").skip(1);
        let names = names.filter_map(|rest| rest.split(';').next()?.split('"').nth(1));
        found.extend(names.map(|name| format!("mcp_auth_gate_{name}")));
    }
}

#[test]
fn every_metric_is_documented() {
    let mut registered = BTreeSet::new();
    families(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut registered,
    );
    let page = page();
    let documented: BTreeSet<String> = rows(&page, "Metrics")
        .iter()
        .flat_map(|row| quoted(row[0]))
        .map(|name| name.trim_end_matches("_total").to_owned())
        .collect();
    assert_eq!(registered, documented);

    let gate = Gate::start(POLICY, &[]);
    let (_, shown) = common::get(gate.address("admin"), "/metrics");
    let types = shown.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let shown: BTreeSet<String> = types
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert!(shown.len() > 5 && shown.is_subset(&registered), "{shown:?}");
}
