use jsonwebtoken::EncodingKey;
use rcgen::PublicKeyData as _;
use serde_json::json;

use super::*;
use crate::testing::{
    ISSUER, NOW, RESOURCE, Signer, claims, issuer_keys, keys, policy, policy_with, sign, signers, token,
};

mod claims;
mod keys;

/// A token of the P-256 key with these fields in its header besides `alg` and `kid`.
fn with_header(change: &Value) -> String {
    let mut header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "p256"});
    for (field, value) in change.as_object().unwrap() {
        header[field] = value.clone();
    }
    header
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    let claims = claims("mcp:use").to_string();
    signers()
        .p256
        .sign(Algorithm::ES256, header.to_string().as_bytes(), claims.as_bytes())
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    issuer_keys().verify(token, ISSUER)
}

#[test]
fn tokens_of_every_kind_of_key_are_accepted() {
    let all = signers();
    for (signer, algorithm) in [
        (&all.rsa, Algorithm::RS256),
        (&all.rsa, Algorithm::RS384),
        (&all.rsa, Algorithm::RS512),
        (&all.rsa, Algorithm::PS256),
        (&all.rsa, Algorithm::PS384),
        (&all.rsa, Algorithm::PS512),
        (&all.p256, Algorithm::ES256),
        (&all.p384, Algorithm::ES384),
        (&all.ed25519, Algorithm::EdDSA),
    ] {
        let token = signer.token(algorithm, &claims("mcp:use"));
        let claims = verify(&token).unwrap_or_else(|error| panic!("{algorithm:?}: {error}"));
        assert_eq!(claims.check(&policy(), NOW), Ok(()), "{algorithm:?}");
    }
}

/// Whatever is public can be had by anybody, and so must not be a secret to sign with.
#[test]
fn nothing_public_signs_a_token() {
    let rsa = &signers().rsa;
    let pem = rsa.pair.public_key_pem();
    let jwk = rsa.jwk(Algorithm::RS256);
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    for (secret, why) in [
        (pem.as_bytes().to_vec(), "the public key in PEM"),
        (pem.trim_end().as_bytes().to_vec(), "without its last line end"),
        (rsa.pair.subject_public_key_info(), "in DER"),
        (rsa.pair.public_key_raw().to_vec(), "in DER, the key alone"),
        (jwk.to_string().into_bytes(), "as JWK"),
        (modulus, "its modulus"),
        (Vec::new(), "nothing"),
    ] {
        let key = EncodingKey::from_secret(&secret);
        for (name, algorithm) in [
            ("HS256", Algorithm::HS256),
            ("HS384", Algorithm::HS384),
            ("HS512", Algorithm::HS512),
        ] {
            let header = json!({"alg": name, "typ": "at+jwt", "kid": "rsa"}).to_string();
            let token = sign(
                &key,
                algorithm,
                header.as_bytes(),
                claims("mcp:use").to_string().as_bytes(),
            );
            assert_eq!(verify(&token), Err(TokenError::Algorithm), "{name} with {why}");
            // Signed so, but said to be signed as the issuer does.
            let header = json!({"alg": "RS256", "typ": "at+jwt", "kid": "rsa"}).to_string();
            let token = sign(
                &key,
                algorithm,
                header.as_bytes(),
                claims("mcp:use").to_string().as_bytes(),
            );
            assert_eq!(
                verify(&token),
                Err(TokenError::Signature),
                "{name} with {why} as RS256"
            );
        }
    }
}

#[test]
fn algorithms_that_are_not_accepted_are_refused() {
    for alg in [
        "none", "None", "NONE", "nOnE", "", "HS256", "hs256", "rs256", "ES512", "ES256K", "RSA1_5", "dir",
        "ES256 ",
    ] {
        let good = with_header(&json!({"alg": alg}));
        let (signed, _) = good.rsplit_once('.').unwrap();
        assert_eq!(verify(&good), Err(TokenError::Algorithm), "{alg:?}");
        assert_eq!(
            verify(&format!("{signed}.")),
            Err(TokenError::Algorithm),
            "{alg:?} without signature"
        );
    }
}

