//! What memory may answer, and when it has to ask.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::memory::{ClientList, Clients, Known, Recall, Scopes};

const AGE: Duration = Duration::from_secs(60);

fn client(id: &str, client_id: &str, name: &str) -> Value {
    json!({"id": id, "clientId": client_id, "name": name})
}

fn known(id: &str, client_id: &str, name: &str) -> Known {
    Some(client(id, client_id, name))
}

fn list(asked: Instant, clients: &[Value]) -> ClientList {
    let mut list = ClientList::new(asked);
    list.add(clients);
    list
}

fn name(recalled: Option<Known>) -> Option<Option<String>> {
    recalled.map(|known| known.map(|client| client["name"].as_str().unwrap().to_owned()))
}

/// The question must be at most `age` old.
fn since(now: Instant, age: Duration) -> Option<Instant> {
    now.checked_sub(age)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_answer_is_good_for_as_long_as_one_allows() {
    let (start, mut clients) = (Instant::now(), Clients::default());
    assert_eq!(clients.recall("a", since(start, AGE)), None);
    clients.keep("a", start, known("1", "a", "A").as_ref());
    clients.keep("b", start, None);
    let (within, past) = (start + AGE, start + AGE + seconds(1));
    assert_eq!(
        name(clients.recall("a", since(within, AGE))),
        Some(Some("A".into()))
    );
    assert_eq!(
        name(clients.recall("b", since(within, AGE))),
        Some(None),
        "that there is none is an answer too"
    );
    assert_eq!(clients.recall("a", since(past, AGE)), None);
    assert_eq!(
        name(clients.recall("a", since(past, AGE * 2))),
        Some(Some("A".into()))
    );
}

/// Of clients that others register, the id can be whatever somebody writes into a Secret, and then something else.
#[test]
fn what_there_is_not_is_forgotten_also_without_a_list() {
    let (start, mut clients) = (Instant::now(), Clients::default());
    let many = |what: &str| (0..100).map(move |n| format!("{what}{n}")).collect::<Vec<_>>();
    let known_of = |clients: &Clients, ids: &[String]| {
        let known = ids.iter().filter(|id| clients.recall(id, None).is_some());
        known.count()
    };
    clients.keep("a", start, known("1", "a", "A").as_ref());
    let (old, young, new) = (many("old"), many("young"), many("new"));
    for (ids, at) in [(&old, 0), (&young, 599), (&new, 601)] {
        for id in ids {
            clients.keep(id, start + seconds(at), None);
        }
    }
    assert_eq!(known_of(&clients, &young) + known_of(&clients, &new), 200);
    assert_eq!(known_of(&clients, &old), 0, "they are older than any request");
    assert_eq!(name(clients.recall("a", None)), Some(Some("A".into())));
}

#[test]
fn a_list_tells_what_there_is_but_not_what_there_is_not() {
    let (start, mut clients) = (Instant::now(), Clients::default());
    assert!(!clients.has_list(since(start, AGE)));
    clients.keep_list(list(start, &[client("1", "a", "A")]));
    assert!(
        clients.has_list(since(start + AGE, AGE)) && !clients.has_list(since(start + AGE + seconds(1), AGE))
    );
    assert_eq!(
        name(clients.recall("a", since(start, AGE))),
        Some(Some("A".into()))
    );
    assert_eq!(clients.recall("b", since(start, AGE)), None);
}

#[test]
fn what_was_asked_before_a_write_does_not_count_after_it() {
    let (start, mut clients) = (Instant::now(), Clients::default());
    clients.keep_list(list(start, &[client("1", "a", "old"), client("2", "b", "old")]));
    clients.wrote("a", start + seconds(2));
    assert_eq!(clients.recall("a", since(start + seconds(3), AGE)), None);
    assert!(clients.recall("b", since(start + seconds(3), AGE)).is_some());
    // A list that was asked for before the write may arrive after it.
    clients.keep_list(list(start + seconds(1), &[client("1", "a", "old")]));
    assert_eq!(clients.recall("a", since(start + seconds(3), AGE)), None);
    clients.keep("a", start + seconds(2), known("1", "a", "old").as_ref());
    assert_eq!(
        clients.recall("a", since(start + seconds(3), AGE)),
        None,
        "asked in the same moment"
    );
    clients.keep("a", start + seconds(3), known("1", "a", "new").as_ref());
    assert_eq!(
        name(clients.recall("a", since(start + seconds(3), AGE))),
        Some(Some("new".into()))
    );
    clients.keep_list(list(start + seconds(4), &[client("1", "a", "newer")]));
    clients.wrote("b", start + seconds(5));
    assert_eq!(
        name(clients.recall("a", since(start + seconds(6), seconds(2)))),
        Some(Some("newer".into()))
    );
}

#[test]
fn a_write_by_id_is_one_to_the_client_of_that_id_or_to_all() {
    let (start, mut clients) = (Instant::now(), Clients::default());
    clients.keep_list(list(start, &[client("1", "a", "A"), client("2", "b", "B")]));
    clients.wrote_id("1", start + seconds(1));
    assert_eq!(clients.recall("a", since(start + seconds(2), AGE)), None);
    assert!(clients.recall("b", since(start + seconds(2), AGE)).is_some());
    clients.wrote_id("unknown", start + seconds(3));
    assert_eq!(clients.recall("b", since(start + seconds(4), AGE)), None);
}

#[test]
fn a_renamed_client_is_looked_for_by_its_id_until_it_is_found() {
    let mut clients = Clients::default();
    clients.note_renamed("a", "1");
    assert_eq!(clients.renamed("a").as_deref(), Some("1"));
    clients.keep("a", Instant::now(), None);
    assert_eq!(clients.renamed("a").as_deref(), Some("1"));
    clients.keep("a", Instant::now(), known("1", "elsewhere", "A").as_ref());
    clients.keep("a", Instant::now(), known("1", "a", "A").as_ref());
    assert_eq!(clients.renamed("a"), None);
}

fn scope(id: &str, name: &str) -> Value {
    json!({"id": id, "name": name})
}

fn names(recall: Recall) -> Vec<String> {
    match recall {
        Recall::Known(scopes) => scopes.keys().cloned().collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_the_scopes_only_what_was_written_is_read_again() {
    let (start, mut scopes) = (Instant::now(), Scopes::default());
    assert!(matches!(scopes.recall(since(start, AGE)), Recall::All));
    scopes.keep_list(start, vec![scope("1", "a"), scope("2", "b")]);
    assert_eq!(names(scopes.recall(since(start + AGE, AGE))), ["a", "b"]);
    assert!(matches!(
        scopes.recall(since(start + AGE + seconds(1), AGE)),
        Recall::All
    ));

    for id in ["1", "2", "3"] {
        scopes.wrote(id, start + seconds(1));
    }
    let Recall::Few(ids) = scopes.recall(since(start + seconds(2), AGE)) else {
        panic!()
    };
    assert_eq!(ids, ["1", "2", "3"]);
    scopes.keep("1", start + seconds(2), Some(scope("1", "renamed")));
    scopes.keep("2", start + seconds(2), None);
    scopes.keep("3", start + seconds(1), Some(scope("3", "asked for too early")));
    let Recall::Few(ids) = scopes.recall(since(start + seconds(2), AGE)) else {
        panic!()
    };
    assert_eq!(ids, ["3"]);
    scopes.keep("3", start + seconds(2), Some(scope("3", "c")));
    assert_eq!(
        names(scopes.recall(since(start + seconds(2), AGE))),
        ["c", "renamed"]
    );
}

#[test]
fn a_scope_that_took_the_name_of_another_stays_when_that_one_goes() {
    let (start, mut scopes) = (Instant::now(), Scopes::default());
    scopes.keep_list(start, vec![scope("1", "a"), scope("2", "b")]);
    for id in ["1", "2"] {
        scopes.wrote(id, start + seconds(1));
    }
    scopes.keep("2", start + seconds(2), Some(scope("2", "a")));
    scopes.keep("1", start + seconds(2), None);
    assert_eq!(names(scopes.recall(since(start + seconds(2), AGE))), ["a"]);
}

#[test]
fn a_list_that_was_asked_for_before_a_write_still_lacks_it() {
    let (start, mut scopes) = (Instant::now(), Scopes::default());
    scopes.wrote("1", start + seconds(1));
    scopes.keep_list(start, vec![scope("1", "old")]);
    assert!(matches!(
        scopes.recall(since(start + seconds(2), AGE)),
        Recall::Few(_)
    ));
    scopes.keep_list(start + seconds(2), vec![scope("1", "new")]);
    assert_eq!(names(scopes.recall(since(start + seconds(2), AGE))), ["new"]);
}

#[test]
fn many_writes_make_the_list_cheaper() {
    let (start, mut scopes) = (Instant::now(), Scopes::default());
    scopes.keep_list(start, vec![]);
    for id in 0..17 {
        scopes.wrote(&id.to_string(), start + seconds(1));
    }
    assert!(matches!(
        scopes.recall(since(start + seconds(2), AGE)),
        Recall::All
    ));
}
