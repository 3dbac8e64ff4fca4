//! Private keys by which clients authenticate (RFC 7523): RSA with 2048 bits for RS256, which every OAuth library takes.
//!
//! A key is kept as PKCS#8 in PEM. The workload gets it like that and as JWK; the authorization server gets its public
//! half, under the thumbprint of RFC 7638 as its id.

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Credential;

/// What a private key begins with.
pub(super) const PEM: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
/// RFC 7468 section 2.
const LINE: usize = 64;

/// The algorithm of signatures.
pub const ALGORITHM: &str = "RS256";
/// RFC 7523 section 2.2.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// For how many seconds an assertion is good: a request takes less.
const LIFETIME: i64 = 60;

/// Tags of ASN.1 that such a key is made of.
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
/// `rsaEncryption` of RFC 3279, as an element, and what goes with it.
const RSA_ENCRYPTION: &[u8] = &[6, 9, 42, 134, 72, 134, 247, 13, 1, 1, 1];
const NULL: &[u8] = &[5, 0];

/// A private key. Prints nothing of it.
pub struct PrivateKey {
    /// PKCS#1, which is what is in the innermost shell of PKCS#8.
    der: Vec<u8>,
    /// Modulus, public exponent, private exponent, and the five that make calculations short (RFC 8017 appendix A.1.2).
    numbers: [Vec<u8>; 8],
    /// The id that assertions name it by, where one is known: the other side takes none for any of its keys, and a wrong one
    /// for none of them.
    name: Option<String>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").finish_non_exhaustive()
    }
}

/// Makes a key. Takes a good part of a second. `None`: the system has no randomness to give.
pub fn make() -> Option<Credential> {
    let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
    let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    Some(Credential::new(format!(
        "{PEM}\n{}{PEM_END}\n",
        lines(der.as_ref())
    )))
}

/// Bytes as lines of base64.
fn lines(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = String::new();
    for start in (0..text.len()).step_by(LINE) {
        lines.push_str(&text[start..text.len().min(start + LINE)]);
        lines.push('\n');
    }
    lines
}

impl PrivateKey {
    /// Reads the key that a credential is. `None`: it is none of ours.
    pub fn of(credential: &Credential) -> Option<Self> {
        let (text, _) = credential.expose().strip_prefix(PEM)?.split_once(PEM_END)?;
        let text: String = text.split_ascii_whitespace().collect();
        let der = inner(&STANDARD.decode(text).ok()?)?.to_vec();
        let numbers = numbers(&der)?;
        let mut key = Self {
            der,
            numbers,
            name: None,
        };
        key.name = Some(key.id());
        Some(key)
    }

    /// Reads a key that somebody else made, PKCS#8 in PEM or a JWK with all its numbers. `None`: it is none for RS256.
    pub fn read(text: &str) -> Option<Self> {
        if text.trim_start().starts_with(PEM) {
            let key = Self::of(&Credential::new(text.trim_start()))?;
            return Some(Self { name: None, ..key });
        }
        let jwk: Value = serde_json::from_str(text).ok()?;
        let number = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok();
        let numbers = ["n", "e", "d", "p", "q", "dp", "dq", "qi"].map(number);
        let numbers: Vec<Vec<u8>> = numbers.into_iter().collect::<Option<_>>()?;
        let integers = numbers.iter().flat_map(|number| integer(number));
        let content: Vec<u8> = integer(&[0]).into_iter().chain(integers).collect();
        (jwk["kty"] == "RSA").then_some(())?;
        Some(Self {
            der: wrapped(SEQUENCE, &content),
            numbers: numbers.try_into().ok()?,
            name: jwk["kid"].as_str().map(str::to_owned),
        })
    }

    /// Its id, where we choose it: the thumbprint of its public half.
    pub fn id(&self) -> String {
        let [modulus, exponent, ..] = &self.numbers;
        thumbprint(&encode(modulus), &encode(exponent))
    }

    /// The public half as JWK.
    pub fn public_jwk(&self) -> Value {
        let [modulus, exponent, ..] = &self.numbers;
        json!({
            "kty": "RSA", "use": "sig", "alg": ALGORITHM, "kid": self.id(),
            "n": encode(modulus), "e": encode(exponent),
        })
    }

