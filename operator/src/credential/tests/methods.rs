//! A client that authenticates in another way than before.

use super::*;
use crate::provider::key;

#[test]
fn a_credential_of_another_kind_is_replaced_before_anything_else() {
    let private_key = key::make().unwrap();
    assert_eq!(private_key.kind(), CredentialKind::PrivateKey);
    assert_eq!(make().kind(), CredentialKind::Secret);
    let settled = settled();
    let revoking = |handled: Option<&str>| Journal {
        handled_revocation: handled.map(str::to_owned),
        ..settled.clone()
    };
    let becoming = |credential: &Credential, reason| Journal {
        pending: Some(Pending {
            credential: credential.clone(),
            ..pending("", reason)
        }),
        ..settled.clone()
    };
    let (secret, key) = (CredentialKind::Secret, CredentialKind::PrivateKey);
    let changed = Choice::Make(Reason::MethodChanged);
    let other = self::secret("other");
    for (name, kind, journal, expected) in [
        (
            "a secret stays",
            secret,
            settled.clone(),
            Choice::Keep(self::secret("now")),
        ),
        ("a key now", key, settled.clone(), changed.clone()),
        ("the old one overlaps", key, overlapping(), changed.clone()),
        (
            "the change was begun",
            key,
            becoming(&private_key, Reason::MethodChanged),
            Choice::Finish(private_key.clone()),
        ),
        (
            "a secret again, before the key was in force",
            secret,
            becoming(&private_key, Reason::MethodChanged),
            changed.clone(),
        ),
        (
            "a key now, while a secret was replaced",
            key,
            becoming(&other, Reason::Due),
            changed.clone(),
        ),
        (
            "a key now, while a secret was revoked",
            key,
            becoming(&other, Reason::Revoked),
            Choice::Make(Reason::Revoked),
        ),
    ] {
        let facts = Facts {
            kind,
            ..facts(Some(&journal), None)
        };
        assert_eq!(choose(facts), expected, "{name}");
    }
    for (handled, expected) in [(None, Choice::Make(Reason::Revoked)), (Some("x"), changed)] {
        let journal = revoking(handled);
        let facts = Facts {
            kind: key,
            revocation: Some("x"),
            ..facts(Some(&journal), None)
        };
        assert_eq!(choose(facts), expected);
    }
}

#[test]
fn nothing_overlaps_with_a_credential_of_another_kind() {
    let private_key = key::make().unwrap();
    let journal = overlapping();
    let facts = Facts {
        kind: CredentialKind::PrivateKey,
        overlap: Some(seconds(500)),
        ..facts(Some(&journal), None)
    };
    let begun = begin(facts, &choose(facts), Some(private_key.clone())).unwrap();
    assert_eq!(
        accepted(&begun, &facts),
        Some(Credentials::only(private_key.clone()))
    );
    let finished = finish(&begun, &facts).unwrap();
    assert_eq!((finished.current, finished.previous), (Some(private_key), None));
}
