//! Two replicas of a gate that find each other, before a server that buys with handles.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    gate::{
        client::Stream,
        issuer::TestIssuer,
        process::{self, GateProcess},
        upstream::{ANSWER, Upstream},
    },
    ports,
    run_folder::RunFolder,
    wait::{Seen, wait_for},
};
use serde_json::{Value, json};

use super::super::{
    faults::PATIENCE,
    request::bare,
    scene::{RESOURCE, policy},
};

/// The header by which the server gets a handle, and shows it.
pub(super) const HANDLE: &str = "mcp-auth-handle";

pub(super) struct Replicas {
    pub(super) issuer: TestIssuer,
    pub(super) upstream: Upstream,
    /// Their tokens faces listen on one port of 127.0.0.1 and 127.0.0.2.
    pub(super) gates: Vec<GateProcess>,
    http: reqwest::Client,
}

/// What is sold: `reports`, and `ledger`, for which the issuer gives a token of an audience that is not the policy's.
fn exchanges() -> Value {
    let exchange = |name: &str, audience: &str| {
        json!({
            "name": name,
            "delivery": "Endpoint",
            "audience": audience,
            "scopes": [{"name": format!("{name}:read")}],
        })
    };
    json!([
        exchange("reports", "https://reports.example"),
        exchange("ledger", "https://bank.example"),
    ])
}

impl Replicas {
    pub(super) async fn start(run: &Arc<RunFolder>, name: &str) -> anyhow::Result<Self> {
        let mut replicas = Self {
            issuer: TestIssuer::start().await?,
            upstream: Upstream::start().await?,
            gates: Vec::new(),
            http: reqwest::Client::builder().no_proxy().build()?,
        };
        let port = ports::free()?;
        for (own, peer) in [(1, 2), (2, 1)] {
            let at = |host| SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), port));
            let mut faces = process::faces()?;
            faces.tokens = at(own);
            let (peers, own) = (at(peer).to_string(), at(own).ip().to_string());
            let gate = GateProcess::start(
                &run.subfolder(&format!("{name}-{own}"))?,
                faces,
                Some(&replicas.policy(&json!({}))),
                &credentials(),
                &["--peers", &peers, "--pod-address", &own],
            )?;
            gate.wait_until_ready().await?;
            replicas.gates.push(gate);
        }
        Ok(replicas)
    }

    /// The policy of both, with other fields.
    pub(super) fn policy(&self, changes: &Value) -> Value {
        let mut changes = changes.clone();
        changes["exchanges"] = exchanges();
        policy(&self.issuer, self.upstream.address(), &changes)
    }

    pub(super) fn tokens(&self, replica: usize) -> SocketAddr {
        self.gates[replica].faces().tokens
    }

    pub(super) fn token(&self, changes: &Value) -> anyhow::Result<String> {
        let mut claims = self.issuer.claims(RESOURCE, "mcp:use")?;
        for (claim, value) in changes.as_object().into_iter().flatten() {
            claims[claim] = value.clone();
        }
        self.issuer.sign(&claims)
    }

    /// A call through this replica that is open as long as the stream is, and the handle that the server got with it.
    pub(super) async fn call(
        &self,
        replica: usize,
        token: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<(Stream, String)> {
        let mut all = vec![(ANSWER, "all")];
        all.extend_from_slice(headers);
        let request = bare("GET", token, &all);
        let mut stream = Stream::open(self.gates[replica].faces().proxy, &request).await?;
        ensure!(stream.head.status() == Some(200), "{}", stream.head.first_line);
        stream.wait_for(": open").await?;
        let requests = self.upstream.requests();
        let handle = requests.last().and_then(|request| request.value(HANDLE));
        Ok((stream, handle.context("the server got no handle")?.to_owned()))
    }

    /// What a purchase comes to: the status, and what is sold or why not.
    pub(super) async fn buy(&self, at: SocketAddr, name: &str, handle: &str) -> anyhow::Result<(u16, Value)> {
        let request = self.http.post(format!("http://{at}/token/{name}"));
        let answer = request.header(HANDLE, handle).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// It buys nothing at either replica, and why is not told.
    pub(super) async fn buys_nothing(&self, why: &str, handle: &str) -> anyhow::Result<()> {
        for replica in 0..self.gates.len() {
            let bought = self.buy(self.tokens(replica), "reports", handle).await?;
            ensure!(
                bought == (401, json!({"error": "invalid_handle"})),
                "{why}, at replica {replica}: {} {}",
                bought.0,
                bought.1["error"]
            );
        }
        Ok(())
    }

    /// The same as soon as the replica knows.
    pub(super) async fn until_it_buys_nothing(&self, why: &str, handle: &str) -> anyhow::Result<()> {
        wait_for(why, PATIENCE, async || {
            let (status, _) = self.buy(self.tokens(0), "reports", handle).await?;
            Ok(if status == 401 {
                Seen::Done(())
            } else {
                Seen::NotYet(status.to_string())
            })
        })
        .await?;
        self.buys_nothing(why, handle).await
    }
}

/// Those of the server's client at the issuer.
pub(super) fn credentials() -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("client-id", RESOURCE.to_owned()),
        ("client-secret", format!("{:x}", rand::random::<u128>())),
    ])
}
