use http::HeaderValue;

use super::*;

fn sessions() -> Sessions {
    Sessions::with_own_key().unwrap()
}

fn owner<'a>(resource: &'a str, subject: &'a str, clients: &'a BTreeSet<String>) -> Owner<'a> {
    Owner {
        resource,
        issuer: "https://as.example.com",
        subject,
        clients,
    }
}

fn clients(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn session(id: &str) -> Session {
    Session {
        address: "[fd00::1]:8080".parse().unwrap(),
        id: HeaderValue::from_str(id).unwrap(),
    }
}

#[test]
fn what_was_sealed_opens_for_its_owner() {
    let (sessions, agent) = (sessions(), clients(&["agent"]));
    let alice = owner("https://a.example/mcp", "alice", &agent);
    for id in ["1", "!~", &"x".repeat(LONGEST_ID)] {
        let sealed = sessions.seal(alice, &session(id)).unwrap();
        assert!(sealed.as_bytes().iter().all(u8::is_ascii_graphic));
        assert!(sealed.len() <= LONGEST_SEALED);
        assert_eq!(sessions.open(alice, &sealed), Some(session(id)));
        assert_ne!(
            sessions.seal(alice, &session(id)).unwrap(),
            sealed,
            "never the same twice"
        );
    }
}

#[test]
fn it_opens_for_nobody_else() {
    let (sessions, agent) = (sessions(), clients(&["agent"]));
    let (both, none) = (clients(&["agent", "other"]), clients(&[]));
    let sealed = sessions
        .seal(owner("https://a.example/mcp", "alice", &agent), &session("1"))
        .unwrap();
    for (other, why) in [
        (owner("https://a.example/mcp2", "alice", &agent), "another server"),
        (owner("https://a.example/mcp", "bob", &agent), "another subject"),
        (owner("https://a.example/mcp", "", &agent), "no subject"),
        (
            owner("https://a.example/mcp", "alice", &both),
            "another client as well",
        ),
        (owner("https://a.example/mcp", "alice", &none), "no client"),
        // Lengths keep the parts apart.
        (
            owner("https://a.example/mc", "palice", &agent),
            "the same text, cut elsewhere",
        ),
    ] {
        assert_eq!(sessions.open(other, &sealed), None, "{why}");
    }
    let issuer = Owner {
        issuer: "https://other.example.com",
        ..owner("https://a.example/mcp", "alice", &agent)
    };
    assert_eq!(sessions.open(issuer, &sealed), None, "another issuer");
}

#[test]
fn whatever_was_changed_does_not_open() {
    let (sessions, agent) = (sessions(), clients(&["agent"]));
    let alice = owner("https://a.example/mcp", "alice", &agent);
    let sealed = sessions.seal(alice, &session("inner-1")).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(sealed.as_bytes()).unwrap();
    for at in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        let forged = HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(forged)).unwrap();
        assert_eq!(sessions.open(alice, &forged), None, "byte {at}");
        let short = HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(&bytes[..at])).unwrap();
        assert_eq!(sessions.open(alice, &short), None, "{at} bytes");
    }
}

#[test]
fn ids_that_no_client_may_send_are_not_sealed() {
    let agent = clients(&["agent"]);
    let alice = owner("https://a.example/mcp", "alice", &agent);
    for id in ["", "a b", "a\tb", &"x".repeat(LONGEST_ID + 1)] {
        assert_eq!(sessions().seal(alice, &session(id)), None, "{id:?}");
    }
}
