//! Envoy with the same checks: signature, issuer, audience, one scope for one tool, bodies read as MCP.

use serde_json::{Value, json};

/// Where Envoy finds things, and what it checks.
pub(super) struct Checks<'a> {
    /// Where it listens, on loopback.
    pub(super) port: u16,
    /// Where the server listens, on loopback.
    pub(super) upstream: u16,
    /// Path of the MCP endpoint.
    pub(super) path: &'a str,
    /// `iss` of tokens.
    pub(super) issuer: &'a str,
    /// `aud` of tokens.
    pub(super) audience: &'a str,
    /// The keys, as a JWKS document.
    pub(super) keys: &'a str,
    /// The tool that needs a scope, and the scope.
    pub(super) tool: (&'a str, &'a str),
}

/// The whole configuration, with the settings by which its filters do not let doubtful bodies through.
pub(super) fn configuration(checks: &Checks<'_>) -> Value {
    json!({
        "static_resources": {
            "clusters": [cluster("mcp", checks.upstream)],
            "listeners": [{
                "address": address(checks.port),
                "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager(checks)}]}],
            }],
        },
    })
}

fn typed(name: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.{name}"));
    config
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn cluster(name: &str, port: u16) -> Value {
    let endpoint = json!({"endpoint": {"address": address(port)}});
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

fn manager(checks: &Checks<'_>) -> Value {
    let route = json!({"match": {"path": checks.path}, "route": {"cluster": "mcp", "timeout": "0s"}});
    typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "bench",
            "stream_idle_timeout": "0s",
            "normalize_path": true,
            "merge_slashes": true,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [
                {"name": "jwt", "typed_config": jwt(checks)},
                {"name": "envoy.filters.http.mcp", "typed_config": typed("filters.http.mcp.v3.Mcp", json!({
                    "traffic_mode": "REJECT_NO_MCP",
                    "max_request_body_size": 1_048_576,
                    "reject_duplicate_keys": true,
                }))},
                {"name": "rbac", "typed_config": rbac(checks)},
                {"name": "router", "typed_config": typed("filters.http.router.v3.Router", json!({}))},
            ],
        }),
    )
}

fn jwt(checks: &Checks<'_>) -> Value {
    typed(
        "filters.http.jwt_authn.v3.JwtAuthentication",
        json!({
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "as"}}],
            "providers": {"as": {
                "issuer": checks.issuer,
                "audiences": [checks.audience],
                "require_expiration": true,
                "forward": false,
                "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
                "payload_in_metadata": "jwt",
                "normalize_payload_in_metadata": {"space_delimited_claims": ["scope"]},
                "local_jwks": {"inline_string": checks.keys},
            }},
        }),
    )
}

/// Refuses the tool without its scope.
fn rbac(checks: &Checks<'_>) -> Value {
    let (tool, scope) = checks.tool;
    let metadata = |filter: &str, path: &[&str], matches: Value| {
        let path: Vec<Value> = path.iter().map(|key| json!({"key": key})).collect();
        json!({"sourced_metadata": {"metadata_matcher": {"filter": filter, "path": path, "value": matches}}})
    };
    let exact = |text: &str| json!({"string_match": {"exact": text}});
    let call = metadata("envoy.filters.http.mcp", &["method"], exact("tools/call"));
    let name = metadata("envoy.filters.http.mcp", &["params", "name"], exact(tool));
    let held = json!({"list_match": {"one_of": exact(scope)}});
    let holds = metadata("envoy.filters.http.jwt_authn", &["jwt", "scope"], held);
    typed(
        "filters.http.rbac.v3.RBAC",
        json!({"rules": {"action": "DENY", "policies": {scope: {
            "permissions": [{"and_rules": {"rules": [call, name]}}],
            "principals": [{"not_id": holds}],
        }}}}),
    )
}
