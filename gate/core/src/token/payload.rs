//! The claims of a token, as issuers write them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Claims;

/// The claims as they are written.
#[derive(Deserialize)]
pub(super) struct Payload {
    pub(super) iss: String,
    sub: Option<String>,
    #[serde(default)]
    aud: OneOrMany,
    exp: NumericDate,
    nbf: Option<NumericDate>,
    client_id: Option<String>,
    azp: Option<String>,
    #[serde(default)]
    scope: OneOrMany,
    /// What some issuers call `scope`.
    #[serde(default)]
    scp: OneOrMany,
    typ: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
    #[default]
    None,
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
            Self::None => Vec::new(),
        }
    }
}

/// Seconds of Unix time, whole or not (RFC 7519, 2).
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "serde_json::Number")]
struct NumericDate(i64);

impl TryFrom<serde_json::Number> for NumericDate {
    type Error = &'static str;

    fn try_from(number: serde_json::Number) -> Result<Self, Self::Error> {
        // No token is good until the year 10000.
        const LAST: f64 = 253_402_300_800.0;
        if let Some(whole) = number.as_i64() {
            return Ok(Self(whole));
        }
        match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "within the bounds of i64")]
            Some(seconds) if seconds.abs() < LAST => Ok(Self(seconds.floor() as i64)),
            _ => Err("no time"),
        }
    }
}

impl Payload {
    pub(super) fn into_claims(self, header_type: Option<String>) -> Claims {
        let words = |text: OneOrMany| -> Vec<String> {
            let all = text.into_vec();
            all.iter()
                .flat_map(|text| text.split(' '))
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let clients: BTreeSet<String> = self.client_id.iter().chain(&self.azp).cloned().collect();
        Claims {
            issuer: self.iss,
            subject: self.sub.unwrap_or_default(),
            client: self.client_id.or(self.azp).unwrap_or_default(),
            clients,
            audiences: self.aud.into_vec(),
            expires: self.exp.0,
            not_before: self.nbf.map(|time| time.0),
            scopes: words(self.scope).into_iter().chain(words(self.scp)).collect(),
            header_type,
            payload_type: self.typ,
        }
    }
}