    /// The public half in PEM, as a `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7, RFC 3279 section 2.3.1).
    pub fn public_pem(&self) -> String {
        let [modulus, exponent, ..] = &self.numbers;
        let key = wrapped(SEQUENCE, &[integer(modulus), integer(exponent)].concat());
        let algorithm = wrapped(SEQUENCE, &[RSA_ENCRYPTION, NULL].concat());
        // All bits of the last byte count.
        let bits = wrapped(BIT_STRING, &[&[0], key.as_slice()].concat());
        let der = wrapped(SEQUENCE, &[algorithm, bits].concat());
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}-----END PUBLIC KEY-----\n",
            lines(&der)
        )
    }

    /// The key as JWK. A secret.
    pub fn jwk(&self) -> String {
        let mut jwk = self.public_jwk();
        for (name, number) in ["d", "p", "q", "dp", "dq", "qi"]
            .into_iter()
            .zip(&self.numbers[2..])
        {
            jwk[name] = json!(encode(number));
        }
        jwk.to_string()
    }

    /// A fresh assertion by which this client authenticates at `audience`. `None`: it could not be signed.
    pub fn assertion(&self, client_id: &str, audience: &str, now: Timestamp) -> Option<String> {
        let header = Header {
            kid: self.name.clone(),
            ..Header::new(Algorithm::RS256)
        };
        let nonce: [u8; 16] = rand::random();
        let now = now.as_second();
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": audience, "jti": URL_SAFE_NO_PAD.encode(nonce),
            "iat": now, "exp": now.saturating_add(LIFETIME),
        });
        let key = EncodingKey::from_rsa_der(&self.der);
        jsonwebtoken::encode(&header, &claims, &key).ok()
    }
}

