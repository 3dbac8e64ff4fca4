//! What is meant to be pure stays so: decisions are values from values, without a client, a clock or a wait.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Words that only code with effects needs.
const EFFECTS: [&str; 7] = [
    "context::",
    "kube::Client",
    "Api<",
    "async ",
    "::now()",
    "clock::",
    "rand::",
];

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)
}

/// The files of a folder and of the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

#[test]
fn decisions_have_no_effects() {
    let decisions = [
        "desired.rs",
        "status.rs",
        "remains.rs",
        "annotations.rs",
        "public.rs",
        "rules.rs",
        "judge.rs",
    ];
    let of_controllers = files(&source("controllers")).into_iter().filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        decisions.contains(&name)
    });
    let of_keycloak = ["plan", "render", "diff", "scopes", "limits", "mark", "ids"]
        .map(|name| source(&format!("provider/keycloak/{name}.rs")));
    let of_auth0 = [
        "plan",
        "render",
        "diff",
        "grants",
        "profiles",
        "resources",
        "mark",
        "memory",
        "documents/plan",
    ]
    .map(|name| source(&format!("provider/auth0/{name}.rs")));
    let of_self_registration = ["mod", "guards", "closing", "doors", "keeper", "strangers"]
        .map(|name| source(&format!("provider/keycloak/registration/{name}.rs")));
    // Of a gate, all but what reads and writes.
    let with_effects = [
        "mod.rs",
        "ask.rs",
        "closing.rs",
        "survey.rs",
        "ending.rs",
        "objects.rs",
        "denials.rs",
    ];
    let of_gates = files(&source("controllers/mcp_server/gate"))
        .into_iter()
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            !with_effects.contains(&name)
        });
    let of_registration = [
        "provider/registration/metadata.rs",
        "provider/registration/answer.rs",
        "controllers/mcp_client/dynamic/chain.rs",
        "credential/book.rs",
        "credential/book/turns.rs",
        "credential/book/wire.rs",
        "credential/homes.rs",
    ]
    .map(source);
    let pure: Vec<PathBuf> = of_controllers
        .chain(of_gates)
        .chain(files(&source("policy")))
        .chain(of_keycloak)
        .chain(of_auth0)
        .chain(of_registration)
        .chain(of_self_registration)
        .collect();
    assert!(pure.len() > 30, "only {} files were found", pure.len());
    for path in pure {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for effect in EFFECTS {
            assert!(!code.contains(effect), "{} has {effect}", path.display());
        }
    }
}
