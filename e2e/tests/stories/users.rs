//! Users who sign in on Keycloak's own pages, and everything that their tokens say.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    oauth::{Answer, Browser, Code, Issuer, LoginRequest, OAuthClient, OAuthError, Tokens, VerifiedToken},
    story::StoryEnv,
};
use secrecy::SecretString;

use crate::inventory::credential;

pub(crate) const ALICE: &str = "alice";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Makes the user who signs in. Gives the `sub` of her tokens.
pub(crate) async fn alice(env: &StoryEnv) -> anyhow::Result<String> {
    env.realm().create_user(ALICE, PASSWORD).await
}

/// A browser with alice in front of it.
pub(crate) fn browser(env: &StoryEnv) -> anyhow::Result<Browser> {
    let trust = env.world().authority().trust();
    Browser::new(trust, ALICE, &SecretString::from(PASSWORD))
}

/// How the addresses begin that clients send their users to.
pub(crate) fn login_page(env: &StoryEnv) -> String {
    format!("{}/protocol/openid-connect/auth?", env.realm().issuer())
}

/// The resource of a server that the fixtures declare.
pub(crate) fn resource(server: &str) -> String {
    format!("https://{server}.example.com/mcp")
}

/// A client as its users have it before them.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) issuer: Issuer,
    pub(crate) client: OAuthClient,
    /// Where it listens. A native client's port is one that nobody registered.
    pub(crate) redirect_uri: String,
    /// The `resource` that it sends with each request, as MCP clients do.
    pub(crate) resource: String,
}

impl App {
    /// The McpClient `name` as `fixtures::native` declares it, which calls this server.
    pub(crate) async fn native(env: &StoryEnv, name: &str, server: &str) -> anyhow::Result<Self> {
        let redirect_uri = "http://127.0.0.1:41234/callback".to_owned();
        Self::new(env, name, server, redirect_uri).await
    }

    /// The McpClient `name` as `fixtures::web` declares it, which calls this server.
    pub(crate) async fn web(env: &StoryEnv, name: &str, server: &str) -> anyhow::Result<Self> {
        let redirect_uri = format!("https://{name}.example.com/callback");
        Self::new(env, name, server, redirect_uri).await
    }

    async fn new(env: &StoryEnv, name: &str, server: &str, redirect_uri: String) -> anyhow::Result<Self> {
        Ok(Self {
            issuer: env.issuer().await?,
            client: credential(env, name).await?,
            redirect_uri,
            resource: resource(server),
        })
    }

    /// What it sends alice to do.
    pub(crate) fn login(&self, scope: &str) -> LoginRequest {
        LoginRequest {
            redirect_uri: self.redirect_uri.clone(),
            scope: scope.to_owned(),
            resource: Some(self.resource.clone()),
            username: ALICE.to_owned(),
            password: SecretString::from(PASSWORD),
        }
    }

    /// Signs alice in.
    pub(crate) async fn sign_in(&self, scope: &str) -> anyhow::Result<Code> {
        self.issuer
            .sign_in(&self.client, &self.login(scope))
            .await?
            .granted()
    }

    /// Signs alice in and redeems the code.
    pub(crate) async fn tokens(&self, scope: &str) -> anyhow::Result<Tokens> {
        let code = self.sign_in(scope).await?;
        self.issuer.redeem(&self.client, &code).await?.granted()
    }

    /// The error that a login for this scope ends with.
    pub(crate) async fn refused(&self, scope: &str) -> anyhow::Result<OAuthError> {
        self.issuer
            .sign_in(&self.client, &self.login(scope))
            .await?
            .refused()
    }

    /// What alice reads when a login ends at a page of Keycloak, because there is nobody to send her back to.
    pub(crate) async fn dead_end(&self, login: &LoginRequest) -> anyhow::Result<String> {
        let ended = self.issuer.sign_in(&self.client, login).await;
        let error = ended.err().context("the login came back to the client")?;
        Ok(format!("{error:#}"))
    }

    /// Asks for new tokens.
    pub(crate) async fn refresh(&self, tokens: &Tokens) -> anyhow::Result<Answer> {
        let refresh_token = tokens.refresh_token.as_ref().context("no refresh token")?;
        self.issuer
            .refresh(&self.client, refresh_token, Some(&self.resource))
            .await
    }
}

/// A refusal as it is to be, word for word: the words tell apart what the code alone does not.
pub(crate) fn says(refusal: &OAuthError, error: &str, description: &str) -> anyhow::Result<()> {
    ensure!(
        refusal.error == error && refusal.error_description == description,
        "{refusal} instead of {error}: {description}"
    );
    Ok(())
}

/// Everything in an access token that somebody may rely on.
#[derive(Clone, Debug)]
pub(crate) struct Claims<'a> {
    /// The one audience; None: there is no `aud` at all, and no server accepts the token.
    pub(crate) audience: Option<&'a str>,
    pub(crate) scopes: &'a [&'a str],
    /// To which client it was issued.
    pub(crate) azp: &'a str,
    pub(crate) sub: &'a str,
    /// In seconds.
    pub(crate) lifetime: i64,
}

impl Claims<'_> {
    /// Fails unless the token says exactly this.
    pub(crate) async fn check(&self, issuer: &Issuer, token: &SecretString) -> anyhow::Result<VerifiedToken> {
        let token = issuer.verify(token).await?;
        let scopes: BTreeSet<String> = self.scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let audience = match self.audience {
            Some(audience) => token.audiences() == [audience],
            None => token.claims.get("aud").is_none(),
        };
        let as_expected = audience
            && token.typ.as_deref() == Some("at+jwt")
            && token.text("iss") == issuer.url()
            && token.scopes() == scopes
            && token.text("azp") == self.azp
            && token.text("sub") == self.sub
            && token.lifetime()? == self.lifetime;
        ensure!(
            as_expected,
            "{:?} {} instead of {self:?}",
            token.typ,
            token.claims
        );
        // Roles of the realm would let it do things elsewhere; `account` is Keycloak's own API.
        for power in ["realm_access", "resource_access"] {
            ensure!(token.claims.get(power).is_none(), "{power} in {}", token.claims);
        }
        Ok(token)
    }
}
