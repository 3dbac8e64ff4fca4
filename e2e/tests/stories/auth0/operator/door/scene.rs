//! A tenant whose platform team wants clients to register themselves, with a server that is open to them, and much that
//! is not.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use mcp_auth_e2e::{
    oauth::{Issuer, LoginRequest, OAuthClient, Tokens},
    operator::{Operator, OperatorOptions},
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::super::scene::{PASSWORD, Scene};
use crate::fixtures::{SOON, apply_all, ready, server};

/// Open to clients that register themselves, with one of its scopes.
pub(super) const NOTES: &str = "https://notes.example.com/mcp";
/// A server that is not.
pub(super) const VAULT: &str = "https://vault.example.com/mcp";
/// An internal API.
pub(super) const INTERNAL: &str = "https://ledger.internal.example.com";

/// How often the operator looks whether all is as it is to be.
pub(super) const RESYNC: Duration = Duration::from_secs(3);

const CALLBACK: &str = "https://anywhere.example.net/callback";

pub(super) struct Door {
    pub(super) scene: Scene,
    pub(super) operator: Operator,
    pub(super) issuer: Issuer,
}

impl Door {
    /// With servers, and without an AuthorizationServer. `old`: the tenant had third-party clients before April 2026.
    pub(super) async fn new(world: &Arc<World>, name: &str, old: bool) -> anyhow::Result<Self> {
        let scene = Scene::aged(world, name, old).await?;
        let env = &scene.env;
        let operator = env.start_operator_with(&Self::options(env)?).await?;
        let door = Self {
            issuer: scene.issuer().await?,
            operator,
            scene,
        };
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "namespace": door.env().namespace(), "name": "notes" },
            "spec": { "selector": { "app": "notes" }, "ports": [{ "port": 3001 }] },
        });
        let vault = server(door.env(), "vault");
        apply_all(door.env(), &[service, door.notes(), vault]).await?;
        Ok(door)
    }

    pub(super) fn options(env: &StoryEnv) -> anyhow::Result<OperatorOptions> {
        let mut options = env.operator_options();
        options.resync_interval = format!("{}s", RESYNC.as_secs());
        options.trust = Some(env.authority_file()?);
        options.extra.push("--gate-image=mcp-auth-gate:none".to_owned());
        Ok(options)
    }

    pub(super) fn env(&self) -> &StoryEnv {
        &self.scene.env
    }

    /// Anybody may register, and the operator may set what that takes. What it sends there goes through the proxy too.
    pub(super) fn main(&self) -> Value {
        let mut main = self.scene.authorization_server("main");
        main["spec"]["auth0"]["manageTenantSettings"] = json!(true);
        main["spec"]["clientRegistration"] = json!({ "dynamic": { "anyRedirectHost": true } });
        main["spec"]["endpoints"]["registration"] =
            json!(format!("{}/oidc/register", self.scene.proxy.url()));
        main["spec"]["apis"] = json!([{
            "name": "ledger", "audience": INTERNAL, "manage": true, "scopes": [{ "name": "ledger:read" }],
        }]);
        main
    }

    pub(super) fn notes(&self) -> Value {
        let mut notes = server(self.env(), "notes");
        notes["spec"]["scopes"] =
            json!([{ "name": "notes:use", "challenge": true }, { "name": "notes:write" }]);
        notes["spec"]["enforcement"] = json!({ "mode": "Gate" });
        notes["spec"]["target"] = json!({ "service": "notes" });
        notes["spec"]["allowedClients"] = json!([
            { "selfRegistered": true },
            { "namespaces": { "from": "Same" }, "scopes": ["notes:use", "notes:write"] },
        ]);
        notes
    }

    pub(super) async fn accepted(&self, status: &str) -> anyhow::Result<Value> {
        let main = ("AuthorizationServer", self.env().namespace(), "main");
        self.env().wait_condition(main, ("Accepted", status), SOON).await
    }

    /// Waits until the server is open, and lets a user in who may do everything.
    pub(super) async fn opened(&self) -> anyhow::Result<()> {
        let namespace = self.env().namespace();
        ready(self.env(), ("AuthorizationServer", namespace, "main"), SOON).await?;
        let vault = ("McpServer", namespace, "vault");
        self.env()
            .wait_condition(vault, ("Registered", "True"), SOON)
            .await?;
        self.grants_become(&[("notes:use", NOTES)]).await?;
        ensure!(self.is_open(), "{}", self.settings());
        let everything = [
            (NOTES, "notes:use"),
            (NOTES, "notes:write"),
            (VAULT, "vault:use"),
            (INTERNAL, "ledger:read"),
        ];
        self.scene.user("alice", &everything).await
    }

    pub(super) async fn status(&self) -> anyhow::Result<Value> {
        let env = self.env();
        let object = env.get("AuthorizationServer", env.namespace(), "main").await?;
        Ok(object.unwrap_or_default()["status"].clone())
    }

    pub(super) fn settings(&self) -> Value {
        self.everything("settings")
    }

    fn everything(&self, kind: &str) -> Value {
        self.scene.auth0.dashboard().everything()[kind].clone()
    }

    /// Whether the tenant lets clients register themselves.
    pub(super) fn is_open(&self) -> bool {
        self.settings()["flags"]["enable_dynamic_client_registration"] == true
    }

    /// What all third-party clients are granted, as scopes and audience.
    pub(super) fn default_grants(&self) -> Vec<Value> {
        let grants = self.everything("client_grants");
        let grants = grants
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, grant)| grant.clone());
        grants.filter(|grant| grant["default_for"].is_string()).collect()
    }

    /// Waits until all third-party clients are granted just this.
    pub(super) async fn grants_become(&self, expected: &[(&str, &str)]) -> anyhow::Result<()> {
        let expected: Vec<Value> = expected
            .iter()
            .map(|(scopes, audience)| {
                let scopes: Vec<&str> = scopes.split(' ').collect();
                json!([scopes, audience, "user"])
            })
            .collect();
        self.until("the grants of all", async || {
            let grants = self.default_grants();
            let now: Vec<Value> = grants
                .iter()
                .map(|grant| json!([grant["scope"], grant["audience"], grant["subject_type"]]))
                .collect();
            Ok((now == expected, json!(grants).to_string()))
        })
        .await
    }

    /// Ids of the clients that registered themselves.
    pub(super) fn registered(&self) -> Vec<String> {
        let clients = self.everything("clients");
        let clients = clients.as_object().into_iter().flatten();
        clients
            .filter(|(_, client)| client["external"]["external_metadata_type"] == "dcr")
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Clients with this in their metadata.
    pub(super) fn clients_with(&self, key: &str) -> Vec<Value> {
        let clients = self.everything("clients");
        let clients = clients.as_object().into_iter().flatten();
        clients
            .map(|(_, client)| client["fields"].clone())
            .filter(|client| !client["client_metadata"][key].is_null())
            .collect()
    }

    /// Waits until it is so.
    pub(super) async fn until(
        &self,
        what: &str,
        look: impl AsyncFn() -> anyhow::Result<(bool, String)>,
    ) -> anyhow::Result<()> {
        wait_for(what, SOON, async || {
            let (is_so, seen) = look().await?;
            Ok(if is_so { Seen::Done(()) } else { Seen::NotYet(seen) })
        })
        .await
    }

    /// The policy of the gate, once there is one.
    pub(super) async fn gate_policy(&self) -> anyhow::Result<Value> {
        let env = self.env();
        let maps: Api<ConfigMap> = Api::namespaced(env.client(), env.namespace());
        wait_for("a policy", SOON, async || {
            let map = maps.get_opt("notes-gate").await?;
            let data = map.and_then(|map| map.data).unwrap_or_default();
            Ok(match data.get("policy.json") {
                Some(policy) => Seen::Done(serde_json::from_str(policy)?),
                None => Seen::NotYet("none".to_owned()),
            })
        })
        .await
    }

    /// Registers a client as native ones do. Errors of its logins lead back to it.
    pub(super) async fn register(&self) -> anyhow::Result<OAuthClient> {
        let (status, answer) = self
            .post(&json!({ "token_endpoint_auth_method": "none" }))
            .await?;
        ensure!(status == StatusCode::CREATED, "{status} {answer}");
        let id = answer["client_id"].as_str().context("no id")?;
        let redirects = json!({ "redirection_policy": "allow_always" });
        let path = format!("clients/{id}");
        self.scene.auth0.dashboard().patch(&path, redirects).await?;
        Ok(OAuthClient::public(id))
    }

    /// Registers one that has a secret.
    pub(super) async fn register_machine(&self) -> anyhow::Result<OAuthClient> {
        let wish = json!({ "grant_types": ["authorization_code", "client_credentials"] });
        let (status, answer) = self.post(&wish).await?;
        ensure!(status == StatusCode::CREATED, "{status} {answer}");
        let (id, secret) = (&answer["client_id"], &answer["client_secret"]);
        let secret = SecretString::from(secret.as_str().context("no secret")?);
        Ok(OAuthClient::confidential(id.as_str().context("no id")?, secret))
    }

    /// What comes of it when a client wants to register.
    pub(super) async fn try_register(&self) -> anyhow::Result<StatusCode> {
        Ok(self.post(&json!({})).await?.0)
    }

    async fn post(&self, more: &Value) -> anyhow::Result<(StatusCode, Value)> {
        let mut body = json!({
            "client_name": "Somebody", "redirect_uris": [CALLBACK],
            "grant_types": ["authorization_code", "refresh_token"],
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let url = format!("{}/oidc/register", self.scene.auth0.url());
        let http = self.env().world().authority().http_client()?.build()?;
        let response = http.post(url).json(&body).send().await?;
        Ok((response.status(), response.json().await.unwrap_or_default()))
    }

    /// Signs alice in at a client that registered itself; `None`: the tenant refuses it.
    pub(super) async fn sign_in(
        &self,
        client: &OAuthClient,
        scope: &str,
        resource: &str,
    ) -> anyhow::Result<Option<Tokens>> {
        self.sign_in_at(client, scope, resource, CALLBACK).await
    }

    /// The same at any client.
    pub(super) async fn sign_in_at(
        &self,
        client: &OAuthClient,
        scope: &str,
        resource: &str,
        callback: &str,
    ) -> anyhow::Result<Option<Tokens>> {
        let request = LoginRequest {
            redirect_uri: callback.to_owned(),
            scope: scope.to_owned(),
            resource: Some(resource.to_owned()),
            username: "alice".to_owned(),
            password: SecretString::from(PASSWORD),
        };
        match self.issuer.sign_in(client, &request).await?.outcome() {
            Err(refusal) => {
                ensure!(refusal.error == "unauthorized_client", "{refusal}");
                Ok(None)
            }
            Ok(code) => {
                let tokens = self.issuer.redeem(client, &code).await?.granted()?;
                let token = self.issuer.verify(&tokens.access_token).await?;
                ensure!(token.audiences() == [resource], "{}", token.claims);
                Ok(Some(tokens))
            }
        }
    }

    /// What others have is as it was, settings aside.
    pub(super) fn is_others_untouched(&self) -> anyhow::Result<()> {
        self.scene.is_others_untouched_but("settings")
    }
}
