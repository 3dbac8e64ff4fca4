//! What was read of a tenant and may be answered again without asking. Pure: times are arguments.
//!
//! As with Keycloak, an answer is worth as much as the moment at which its question was sent, and each write leaves a note of
//! its own moment. What is kept is shared, never copied.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;
use tokio::time::Instant;

use super::mark::{Ours, derived_client_id, is_marked, text};

/// What is known under one key: a thing, or that there is none.
pub(super) type Known = Option<Arc<Value>>;

/// Things of one kind by key.
#[derive(Default)]
pub(super) struct Table {
    rows: HashMap<String, (Instant, Known)>,
    written: HashMap<String, Instant>,
    /// When the list was asked for that the rows come from, if any was.
    listed: Option<Instant>,
    /// Changes with what the rows hold.
    version: u64,
}

impl Table {
    /// What is known. The outer `None`: nothing that is new enough.
    pub(super) fn recall(&self, key: &str, since: Option<Instant>) -> Option<Known> {
        let written = self.written.get(key).copied();
        let valid = |asked: Instant| Some(asked) >= since && Some(asked) > written;
        match self.rows.get(key) {
            Some((asked, known)) if valid(*asked) => Some(known.clone()),
            // The list is whole, so it also tells what there is not.
            _ => self
                .listed
                .filter(|asked| valid(*asked) && !self.rows.contains_key(key))
                .map(|_| None),
        }
    }

    /// What is known of this one alone: a list from which something was left out does not count.
    pub(super) fn recall_row(&self, key: &str, since: Option<Instant>) -> Option<Known> {
        self.recall(key, since).filter(|_| self.rows.contains_key(key))
    }

    /// Whether a list of this age is there.
    pub(super) fn is_listed(&self, since: Option<Instant>) -> bool {
        self.listed.is_some_and(|asked| Some(asked) >= since)
    }

    /// Keeps one answer.
    pub(super) fn keep(&mut self, key: &str, asked: Instant, known: Known) {
        if self.rows.get(key).is_none_or(|(_, before)| *before != known) {
            self.version += 1;
        }
        self.rows.insert(key.to_owned(), (asked, known));
    }

    /// Keeps a list. What was asked for after it stays.
    pub(super) fn keep_list(&mut self, asked: Instant, list: impl Iterator<Item = (String, Value)>) {
        self.version += 1;
        self.rows.retain(|_, (then, _)| *then > asked);
        self.written.retain(|_, then| *then >= asked);
        for (key, value) in list {
            self.rows
                .entry(key)
                .or_insert_with(|| (asked, Some(Arc::new(value))));
        }
        self.listed = Some(asked);
    }

    /// Notes that this was written to, or may have been.
    pub(super) fn wrote(&mut self, key: &str, now: Instant) {
        self.written.insert(key.to_owned(), now);
    }

    /// What was written to and not read since.
    pub(super) fn outdated(&self) -> Vec<String> {
        let is_old =
            |(key, then): &(&String, &Instant)| self.rows.get(*key).is_none_or(|(asked, _)| asked <= *then);
        let outdated = self.written.iter().filter(is_old);
        outdated.map(|(key, _)| key.clone()).collect()
    }

    /// Changes with what there is.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// All that there is, however old.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, &Arc<Value>)> {
        self.rows
            .iter()
            .filter_map(|(key, (_, known))| Some((key.as_str(), known.as_ref()?)))
    }
}

/// Ids of clients that were made for a proof and are still there.
#[derive(Default)]
pub(super) struct Probes {
    ids: BTreeSet<String>,
    /// When one may have been made whose id we do not know.
    made: Option<Instant>,
}

impl Probes {
    /// Notes the one that was made.
    pub(super) fn add(&mut self, id: &str) {
        self.ids.insert(id.to_owned());
    }

    /// Notes that one may have been made.
    pub(super) fn may_have_made(&mut self, now: Instant) {
        self.made = Some(now);
    }

    /// Those of a list.
    pub(super) fn keep(&mut self, asked: Instant, ids: Vec<String>) {
        self.ids.extend(ids);
        self.made = self.made.filter(|made| *made > asked);
    }

    /// All of them. `Err`: only a list that is asked for later tells.
    pub(super) fn ids(&self) -> Result<&BTreeSet<String>, Instant> {
        self.made.map_or(Ok(&self.ids), Err)
    }

