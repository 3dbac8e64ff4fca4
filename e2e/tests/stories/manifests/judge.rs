//! Asks the API server about an object.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use http::Request;
use kube::Client;
use mcp_auth_crds::GROUP;
use serde_json::Value;

/// What the API server adds when it did not come to evaluating rules: no fault of its own.
const RULES_SKIPPED: &str = "some validation rules were not checked";

/// What the API server says.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It takes the object.
    Accepted,
    /// It does not, for these reasons, each as kubectl prints it.
    Refused(Vec<String>),
}

/// The API server, asked as kubectl asks: unknown fields are faults.
pub(super) struct Judge {
    client: Client,
    namespace: &'static str,
    /// By kind, as in URLs.
    plurals: BTreeMap<String, String>,
}

impl Judge {
    /// Asks about objects in a namespace.
    pub(super) fn new(client: Client, namespace: &'static str) -> Self {
        let names = mcp_auth_crds::all().into_iter().map(|crd| crd.spec.names);
        Self {
            client,
            namespace,
            plurals: names.map(|names| (names.kind, names.plural)).collect(),
        }
    }

    /// Creates it, without storing it.
    pub(super) async fn create(&self, object: &Value) -> anyhow::Result<Verdict> {
        let url = format!("{}?dryRun=All&fieldValidation=Strict", self.url(object, false)?);
        self.send(
            Request::post(url).header("content-type", "application/json"),
            object,
        )
        .await
    }

    /// Stores it.
    pub(super) async fn store(&self, object: &Value) -> anyhow::Result<Verdict> {
        self.apply(object, "").await
    }

    /// Puts it in the place of the stored one, without storing it. What it leaves out is removed.
    pub(super) async fn change(&self, object: &Value) -> anyhow::Result<Verdict> {
        self.apply(object, "&dryRun=All").await
    }

    /// Deletes the stored one.
    pub(super) async fn delete(&self, object: &Value) -> anyhow::Result<()> {
        match self
            .send(Request::delete(self.url(object, true)?), &Value::Null)
            .await?
        {
            Verdict::Accepted => Ok(()),
            Verdict::Refused(causes) => bail!("cannot be deleted: {}", causes.join("; ")),
        }
    }

    async fn apply(&self, object: &Value, more: &str) -> anyhow::Result<Verdict> {
        let url = format!(
            "{}?fieldManager=stories&fieldValidation=Strict{more}",
            self.url(object, true)?
        );
        self.send(
            Request::patch(url).header("content-type", "application/apply-patch+yaml"),
            object,
        )
        .await
    }

    async fn send(&self, request: http::request::Builder, body: &Value) -> anyhow::Result<Verdict> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body)?
        };
        match self.client.request::<Value>(request.body(body)?).await {
            Ok(_) => Ok(Verdict::Accepted),
            Err(kube::Error::Api(status)) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                let mut lines: Vec<_> = causes
                    .filter(|cause| !cause.message.contains(RULES_SKIPPED))
                    .map(|cause| format!("{}: {}", cause.field, cause.message))
                    .collect();
                if lines.is_empty() {
                    lines.push(status.message.clone());
                }
                Ok(Verdict::Refused(lines))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Where objects of this kind are, or this one is.
    fn url(&self, object: &Value, itself: bool) -> anyhow::Result<String> {
        let kind = object["kind"].as_str().context("no kind")?;
        let plural = self
            .plurals
            .get(kind)
            .with_context(|| format!("{kind} is no kind of ours"))?;
        let name = object["metadata"]["name"].as_str().context("no name")?;
        let base = format!("/apis/{GROUP}/v1alpha1/namespaces/{}/{plural}", self.namespace);
        Ok(if itself { format!("{base}/{name}") } else { base })
    }
}