/// The public halves of these keys as one set (RFC 7517 section 5).
pub fn public_set<'a>(credentials: impl IntoIterator<Item = &'a Credential>) -> String {
    let keys = credentials.into_iter().filter_map(PrivateKey::of);
    let keys: Vec<Value> = keys.map(|key| key.public_jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// The thumbprints of the RSA keys in a set, whatever ids they have there.
pub fn thumbprints(set: &str) -> BTreeSet<String> {
    let set: Value = serde_json::from_str(set).unwrap_or_default();
    let keys = set["keys"].as_array().into_iter().flatten();
    keys.filter_map(|key| Some(thumbprint(key["n"].as_str()?, key["e"].as_str()?)))
        .collect()
}

/// RFC 7638 section 3.
fn thumbprint(modulus: &str, exponent: &str) -> String {
    let members = format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

/// RFC 7518 section 2, Base64urlUInt.
fn encode(number: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(number)
}

/// The numbers of a key in PKCS#1.
fn numbers(der: &[u8]) -> Option<[Vec<u8>; 8]> {
    let (key, _) = element(der, SEQUENCE)?;
    let (_version, mut rest) = element(key, INTEGER)?;
    let mut numbers = Vec::new();
    while !rest.is_empty() {
        let (number, after) = element(rest, INTEGER)?;
        // A leading zero only says that the number is not negative.
        numbers.push(number.strip_prefix(&[0]).unwrap_or(number).to_vec());
        rest = after;
    }
    numbers.try_into().ok()
}

/// The key itself in PKCS#8 (RFC 5208 section 5): after a version and an algorithm.
fn inner(der: &[u8]) -> Option<&[u8]> {
    let (outer, _) = element(der, SEQUENCE)?;
    let (_version, rest) = element(outer, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    Some(element(rest, OCTET_STRING)?.0)
}

/// A number in DER: not negative, so the first bit is none of it.
fn integer(number: &[u8]) -> Vec<u8> {
    let sign: &[u8] = match number.first() {
        Some(first) if *first >= 0x80 => &[0],
        _ => &[],
    };
    wrapped(INTEGER, &[sign, number].concat())
}

/// An element of DER. Nothing of a key is so long that its length has more than two bytes.
fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head: &[u8] = match (high, low) {
        (0, 0..=0x7f) => &[tag, low],
        (0, _) => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}

/// The content of the element of DER that the text begins with, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (
            usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])),
            rest.get(2..)?,
        ),
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    #[test]
    fn what_is_signed_is_verified_with_the_public_half() {
        let credential = make().unwrap();
        let key = PrivateKey::of(&credential).unwrap();
        let pem = DecodingKey::from_rsa_pem(key.public_pem().as_bytes()).unwrap();
        let now = Timestamp::from_second(1000).unwrap();
        let public = key.public_jwk();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_exp = false;
        validation.set_audience(&["issuer"]);
        let decoding =
            DecodingKey::from_rsa_components(public["n"].as_str().unwrap(), public["e"].as_str().unwrap())
                .unwrap();
        let mut nonces = BTreeSet::new();
        for _ in 0..2 {
            let assertion = key.assertion("c", "issuer", now).unwrap();
            let token = jsonwebtoken::decode::<Value>(&assertion, &decoding, &validation).unwrap();
            assert_eq!(token.header.kid, Some(key.id()));
            jsonwebtoken::decode::<Value>(&assertion, &pem, &validation).unwrap();
            let claims = token.claims;
            assert_eq!(
                (&claims["iss"], &claims["sub"], &claims["exp"]),
                (&json!("c"), &json!("c"), &json!(1060))
            );
            nonces.insert(claims["jti"].as_str().unwrap().to_owned());
        }
        assert_eq!(nonces.len(), 2, "each has an id of its own");
        assert_ne!(make().unwrap(), credential);
    }

    #[test]
    fn both_forms_are_the_same_key_and_the_public_half_has_none_of_it() {
        let credential = make().unwrap();
        let key = PrivateKey::of(&credential).unwrap();
        assert!(EncodingKey::from_rsa_pem(credential.expose().as_bytes()).is_ok());
        let jwk: Value = serde_json::from_str(&key.jwk()).unwrap();
        assert_eq!(jwk["kid"], json!(key.id()));
        for (name, bytes) in [("n", 256), ("p", 128), ("q", 128)] {
            let number = URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
            assert_eq!(number.len(), bytes, "{name}");
        }
        let public = public_set([&credential]);
        assert_eq!(thumbprints(&public), [key.id()].into());
        for private in ["d", "p", "q", "dp", "dq", "qi"] {
            assert!(!public.contains(jwk[private].as_str().unwrap()), "{private}");
        }
        assert!(!format!("{key:?} {credential:?}").contains(jwk["d"].as_str().unwrap()));
    }

    #[test]
    fn a_key_from_elsewhere_is_read_in_either_form_and_has_the_name_that_it_says() {
        let credential = make().unwrap();
        let own = PrivateKey::of(&credential).unwrap();
        let named = |text: &str| {
            let key = PrivateKey::read(text)?;
            assert_eq!((key.id(), &key.der), (own.id(), &own.der));
            let assertion = key.assertion("c", "issuer", Timestamp::UNIX_EPOCH).unwrap();
            Some(jsonwebtoken::decode_header(assertion).unwrap().kid)
        };
        let mut jwk: Value = serde_json::from_str(&own.jwk()).unwrap();
        assert_eq!(named(&format!("\n{}", credential.expose())), Some(None));
        assert_eq!(named(&jwk.to_string()), Some(Some(own.id())));
        jwk["kid"] = json!("theirs");
        assert_eq!(named(&jwk.to_string()), Some(Some("theirs".to_owned())));
        for (name, value) in [
            ("d", Value::Null),
            ("kty", json!("EC")),
            ("p", json!("not base64 !")),
        ] {
            let mut broken = jwk.clone();
            broken[name] = value;
            assert_eq!(named(&broken.to_string()), None, "{name}");
        }
        assert!(named("s3cret").is_none() && named(PEM).is_none());
    }

    /// The key of RFC 7638 section 3.1.
    #[test]
    fn the_thumbprint_is_that_of_the_specification() {
        let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let set = json!({"keys": [{"kty": "RSA", "kid": "2011-04-29", "n": modulus, "e": "AQAB"}]});
        let expected = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(thumbprints(&set.to_string()), [expected.to_owned()].into());
    }

    #[test]
    fn what_is_no_key_is_none() {
        let whole = make().unwrap();
        let cut = whole.expose().replace("MII", "MIIA");
        for text in ["s3cret", PEM, &format!("{PEM}\nMAA=\n{PEM_END}\n"), &cut] {
            assert!(PrivateKey::of(&Credential::new(text)).is_none());
        }
        for set in ["", "{}", "[]", r#"{"keys":[{"kty":"EC"}]}"#] {
            assert!(thumbprints(set).is_empty(), "{set}");
        }
    }
}