    /// Notes that one is gone.
    pub(super) fn remove(&mut self, id: &str) {
        self.ids.remove(id);
    }
}

/// What is known of the tenant. Holds secrets of clients: never printed.
#[derive(Default)]
pub(super) struct Memory {
    /// Clients by id: of a list only those that matter to us.
    pub(super) clients: Table,
    /// The grants of each client as one list, by the client's id.
    pub(super) grants: Table,
    /// APIs by identifier.
    pub(super) apis: Table,
    /// The keys of each client that has some, by the client's id.
    pub(super) keys: Table,
    /// What is left of proofs.
    pub(super) probes: Probes,
    /// Ids of the clients that carry our mark, or consent, for each client id that we would have chosen.
    ids: HashMap<String, Vec<String>>,
    /// When such a client was made, or may have been, whose id we do not know.
    made: HashMap<String, Instant>,
    /// Changes with the clients that are linked to APIs.
    linked: u64,
}

impl Memory {
    /// Keeps one client.
    pub(super) fn keep_client(&mut self, id: &str, asked: Instant, client: Known, ours: &Ours) {
        let before = self.clients.version();
        if client.is_none() {
            for ids in self.ids.values_mut() {
                ids.retain(|other| other != id);
            }
        }
        if let Some(derived) = client.as_deref().and_then(|raw| derived_client_id(raw, ours)) {
            let ids = self.ids.entry(derived.clone()).or_default();
            if !ids.iter().any(|other| other == id) {
                ids.push(id.to_owned());
            }
            self.made.remove(&derived);
        }
        let is_linked = client
            .as_deref()
            .is_none_or(|raw| text(raw, "app_type") == "resource_server");
        self.clients.keep(id, asked, client);
        if is_linked && self.clients.version() != before {
            self.linked += 1;
        }
    }

    /// Changes with the clients that are linked to APIs.
    pub(super) fn linked_version(&self) -> u64 {
        self.linked
    }

    /// Keeps the clients that matter to us.
    pub(super) fn keep_clients(&mut self, asked: Instant, list: Vec<Value>, ours: &Ours) {
        let before = std::mem::take(&mut self.ids);
        let mut marked = HashSet::new();
        for client in &list {
            if let Some(derived) = derived_client_id(client, ours) {
                let id = text(client, "client_id").to_owned();
                if is_marked(client) {
                    marked.insert(id.clone());
                }
                self.ids.entry(derived).or_default().push(id);
            }
        }
        for (derived, ids) in &mut self.ids {
            let used = before.get(derived).and_then(|ids| ids.first());
            // A mark counts for more than consent, and what was used goes on being used.
            ids.sort_by_key(|id| (!marked.contains(id), used != Some(id)));
        }
        // What was learnt while the list was read is newer than the list.
        for (derived, ids) in before {
            for id in ids {
                let is_newer = self.clients.rows.get(&id).is_some_and(|(then, _)| *then > asked);
                let listed = self.ids.entry(derived.clone()).or_default();
                if is_newer && !listed.contains(&id) {
                    listed.push(id);
                }
            }
        }
        self.made.retain(|_, then| *then >= asked);
        let rows = list
            .into_iter()
            .map(|client| (text(&client, "client_id").to_owned(), client));
        self.clients.keep_list(asked, rows);
        self.linked += 1;
    }

    /// Notes that a client may have been made that would have this client id if we chose.
    pub(super) fn may_have_made(&mut self, derived: &str, now: Instant) {
        self.made.insert(derived.to_owned(), now);
    }

    /// Notes that a grant was written to of which only the id is known.
    pub(super) fn wrote_grant(&mut self, id: &str, now: Instant) {
        let of_it = |grants: &Value| {
            let grants = grants.as_array().into_iter().flatten();
            grants.into_iter().any(|grant| text(grant, "id") == id)
        };
        let found = self.grants.rows().find(|(_, grants)| of_it(grants));
        if let Some(client) = found.map(|(client, _)| client.to_owned()) {
            self.grants.wrote(&client, now);
        }
    }

    /// The same for an API.
    pub(super) fn wrote_api(&mut self, id: &str, now: Instant) {
        let found = self.apis.rows().find(|(_, api)| text(api, "id") == id);
        if let Some(identifier) = found.map(|(identifier, _)| identifier.to_owned()) {
            self.apis.wrote(&identifier, now);
        }
    }

