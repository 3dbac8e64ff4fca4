use serde_json::json;

use super::*;

fn authorization_server(grants: serde_json::Value) -> AuthorizationServer {
    serde_json::from_value(json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
        "metadata": {"namespace": "platform", "name": "main"},
        "spec": {
            "issuer": "https://as.example/realms/r", "keycloak": {"realm": "r"},
            "credentials": {"secretRef": {"name": "c"}}, "grants": grants,
            "apis": [{"name": "orders", "audience": "https://orders.internal", "scopes": [{"name": "orders.read"}]}],
        },
    }))
    .unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn reason<T>(result: Result<T, Refusal>) -> &'static str {
    result.err().map_or("", |refusal| refusal.reason)
}

#[test]
fn the_own_namespace_may_do_everything_and_others_nothing() {
    let server_ = authorization_server(json!([]));
    let none = BTreeMap::new();
    let own = Tenant {
        namespace: "platform",
        labels: &none,
    };
    let other = Tenant {
        namespace: "team",
        labels: &none,
    };
    for (tenant, expected) in [
        (own, ["", "", ""]),
        (
            other,
            ["NamespaceNotGranted", "NamespaceNotGranted", "ApiNotGranted"],
        ),
    ] {
        let got = [
            reason(server(&server_, tenant, "https://x.example/", ["s"].iter(), "d")),
            reason(client(&server_, tenant, &["https://x.example/cb".into()])),
            reason(api(&server_, tenant, "orders")),
        ];
        assert_eq!(got, expected, "{}", tenant.namespace);
    }
}

