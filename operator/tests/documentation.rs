//! What docs/ says of flags, metrics, conditions and Events is what the code has, no more and no less.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The words in back-quotes in a piece of Markdown.
fn quoted(markdown: &str) -> impl Iterator<Item = &str> {
    markdown.split('`').skip(1).step_by(2)
}

/// The first cell of each row of the tables under a heading.
fn first_cells<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, below) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = below.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .collect()
}

#[test]
fn every_flag_is_documented_with_its_default() {
    let help = Command::new(env!("CARGO_BIN_EXE_mcp-auth-operator"))
        .arg("--help")
        .env_clear()
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    // A flag's paragraph ends with "[default: …]" where it has one.
    let mut flags: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut last = String::new();
    for line in help.lines().map(str::trim) {
        if line.starts_with("--") || line.starts_with("-h,") || line.starts_with("-V,") {
            let name = line
                .split_whitespace()
                .find(|word| word.starts_with("--"))
                .unwrap();
            last = name.trim_end_matches("[=<BOOL>]").to_owned();
            flags.insert(last.clone(), None);
        } else if let Some((_, default)) = line.split_once("[default: ") {
            let default = default.trim_end_matches(']').trim_matches('"');
            flags.insert(last.clone(), Some(default.to_owned()));
        }
    }
    flags.retain(|flag, _| !["--help", "--version"].contains(&flag.as_str()));

    let page = page("operations.md");
    let mut documented = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `--")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let defaults: Vec<&str> = cells[1].split(", ").collect();
        for (flag, default) in quoted(cells[0]).zip(defaults) {
            documented.insert(flag.to_owned(), default.to_owned());
        }
    }
    assert_eq!(
        flags.keys().collect::<Vec<_>>(),
        documented.keys().collect::<Vec<_>>()
    );
    for (flag, default) in flags {
        if let Some(default) = default.filter(|default| !default.is_empty()) {
            assert_eq!(documented[&flag], default, "{flag}");
        }
    }
}

#[test]
fn every_metric_is_documented() {
    let source = fs::read_to_string(root().join("operator/src/metrics.rs")).unwrap();
    let families: BTreeSet<&str> = literals_after(&source, "registry.register(")
        .into_iter()
        .collect();
    let page = page("operations.md");
    let documented: BTreeSet<&str> = first_cells(&page, "Metrics")
        .into_iter()
        .flat_map(quoted)
        .map(|name| name.trim_end_matches("_total").trim_end_matches("_info"))
        .collect();
    assert_eq!(families, documented);
}

/// The files of the operator, without their tests.
fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name.ends_with("tests") || name == "testing" {
            continue;
        }
        if path.is_dir() {
            sources(&path, texts);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            texts.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned());
        }
    }
}

/// The first string literal after each occurrence of `opening`, within the same statement.
fn literals_after<'a>(text: &'a str, opening: &str) -> Vec<&'a str> {
    text.split(opening)
        .skip(1)
        .filter_map(|rest| rest.split(';').next()?.split('"').nth(1))
        .collect()
}

/// All string literals in the bodies of functions that are called `name`.
fn literals_in<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.split(name)
        .skip(1)
        .flat_map(|rest| {
            let body = rest.split("\n    }\n").next().unwrap_or_default();
            body.split('"').skip(1).step_by(2)
        })
        .collect()
}

/// Every reason that the code can give, found where reasons are made.
fn reasons() -> BTreeSet<String> {
    let mut texts = Vec::new();
    sources(&root().join("operator/src"), &mut texts);
    let conditions = fs::read_to_string(root().join("crds/src/condition.rs")).unwrap();
    texts.push(conditions.split("#[cfg(test)]").next().unwrap().to_owned());
    let calls = [
        "Halt::refused(",
        "Halt::waiting(",
        "Refusal::new(",
        "Report::yes(",
        "Report::no(",
        "Report::pending(",
        "pass::tell(",
        " tell(",
        "EventType::Normal,",
        "EventType::Warning,",
        // Those that have a name of their own.
        "/// The reason of ",
    ];
    let functions = [
        "fn reason(&self) ",
        "fn from(error: kube::Error) ",
        "fn report(&self, ",
    ];
    let mut found = BTreeSet::new();
    for text in &texts {
        let fields = text
            .split(" reason: \"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        found.extend(fields.map(str::to_owned));
        let literals = calls.iter().flat_map(|call| literals_after(text, call));
        let literals = literals.chain(functions.iter().flat_map(|name| literals_in(text, name)));
        found.extend(literals.map(str::to_owned));
    }
    let is_reason =
        |word: &str| word.starts_with(char::is_uppercase) && word.chars().all(char::is_alphanumeric);
    found.retain(|word| is_reason(word));
    found
}

#[test]
fn every_reason_is_documented_and_no_other() {
    let page = page("conditions.md");
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|cell| {
            let words: Vec<String> = quoted(&format!("`{cell}")).map(str::to_owned).collect();
            words
        })
        .collect();
    let made = reasons();
    let missing: Vec<_> = made.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&made).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "not documented: {missing:?}; documented and not made: {unknown:?}"
    );
}

#[test]
fn every_well_known_client_is_documented_with_what_it_stands_for() {
    let page = page("clients.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = mcp_auth_operator::policy::presets::ALL
        .iter()
        .map(|preset| {
            let quoted = |words: &[&str]| {
                let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
                words.join(", ")
            };
            let domain: Vec<&str> = preset.domain.into_iter().collect();
            format!(
                "| `{:?}` | {} | {} | {} | {} | {} |",
                preset.client,
                quoted(preset.redirect_uris),
                quoted(&domain),
                quoted(preset.hosts),
                preset.checked,
                preset.source
            )
        })
        .collect();
    assert_eq!(rows, expected);
}
