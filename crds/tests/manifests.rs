//! Manifests that are written by hand name what the types name.

use std::{collections::BTreeSet, fs, path::Path};

fn read(path: &str) -> std::io::Result<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
}

#[test]
fn the_admission_policy_guards_every_annotation_of_services() {
    let policy = read("../config/admission/service-annotations.yaml").unwrap();
    let quoted = policy.split('\'').filter(|text| text.starts_with("mcpauth.dev/"));
    let guarded: Vec<_> = quoted
        .filter(|text| !text.contains(char::is_whitespace))
        .collect();
    let expected = mcp_auth_crds::annotations::SERVICE_ALL;
    // Once for the match condition, which cannot use variables, and once for the variables.
    assert_eq!(guarded, [expected, expected].concat());
}

#[test]
fn kustomize_names_every_definition() {
    let kustomization = read("kustomization.yaml").unwrap();
    let entries = kustomization
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- yaml/"));
    let crds = mcp_auth_crds::all();
    let files: BTreeSet<_> = crds.iter().map(mcp_auth_crds::file_name).collect();
    assert_eq!(entries.map(str::to_owned).collect::<BTreeSet<_>>(), files);
}