#[test]
fn selection_is_by_all_same_or_labels() {
    let labels = labels(&[("team", "a")]);
    let tenant = Tenant {
        namespace: "team-a",
        labels: &labels,
    };
    let cases = [
        (json!({"from": "All"}), true),
        (json!({"from": "Same"}), false),
        (
            json!({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}),
            true,
        ),
        (
            json!({"from": "Selector", "selector": {"matchLabels": {"team": "b"}}}),
            false,
        ),
        (
            json!({"from": "Selector", "selector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}),
            true,
        ),
        (
            json!({"from": "Selector", "selector": {"matchExpressions": [{"key": "team", "operator": "Nonsense"}]}}),
            false,
        ),
        (json!({"from": "Selector"}), false),
    ];
    for (selection, expected) in cases {
        let parsed = serde_json::from_value(selection.clone()).unwrap();
        assert_eq!(selects(&parsed, "platform", tenant), expected, "{selection}");
    }
}

#[test]
fn hosts_are_compared_as_hosts() {
    let cases = [
        ("mcp.example.com", "mcp.example.com", true),
        ("mcp.example.com", "evil-mcp.example.com", false),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "evilexample.com", false),
        ("*.0.0.1", "127.0.0.1", false),
        ("*", "anything.example", true),
        ("[::1]", "[::1]", true),
    ];
    for (pattern, host, expected) in cases {
        assert_eq!(host_matches(pattern, host), expected, "{pattern} {host}");
    }
}

#[test]
fn a_server_needs_a_granted_host_and_granted_scope_beginnings() {
    let server_ = authorization_server(json!([
        {"namespaces": {"from": "All"}, "servers": {"hosts": ["*.team.example"], "scopePrefixes": ["orders:"]}},
        {"namespaces": {"from": "Same"}, "servers": {"hosts": ["*"], "scopePrefixes": [""]}},
    ]));
    let none = BTreeMap::new();
    let tenant = Tenant {
        namespace: "team",
        labels: &none,
    };
    let cases = [
        ("https://a.team.example/mcp", vec!["orders:read"], ""),
        (
            "https://a.team.example:8443/mcp",
            vec!["orders:read", "mcp.team.x"],
            "",
        ),
        ("https://other.example/mcp", vec!["orders:read"], "HostNotGranted"),
        (
            "https://a.team.example/mcp",
            vec!["orders:read", "billing:read"],
            "ScopeNotGranted",
        ),
        (
            "https://a.team.example/mcp",
            vec!["mcp.other.x"],
            "ScopeNotGranted",
        ),
    ];
    for (resource, scopes, expected) in cases {
        assert_eq!(
            reason(server(&server_, tenant, resource, scopes.iter(), "mcp.team.x")),
            expected,
            "{resource} {scopes:?}"
        );
    }
}

#[test]
fn redirects_go_to_granted_hosts_and_schemes_only() {
    let server_ = authorization_server(json!([
        {"namespaces": {"from": "All"}, "clients": {"redirectHosts": ["localhost", "*.app.example", "com.example.app:"]}},
    ]));
    let none = BTreeMap::new();
    let tenant = Tenant {
        namespace: "team",
        labels: &none,
    };
    let cases = [
        ("http://localhost:33418/cb", ""),
        ("https://x.app.example/cb", ""),
        ("com.example.app:/cb", ""),
        ("com.example.other:/cb", "RedirectHostNotGranted"),
        ("https://app.example.evil.com/cb", "RedirectHostNotGranted"),
        ("http://127.0.0.1/cb", "RedirectHostNotGranted"),
    ];
    for (uri, expected) in cases {
        assert_eq!(
            reason(client(&server_, tenant, &[uri.to_owned()])),
            expected,
            "{uri}"
        );
    }
    assert!(!redirect_matches("*", "com.example.app:"), "a star is for hosts");
}

#[test]
fn an_api_needs_its_name_in_a_grant() {
    let server_ = authorization_server(json!([
        {"namespaces": {"from": "All"}, "tokenExchange": {"apis": ["orders", "gone"]}},
    ]));
    let none = BTreeMap::new();
    let tenant = Tenant {
        namespace: "team",
        labels: &none,
    };
    assert_eq!(
        api(&server_, tenant, "orders").unwrap().audience,
        "https://orders.internal"
    );
    assert_eq!(reason(api(&server_, tenant, "gone")), "ApiNotFound");
    assert_eq!(reason(api(&server_, tenant, "secret")), "ApiNotGranted");
}

#[test]
fn refusals_say_what_to_ask_for() {
    let none = BTreeMap::new();
    let tenant = Tenant {
        namespace: "team",
        labels: &none,
    };
    let refusal = client(&authorization_server(json!([])), tenant, &[]).unwrap_err();
    assert_eq!(
        refusal.message,
        "Namespace team may not register clients: ask for a grant with clients in AuthorizationServer platform/main"
    );
}

/// An action of the tenant is code that makes tokens of any user: a namespace names those that it was given and no others,
/// and learns nothing of others.
#[test]
fn an_action_is_for_the_namespaces_that_were_given_it() {
    let allowing = |actions: serde_json::Value| -> AuthorizationServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": {"namespace": "platform", "name": "main"},
            "spec": {"issuer": "https://t.auth0.com/", "credentials": {"secretRef": {"name": "c"}},
                     "auth0": {"domain": "t.auth0.com", "exchangeActions": actions}},
        }))
        .unwrap()
    };
    let ask = |at: &AuthorizationServer, namespace: &str, tier: &str| {
        let labels = [("tier".to_owned(), tier.to_owned())].into();
        let tenant = Tenant {
            namespace,
            labels: &labels,
        };
        action(at, tenant, "swap").err()
    };
    let none = allowing(json!([]));
    let gold = json!({"from": "Selector", "selector": {"matchLabels": {"tier": "gold"}}});
    let some = allowing(json!([{"name": "swap", "namespaces": gold}]));
    let another = allowing(json!([{"name": "swap-2", "namespaces": {"from": "All"}}]));
    let refusal = ask(&none, "team", "lead");
    assert_eq!(refusal.as_ref().unwrap().reason, "ActionNotGranted");
    assert_eq!(ask(&some, "team", "lead"), refusal, "it does not tell");
    assert_eq!(ask(&another, "team", "gold"), refusal);
    assert!(
        ask(&none, "platform", "").is_some(),
        "it names what is used at all"
    );
    assert_eq!(ask(&some, "team", "gold"), None);
    assert_eq!(ask(&some, "platform", ""), None);
}
