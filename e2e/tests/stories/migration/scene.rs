//! Two realms, each behind a proxy of its own, an operator that knows both, and a client.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{
    keycloak::{OPERATOR_ROLES, Realm},
    lengths,
    operator::Operator,
    proxy::RecordingProxy,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::{
    fixtures::{SOON, apply_all, ready, server},
    inventory::kept,
};

/// The client.
pub(super) const READER: &str = "reader";

/// The parts: the story's realm is `main`, the other one `next`.
pub(super) struct Scene {
    pub(super) env: StoryEnv,
    pub(super) next: Realm,
    pub(super) proxy: RecordingProxy,
}

/// How late the workload reads its Secret.
pub(super) fn lag() -> Duration {
    Duration::from_secs(lengths::of(1, 60))
}

/// For how long the old registration stays: longer than that.
pub(super) fn overlap() -> Duration {
    lag() + Duration::from_secs(lengths::of(3, 10))
}

impl Scene {
    /// Makes them, with a server in each realm.
    pub(super) async fn new(world: &Arc<World>, name: &str) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, name).await?;
        let next = format!("{}-next", env.namespace());
        let next = world.keycloak().create_realm(&next, &OPERATOR_ROLES).await?;
        let proxy = RecordingProxy::start_at(world.host(), world.keycloak().url(), world.authority())?;
        let scene = Self { env, next, proxy };
        let mut bills = server(&scene.env, "bills");
        bills["spec"]["authorizationServerRef"] = json!({ "name": "next" });
        let objects = [
            scene.env.authorization_server("main"),
            scene.credentials(),
            scene.authorization_server(),
            server(&scene.env, "notes"),
            bills,
        ];
        apply_all(&scene.env, &objects).await?;
        Ok(scene)
    }

    /// The same with an operator, and the client at work in the realm `main`.
    pub(super) async fn at_work(
        world: &Arc<World>,
        name: &str,
        method: &str,
    ) -> anyhow::Result<(Self, Operator)> {
        let scene = Self::new(world, name).await?;
        let operator = scene.env.start_operator().await?;
        scene.env.apply(&scene.reader("main", method)).await?;
        let namespace = scene.env.namespace();
        for named in [
            ("McpServer", namespace, "notes"),
            ("McpServer", namespace, "bills"),
            ("McpClient", namespace, READER),
        ] {
            ready(&scene.env, named, SOON).await?;
        }
        Ok((scene, operator))
    }

    fn credentials(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "next", "namespace": self.env.namespace() },
            "stringData": {
                "client-id": self.next.operator_client_id(),
                "client-secret": self.next.operator_client_secret().expose_secret(),
            },
        })
    }

    /// The AuthorizationServer `next`.
    pub(super) fn authorization_server(&self) -> Value {
        let proxy = self.proxy.url();
        let realm = format!("{proxy}/realms/{}", self.next.name());
        let mut next = self.env.authorization_server("next");
        next["spec"]["issuer"] = json!(self.next.issuer());
        next["spec"]["keycloak"] = json!({ "realm": self.next.name() });
        next["spec"]["credentials"] = json!({ "secretRef": { "name": "next" } });
        next["spec"]["endpoints"] = json!({
            "discovery": format!("{realm}/.well-known/openid-configuration"),
            "admin": proxy,
            "jwks": format!("{realm}/protocol/openid-connect/certs"),
            "token": format!("{realm}/protocol/openid-connect/token"),
        });
        next
    }

    /// The client, to be registered there.
    pub(super) fn reader(&self, home: &str, method: &str) -> Value {
        let access = match home {
            "main" => json!([{ "server": { "name": "notes" } }]),
            "next" => json!([{ "server": { "name": "bills" } }]),
            "partner" => json!([{ "server": { "name": "parcels" } }]),
            _ => json!([]),
        };
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": { "namespace": self.env.namespace(), "name": READER },
            "spec": {
                "authorizationServerRef": { "name": home },
                "managed": { "grantTypes": ["client_credentials"], "authentication": { "method": method } },
                "access": access,
                "rotation": { "overlap": format!("{}s", overlap().as_secs()) },
            },
        })
    }

    /// How the client's id ends in both realms.
    pub(super) fn id(&self) -> String {
        format!(".{}.{READER}", self.env.namespace())
    }

    /// In which realms the client is.
    pub(super) async fn places(&self) -> anyhow::Result<BTreeSet<&'static str>> {
        let mut places = BTreeSet::new();
        for (name, realm) in [("main", self.env.realm()), ("next", &self.next)] {
            let clients = realm.admin().get("/clients?max=1000").await?;
            let clients = clients.as_array().context("no list")?;
            let suffix = format!(".{READER}");
            let ours = clients.iter().filter(|client| {
                client["clientId"]
                    .as_str()
                    .is_some_and(|id| id.ends_with(&suffix))
            });
            let count = ours.count();
            ensure!(count <= 1, "{count} clients in {name}");
            if count == 1 {
                places.insert(name);
            }
        }
        Ok(places)
    }

    /// Waits until the client is there, and nowhere else.
    pub(super) async fn only_at(&self, home: &'static str) -> anyhow::Result<()> {
        let expected = BTreeSet::from([home]);
        wait_for(
            &format!("the client in {home} only"),
            overlap() + SOON,
            async || {
                let places = self.places().await?;
                Ok(if places == expected {
                    Seen::Done(())
                } else {
                    Seen::NotYet(format!("{places:?}"))
                })
            },
        )
        .await?;
        self.status("nothing else of it", |status| {
            let conditions = status["conditions"].as_array();
            !conditions
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Migrated")
                && status["registeredAt"]["authorizationServerRef"]["name"] == home
        })
        .await?;
        ready(&self.env, ("McpClient", self.env.namespace(), READER), SOON).await
    }

    /// Waits until the status of the client is as it should be. Gives it.
    pub(super) async fn status(&self, what: &str, right: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        wait_for(what, SOON, async || {
            let object = self.env.get("McpClient", self.env.namespace(), READER).await?;
            let status = object.unwrap_or_default()["status"].clone();
            Ok(if right(&status) {
                Seen::Done(status)
            } else {
                Seen::NotYet(status.to_string())
            })
        })
        .await
    }

    /// The client has something at both.
    pub(super) async fn moved(&self) -> anyhow::Result<Value> {
        self.status("the old one is kept", |status| {
            let previous = &status["previous"][0];
            previous["validUntil"].is_string() && previous["tokensUntil"].is_null()
        })
        .await
    }

    /// No call to one of the two holds a credential that belongs to the other: `secrets` are those of `main`.
    pub(super) fn told_apart(&self, secrets: &[String]) -> anyhow::Result<()> {
        kept_from(&self.proxy, secrets)
    }

    /// The operator keeps nothing to itself of the client.
    pub(super) async fn forgotten(&self) -> anyhow::Result<()> {
        let journal = format!("mcpclient.{}.{READER}", self.env.namespace());
        ensure!(
            !kept(&self.env).await?.contains_key(&journal),
            "its journal is left"
        );
        Ok(())
    }
}

/// No call that came through this proxy holds one of these secrets.
pub(super) fn kept_from(proxy: &RecordingProxy, secrets: &[String]) -> anyhow::Result<()> {
    let calls = proxy.calls();
    ensure!(!calls.is_empty(), "nothing was asked");
    for secret in secrets {
        let call = calls.iter().find(|call| call.holds(secret));
        ensure!(call.is_none(), "somebody else's credential was sent: {call:?}");
    }
    Ok(())
}
