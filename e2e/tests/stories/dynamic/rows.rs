//! The rows of the table of providers that are the same at both kinds of servers at which one can only register.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use http::{Method, StatusCode};
use mcp_auth_e2e::{
    oauth::OAuthClient,
    operator::Operator,
    proxy::{Fault, RecordingProxy},
    runner::Story,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::registrar::{
    Registrar,
    Which::{self, Keycloak, OidcProvider},
    is_registration,
};
use crate::{
    fixtures::{SOON, apply_all, because, ready},
    rotation::{REVOKE, ROTATE},
};

/// The client that most of this is about.
const READER: &str = "reader";

/// As many registrations as most stories need.
const ENOUGH: u32 = 20;

pub(super) fn stories() -> Vec<Story> {
    macro_rules! at {
        ($name:literal, $row:ident, $which:expr) => {
            Story::new($name, |world| $row(world, $which, $name))
        };
    }
    vec![
        at!("dynamic::drift_at_keycloak", drift, Keycloak),
        at!("dynamic::revocation_at_keycloak", revocation, Keycloak),
        at!("dynamic::conflict_at_keycloak", conflict, Keycloak),
        at!("dynamic::permissions_at_keycloak", permissions, Keycloak),
        at!("dynamic::rate_limit_at_keycloak", rate_limit, Keycloak),
        at!("dynamic::rate_limit_at_oidc_provider", rate_limit, OidcProvider),
        at!("dynamic::unknown_fields_at_keycloak", unknown_fields, Keycloak),
        at!(
            "dynamic::unknown_fields_at_oidc_provider",
            unknown_fields,
            OidcProvider
        ),
        at!("dynamic::slow_answers_at_keycloak", slow, Keycloak),
        at!("dynamic::slow_answers_at_oidc_provider", slow, OidcProvider),
    ]
}

/// A server, and an operator.
struct Place {
    env: StoryEnv,
    registrar: Registrar,
    operator: Operator,
}

impl Place {
    /// Starts them, with an AuthorizationServer that is Ready and good for so many registrations.
    async fn start(world: &Arc<World>, name: &str, which: Which, count: u32) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, name).await?;
        let mut options = env.operator_options();
        "6s".clone_into(&mut options.resync_interval);
        let operator = env.start_operator_with(&options).await?;
        let (registrar, objects) = Registrar::start(&env, which, count).await?;
        apply_all(&env, &objects).await?;
        ready(&env, ("AuthorizationServer", env.namespace(), "main"), SOON).await?;
        Ok(Self {
            env,
            registrar,
            operator,
        })
    }

    fn proxy(&self) -> &RecordingProxy {
        self.registrar.proxy().map_or(self.env.proxy(), Arc::as_ref)
    }

    fn client(&self, name: &str) -> Value {
        json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": { "namespace": self.env.namespace(), "name": name },
            "spec": {
                "authorizationServerRef": { "name": "main" },
                "managed": {
                    "displayName": name,
                    "grantTypes": ["client_credentials", "authorization_code"],
                    "redirectUris": [callback(name)],
                },
                "rotation": { "overlap": "1h" },
            },
        })
    }

    /// Applies the client and waits until it is Ready. Gives what its Secret holds.
    async fn registered(&self, name: &str) -> anyhow::Result<OAuthClient> {
        self.env.apply(&self.client(name)).await?;
        ready(&self.env, ("McpClient", self.env.namespace(), name), SOON).await?;
        self.held(name).await
    }

    async fn held(&self, name: &str) -> anyhow::Result<OAuthClient> {
        let (namespace, secret) = (self.env.namespace(), format!("{name}-mcp-client"));
        let id = self.env.secret_value(namespace, &secret, "client-id").await?;
        let value = self.env.secret_value(namespace, &secret, "client-secret").await?;
        Ok(OAuthClient::confidential(id, SecretString::from(value)).with_basic())
    }

    async fn works(&self, client: &OAuthClient) -> anyhow::Result<bool> {
        let issuer = self.registrar.issuer(&self.env).await?;
        Ok(issuer.client_credentials(client, None).await?.granted().is_ok())
    }

    /// The reader's status, once it is right.
    async fn status(&self, what: &str, right: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
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

    /// One registration, in force, and nothing out of reach.
    async fn only(&self, client: &OAuthClient) -> anyhow::Result<()> {
        let ids: BTreeSet<String> = self
            .registrar
            .made(&self.env, READER)
            .await?
            .into_keys()
            .collect();
        ensure!(ids == BTreeSet::from([client.id().to_owned()]), "{ids:?}");
        ensure!(self.works(client).await?, "its credential does not work");
        let status = self
            .status("a registration", |status| status["registration"].is_object())
            .await?;
        ensure!(status["registration"]["unreachable"].is_null(), "{status}");
        Ok(())
    }

    async fn annotate(&self, annotation: &str) -> anyhow::Result<()> {
        let assignment = format!("{annotation}=please");
        let arguments = [
            "annotate",
            "mcpclient",
            READER,
            &assignment,
            "-n",
            self.env.namespace(),
        ];
        self.env.kubectl().must(&arguments).await.map(drop)
    }

    /// The reader goes, and nothing of it is left.
    async fn end(self) -> anyhow::Result<()> {
        let namespace = self.env.namespace();
        let arguments = ["delete", "mcpclient", READER, "-n", namespace, "--wait=false"];
        self.env.kubectl().must(&arguments).await?;
        self.env.wait_gone("mcpclient", namespace, READER, SOON).await?;
        let left = self.registrar.made(&self.env, READER).await?;
        ensure!(left.is_empty(), "{left:?}");
        self.operator.stop().await
    }
}

