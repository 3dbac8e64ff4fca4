use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::{document, document_with, policy, policy_with};

mod wrong;

fn parse(document: &Value) -> Result<Policy, String> {
    Policy::parse(document.to_string().as_bytes()).map_err(|error| error.to_string())
}

fn resource(resource: &str) -> Result<Policy, String> {
    parse(&document_with(&json!({"resource": resource})))
}

#[test]
fn resources_are_spelled_as_clients_spell_them() {
    for (given, why) in [
        ("", "nothing"),
        ("/mcp", "no host"),
        ("https:///mcp/", "a parser takes the path for the host"),
        ("https://h/mcp?x=1", "a query"),
        ("https://h/mcp?", "an empty query"),
        ("https://h/mcp#f", "a fragment"),
        ("https://h/mcp#", "an empty fragment"),
        ("https://H/mcp", "upper case in the host"),
        ("HTTPS://h/mcp", "upper case in the scheme"),
        ("https://h:443/mcp", "the default port"),
        ("https://h/a/../mcp", "dot segments"),
        ("https://h", "the root without its slash"),
        ("https://h/a b", "a space"),
        ("https://h/ü", "not ASCII"),
        ("https://ü.example/mcp", "a host that is not in Punycode"),
        ("https://127.1/mcp", "an address in short"),
        ("https://u@h/mcp", "a user"),
        ("https://u:p@h/mcp", "a user with a password"),
        ("https://:p@h/mcp", "a password"),
        ("ftp://h/mcp", "no scheme of MCP"),
        (
            "mcp://h/mcp",
            "a scheme without origin: its pages would all have the origin null",
        ),
        ("data:text/plain,x", "no host"),
        ("http://h/mcp", "plain http to another machine"),
        (
            "http://localhost.example/mcp",
            "a host that only looks like this machine",
        ),
        ("http://127.0.0.2/mcp", "not one of the loopback names"),
    ] {
        assert!(resource(given).is_err(), "{given}: {why}");
    }
}

/// The identifier, where its metadata are, and where its MCP endpoint is (RFC 9728, 3.1).
#[test]
fn metadata_are_at_the_inserted_path() {
    for (given, url, path) in [
        (
            "https://h/a/mcp",
            "https://h/.well-known/oauth-protected-resource/a/mcp",
            "/a/mcp",
        ),
        (
            "https://h/",
            "https://h/.well-known/oauth-protected-resource",
            "/",
        ),
        (
            "https://h/mcp/",
            "https://h/.well-known/oauth-protected-resource/mcp/",
            "/mcp/",
        ),
        (
            "https://h:8443/a",
            "https://h:8443/.well-known/oauth-protected-resource/a",
            "/a",
        ),
        (
            "https://h/%6dcp",
            "https://h/.well-known/oauth-protected-resource/%6dcp",
            "/%6dcp",
        ),
        (
            "https://h//mcp",
            "https://h/.well-known/oauth-protected-resource//mcp",
            "//mcp",
        ),
        (
            "http://localhost:8080/mcp",
            "http://localhost:8080/.well-known/oauth-protected-resource/mcp",
            "/mcp",
        ),
        (
            "http://127.0.0.1/mcp",
            "http://127.0.0.1/.well-known/oauth-protected-resource/mcp",
            "/mcp",
        ),
        (
            "http://[::1]:1/mcp",
            "http://[::1]:1/.well-known/oauth-protected-resource/mcp",
            "/mcp",
        ),
    ] {
        let policy = resource(given).unwrap();
        assert_eq!((policy.metadata_url.as_str(), policy.path.as_str()), (url, path));
        assert_eq!(
            policy.metadata_paths.len(),
            1,
            "{given}: the host may have others"
        );
        let metadata: Value = serde_json::from_str(&policy.metadata).unwrap();
        assert_eq!(metadata["resource"], given, "byte for byte");
    }
}

#[test]
fn a_server_alone_on_its_host_answers_at_the_top_level_too() {
    let policy = policy_with(&json!({"aloneOnHost": true}));
    let expected = [
        "/.well-known/oauth-protected-resource/a/mcp",
        "/.well-known/oauth-protected-resource",
    ];
    assert_eq!(policy.metadata_paths, expected);
    let root = policy_with(&json!({"aloneOnHost": true, "resource": "https://h/"}));
    assert_eq!(
        root.metadata_paths,
        ["/.well-known/oauth-protected-resource"],
        "once"
    );
}

#[test]
fn the_metadata_say_what_clients_need_and_no_more() {
    let policy = policy_with(&json!({"resourceName": "Notes of \"team a\""}));
    let expected = json!({
        "resource": "https://mcp.example/a/mcp",
        "resource_name": "Notes of \"team a\"",
        "authorization_servers": ["https://as.example/realms/r"],
        "scopes_supported": ["mcp:use"],
        "bearer_methods_supported": ["header"],
    });
    assert_eq!(serde_json::from_str::<Value>(&policy.metadata).unwrap(), expected);
}

