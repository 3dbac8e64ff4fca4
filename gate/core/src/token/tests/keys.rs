//! Which key a token may be signed with.

use super::*;

/// The key decides on the algorithm, not the token.
#[test]
fn a_key_is_used_for_its_own_algorithm_only() {
    let all = signers();
    let of = |signer: &Signer, algorithm, alg: &str, kid: &str| {
        let header = json!({"alg": alg, "typ": "at+jwt", "kid": kid}).to_string();
        signer.sign(
            algorithm,
            header.as_bytes(),
            claims("mcp:use").to_string().as_bytes(),
        )
    };
    for (token, error, why) in [
        (
            of(&all.p256, Algorithm::ES256, "ES256", "rsa"),
            TokenError::UnknownKey,
            "an EC signature, the id of the RSA key",
        ),
        (
            of(&all.rsa, Algorithm::RS256, "RS256", "p256"),
            TokenError::UnknownKey,
            "the other way",
        ),
        (
            of(&all.p256, Algorithm::ES256, "ES384", "p256"),
            TokenError::UnknownKey,
            "another curve",
        ),
        (
            of(&all.rsa, Algorithm::RS256, "RS512", "rsa"),
            TokenError::Signature,
            "another hash",
        ),
        (
            of(&all.rsa, Algorithm::RS256, "PS256", "rsa"),
            TokenError::Signature,
            "another padding",
        ),
        (
            of(&all.stranger, Algorithm::ES256, "ES256", "p256"),
            TokenError::Signature,
            "another key under a known id",
        ),
        (
            of(&all.stranger, Algorithm::ES256, "ES256", "new"),
            TokenError::UnknownKey,
            "an id that is not known",
        ),
        (
            of(&all.p256, Algorithm::ES256, "ES256", "P256"),
            TokenError::UnknownKey,
            "an id in other case",
        ),
    ] {
        assert_eq!(verify(&token), Err(error), "{why}");
    }
    let only = keys(&[all.rsa.jwk(Algorithm::RS256)]);
    let token = all.rsa.token(Algorithm::RS512, &claims("mcp:use"));
    assert_eq!(
        only.verify(&token, ISSUER),
        Err(TokenError::UnknownKey),
        "the document says RS256"
    );
}

#[test]
fn a_token_without_key_id_can_mean_one_key_only() {
    let all = signers();
    let token = with_header(&json!({"kid": null}));
    let (p256, mut other) = (all.p256.jwk(Algorithm::ES256), all.stranger.jwk(Algorithm::ES256));
    let rsa = all.rsa.jwk(Algorithm::RS256);
    assert!(
        keys(&[p256.clone(), rsa]).verify(&token, ISSUER).is_ok(),
        "the only one for ES256"
    );
    other["kid"] = json!("other");
    let two = keys(&[p256.clone(), other.clone()]);
    assert_eq!(
        two.verify(&token, ISSUER),
        Err(TokenError::UnknownKey),
        "two for ES256"
    );
    assert!(
        two.verify(&with_header(&json!({})), ISSUER).is_ok(),
        "with an id there is no doubt"
    );
    other["kid"] = json!("p256");
    let same = keys(&[p256, other]);
    assert_eq!(
        same.verify(&with_header(&json!({})), ISSUER),
        Err(TokenError::UnknownKey),
        "two of one id"
    );
}

#[test]
fn keys_of_no_use_are_left_out() {
    let p256 = || signers().p256.jwk(Algorithm::ES256);
    let with = |field: &str, value: Value| {
        let mut jwk = p256();
        jwk[field] = value;
        jwk
    };
    let without = |field: &str| {
        let mut jwk = p256();
        jwk.as_object_mut().unwrap().remove(field);
        jwk
    };
    for (jwk, useful, why) in [
        (p256(), true, "complete"),
        (without("use"), true, "says nothing of its use"),
        (without("alg"), true, "says nothing of its algorithm"),
        (with("use", json!("enc")), false, "to encrypt"),
        (with("use", json!("other")), false, "for something else"),
        (with("key_ops", json!(["verify"])), true, "to verify"),
        (
            with("key_ops", json!(["encrypt", "wrapKey"])),
            false,
            "operations without verifying",
        ),
        (
            with("alg", json!("ECDH-ES")),
            false,
            "for an algorithm that signs nothing",
        ),
        (
            with("alg", json!("RS256")),
            false,
            "for an algorithm of other keys",
        ),
        (
            with("crv", json!("secp256k1")),
            false,
            "on a curve that is not accepted",
        ),
        (
            with("crv", json!("P-521")),
            false,
            "on a curve that is not accepted",
        ),
        (with("x", json!("!")), false, "broken"),
        (without("y"), false, "half"),
        (
            json!({"kty": "oct", "k": "c2VjcmV0", "kid": "p256", "alg": "HS256"}),
            false,
            "a secret for everybody",
        ),
        (
            json!({"kty": "AKP", "kid": "p256", "alg": "ML-DSA-44", "pub": "AA"}),
            false,
            "of a kind to come",
        ),
        (json!({}), false, "nothing"),
        (json!("p256"), false, "no object"),
    ] {
        let document = json!({"keys": [jwk, signers().rsa.jwk(Algorithm::RS256)]});
        let keys = Keys::parse(document.to_string().as_bytes()).unwrap();
        let verified = keys.verify(&token("mcp:use"), ISSUER);
        assert_eq!(verified.is_ok(), useful, "{why}");
        assert!(useful || verified == Err(TokenError::UnknownKey), "{why}");
    }
    for (document, error) in [
        (&b"{\"keys\":[]}"[..], TokenError::NoKeys),
        (b"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}", TokenError::NoKeys),
        (b"{}", TokenError::Malformed),
        (b"<html>", TokenError::Malformed),
        (b"", TokenError::Malformed),
    ] {
        assert_eq!(Keys::parse(document).unwrap_err(), error);
    }
    assert_eq!(
        Keys::default().verify(&token("mcp:use"), ISSUER),
        Err(TokenError::NoKeys)
    );
}