fn callback(name: &str) -> String {
    format!("https://{name}.example.com/callback")
}

/// Users are not sent elsewhere for long, and a client that is gone comes back as another.
async fn drift(world: Arc<World>, which: Which, name: &str) -> anyhow::Result<()> {
    let place = Place::start(&world, name, which, ENOUGH).await?;
    let first = place.registered(READER).await?;
    place
        .registrar
        .redirect(&place.env, first.id(), "https://evil.example/")
        .await?;
    wait_for("the redirect URI to be set right", SOON, async || {
        let made = place.registrar.made(&place.env, READER).await?;
        Ok(match made.get(first.id()) {
            Some(uris) if *uris == json!([callback(READER)]) => Seen::Done(()),
            _ => Seen::NotYet(format!("{made:?}")),
        })
    })
    .await?;
    place.only(&first).await?;
    ensure!(place.held(READER).await?.id() == first.id());

    place.registrar.remove(&place.env, first.id()).await?;
    place
        .status("another client", |status| {
            status["clientId"].is_string() && status["clientId"] != first.id()
        })
        .await?;
    ready(&place.env, ("McpClient", place.env.namespace(), READER), SOON).await?;
    place.only(&place.held(READER).await?).await?;
    place.end().await
}

/// A rotation leaves the old one in force for the overlap, a revocation leaves neither.
async fn revocation(world: Arc<World>, which: Which, name: &str) -> anyhow::Result<()> {
    let place = Place::start(&world, name, which, ENOUGH).await?;
    let first = place.registered(READER).await?;
    place.annotate(ROTATE).await?;
    place
        .status("a rotation", |status| {
            status["lastHandledRotateRequest"] == "please"
        })
        .await?;
    let second = place.held(READER).await?;
    ensure!(place.works(&first).await? && place.works(&second).await?);
    place.annotate(REVOKE).await?;
    place
        .status("a revocation", |status| {
            status["lastHandledRevokeRequest"] == "please" && status["rotation"]["phase"] == "Settled"
        })
        .await?;
    for old in [&first, &second] {
        ensure!(!place.works(old).await?, "what was revoked works");
    }
    place.only(&place.held(READER).await?).await?;
    place.end().await
}

/// Whoever has a client id keeps it, and is not touched.
async fn conflict(world: Arc<World>, which: Which, name: &str) -> anyhow::Result<()> {
    let place = Place::start(&world, name, which, ENOUGH).await?;
    let client = place.registered(READER).await?;
    let id = client.id().to_owned();
    let given = Fault::amend(move |answer| answer["client_id"] = json!(id));
    place.proxy().inject(given.on(is_registration));
    place.proxy().clear();
    place.env.apply(&place.client("thief")).await?;
    let thief = ("McpClient", place.env.namespace(), "thief");
    let told = because(&place.env, thief, ("Registered", "False", "RegistrationRefused")).await?;
    let message = told["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("a client_id that another client has"),
        "{message}"
    );
    place.proxy().heal()?;
    let touched: Vec<_> = place
        .proxy()
        .writes()
        .into_iter()
        .filter(|call| call.path().ends_with(client.id()))
        .collect();
    ensure!(touched.is_empty(), "{touched:?}");
    ready(&place.env, thief, SOON).await?;
    ensure!(place.held("thief").await?.id() != client.id());
    place.only(&client).await?;
    place.end().await
}

