//! What was read of a realm and may be answered again without asking. Pure: times are arguments.
//!
//! Every answer is worth as much as the moment at which its *question* was sent: what was written after that moment may
//! be missing in it. So each write leaves a note of its own moment, and older answers about the same thing do not count.
//! Whoever asks says since when the question may have been sent; `None` stands for any time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::mark::{scope_holder, text};
use crate::provider::{ObservedScopes, ScopeOwner};

/// Notes of writes and single answers older than this are dropped with the next list. No request takes so long.
const KEEP: Duration = Duration::from_mins(10);

/// Of so few, each may be looked at; above this, reading a whole list of scopes again is less work than reading what changed.
const FEW: usize = 16;

/// A client as Keycloak told it; `None`: there is none.
pub(super) type Known = Option<Value>;

/// A client as text: taken apart it is several times as large, and there are thousands, most of which nobody asks about
/// until the next list comes.
struct Told(Box<str>);

impl Told {
    fn of(client: &Value) -> Self {
        Self(client.to_string().into())
    }

    /// `None`: it cannot be read any more, so nothing is known.
    fn read(&self) -> Option<Value> {
        serde_json::from_str(&self.0).ok()
    }
}

/// A list of clients, page by page.
pub(super) struct ClientList {
    asked: Instant,
    /// By client id: the id, and all else.
    clients: HashMap<String, (String, Told)>,
    ids: HashSet<String>,
}

impl ClientList {
    /// One that is asked for now.
    pub(super) fn new(asked: Instant) -> Self {
        Self {
            asked,
            clients: HashMap::new(),
            ids: HashSet::new(),
        }
    }

    /// Adds a page. Whether it brought anything new.
    pub(super) fn add(&mut self, page: &[Value]) -> bool {
        let before = self.ids.len();
        for client in page {
            let id = text(client, "id").unwrap_or_default();
            let client_id = text(client, "clientId").filter(|_| self.ids.insert(id.to_owned()));
            if let Some(client_id) = client_id {
                let told = (id.to_owned(), Told::of(client));
                self.clients.insert(client_id.to_owned(), told);
            }
        }
        self.ids.len() > before
    }
}

/// What is known of the realm's clients, by client id. Holds their secrets: never printed.
#[derive(Default)]
pub(super) struct Clients {
    single: HashMap<String, (Instant, Option<Told>)>,
    /// With so many of them, those that only say that there is none are looked through again.
    sweep_at: usize,
    list: Option<(Instant, HashMap<String, Told>)>,
    written: HashMap<String, Instant>,
    all_written: Option<Instant>,
    /// Which client an id stands for, so that a write by id can be noted.
    by_id: HashMap<String, String>,
    /// The other way round.
    ids: HashMap<String, String>,
    /// Clients that we could not create although none has their client id: somebody renamed ours, which still has its
    /// id.
    renamed: HashMap<String, String>,
}

impl Clients {
    /// What is known of a client. The outer `None`: nothing.
    pub(super) fn recall(&self, client_id: &str, since: Option<Instant>) -> Option<Known> {
        let valid = |asked: Instant| Some(asked) >= since && !self.is_outdated(client_id, asked);
        if let Some((_, known)) = self.single.get(client_id).filter(|(asked, _)| valid(*asked)) {
            return match known {
                Some(told) => told.read().map(Some),
                None => Some(None),
            };
        }
        // A list read in pages may miss a client while others are deleted, so it only tells what there is.
        let (_, clients) = self.list.as_ref().filter(|(asked, _)| valid(*asked))?;
        clients.get(client_id)?.read().map(Some)
    }

    /// Whether there is a list.
    pub(super) fn has_list(&self, since: Option<Instant>) -> bool {
        self.list.as_ref().is_some_and(|(asked, _)| Some(*asked) >= since)
    }

    /// Keeps the answer to a question about one client.
    pub(super) fn keep(&mut self, client_id: &str, asked: Instant, client: Option<&Value>) {
        self.note_id(client_id, client.and_then(|client| text(client, "id")));
        if client.is_none() {
            self.sweep(asked);
        }
        self.single
            .insert(client_id.to_owned(), (asked, client.map(Told::of)));
    }

    /// Not every id that is asked about is ours, and without one of ours no list comes. Each time only after so many more:
    /// of thousands of new clients, each is absent at first.
    fn sweep(&mut self, now: Instant) {
        if self.single.len() >= self.sweep_at {
            self.single
                .retain(|_, (then, known)| known.is_some() || now.duration_since(*then) < KEEP);
            self.sweep_at = FEW.max(self.single.len() * 2);
        }
    }

    /// Keeps a list of clients.
    pub(super) fn keep_list(&mut self, list: ClientList) {
        let asked = list.asked;
        let recent = |then: &Instant| asked.duration_since(*then) < KEEP;
        self.written.retain(|_, then| recent(then));
        let mut clients = HashMap::with_capacity(list.clients.len());
        for (client_id, (id, told)) in list.clients {
            self.note_id(&client_id, Some(&id));
            clients.insert(client_id, told);
        }
        // What the list tells is not kept twice.
        self.single.retain(|client_id, (then, _)| {
            recent(then) && (*then > asked || !clients.contains_key(client_id))
        });
        self.list = Some((asked, clients));
    }

