use mcp_auth_gate_core::document::{Delivery, ExchangeBy, ExchangeScope};
use serde_json::json;

use super::{super::testing::server, *};

fn as_metadata() -> DiscoveredMetadata {
    DiscoveredMetadata {
        issuer: "https://as/realms/r".into(),
        authorization_endpoint: None,
        token_endpoint: "https://as/token".into(),
        jwks_uri: "https://as/certs".into(),
    }
}

fn made(spec: &serde_json::Value) -> Document {
    made_with(spec, None)
}

fn made_with(spec: &serde_json::Value, endpoints: Option<&Endpoints>) -> Document {
    let metadata = as_metadata();
    document(
        &server(spec),
        Given {
            metadata: &metadata,
            endpoints,
            ca_bundle: Some("PEM"),
            token_types: vec![],
            other_audiences: [].into(),
            exchange_by: ExchangeBy::Scope,
            alone_on_host: true,
            denied: ["i.team.bad".to_owned()].into(),
            exchanges: vec![exchange("orders", &["orders:read"], None)],
            upstream: "http://notes-gate-origin.team.svc:80/mcp",
        },
    )
}

fn exchange(name: &str, scopes: &[&str], subjects: Option<&[&str]>) -> Exchange {
    let scope = |name: &&str| ExchangeScope {
        name: (*name).to_owned(),
        requires: vec![],
    };
    Exchange {
        name: name.into(),
        delivery: Delivery::Endpoint,
        audience: "https://orders.example/mcp".into(),
        scopes: scopes.iter().map(scope).collect(),
        subject_clients: subjects.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()),
        subject_token_type: None,
    }
}

#[test]
fn the_policy_says_what_the_spec_says() {
    let document = made(&json!({
        "scopes": [{"name": "read", "challenge": true}, {"name": "write", "implies": ["read"]}],
        "rules": [{"kind": "Tool", "match": "write_*", "scopes": ["write"]}], "defaultScopes": ["read"],
        "target": {"service": "notes", "protocol": "H2c"},
        "enforcement": {"gate": {"allowedOrigins": ["https://app.example.com"]}},
    }));
    let text: serde_json::Value = serde_json::from_str(&document.to_text()).unwrap();
    let expected = json!({
        "version": 1, "server": {"namespace": "team", "name": "notes"}, "resource": "https://h.example/mcp",
        "resourceName": "notes", "aloneOnHost": true,
        "authorizationServer": {"issuer": "https://as/realms/r", "jwksUri": "https://as/certs",
            "tokenEndpoint": "https://as/token", "caBundle": "PEM", "tokenTypes": []},
        "scopes": [{"name": "read", "challenge": true}, {"name": "write", "challenge": false, "implies": ["read"]}],
        "rules": [{"kind": "Tool", "match": "write_*", "scopes": ["write"]}], "defaultScopes": ["read"],
        "deniedClients": ["i.team.bad"], "allowedOrigins": ["https://app.example.com"],
        "upstream": {"url": "http://notes-gate-origin.team.svc:80/mcp", "protocol": "H2c"},
        "exchanges": [{"name": "orders", "delivery": "Endpoint", "audience": "https://orders.example/mcp",
            "scopes": [{"name": "orders:read"}]}],
    });
    assert_eq!(text, expected);
    assert_eq!(
        Document::parse(document.to_text().as_bytes()),
        Ok(document),
        "a gate reads it"
    );
}

#[test]
fn the_authorization_server_is_reached_where_the_platform_says() {
    let given = |jwks: Option<&str>, token: Option<&str>| Endpoints {
        jwks: jwks.map(str::to_owned),
        token: token.map(str::to_owned),
        ..Endpoints::default()
    };
    let (jwks, token) = ("https://inside/certs", "https://inside/token");
    let public = as_metadata();
    for (endpoints, expected) in [
        (None, (public.jwks_uri.as_str(), public.token_endpoint.as_str())),
        (
            Some(given(None, None)),
            (&public.jwks_uri, &public.token_endpoint),
        ),
        (Some(given(Some(jwks), None)), (jwks, &public.token_endpoint)),
        (Some(given(Some(jwks), Some(token))), (jwks, token)),
    ] {
        let made = made_with(&json!({}), endpoints.as_ref()).authorization_server;
        assert_eq!((made.jwks_uri.as_str(), made.token_endpoint.as_str()), expected);
        assert_eq!(made.issuer, public.issuer, "which is what tokens say");
    }
}