    /// The same for the API that this client was linked to.
    pub(super) fn unlinked(&mut self, client: &str, now: Instant) {
        let found = self.apis.rows().find(|(_, api)| text(api, "client_id") == client);
        if let Some(identifier) = found.map(|(identifier, _)| identifier.to_owned()) {
            self.apis.wrote(&identifier, now);
        }
    }

    /// The ids of the clients that may be the one that we look for, the one in use first. `None`: only a new list tells.
    pub(super) fn ids(&self, derived: &str, since: Option<Instant>) -> Option<Vec<String>> {
        let ids = self.ids.get(derived).filter(|ids| !ids.is_empty());
        let made = self.made.get(derived).copied();
        match ids {
            Some(ids) if made.is_none() => Some(ids.clone()),
            _ => self
                .clients
                .listed
                .filter(|asked| Some(*asked) >= since && Some(*asked) > made)
                .map(|_| ids.cloned().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const DERIVED: &str = "prod.team.agent";

    fn prod() -> Ours {
        Ours {
            installation: "prod".into(),
            ..Ours::default()
        }
    }

    fn ours(id: &str) -> Value {
        let metadata = json!({
            "mcpauth_installation": "prod", "mcpauth_object": "McpClient/team/agent", "mcpauth_uid": "1",
        });
        json!({"client_id": id, "client_metadata": metadata})
    }

    #[test]
    fn a_whole_list_tells_what_there_is_and_what_not_until_something_is_written() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(1);
        let mut table = Table::default();
        assert_eq!(table.recall("a", None), None);
        table.keep_list(begun, [("a".to_owned(), json!(1))].into_iter());
        assert_eq!(table.recall("a", None), Some(Some(Arc::new(json!(1)))));
        assert_eq!(table.recall("b", None), Some(None));
        assert_eq!(table.recall("b", Some(later)), None);
        table.wrote("a", later);
        table.wrote("b", later);
        assert_eq!((table.recall("a", None), table.recall("b", None)), (None, None));
        table.keep("a", later + Duration::from_secs(1), None);
        assert_eq!(table.recall("a", None), Some(None));
    }

    /// An answer that was lost must not lead to a second client.
    #[test]
    fn what_may_have_been_made_is_looked_for_in_a_newer_list() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(1);
        let mut memory = Memory::default();
        assert_eq!(memory.ids(DERIVED, None), None);
        memory.keep_clients(begun, vec![], &prod());
        assert_eq!(memory.ids(DERIVED, None), Some(vec![]));
        memory.may_have_made(DERIVED, later);
        assert_eq!(memory.ids(DERIVED, None), None);
        memory.keep_clients(later + Duration::from_secs(1), vec![ours("c1")], &prod());
        assert_eq!(memory.ids(DERIVED, None), Some(vec!["c1".to_owned()]));
    }

    /// A probe whose registration was never answered is found again.
    #[test]
    fn what_may_be_left_of_a_proof_is_looked_for_in_a_newer_list() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(1);
        let mut probes = Probes::default();
        assert_eq!(probes.ids(), Ok(&BTreeSet::new()));
        probes.may_have_made(later);
        probes.keep(begun, vec![]);
        assert_eq!(probes.ids(), Err(later), "an older list does not tell");
        probes.keep(later, vec!["tpc_1".to_owned()]);
        assert_eq!(probes.ids(), Ok(&BTreeSet::from(["tpc_1".to_owned()])));
        probes.keep(later, vec![]);
        assert_eq!(
            probes.ids().map(BTreeSet::len),
            Ok(1),
            "it may be newer than the list"
        );
        probes.remove("tpc_1");
        assert_eq!(probes.ids().map(BTreeSet::len), Ok(0));
    }

    #[test]
    fn of_two_the_one_in_use_stays_the_first() {
        let begun = Instant::now();
        let mut memory = Memory::default();
        memory.keep_client("c2", begun, Some(Arc::new(ours("c2"))), &prod());
        let later = begun + Duration::from_secs(1);
        memory.keep_clients(later, vec![ours("c1"), ours("c2")], &prod());
        assert_eq!(
            memory.ids(DERIVED, None),
            Some(vec!["c2".to_owned(), "c1".to_owned()])
        );
        memory.keep_client("c2", later, None, &prod());
        assert_eq!(memory.ids(DERIVED, None), Some(vec!["c1".to_owned()]));
    }
}
