//! The policy of a gate: pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::ConfigMap, jiff::Timestamp};
use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{
    DiscoveredMetadata, Endpoints, McpServer, RuleKind, ScopeName, TargetProtocol,
};
use mcp_auth_gate_core::document::{
    AuthorizationServer, Document, Exchange, ExchangeBy, Kind, Protocol, Rule, Scope, ServerName, TokenType,
    Upstream, VERSION,
};

use super::parts::{GATE, metadata, options};
use crate::{
    policy::{
        denial::{Denial, Denials},
        names, scopes,
    },
    provider::Subjects,
};

/// Key of the policy in its ConfigMap.
pub(super) const KEY: &str = "policy.json";
/// Key of the times of denials, beside the policy. The pods do not get it.
const DENIALS: &str = "denials.json";

/// What a policy is made of besides the spec of the server.
#[derive(Clone, Debug)]
pub(in crate::controllers::mcp_server) struct Given<'a> {
    /// What the authorization server says of itself.
    pub(super) metadata: &'a DiscoveredMetadata,
    /// Where it is reached from inside, where that is another place.
    pub(super) endpoints: Option<&'a Endpoints>,
    /// Authorities to trust for it, in PEM.
    pub(super) ca_bundle: Option<&'a str>,
    /// What its access tokens call themselves.
    pub(super) token_types: Vec<TokenType>,
    /// What tokens may be for besides.
    pub(super) other_audiences: BTreeSet<String>,
    /// How the authorization server is asked for exchanged tokens.
    pub(super) exchange_by: ExchangeBy,
    /// No other server has its host.
    pub(super) alone_on_host: bool,
    /// Clients that are suspended.
    pub(super) denied: BTreeSet<String>,
    /// What the server may exchange tokens for.
    pub(super) exchanges: Vec<Exchange>,
    /// Where the server listens.
    pub(super) upstream: &'a str,
}

/// The policy.
pub(super) fn document(server: &McpServer, given: Given<'_>) -> Document {
    let Given {
        metadata,
        endpoints,
        ca_bundle,
        token_types,
        other_audiences,
        exchange_by,
        alone_on_host,
        denied,
        exchanges,
        upstream,
    } = given;
    let inside = |endpoint: fn(&Endpoints) -> &Option<String>, public: &String| {
        let known = endpoints.and_then(|endpoints| endpoint(endpoints).as_ref());
        known.unwrap_or(public).clone()
    };
    let spec = &server.spec;
    let h2c = spec.target.as_ref().and_then(|target| target.protocol) == Some(TargetProtocol::H2c);
    Document {
        version: VERSION,
        server: ServerName {
            namespace: server.namespace().unwrap_or_default(),
            name: server.name_any(),
        },
        resource: spec.resource.clone(),
        resource_name: Some(server.name_any()),
        alone_on_host,
        authorization_server: AuthorizationServer {
            issuer: metadata.issuer.clone(),
            jwks_uri: inside(|endpoints| &endpoints.jwks, &metadata.jwks_uri),
            token_endpoint: inside(|endpoints| &endpoints.token, &metadata.token_endpoint),
            ca_bundle: ca_bundle.map(str::to_owned),
            token_types,
            other_audiences,
            exchange_by,
        },
        scopes: declared(server),
        rules: rules(server),
        default_scopes: spec.default_scopes.as_deref().map(text),
        denied_clients: denied,
        allowed_origins: options(server).allowed_origins.into_iter().collect(),
        upstream: Some(Upstream {
            url: upstream.to_owned(),
            protocol: if h2c { Protocol::H2c } else { Protocol::Http1 },
        }),
        exchanges,
    }
}

/// The scopes of the server, with those that the challenge names.
fn declared(server: &McpServer) -> Vec<Scope> {
    let challenged = scopes::challenged(server);
    let implied: BTreeMap<&str, &[ScopeName]> = server
        .spec
        .scopes
        .iter()
        .map(|scope| (scope.name.as_str(), scope.implies.as_slice()))
        .collect();
    let scope = |name: String| Scope {
        challenge: challenged.contains(&name),
        implies: implied
            .get(name.as_str())
            .map(|implied| text(implied))
            .unwrap_or_default(),
        name,
    };
    scopes::effective(server).into_keys().map(scope).collect()
}

fn rule_of(kind: RuleKind, pattern: &str, scopes: &[ScopeName]) -> Rule {
    Rule {
        kind: match kind {
            RuleKind::Tool => Kind::Tool,
            RuleKind::Prompt => Kind::Prompt,
            RuleKind::Resource => Kind::Resource,
        },
        pattern: pattern.to_owned(),
        scopes: text(scopes),
    }
}

fn text(names: &[ScopeName]) -> Vec<String> {
    names.iter().map(|name| name.0.clone()).collect()
}

