//! Tokens in the two forms that an API can ask for (access token profiles), and the answer around them.

use std::collections::BTreeSet;

use http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::auth0::{
    access::Access,
    clients::Client,
    errors::OAuthRefusal,
    server::Shared,
    tenant::random_id,
    wire::{Object, object, text},
};

/// An access token to be.
pub(super) struct Minting<'a> {
    client: &'a Client,
    server: &'a Object,
    subject: String,
    pub(super) scopes: BTreeSet<String>,
    permissions: Option<&'a BTreeSet<String>>,
    /// Whether it is for the client itself.
    pub(super) machine: bool,
    /// Whether it is good for `/userinfo` too.
    pub(super) openid: bool,
    /// Who acts for the subject (RFC 8693 section 4.1).
    pub(super) actor: Option<Value>,
}

impl<'a> Minting<'a> {
    /// With what a client has at an API, in this name.
    pub(super) fn new(client: &'a Client, access: &'a Access<'_>, subject: &str) -> Self {
        Self {
            client,
            server: access.server,
            subject: subject.to_owned(),
            scopes: access.scopes.clone(),
            permissions: access.permissions.as_ref(),
            machine: false,
            openid: false,
            actor: None,
        }
    }

    /// The answer of the token endpoint (RFC 6749 section 5.1).
    pub(super) fn answer(&self, shared: &Shared) -> Result<Object, OAuthRefusal> {
        let mut answer = object(json!({
            "access_token": self.token(shared)?,
            "token_type": "Bearer",
            "expires_in": self.lifetime(),
        }));
        if !self.scopes.is_empty() {
            answer.insert("scope".to_owned(), json!(self.scope()));
        }
        Ok(answer)
    }

    fn scope(&self) -> String {
        let scopes: Vec<&str> = self.scopes.iter().map(String::as_str).collect();
        scopes.join(" ")
    }

    /// That of the API; for a strict third party no longer than the client's own, which its documentation calls the
    /// lifetime of access tokens too. The shorter of the two is a choice.
    fn lifetime(&self) -> u64 {
        let of_api = self.server.get("token_lifetime").and_then(Value::as_u64);
        let of_api = of_api.unwrap_or(86_400);
        let configuration = self.client.fields.get("jwt_configuration");
        let own = configuration.and_then(|jwt| jwt["lifetime_in_seconds"].as_u64());
        match own {
            Some(own) if self.client.is_strict() => own.min(of_api),
            _ => of_api,
        }
    }

    fn token(&self, shared: &Shared) -> Result<String, OAuthRefusal> {
        let standard = text(self.server, "token_dialect").starts_with("rfc9068_profile");
        let typ = if standard { "at+jwt" } else { "JWT" };
        let claims = self.claims(shared, standard);
        let token = match text(self.server, "signing_alg") {
            "HS256" => self.sign_with_secret(typ, &claims),
            algorithm => shared.keys.sign(typ, algorithm, &claims).ok(),
        };
        token.ok_or_else(|| {
            OAuthRefusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "the token cannot be signed",
            )
        })
    }

    /// RFC 9068 tokens name the client in `client_id` and have a `jti`; Auth0's own name it in `azp`, have none, and say
    /// how they came about (`gty`).
    fn claims(&self, shared: &Shared, standard: bool) -> Value {
        let now = shared.clock.now().as_secs();
        let audience = text(self.server, "identifier");
        let mut claims = json!({
            "iss": shared.place.issuer(),
            "sub": self.subject,
            "aud": audience,
            "iat": now,
            "exp": now + self.lifetime(),
        });
        if self.openid {
            claims["aud"] = json!([audience, shared.place.userinfo()]);
        }
        if !self.scopes.is_empty() {
            claims["scope"] = json!(self.scope());
        }
        if let Some(permissions) = self.permissions {
            claims["permissions"] = json!(permissions);
        }
        if let Some(actor) = &self.actor {
            claims["act"] = actor.clone();
        }
        if standard {
            claims["client_id"] = json!(self.client.oauth_id());
            claims["jti"] = json!(random_id("", 22));
        } else {
            claims["azp"] = json!(self.client.oauth_id());
            if self.machine {
                claims["gty"] = json!("client-credentials");
            }
        }
        claims
    }

    fn sign_with_secret(&self, typ: &str, claims: &Value) -> Option<String> {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(typ.to_owned());
        let key = EncodingKey::from_secret(text(self.server, "signing_secret").as_bytes());
        jsonwebtoken::encode(&header, claims, &key).ok()
    }
}
