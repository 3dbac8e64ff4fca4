//! The scopes of a realm or tenant, and whose they are.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use serde_json::Value;

use super::Holder;

/// Who owns a scope.
#[derive(Clone)]
pub struct ScopeOwner {
    /// Whose it is.
    pub holder: Holder,
    /// The server's own representation.
    pub raw: Value,
}

impl fmt::Debug for ScopeOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeOwner")
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

/// Scopes with their owners. At some servers the name of a scope is one for the whole realm; at others it belongs to an
/// audience, and each may have one of that name.
#[derive(Clone, Debug, Default)]
pub struct Scopes {
    by_key: BTreeMap<String, Arc<ScopeOwner>>,
    of_audiences: bool,
}

impl Scopes {
    /// Scopes that belong to audiences, by [`scope_key`].
    pub fn of_audiences(by_key: BTreeMap<String, Arc<ScopeOwner>>) -> Self {
        Self {
            by_key,
            of_audiences: true,
        }
    }

    /// The owner of the scope that puts this audience into tokens, if there is one.
    pub fn owner(&self, audience: &str, scope: &str) -> Option<&ScopeOwner> {
        self.by_key.get(&self.key(audience, scope)).map(|owner| &**owner)
    }

    /// Under what name this scope is among them.
    pub fn key(&self, audience: &str, scope: &str) -> String {
        if self.of_audiences {
            scope_key(audience, scope)
        } else {
            scope.to_owned()
        }
    }
}

/// Under what name a scope of an audience is among [`Scopes`]. Neither holds a space.
pub fn scope_key(audience: &str, scope: &str) -> String {
    format!("{audience} {scope}")
}

impl FromIterator<(String, Arc<ScopeOwner>)> for Scopes {
    /// Scopes of a whole realm, by name.
    fn from_iter<I: IntoIterator<Item = (String, Arc<ScopeOwner>)>>(scopes: I) -> Self {
        Self {
            by_key: scopes.into_iter().collect(),
            of_audiences: false,
        }
    }
}

impl Deref for Scopes {
    type Target = BTreeMap<String, Arc<ScopeOwner>>;

    fn deref(&self) -> &Self::Target {
        &self.by_key
    }
}

impl DerefMut for Scopes {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.by_key
    }
}

/// All scopes of a realm or tenant. Each change of one makes another set, with the others in it.
pub type ObservedScopes = Arc<Scopes>;

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Arc<ScopeOwner> {
        Arc::new(ScopeOwner {
            holder: Holder::BuiltIn,
            raw: Value::Null,
        })
    }

    #[test]
    fn a_scope_of_one_audience_is_none_of_another() {
        let key = scope_key("https://a/", "read");
        let scopes = Scopes::of_audiences([(key, owner()), ("https://a/".to_owned(), owner())].into());
        assert!(scopes.owner("https://a/", "read").is_some());
        assert!(scopes.owner("https://b/", "read").is_none());
        // An audience is no scope, however a scope is called.
        assert!(scopes.owner("https://b/", "https://a/").is_none());
    }

    #[test]
    fn in_a_realm_the_name_alone_tells() {
        let scopes: Scopes = [("read".to_owned(), owner())].into_iter().collect();
        assert!(scopes.owner("https://a/", "read").is_some());
        assert!(scopes.owner("https://a/", "write").is_none());
    }
}
