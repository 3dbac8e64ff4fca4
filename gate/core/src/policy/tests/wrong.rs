//! Files that no gate may use.

use super::*;

/// A change of one field that makes the file unusable, and a word of what is said about it.
fn are_refused(table: Vec<(Value, &str)>) {
    for (change, word) in table {
        let error = parse(&document_with(&change)).expect_err(&change.to_string());
        assert!(error.contains(word), "{change}: {error}");
    }
}

#[test]
fn files_of_another_shape_are_refused() {
    for bytes in [&b""[..], b"[]", b"{}", b"null", b"\xef\xbb\xbf{}", b"\xff"] {
        assert!(Policy::parse(bytes).is_err());
    }
    let mut twice = document().to_string();
    twice.insert_str(1, "\"resource\":\"https://other.example/\",");
    assert!(Policy::parse(twice.as_bytes()).is_err(), "a field twice");
    let trailing = document().to_string() + "{}";
    assert!(Policy::parse(trailing.as_bytes()).is_err(), "text after the end");
    are_refused(vec![
        (json!({"version": 2}), "version 2"),
        (json!({"version": null}), "version"),
        (json!({"version": "1"}), "malformed"),
        (json!({"restrictedTo": ["x"]}), "restrictedTo"),
        (
            json!({"server": {"namespace": "a", "name": "b", "uid": "c"}}),
            "uid",
        ),
        (json!({"server": null}), "server"),
        (json!({"authorizationServer": null}), "authorizationServer"),
        (json!({"scopes": null}), "scopes"),
    ]);
}

#[test]
fn wrong_authorization_servers_are_refused() {
    let server = |field: &str, value: Value| {
        let mut server = document()["authorizationServer"].clone();
        server[field] = value;
        json!({"authorizationServer": server})
    };
    are_refused(vec![
        (server("issuer", json!("")), "issuer"),
        (server("tokenTypes", json!([])), "token type"),
        (
            server("tokenTypes", json!([{"header": "JWT", "claim": "x"}])),
            "claim",
        ),
        (server("jwksUri", json!("file:///etc/passwd")), "address"),
        (server("jwksUri", json!("https://")), "address"),
        (server("tokenEndpoint", json!("token")), "address"),
    ]);
}

#[test]
fn wrong_scopes_and_rules_are_refused() {
    let scopes = |scopes: Value| json!({"scopes": scopes, "rules": null});
    let named = |name: &str| scopes(json!([{"name": name, "challenge": true}]));
    let rule = |rule: Value| json!({"rules": [rule]});
    are_refused(vec![
        (scopes(json!([])), "challenge"),
        (scopes(json!([{"name": "a"}])), "challenge"),
        (
            scopes(json!([{"name": "a", "challenge": true}, {"name": "a"}])),
            "twice",
        ),
        (named(""), "scope token"),
        (named("a b"), "scope token"),
        (named("a\""), "scope token"),
        (named("a\\"), "scope token"),
        (named("ä"), "scope token"),
        (named("a\n"), "scope token"),
        (
            scopes(json!([{"name": "a", "challenge": true, "implies": ["b"]}])),
            "not among",
        ),
        (
            scopes(json!([{"name": "a", "challenge": true, "optional": true}])),
            "optional",
        ),
        (
            rule(json!({"kind": "Tool", "match": "x", "scopes": []})),
            "needs no scope",
        ),
        (
            rule(json!({"kind": "Tool", "match": "x", "scopes": ["gone"]})),
            "not among",
        ),
        (
            rule(json!({"kind": "tool", "match": "x", "scopes": ["mcp:use"]})),
            "tool",
        ),
        (
            rule(json!({"kind": "Tool", "match": "x", "scopes": ["mcp:use"], "unless": "y"})),
            "unless",
        ),
        (rule(json!({"kind": "Tool", "scopes": ["mcp:use"]})), "match"),
        (json!({"defaultScopes": ["gone"]}), "not among"),
        (json!({"defaultScopes": []}), "defaultScopes"),
    ]);
}

#[test]
fn wrong_addresses_and_exchanges_are_refused() {
    let origin = |origin: &str| json!({"allowedOrigins": [origin]});
    let upstream = |url: &str| json!({"upstream": {"url": url}});
    let with = |change: Value| {
        let mut exchange =
            json!({"name": "x", "delivery": "Header", "audience": "api", "scopes": [{"name": "s"}]});
        exchange
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        exchange
    };
    let one = |change: Value| json!({"exchanges": [with(change)]});
    let two = |change: Value| json!({"exchanges": [with(json!({})), with(change)]});
    are_refused(vec![
        (origin("*"), "origin"),
        (origin("null"), "origin"),
        (origin("https://app.example/"), "origin"),
        (origin("https://app.example:443"), "origin"),
        (origin("https://*.app.example"), "origin"),
        (origin("vscode-webview://x/"), "origin"),
        (upstream("https://h/mcp"), "upstream"),
        (upstream("http://u@h/mcp"), "upstream"),
        (upstream("http://:p@h/mcp"), "upstream"),
        (upstream("http://h/mcp?x"), "upstream"),
        (upstream("http://h/mcp#x"), "upstream"),
        (upstream("h:80"), "upstream"),
        (
            json!({"upstream": {"url": "http://h/", "protocol": "h2c"}}),
            "h2c",
        ),
        (one(json!({"scopes": []})), "no scopes"),
        (one(json!({"audience": ""})), "no audience"),
        (one(json!({"scopes": [{"name": "a b"}]})), "scope token"),
        (
            one(json!({"scopes": [{"name": "a", "requires": ["gone"]}]})),
            "not among",
        ),
        (one(json!({"delivery": "Secret"})), "Secret"),
        (one(json!({"resource": "x"})), "resource"),
        (two(json!({"name": "y"})), "two exchanges"),
        (two(json!({"delivery": "Endpoint"})), "one name"),
    ]);
}