    /// Notes that a client was written to, or may have been.
    pub(super) fn wrote(&mut self, client_id: &str, now: Instant) {
        self.single.remove(client_id);
        self.written.insert(client_id.to_owned(), now);
    }

    /// The same for a client of which only the id is known.
    pub(super) fn wrote_id(&mut self, id: &str, now: Instant) {
        match self.by_id.get(id).cloned() {
            Some(client_id) => self.wrote(&client_id, now),
            None => self.wrote_all(now),
        }
    }

    /// The same for who knows which clients.
    pub(super) fn wrote_all(&mut self, now: Instant) {
        self.all_written = Some(now);
    }

    /// Notes that the client with this id exists under another client id.
    pub(super) fn note_renamed(&mut self, client_id: &str, id: &str) {
        self.renamed.insert(client_id.to_owned(), id.to_owned());
    }

    /// The id under which to look for a client that was renamed.
    pub(super) fn renamed(&self, client_id: &str) -> Option<String> {
        self.renamed.get(client_id).cloned()
    }

    fn note_id(&mut self, client_id: &str, id: Option<&str>) {
        let before = match id {
            Some(id) => {
                self.by_id.insert(id.to_owned(), client_id.to_owned());
                self.renamed.remove(client_id);
                self.ids.insert(client_id.to_owned(), id.to_owned())
            }
            None => self.ids.remove(client_id),
        };
        let before = before.filter(|before| Some(before.as_str()) != id);
        if let Some(before) =
            before.filter(|before| self.by_id.get(before).map(String::as_str) == Some(client_id))
        {
            self.by_id.remove(&before);
        }
    }

    fn is_outdated(&self, client_id: &str, asked: Instant) -> bool {
        let written = self.written.get(client_id).copied().max(self.all_written);
        written.is_some_and(|written| asked <= written)
    }
}

/// What is known of the realm's client scopes.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    list: Option<(Instant, ObservedScopes)>,
    /// The names of those in the list, by id.
    names: BTreeMap<String, String>,
    /// When each id was written to, since the list was read.
    written: BTreeMap<String, Instant>,
}

/// What is known of the scopes, or has to be read for that.
#[derive(Debug)]
pub(super) enum Recall {
    /// All of them.
    Known(ObservedScopes),
    /// The scopes with these ids are to be read.
    Few(Vec<String>),
    /// The list is to be read.
    All,
}

impl Scopes {
    /// The scopes, or what is missing for that.
    pub(super) fn recall(&self, since: Option<Instant>) -> Recall {
        match &self.list {
            Some((asked, scopes)) if Some(*asked) >= since => {
                if self.written.is_empty() {
                    Recall::Known(Arc::clone(scopes))
                } else if self.written.len() <= FEW {
                    Recall::Few(self.written.keys().cloned().collect())
                } else {
                    Recall::All
                }
            }
            _ => Recall::All,
        }
    }

    /// Keeps the list.
    pub(super) fn keep_list(&mut self, asked: Instant, scopes: Vec<Value>) -> ObservedScopes {
        let scopes: ObservedScopes = Arc::new(scopes.into_iter().filter_map(owned).collect());
        let name = |(name, owner): (&String, &Arc<ScopeOwner>)| {
            text(&owner.raw, "id").map(|id| (id.to_owned(), name.clone()))
        };
        self.names = scopes.iter().filter_map(name).collect();
        self.written.retain(|_, written| asked <= *written);
        self.list = Some((asked, Arc::clone(&scopes)));
        scopes
    }

    /// Keeps the answer to a question about one scope.
    pub(super) fn keep(&mut self, id: &str, asked: Instant, scope: Option<Value>) {
        let Some((_, scopes)) = &mut self.list else { return };
        if self.written.get(id).is_some_and(|written| asked <= *written) {
            return;
        }
        let scopes = Arc::make_mut(scopes);
        // By now another may have the name that it had.
        let is_it = |name: &String| {
            scopes
                .get(name)
                .is_some_and(|owner| text(&owner.raw, "id") == Some(id))
        };
        if let Some(name) = self.names.remove(id).filter(is_it) {
            scopes.remove(&name);
        }
        if let Some((name, owner)) = scope.and_then(owned) {
            self.names.insert(id.to_owned(), name.clone());
            scopes.insert(name, owner);
        }
        self.written.remove(id);
    }

    /// Notes that a scope was written to, or may have been.
    pub(super) fn wrote(&mut self, id: &str, now: Instant) {
        self.written.insert(id.to_owned(), now);
    }

    /// The list is not to be used again.
    pub(super) fn forget(&mut self) {
        self.list = None;
        self.names.clear();
    }

    /// Whether the list, if there is one, has all these scopes.
    pub(super) fn knows<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        self.list
            .as_ref()
            .is_none_or(|(_, scopes)| names.all(|name| scopes.contains_key(name)))
    }
}

fn owned(raw: Value) -> Option<(String, Arc<ScopeOwner>)> {
    let name = text(&raw, "name")?.to_owned();
    let holder = scope_holder(&raw);
    Some((name, Arc::new(ScopeOwner { holder, raw })))
}
