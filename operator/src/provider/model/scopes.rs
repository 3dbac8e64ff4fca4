//! The scopes of a realm or tenant, and whose they are.

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc};

use rpds::RedBlackTreeMapSync;
use serde_json::Value;

use super::{Holder, Mark};

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

type ByKey = RedBlackTreeMapSync<String, Arc<ScopeOwner>>;

/// Scopes with their owners. At some servers the name of a scope is one for the whole realm; at others it belongs to an
/// audience, and each may have one of that name.
///
/// A realm has thousands of them, and each change of one makes another set. The two share what they have in common, and
/// nothing that is done for a single object looks at those of all others.
#[derive(Clone, Debug, Default)]
pub struct Scopes {
    by_key: ByKey,
    /// The same, by whose they might be.
    by_claim: RedBlackTreeMapSync<(Claim, String), Arc<ScopeOwner>>,
    of_audiences: bool,
}

/// Namespace and name of the object in a mark; nothing where there is no mark. What has the same one may still be another's.
type Claim = Option<(String, String)>;

fn claim(holder: &Holder) -> Claim {
    match holder {
        Holder::Marked(mark) => Some(object(mark)),
        Holder::Unmarked { .. } | Holder::BuiltIn => None,
    }
}

fn object(mark: &Mark) -> (String, String) {
    (mark.namespace.clone(), mark.name.clone())
}

impl Scopes {
    /// Scopes that belong to audiences, by [`scope_key`].
    pub fn of_audiences(by_key: BTreeMap<String, Arc<ScopeOwner>>) -> Self {
        Self {
            of_audiences: true,
            ..by_key.into_iter().collect()
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

    /// Those that may be the object's, with their keys: no other is. Whether they are tells each one's holder and id.
    pub fn candidates(&self, mark: &Mark) -> impl Iterator<Item = (&str, &ScopeOwner)> {
        [Some(object(mark)), None].into_iter().flat_map(|claim| {
            self.by_claim
                .range((claim.clone(), String::new())..)
                .take_while(move |((of, _), _)| *of == claim)
                .map(|((_, key), owner)| (key.as_str(), &**owner))
        })
    }

    /// Puts one there, in the place of what has its key.
    pub fn insert(&mut self, key: String, owner: Arc<ScopeOwner>) {
        self.remove(&key);
        self.by_claim
            .insert_mut((claim(&owner.holder), key.clone()), Arc::clone(&owner));
        self.by_key.insert_mut(key, owner);
    }

    /// Takes one away, if it is there.
    pub fn remove(&mut self, key: &str) {
        if let Some(owner) = self.by_key.get(key) {
            self.by_claim.remove_mut(&(claim(&owner.holder), key.to_owned()));
            self.by_key.remove_mut(key);
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
        let mut all = Self::default();
        for (key, owner) in scopes {
            all.insert(key, owner);
        }
        all
    }
}

impl Deref for Scopes {
    type Target = ByKey;

    fn deref(&self) -> &Self::Target {
        &self.by_key
    }
}

/// All scopes of a realm or tenant.
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

    fn marked(name: &str, uid: &str) -> Holder {
        Holder::Marked(Mark {
            installation: "i".to_owned(),
            kind: "McpServer".to_owned(),
            namespace: "team".to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        })
    }

    fn held(holder: Holder) -> Arc<ScopeOwner> {
        let raw = Value::Null;
        Arc::new(ScopeOwner { holder, raw })
    }

    #[test]
    fn what_may_be_an_objects_is_found_without_the_others() {
        let mut scopes: Scopes = [
            ("notes:read", marked("notes", "1")),
            ("notes:write", marked("notes", "2")),
            ("notes2:read", marked("notes2", "3")),
            ("cleared", Holder::Unmarked { adopter: None }),
        ]
        .map(|(key, holder)| (key.to_owned(), held(holder)))
        .into_iter()
        .collect();
        let Holder::Marked(mark) = marked("notes", "4") else {
            unreachable!()
        };
        let of_it = |scopes: &Scopes| -> Vec<String> {
            let candidates = scopes.candidates(&mark);
            candidates.map(|(key, _)| key.to_owned()).collect()
        };
        assert_eq!(of_it(&scopes), ["notes:read", "notes:write", "cleared"]);

        // What is replaced or removed is so in both orders, and not for who has the set of before.
        let before = scopes.clone();
        scopes.insert("notes:read".to_owned(), held(marked("notes2", "3")));
        scopes.remove("notes:write");
        scopes.remove("never there");
        assert_eq!(of_it(&scopes), ["cleared"]);
        assert_eq!(scopes.size(), 3);
        assert_eq!(of_it(&before), ["notes:read", "notes:write", "cleared"]);
    }

    #[test]
    fn in_a_realm_the_name_alone_tells() {
        let scopes: Scopes = [("read".to_owned(), owner())].into_iter().collect();
        assert!(scopes.owner("https://a/", "read").is_some());
        assert!(scopes.owner("https://a/", "write").is_none());
    }
}
