//! Name resolution that gives out only addresses that may be connected to.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{Rules, error::RefusedAddress};

/// The system's resolver with the check behind it. What it returns is what is connected to, so there is no second
/// resolution that could answer differently.
#[derive(Debug)]
pub(super) struct CheckingResolver(Rules);

impl CheckingResolver {
    /// A resolver under `rules`.
    pub(super) fn new(rules: Rules) -> Self {
        Self(rules)
    }
}

impl Resolve for CheckingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One forbidden address is enough: a name that mixes them is no honest one, and which of them would be
            // tried first is not ours to say.
            for address in &found {
                rules.check_address(address.ip()).map_err(RefusedAddress)?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
