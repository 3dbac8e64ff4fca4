//! A tenant that can read documents, and somebody who publishes them.

use std::{fs, sync::Arc};

use mcp_auth_e2e::{
    documents::Documents,
    operator::Operator,
    wait::{Seen, wait_for},
    world::{World, checkout},
};
use serde_json::{Value, json};

use super::{super::scene::Scene, CALLBACK, DOCUMENTS, HOST};
use crate::fixtures::{SOON, apply_all, because, ready, server};

/// A tenant that can read documents, and a team beside the platform's namespace.
pub(super) struct Lab {
    pub(super) scene: Scene,
    pub(super) documents: Documents,
    pub(super) team: String,
    pub(super) operator: Operator,
}

impl Lab {
    /// One that takes documents.
    pub(super) async fn start(world: &Arc<World>, name: &str) -> anyhow::Result<Self> {
        let mut scene = Scene::new(world, name).await?;
        let takes_them = json!({ DOCUMENTS: true });
        scene
            .auth0
            .dashboard()
            .patch("tenants/settings", takes_them)
            .await?;
        scene.is_as_others_left_it();
        Self::at(scene).await
    }

    /// One that does not say so.
    pub(super) async fn bare(world: &Arc<World>, name: &str) -> anyhow::Result<Self> {
        Self::at(Scene::new(world, name).await?).await
    }

    async fn at(mut scene: Scene) -> anyhow::Result<Self> {
        let documents = Documents::start_for(scene.env.world().authority(), &[HOST]).await?;
        scene.auth0.publish(HOST, documents.address());
        let team = scene.env.add_namespace("team").await?;
        let operator = start(&scene, 0).await?;
        let lab = Self {
            scene,
            documents,
            team,
            operator,
        };
        let env = &lab.scene.env;
        apply_all(env, &[lab.authorization_server(), open_notes(&lab.scene)]).await?;
        ready(env, ("McpServer", env.namespace(), "notes"), SOON).await?;
        Ok(lab)
    }

    /// The tenant, with what the team may have there.
    pub(super) fn authorization_server(&self) -> Value {
        let mut main = self.scene.authorization_server("main");
        main["spec"]["grants"] = json!([{
            "namespaces": { "from": "All" },
            "clients": { "redirectHosts": ["app.example.com"] },
        }]);
        main
    }

    /// The shipped sample as a client of the team by this document.
    pub(super) fn client(&self, name: &str, url: &str) -> anyhow::Result<Value> {
        let text = fs::read_to_string(checkout().join("config/samples/document-client.yaml"))?;
        let mut client: Value = serde_saphyr::from_str(&text)?;
        let at = self.scene.env.namespace();
        client["metadata"] = json!({ "name": name, "namespace": self.team });
        let spec = &mut client["spec"];
        spec["authorizationServerRef"] = json!({ "name": "main", "namespace": at });
        spec["access"] = json!([{ "server": { "name": "notes", "namespace": at } }]);
        spec["metadataDocument"]["url"] = json!(url);
        Ok(client)
    }

    pub(super) fn publish(&self, name: &str, callbacks: &[&str], more: &Value) -> String {
        let mut said = json!({ "redirect_uris": callbacks });
        if let (Some(said), Some(more)) = (said.as_object_mut(), more.as_object()) {
            said.extend(more.clone());
        }
        self.documents.publish(HOST, name, CALLBACK, &said)
    }

    /// The client that is registered by this document.
    pub(super) fn registered(&self, url: &str) -> Option<Value> {
        let everything = self.scene.auth0.dashboard().everything();
        let clients = everything["clients"].as_object()?.values();
        let mut found = clients.filter(|client| client["external"]["external_client_id"] == *url);
        found.next().cloned()
    }

    /// Waits until the client is registered so that this is true.
    pub(super) async fn until(
        &self,
        what: &str,
        url: &str,
        is: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<()> {
        wait_for(what, SOON, async || {
            let client = self.registered(url).unwrap_or_default();
            Ok(if is(&client) {
                Seen::Done(())
            } else {
                Seen::NotYet(client.to_string())
            })
        })
        .await
    }

    /// The client grants of the client that is registered by this document.
    pub(super) fn grants(&self, url: &str) -> Vec<Value> {
        let id = self.registered(url).unwrap_or_default()["fields"]["client_id"].clone();
        let mut grants = self.scene.made("client_grants");
        grants.retain(|grant| grant["client_id"] == id);
        grants
    }

    pub(super) async fn because(&self, name: &str, said: (&str, &str, &str)) -> anyhow::Result<Value> {
        because(&self.scene.env, ("McpClient", &self.team, name), said).await
    }

    pub(super) async fn ready(&self, name: &str) -> anyhow::Result<()> {
        ready(&self.scene.env, ("McpClient", &self.team, name), SOON).await
    }

    pub(super) async fn status(&self, name: &str) -> anyhow::Result<Value> {
        let object = self.scene.env.get("McpClient", &self.team, name).await?;
        Ok(object.unwrap_or_default()["status"].take())
    }

    /// How many Events tell that something was set right at the tenant.
    pub(super) async fn drift(&self) -> anyhow::Result<usize> {
        let arguments = ["get", "events.events.k8s.io", "-n", &self.team];
        let events: Value = self.scene.env.kubectl().json(&arguments).await?;
        let items = events["items"].as_array().into_iter().flatten();
        Ok(items.filter(|event| event["reason"] == "DriftRepaired").count())
    }

    pub(super) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let env = &self.scene.env;
        let arguments = ["delete", "mcpclient", name, "-n", &self.team];
        env.kubectl().must(&arguments).await?;
        env.wait_gone("McpClient", &self.team, name, SOON).await
    }
}

/// A server that all may use.
pub(super) fn open_notes(scene: &Scene) -> Value {
    let mut notes = server(&scene.env, "notes");
    notes["spec"]["allowedClients"] = json!([{ "namespaces": { "from": "All" } }]);
    notes
}

pub(super) async fn start(scene: &Scene, number: usize) -> anyhow::Result<Operator> {
    let mut options = scene.env.operator_options();
    options.lease_name = format!("lease-{number}");
    // Nothing tells that a document has changed.
    "3s".clone_into(&mut options.resync_interval);
    options.extra.push("--gate-image=mcp-auth-gate:none".to_owned());
    options.trust = Some(scene.env.authority_file()?);
    scene.env.start_operator_with(&options).await
}

pub(super) fn callbacks(client: &Value) -> &Value {
    &client["fields"]["callbacks"]
}

pub(super) fn grant_types(client: &Value) -> &Value {
    &client["fields"]["grant_types"]
}