#[test]
fn a_server_without_scopes_has_the_one_that_it_gets() {
    let document = made(&json!({}));
    let scopes: Vec<_> = document
        .scopes
        .iter()
        .map(|scope| (scope.name.as_str(), scope.challenge))
        .collect();
    assert_eq!(scopes, [("mcp.team.notes", true)]);
}

#[test]
fn what_is_withdrawn_is_taken_out_and_nothing_is_added() {
    let only = |ids: &[&str]| Subjects::Only(ids.iter().map(|id| (*id).to_owned()).collect());
    let in_force = Document {
        exchanges: vec![
            exchange("a", &["x", "y"], None),
            exchange("b", &["x"], Some(&["c1", "c2"])),
            exchange("c", &["z"], None),
        ],
        ..made(&json!({}))
    };
    assert_eq!(
        without(in_force.clone(), &Withdrawn::default(), &Denials::new()),
        in_force,
        "nothing is known"
    );
    let left = without(
        in_force,
        &Withdrawn {
            spec_counts: false,
            policies: Some(["a", "b", "new"].map(str::to_owned).into()),
            scopes: Some(
                [
                    ("x".to_owned(), only(&["c2", "c3"])),
                    ("w".to_owned(), Subjects::Any),
                ]
                .into(),
            ),
        },
        &[("i.team.worse".to_owned(), Denial::new(Timestamp::UNIX_EPOCH))].into(),
    );
    let denied: Vec<_> = left.denied_clients.iter().map(String::as_str).collect();
    assert_eq!(denied, ["i.team.bad", "i.team.worse"], "who was denied stays so");
    assert_eq!(
        left.exchanges,
        [
            exchange("a", &["x"], Some(&["c2", "c3"])),
            exchange("b", &["x"], Some(&["c2"]))
        ]
    );
}

#[test]
fn an_exchange_for_nobody_is_none() {
    let left = [("x".to_owned(), Subjects::Only(["other".to_owned()].into()))].into();
    assert_eq!(within(exchange("a", &["x"], Some(&["c"])), &left), None);
    assert_eq!(within(exchange("a", &["x"], None), &BTreeMap::new()), None);
}

#[test]
fn a_paused_policy_allows_no_more_than_before() {
    let in_force = Document {
        exchanges: vec![exchange("a", &["x"], Some(&["c1", "c2"]))],
        ..made(&json!({}))
    };
    let held = |wanted: Exchange| held(Some(&in_force), wanted);
    let mut wider = exchange("a", &["x", "y"], None);
    wider.scopes[0].requires = vec!["read".into()];
    let mut expected = exchange("a", &["x"], Some(&["c1", "c2"]));
    expected.scopes[0].requires = vec!["read".into()];
    assert_eq!(
        held(wider),
        Some(expected),
        "what it requires besides counts at once"
    );
    assert_eq!(
        held(exchange("a", &["x"], Some(&["c2"]))),
        Some(exchange("a", &["x"], Some(&["c2"])))
    );
    assert_eq!(held(exchange("b", &["x"], None)), None, "it was not there");
    let elsewhere = Exchange {
        audience: "https://other/".into(),
        ..exchange("a", &["x"], None)
    };
    assert_eq!(held(elsewhere), None, "another target");
    let by_an_action = Exchange {
        subject_token_type: Some("urn:x:action".into()),
        ..exchange("a", &["x"], None)
    };
    assert_eq!(held(by_an_action), None, "by an action that was not asked before");
}
