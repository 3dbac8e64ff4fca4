//! A realm in which clients may register themselves, with a server that is open to them, and much that is not.

use std::sync::Arc;

use anyhow::{Context, ensure};
use http::StatusCode;
use mcp_auth_e2e::{
    documents::Documents,
    oauth::{Issuer, LoginRequest, OAuthClient, OAuthError, Tokens, VerifiedToken},
    ports,
    story::StoryEnv,
    world::World,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::{
    clients::setup::{AuthorizationServerPart, Protected, READ, WRITE, Which},
    fixtures::{SOON, ready, server},
    users::{ALICE, PASSWORD},
};

/// The host whose documents are accepted. The same server under its address is one whose documents are not.
pub(crate) const ALLOWED: &str = "localhost";
pub(crate) const NOT_ALLOWED: &str = "127.0.0.1";

/// Scopes that are open to nobody who registers himself: of an McpServer, of an API that the operator manages, of one that
/// it does not, and of somebody who is not known to the operator.
pub(crate) const CLOSED: [&str; 4] = ["vault:use", "ledger:read", "payroll:read", "strangers:read"];

/// All of it.
pub(crate) struct Scene {
    pub(crate) lab: Protected,
    pub(crate) documents: Documents,
    pub(crate) issuer: Issuer,
    /// Where users come back to.
    pub(crate) callback: String,
}

/// What the AuthorizationServer says: both ways are open. The Inspector names its page at GitHub.
pub(crate) fn both_ways() -> Value {
    json!({
        "dynamic": { "trustedRedirectHosts": ["127.0.0.1", "localhost", "github.com"] },
        "metadataDocuments": { "allowedDomains": [ALLOWED] },
    })
}

impl Scene {
    /// Sets it up, in a realm where somebody else has scopes of his own.
    pub(crate) async fn new(world: &Arc<World>, story: &str, rules: &Value) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, story).await?;
        for scope in ["payroll:read", "strangers:read"] {
            foreign_scope(&env, scope).await?;
        }
        let part = json!({
            "clientRegistration": both_ways(),
            "apis": [
                { "name": "ledger", "audience": "urn:ledger", "manage": true, "scopes": [{ "name": "ledger:read" }] },
                { "name": "payroll", "audience": "urn:payroll", "scopes": [{ "name": "payroll:read" }] },
            ],
        });
        let part = AuthorizationServerPart(part.as_object().context("no object")?.clone());
        env.apply(&server(&env, "vault")).await?;
        let lab = Protected::open_to(env, Which::Everything, rules, Some(&part)).await?;
        let env = &lab.env;
        for (kind, name) in [("AuthorizationServer", "main"), ("McpServer", "vault")] {
            ready(env, (kind, env.namespace(), name), SOON).await?;
        }
        Ok(Self {
            documents: Documents::start(world.authority()).await?,
            issuer: env.issuer().await?,
            callback: format!("http://127.0.0.1:{}/callback", ports::free()?),
            lab,
        })
    }

    pub(crate) fn env(&self) -> &StoryEnv {
        &self.lab.env
    }

    /// Signs alice in for a client that has no secret, and redeems the code.
    pub(crate) async fn tokens(
        &self,
        client_id: &str,
        scope: &str,
    ) -> anyhow::Result<Result<Tokens, OAuthError>> {
        let request = LoginRequest {
            redirect_uri: self.callback.clone(),
            scope: scope.to_owned(),
            resource: Some(self.lab.front.resource()),
            username: ALICE.to_owned(),
            password: SecretString::from(PASSWORD),
        };
        let client = OAuthClient::public(client_id);
        let authorization = self.issuer.sign_in(&client, &request).await?;
        let code = match authorization.outcome() {
            Ok(code) => code,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(self.issuer.redeem(&client, &code).await?.outcome())
    }

    /// Fails unless the client gets a token for the lab alone when it asks for this scope.
    pub(crate) async fn must_get(&self, client_id: &str, scope: &str) -> anyhow::Result<Tokens> {
        let tokens = self
            .tokens(client_id, scope)
            .await?
            .context("no token was issued")?;
        let token: VerifiedToken = self.issuer.verify(&tokens.access_token).await?;
        ensure!(
            token.audiences() == [self.lab.front.resource()],
            "{:?}",
            token.claims
        );
        Ok(tokens)
    }

    /// Fails unless the client gets no token when it asks for this scope.
    pub(crate) async fn must_not_get(&self, client_id: &str, scope: &str) -> anyhow::Result<()> {
        let refusal = match self.tokens(client_id, scope).await? {
            Err(refusal) => refusal,
            Ok(tokens) => {
                let token = self.issuer.verify(&tokens.access_token).await?;
                anyhow::bail!("{scope} was given to {client_id}: {:?}", token.claims);
            }
        };
        ensure!(
            refusal.error_description == "Request not allowed" || refusal.error == "invalid_scope",
            "{scope}: {refusal}"
        );
        Ok(())
    }

    /// Fails if a client that refreshes its tokens gets this scope, or an audience more, by asking for it.
    pub(crate) async fn refreshed_gains_nothing(
        &self,
        client_id: &str,
        refresh: &SecretString,
        scope: &str,
    ) -> anyhow::Result<()> {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.expose_secret()),
            ("scope", &format!("{READ} {scope}")),
        ];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let client = OAuthClient::public(client_id);
        match self.issuer.token(&client, form.to_vec()).await?.outcome() {
            Ok(tokens) => self.is_open(&tokens).await,
            Err(refusal) => {
                let is_about_the_scope =
                    refusal.error_description == "Request not allowed" || refusal.error == "invalid_scope";
                ensure!(is_about_the_scope, "{scope}: {refusal}");
                Ok(())
            }
        }
    }

    /// Fails if a client that asks for no scope in particular gets one that is closed, or an audience but that of the lab.
    pub(crate) async fn gets_no_more_than_is_open(&self, client_id: &str) -> anyhow::Result<()> {
        let tokens = self.tokens(client_id, "").await?.context("no token was issued")?;
        self.is_open(&tokens).await
    }

    async fn is_open(&self, tokens: &Tokens) -> anyhow::Result<()> {
        let token = self.issuer.verify(&tokens.access_token).await?;
        let lab = self.lab.front.resource();
        let scopes = token.scopes();
        ensure!(
            token.audiences().iter().all(|audience| *audience == lab)
                && !CLOSED
                    .iter()
                    .chain(&[WRITE])
                    .any(|closed| scopes.contains(*closed)),
            "{}",
            token.claims
        );
        Ok(())
    }

    /// Registers a client by RFC 7591, at Keycloak's own endpoint or the standard's. Gives status and answer.
    pub(crate) async fn register(
        &self,
        endpoint: &str,
        client: &Value,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let url = format!("{}/clients-registrations/{endpoint}", self.issuer.url());
        let http = self.env().world().authority().http_client()?.build()?;
        let response = http.post(url).json(client).send().await?;
        Ok((response.status(), response.json().await.unwrap_or_default()))
    }

    /// What a native client sends to register itself.
    pub(crate) fn native(&self) -> Value {
        json!({
            "client_name": "Somebody",
            "redirect_uris": [self.callback],
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
        })
    }

    /// Makes Keycloak read the document of a client anew at the next login.
    pub(crate) async fn expire(&self, client_id: &str) -> anyhow::Result<()> {
        let realm = self.env().realm();
        let client = realm.find_client(client_id).await?.context("no such client")?;
        let id = client["id"].as_str().context("no id")?;
        let past = json!({ "attributes": { "cimd.cache.expiry.time.in.sec": "1" } });
        realm
            .admin()
            .put(&format!("/clients/{id}"), &past)
            .await
            .map(drop)
    }
}

/// A scope with an audience, which somebody made who has nothing to do with the operator.
pub(crate) async fn foreign_scope(env: &StoryEnv, name: &str) -> anyhow::Result<()> {
    let scope = json!({
        "name": name,
        "protocol": "openid-connect",
        "attributes": { "include.in.token.scope": "true" },
        "protocolMappers": [{
            "name": "audience",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": { "included.custom.audience": format!("urn:{name}"), "access.token.claim": "true" },
        }],
    });
    env.realm()
        .admin()
        .create("/client-scopes", &scope)
        .await
        .map(drop)
}