/// The ConfigMap with a policy, and since when the clients are denied that it denies.
pub(super) fn config_map(server: &McpServer, text: String, denials: &Denials) -> ConfigMap {
    let times = (!denials.is_empty()).then(|| {
        // Strings and numbers always have a JSON form.
        let times = serde_json::to_string(denials).unwrap_or_default();
        (DENIALS.to_owned(), times)
    });
    ConfigMap {
        metadata: metadata(server, names::gate(&server.name_any()), GATE),
        data: Some([(KEY.to_owned(), text)].into_iter().chain(times).collect()),
        ..ConfigMap::default()
    }
}

/// Who is denied by the policy that a ConfigMap holds. The policy says who, for that is what is in force; where nothing
/// tells since when, it is now.
pub(super) fn denials(map: Option<&ConfigMap>, now: Timestamp) -> Denials {
    let times = map
        .and_then(|map| map.data.as_ref()?.get(DENIALS))
        .and_then(|times| serde_json::from_str::<Denials>(times).ok())
        .unwrap_or_default();
    let denied = stored(map).map(|document| document.denied_clients);
    let since = |id: String| {
        let denial = times.get(&id).copied().unwrap_or_else(|| Denial::new(now));
        (id, denial)
    };
    denied.into_iter().flatten().map(since).collect()
}

/// The policy that a ConfigMap holds, if this version of the operator can read it.
pub(super) fn stored(map: Option<&ConfigMap>) -> Option<Document> {
    Document::parse(map?.data.as_ref()?.get(KEY)?.as_bytes()).ok()
}

/// What must not be allowed any more, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(in crate::controllers::mcp_server) struct Withdrawn {
    /// The policies of exchange that there still are.
    pub(in crate::controllers::mcp_server) policies: Option<BTreeSet<String>>,
    /// What tokens may still be exchanged for, and whose.
    pub(in crate::controllers::mcp_server) scopes: Option<BTreeMap<String, Subjects>>,
    /// What the spec says that needs nothing of the authorization server counts.
    pub(in crate::controllers::mcp_server) spec_counts: bool,
}

/// The policy in force, with what the spec says now that needs nothing of the authorization server.
pub(super) fn with_spec(in_force: Document, server: &McpServer) -> Document {
    Document {
        rules: rules(server),
        default_scopes: server.spec.default_scopes.as_deref().map(text),
        allowed_origins: options(server).allowed_origins.into_iter().collect(),
        ..in_force
    }
}

fn rules(server: &McpServer) -> Vec<Rule> {
    let rules = server.spec.rules.iter();
    rules
        .map(|rule| rule_of(rule.kind, &rule.pattern, &rule.scopes))
        .collect()
}

/// The policy in force without what was withdrawn. Nothing is allowed that it did not allow before.
pub(super) fn without(mut in_force: Document, withdrawn: &Withdrawn, denied: &Denials) -> Document {
    in_force.denied_clients.extend(denied.keys().cloned());
    if let Some(policies) = &withdrawn.policies {
        in_force
            .exchanges
            .retain(|exchange| policies.contains(&exchange.name));
    }
    if let Some(scopes) = &withdrawn.scopes {
        in_force.exchanges = in_force
            .exchanges
            .into_iter()
            .filter_map(|exchange| within(exchange, scopes))
            .collect();
    }
    in_force
}

/// What is left of an exchange.
fn within(mut exchange: Exchange, left: &BTreeMap<String, Subjects>) -> Option<Exchange> {
    let mut subjects = exchange.subject_clients.map_or(Subjects::Any, Subjects::Only);
    exchange.scopes.retain(|scope| left.contains_key(&scope.name));
    for scope in &exchange.scopes {
        // A token is for all scopes of an exchange at once.
        subjects = subjects.and(&left[&scope.name])?;
    }
    exchange.subject_clients = subjects.only().cloned();
    (!exchange.scopes.is_empty()).then_some(exchange)
}

/// What a paused policy of exchange allows: of what is in force, as much as it would allow now.
pub(in crate::controllers::mcp_server) fn held(
    in_force: Option<&Document>,
    wanted: Exchange,
) -> Option<Exchange> {
    let before = in_force?
        .exchanges
        .iter()
        .find(|exchange| exchange.name == wanted.name)?
        .clone();
    let is_another = (before.delivery, &before.audience) != (wanted.delivery, &wanted.audience)
        || before.subject_token_type != wanted.subject_token_type;
    if is_another {
        return None;
    }
    let subjects = wanted.subject_clients.map_or(Subjects::Any, Subjects::Only);
    let required: BTreeMap<_, _> = wanted
        .scopes
        .into_iter()
        .map(|scope| (scope.name, scope.requires))
        .collect();
    let left = required
        .keys()
        .map(|name| (name.clone(), subjects.clone()))
        .collect();
    let mut exchange = within(before, &left)?;
    for scope in &mut exchange.scopes {
        let more = required.get(&scope.name).into_iter().flatten();
        let more: Vec<_> = more
            .filter(|name| !scope.requires.contains(name))
            .cloned()
            .collect();
        scope.requires.extend(more);
    }
    Some(exchange)
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