/// Without an initial access token that counts nothing is registered, and what is there stays.
async fn permissions(world: Arc<World>, which: Which, name: &str) -> anyhow::Result<()> {
    let place = Place::start(&world, name, which, 1).await?;
    let first = place.registered(READER).await?;
    place.env.apply(&place.client("other")).await?;
    let other = ("McpClient", place.env.namespace(), "other");
    because(&place.env, other, ("Registered", "False", "CredentialsRefused")).await?;
    ensure!(place.registrar.made(&place.env, "other").await?.is_empty());
    place.only(&first).await?;
    let objects = super::keycloak::authorization_server(&place.env, 1).await?;
    apply_all(&place.env, &objects).await?;
    ready(&place.env, other, SOON).await?;
    place.end().await
}

/// A server that has enough is left alone for as long as it says, and nothing is counted that it refused.
async fn rate_limit(world: Arc<World>, which: Which, name: &str) -> anyhow::Result<()> {
    const PAUSE: Duration = Duration::from_secs(3);
    let place = Place::start(&world, name, which, ENOUGH).await?;
    let enough = Fault::status_retry_after(StatusCode::TOO_MANY_REQUESTS, PAUSE.as_secs());
    let hits = place.proxy().inject(
        enough
            .on(|call| call.method == Method::POST && is_registration(call))
            .times(1),
    );
    let client = place.registered(READER).await?;
    ensure!(hits.count() == 1, "it was never refused");
    let calls = place.proxy().calls();
    let mut posts = calls
        .iter()
        .filter(|call| call.method == Method::POST && is_registration(call));
    let (refused, taken) = (posts.next().context("none")?, posts.next().context("one")?);
    ensure!(
        taken.at - refused.at >= PAUSE,
        "it was asked again after {:?}",
        taken.at - refused.at
    );
    let between = calls
        .iter()
        .filter(|call| call.at > refused.at && call.at < taken.at && is_registration(call));
    ensure!(between.count() == 0 && posts.next().is_none(), "{calls:?}");
    place.only(&client).await?;
    place.end().await
}

/// What nobody knows yet is no drift, and loses nothing.
async fn unknown_fields(world: Arc<World>, which: Which, name: &str) -> anyhow::Result<()> {
    let place = Place::start(&world, name, which, ENOUGH).await?;
    let more = Fault::amend(|answer| {
        if answer["client_id"].is_string() {
            answer["x_future"] = json!({ "deep": [1, null, { "er": true }] });
            answer["client_secret_hint"] = json!(null);
            answer["grant_types_of_2031"] = json!(["telepathy"]);
        }
    });
    let hits = place.proxy().inject(more.on(is_registration));
    let client = place.registered(READER).await?;
    let registered = hits.count();
    ensure!(registered > 0, "nothing was added");
    place.proxy().clear();
    wait_for("another look", SOON, async || {
        Ok(if hits.count() > registered {
            Seen::Done(())
        } else {
            Seen::NotYet("none".to_owned())
        })
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let writes = place.proxy().writes();
    let writes: Vec<_> = writes.iter().filter(|call| is_registration(call)).collect();
    ensure!(writes.is_empty(), "it is set right again and again: {writes:?}");
    place.only(&client).await?;

    // It is changed as before.
    let mut changed = place.client(READER);
    changed["spec"]["managed"]["redirectUris"] = json!([callback("other")]);
    place.env.apply(&changed).await?;
    wait_for("the change", SOON, async || {
        let made = place.registrar.made(&place.env, READER).await?;
        Ok(match made.get(client.id()) {
            Some(uris) if *uris == json!([callback("other")]) => Seen::Done(()),
            _ => Seen::NotYet(format!("{made:?}")),
        })
    })
    .await?;
    place.end().await
}

/// A server that takes its time is waited for, and is asked once.
async fn slow(world: Arc<World>, which: Which, name: &str) -> anyhow::Result<()> {
    /// Longer than any other call may take.
    const SLOW: Duration = Duration::from_secs(7);
    let place = Place::start(&world, name, which, ENOUGH).await?;
    let slow = Fault::delay(SLOW).on(|call| call.method == Method::POST && is_registration(call));
    let hits = place.proxy().inject(slow);
    let client = place.registered(READER).await?;
    ensure!(hits.count() == 1, "it was asked {} times", hits.count());
    place.only(&client).await?;
    place.end().await
}
