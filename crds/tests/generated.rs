//! The checked-in YAML is what the types say.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn yaml_is_generated_from_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let mut expected = BTreeSet::new();
    for crd in mcp_auth_crds::all() {
        let name = mcp_auth_crds::file_name(&crd);
        let checked_in = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        let generated = mcp_auth_crds::to_yaml(&crd).unwrap();
        assert!(
            checked_in == generated,
            "{name} differs from the types: run `make crds` and commit the result"
        );
        expected.insert(name);
    }
    let present: BTreeSet<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(present, expected, "crds/yaml holds exactly the generated files");
}
