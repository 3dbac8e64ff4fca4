//! Manifests that are written by hand name what the types name.

use std::{collections::BTreeSet, fs, path::Path};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_admission_policy_guards_every_annotation_of_services() {
    let policy = read("../config/admission/service-annotations.yaml");
    let quoted = policy.split('\'').filter(|text| text.starts_with("mcpauth.dev/"));
    let guarded: Vec<_> = quoted
        .filter(|text| !text.contains(char::is_whitespace))
        .collect();
    let expected = mcp_auth_crds::annotations::SERVICE_ALL;
    // Once for the match condition, which cannot use variables, and once for the variables.
    assert_eq!(guarded, [expected, expected].concat());
}

#[test]
fn kustomize_and_the_operators_role_name_every_definition() {
    let kustomization = read("yaml/kustomization.yaml");
    let role = read("../config/rbac/operator.yaml");
    let entries = |text: &str, suffix: &str| -> BTreeSet<String> {
        let entries = text.lines().filter_map(|line| line.trim().strip_prefix("- "));
        entries
            .filter(|entry| entry.ends_with(suffix))
            .map(str::to_owned)
            .collect()
    };
    let crds = mcp_auth_crds::all();
    let files: BTreeSet<_> = crds.iter().map(mcp_auth_crds::file_name).collect();
    let names: BTreeSet<_> = crds.iter().filter_map(|crd| crd.metadata.name.clone()).collect();
    assert_eq!(entries(&kustomization, ".yaml"), files);
    assert_eq!(entries(&role, ".mcpauth.dev"), names);
}