#[test]
fn demands_that_are_not_understood_are_refused() {
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!("x")] {
        assert_eq!(
            verify(&with_header(&json!({"crit": crit, "b64": true}))),
            Err(TokenError::Algorithm),
            "{crit}"
        );
    }
    assert!(
        verify(&with_header(
            &json!({"jku": "https://evil.example/keys", "x5u": "https://evil.example"})
        ))
        .is_ok(),
        "not looked at"
    );
    let stranger = &signers().stranger;
    let header =
        json!({"alg": "ES256", "typ": "at+jwt", "jwk": stranger.jwk(Algorithm::ES256), "kid": "p256"});
    let own = stranger.sign(
        Algorithm::ES256,
        header.to_string().as_bytes(),
        claims("mcp:use").to_string().as_bytes(),
    );
    assert_eq!(
        verify(&own),
        Err(TokenError::Signature),
        "a token does not bring its own key"
    );
}

#[test]
fn what_is_no_signed_token_is_refused() {
    let good = token("mcp:use");
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    for (token, why) in [
        (String::new(), "nothing"),
        ("opaque".to_owned(), "one part"),
        (format!("{header}.{payload}"), "two parts"),
        (format!("{good}.x"), "four parts"),
        (format!("{good}."), "four parts, one empty"),
        (
            format!("{header}.{payload}.{signature}.{payload}.{signature}"),
            "five parts, as when encrypted",
        ),
        (format!(".{payload}.{signature}"), "no header"),
        (format!("{header}..{signature}"), "no payload"),
        (format!("{header}=.{payload}.{signature}"), "padding"),
        (format!("{header} .{payload}.{signature}"), "a space"),
        (format!("!{header}.{payload}.{signature}"), "not base64url"),
        (
            format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode("[]")),
            "the header is a list",
        ),
        (
            format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode("{}")),
            "the header is empty",
        ),
        (
            format!(
                "{}.{payload}.{signature}",
                URL_SAFE_NO_PAD.encode(r#"{"alg":["ES256"]}"#)
            ),
            "no text as alg",
        ),
        (
            format!(
                "{}.{payload}.{signature}",
                URL_SAFE_NO_PAD.encode(r#"{"alg":"none","alg":"ES256"}"#)
            ),
            "alg twice",
        ),
        (
            format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("null")),
            "the payload is null",
        ),
        (
            format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(b"\xff")),
            "the payload is no text",
        ),
        (format!("{header}.{payload}.{}", "A".repeat(LONGEST)), "huge"),
    ] {
        assert_eq!(verify(&token), Err(TokenError::Malformed), "{why}");
    }
    let other = token("notes:admin");
    let foreign = other.split('.').nth(1).unwrap();
    for (token, why) in [
        (format!("{header}.{payload}."), "no signature"),
        (
            format!("{header}.{foreign}.{signature}"),
            "the claims of another token",
        ),
        (format!("{header}.{payload}.{signature}="), "padding"),
        (
            format!("{header}.{payload}.{}", &signature[..80]),
            "half a signature",
        ),
        (
            format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
            "zeros (CVE-2022-21449)",
        ),
    ] {
        assert_eq!(verify(&token), Err(TokenError::Signature), "{why}");
    }
}

/// Whoever makes up an issuer must not make a gate ask for keys.
#[test]
fn a_foreign_issuer_is_found_before_the_key() {
    for iss in [
        "https://evil.example",
        "https://as.example/realms/r/",
        "https://AS.example/realms/r",
        "",
    ] {
        let mut claims = claims("mcp:use");
        claims["iss"] = json!(iss);
        let known = signers().p256.token(Algorithm::ES256, &claims);
        assert_eq!(
            verify(&known),
            Err(TokenError::Issuer),
            "{iss}: signed by a key of ours"
        );
        let header = json!({"alg": "ES256", "kid": "new"}).to_string();
        let unknown =
            signers()
                .stranger
                .sign(Algorithm::ES256, header.as_bytes(), claims.to_string().as_bytes());
        assert_eq!(
            verify(&unknown),
            Err(TokenError::Issuer),
            "{iss}: not to be asked for"
        );
        assert_eq!(
            Keys::default().verify(&unknown, ISSUER),
            Err(TokenError::Issuer),
            "{iss}: without keys"
        );
    }
}
