//! Clients that authenticate with a key ("Authenticate with Private Key JWT", RFC 7523).

use std::time::Duration;

use serde_json::Value;

use crate::auth0::{clients::Client, errors::OAuthRefusal, keys::verified, wire::Parameters};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest life of an assertion, and how far clocks may be apart, in seconds.
const LONGEST: u64 = 300;
const SKEW: u64 = 10;

/// Checks an assertion of this client; its `jti`, with which it can be used once.
pub(super) fn check(
    client: &Client,
    sent: &Parameters,
    issuer: &str,
    now: Duration,
) -> Result<String, OAuthRefusal> {
    if sent.get("client_assertion_type") != Some(JWT_BEARER) {
        return Err(OAuthRefusal::credentials());
    }
    let assertion = sent.need("client_assertion")?;
    let claims = claims(client, assertion, now).ok_or_else(OAuthRefusal::credentials)?;
    if !is_good(&claims, client.oauth_id(), issuer, now.as_secs()) {
        return Err(OAuthRefusal::credentials());
    }
    let id = claims["jti"].as_str().filter(|id| (1..=64).contains(&id.len()));
    id.map(str::to_owned).ok_or_else(OAuthRefusal::credentials)
}

/// The claims, if a key signed them that is in use, not over, and the one that the header names if it names one.
fn claims(client: &Client, assertion: &str, now: Duration) -> Option<Value> {
    let named = jsonwebtoken::decode_header(assertion).ok()?.kid;
    let in_use = client.keys_in_use();
    let keys = client
        .credentials
        .iter()
        .filter(|key| in_use.contains(&key.id()) && !key.is_over(now));
    let mut keys = keys.filter(|key| named.as_ref().is_none_or(|named| named == key.kid()));
    keys.find_map(|key| verified(assertion, &key.key, &[key.algorithm]))
}

/// Issued by the client about itself, for this tenant and no other, and for a short time. The audience is the issuer with
/// its slash; that the address of the token endpoint will not do is a choice, as the documentation names only the former.
fn is_good(claims: &Value, client: &str, issuer: &str, now: u64) -> bool {
    let number = |name: &str| claims[name].as_u64();
    let audience = match &claims["aud"] {
        Value::String(one) => one == issuer,
        Value::Array(list) => list.len() == 1 && list[0] == *issuer,
        _ => false,
    };
    let begun = |name: &str| number(name).is_none_or(|moment| moment <= now + SKEW);
    let ends = number("exp").is_some_and(|end| end > now && end <= now + LONGEST + SKEW);
    claims["iss"] == *client && claims["sub"] == *client && audience && ends && begun("iat") && begun("nbf")
}
