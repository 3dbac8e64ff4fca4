//! The ways in which the client of a scene authenticates, and how each is shown to work.

use std::fmt;

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    oauth::{Issuer, OAuthClient},
    story::StoryEnv,
};
use serde_json::{Value, json};

use super::steps::Step;
use crate::{
    inventory::{kept, published, token_for},
    keys::{account, service_account_token},
    rotation::authenticated,
};

pub(super) const RESOURCE: &str = "https://notes.example.com/mcp";

/// What the client authenticates with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthMethod {
    ClientSecret,
    PrivateKeyJwt,
    ServiceAccountToken,
    None,
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

impl AuthMethod {
    pub(super) const ALL: [Self; 4] = [
        Self::ClientSecret,
        Self::PrivateKeyJwt,
        Self::ServiceAccountToken,
        Self::None,
    ];

    /// A word for names.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::ClientSecret => "secret",
            Self::PrivateKeyJwt => "key",
            Self::ServiceAccountToken => "account",
            Self::None => "public",
        }
    }

    /// The steps in the life of such a client: what is not there is not replaced.
    pub(super) const fn steps(self) -> &'static [Step] {
        match self.held_as() {
            Some(_) => &[
                Step::Create,
                Step::Update,
                Step::Rotate,
                Step::Revoke,
                Step::Delete,
            ],
            None => &[Step::Create, Step::Update, Step::Delete],
        }
    }

    /// Under which key of the client's Secret the credential is, if the operator makes one.
    pub(super) const fn held_as(self) -> Option<&'static str> {
        match self {
            Self::ClientSecret => Some("client-secret"),
            Self::PrivateKeyJwt => Some("client-key.pem"),
            Self::ServiceAccountToken | Self::None => None,
        }
    }

    /// What the operator may do at Keycloak.
    pub(super) const fn roles(self) -> &'static [&'static str] {
        match self {
            Self::ServiceAccountToken => &["manage-clients", "manage-identity-providers"],
            _ => &["manage-clients", "manage-realm"],
        }
    }

    /// What the AuthorizationServer has to allow for it.
    pub(super) fn allow(self, authorization_server: &mut Value) {
        if self == Self::ServiceAccountToken {
            authorization_server["spec"]["keycloak"]["serviceAccountIssuer"] = json!({});
        }
    }

    /// Makes the client one of this method.
    pub(super) fn put(self, client: &mut Value) {
        let name = client["metadata"]["name"].clone();
        let managed = &mut client["spec"]["managed"];
        managed["authentication"] = match self {
            Self::ServiceAccountToken => {
                json!({ "method": "ServiceAccountToken", "serviceAccount": { "name": name } })
            }
            _ => json!({ "method": self.to_string() }),
        };
        if self == Self::None {
            managed["grantTypes"] = json!(["authorization_code"]);
        }
        if self.held_as().is_some() {
            client["spec"]["rotation"] = json!({ "overlap": "1s" });
        }
    }

    /// Makes what has to be there before the client.
    pub(super) async fn prepare(self, env: &StoryEnv, client: &str) -> anyhow::Result<()> {
        if self == Self::ServiceAccountToken {
            env.apply(&account(env.namespace(), client)).await?;
        }
        Ok(())
    }

    /// Shows that the client of this id at Keycloak works with what its workload has. Gives the credential; where there is
    /// none, something that does not change.
    pub(super) async fn works(
        self,
        env: &StoryEnv,
        client: &str,
        id: &str,
        scope: &str,
    ) -> anyhow::Result<String> {
        let Some(key) = self.held_as() else {
            let told = published(env, env.namespace()).await?;
            let (secret, journal) = (format!("{client}-mcp-client"), journal(env, client));
            ensure!(
                self == Self::None || !told.contains(&format!("secret/{secret}")),
                "there is a Secret: {told:?}"
            );
            let keys = kept(env).await?.remove(&journal).unwrap_or_default();
            ensure!(
                keys.into_iter().eq(["homes"]),
                "its journal says more than where it is"
            );
            return self.works_without(env, client, id, scope).await;
        };
        let credential = env
            .secret_value(env.namespace(), &format!("{client}-mcp-client"), key)
            .await?;
        let issuer = env.issuer().await?;
        token_for(
            env,
            &authenticated(&issuer, id, credential.clone())?,
            scope,
            RESOURCE,
        )
        .await
        .context("the credential in the Secret")?;
        let name = journal(env, client);
        let journals = kept(env).await?;
        let keys = journals.get(&name).context("no journal")?;
        ensure!(
            !keys.contains("pending") && !keys.contains("previous"),
            "the journal is not settled: {keys:?}"
        );
        let journaled = env
            .secret_value(env.operator_namespace(), &name, "current")
            .await?;
        ensure!(
            journaled == credential,
            "the journal has another credential than the Secret"
        );
        Ok(credential)
    }

    async fn works_without(
        self,
        env: &StoryEnv,
        client: &str,
        id: &str,
        scope: &str,
    ) -> anyhow::Result<String> {
        if self == Self::ServiceAccountToken {
            let token = service_account_token(env, env.namespace(), client, env.realm().issuer()).await?;
            token_for(env, &OAuthClient::asserting(id, token), scope, RESOURCE)
                .await
                .context("the token of its ServiceAccount")?;
            return Ok("none: a ServiceAccount".to_owned());
        }
        ensure!(
            refuses_codes(&env.issuer().await?, id).await?,
            "the client is refused"
        );
        Ok("none: public".to_owned())
    }
}

/// Whether what is refused of a public client is a made-up code, and not the client.
pub(super) async fn refuses_codes(issuer: &Issuer, id: &str) -> anyhow::Result<bool> {
    let code = [
        ("grant_type", "authorization_code"),
        ("code", "made-up"),
        ("redirect_uri", "https://made-up.example.com/"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let answer = issuer.token(&OAuthClient::public(id), code.into()).await?;
    Ok(answer.refused()?.error == "invalid_grant")
}

/// The name of the client's journal.
pub(super) fn journal(env: &StoryEnv, client: &str) -> String {
    format!("mcpclient.{}.{client}", env.namespace())
}