#[test]
fn pages_of_the_resource_and_of_listed_origins_may_call() {
    let policy = policy_with(&json!({"allowedOrigins": ["http://localhost:6274", "vscode-webview://x"]}));
    for (origin, allowed) in [
        ("https://mcp.example", true),
        ("http://localhost:6274", true),
        ("vscode-webview://x", true),
        ("vscode-webview://y", false),
        ("http://localhost", false),
        ("http://mcp.example", false),
        ("https://mcp.example:8443", false),
        ("https://mcp.example.evil.example", false),
        ("https://MCP.example", false),
        ("https://mcp.example/", false),
        ("null", false),
        ("", false),
        ("*", false),
    ] {
        assert_eq!(policy.allows_origin(origin), allowed, "{origin}");
    }
}

#[test]
fn scopes_imply_others_in_any_number_of_steps() {
    for (granted, held) in [
        (&[][..], &[][..]),
        (&["notes:read"], &["notes:read"]),
        (&["notes:write"], &["notes:write", "notes:read"]),
        (
            &["notes:admin"],
            &["notes:write", "mcp:use", "notes:read", "notes:admin"],
        ),
        (&["openid", "profile", "NOTES:READ"], &[]),
    ] {
        let policy = policy();
        let all = policy.held(granted.iter().copied());
        assert_eq!(policy.in_order(&all), held, "{granted:?}");
    }
    let circle = policy_with(&json!({"rules": null, "scopes": [
        {"name": "a", "challenge": true, "implies": ["b"]},
        {"name": "b", "implies": ["a", "b"]},
    ]}));
    assert_eq!(circle.in_order(&circle.held(["b"])), ["a", "b"]);
}

/// What is called, and the scopes that it needs in the order of the policy.
#[test]
fn every_matching_rule_applies() {
    use Kind::{Prompt, Resource, Tool};
    let policy = policy();
    for (kind, name, needed) in [
        (Tool, "read_all", Some(&["notes:read"][..])),
        (Tool, "read_note", Some(&["mcp:use", "notes:read"])),
        (Tool, "write_note", Some(&["notes:write", "mcp:use"])),
        (Tool, "delete_note", Some(&["mcp:use"])),
        (Tool, "delete", None),
        (Tool, "Write_note ", None),
        (Tool, "summary", None),
        (Prompt, "summary", Some(&["notes:read"])),
        (Prompt, "read_note", None),
        (Resource, "note:///1", Some(&["notes:read"])),
        (Resource, "file:///1", None),
    ] {
        let found = policy.needed(kind, name);
        assert_eq!(
            found.as_ref().map(|found| policy.in_order(found)).as_deref(),
            needed,
            "{kind:?} {name}"
        );
    }
}

#[test]
fn calls_without_a_rule_need_the_defaults() {
    for (change, needed) in [
        (json!({}), None),
        (
            json!({"defaultScopes": ["notes:admin"]}),
            Some(&["notes:admin"][..]),
        ),
        (json!({"rules": null}), Some(&["mcp:use"])),
        (
            json!({"rules": null, "defaultScopes": ["notes:read"]}),
            Some(&["notes:read"]),
        ),
    ] {
        let policy = policy_with(&change);
        let found = policy.needed(Kind::Tool, "other");
        assert_eq!(
            found.as_ref().map(|found| policy.in_order(found)).as_deref(),
            needed,
            "{change}"
        );
        assert_eq!(policy.in_order(policy.needed_otherwise()), ["mcp:use"]);
    }
}

proptest! {
    /// Half a file, or one with a byte changed, is refused or is a policy; it never breaks the gate.
    #[test]
    fn any_bytes_are_answered(at in 0usize..2000, byte: u8, cut in any::<bool>()) {
        let mut bytes = document().to_string().into_bytes();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let parsed = Policy::parse(&bytes);
        prop_assert!(!cut || parsed.is_err());
    }

    #[test]
    fn whoever_holds_more_may_do_no_less(name in "(read|write|x)_(note|y)", granted in proptest::sample::subsequence(vec!["notes:write", "mcp:use", "notes:read", "notes:admin"], 0..4), more in 0usize..4) {
        let policy = policy();
        let all = ["notes:write", "mcp:use", "notes:read", "notes:admin"];
        let few = policy.held(granted.iter().copied());
        let many = policy.held(granted.iter().copied().chain([all[more]]));
        prop_assert!(few.is_subset(&many));
        prop_assert!(!policy.may(Kind::Tool, &name, &few) || policy.may(Kind::Tool, &name, &many));
    }
}
