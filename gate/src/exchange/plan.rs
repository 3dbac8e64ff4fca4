//! What may be asked for on behalf of a caller.

use std::collections::BTreeSet;

use mcp_auth_gate_core::{document::Exchange, token::Claims};

/// What an exchange comes to for one caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan<'a> {
    /// Ask for these scopes; at least one, in the order of the policy.
    Ask(Vec<&'a str>),
    /// The caller holds nothing that any of the scopes requires.
    NothingToAsk,
    /// Tokens of the caller's client are not exchanged.
    ClientNotAllowed,
}

/// Plans `exchange` for the caller with these claims, who holds these scopes of the server.
pub fn plan<'a>(exchange: &'a Exchange, claims: &Claims, held: &BTreeSet<String>) -> Plan<'a> {
    if let Some(allowed) = &exchange.subject_clients {
        // A token that calls its client by two names is taken for both.
        if claims.clients.is_empty() || !claims.clients.is_subset(allowed) {
            return Plan::ClientNotAllowed;
        }
    }
    let scopes = exchange.scopes.iter();
    let granted = scopes.filter(|scope| scope.requires.iter().all(|required| held.contains(required)));
    let names: Vec<&str> = granted.map(|scope| scope.name.as_str()).collect();
    if names.is_empty() {
        Plan::NothingToAsk
    } else {
        Plan::Ask(names)
    }
}
