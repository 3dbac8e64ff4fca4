//! The samples of the main job at oidc-provider, with the AuthorizationServer swapped and nothing else: what such a server
//! cannot do is said plainly, and the rest works, as far as a call of a tool.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use mcp_auth_e2e::{
    oauth::Issuer,
    oidc_provider::{OidcProvider, Options},
    operator::Operator,
    proxy::RecordingProxy,
    runner::Story,
    samples::{self, GATED, OBJECTS, placed},
    stand::Stand,
    story::StoryEnv,
    world::World,
};
use serde_json::{Value, json};

use super::{registrar::is_registration, scene, signed_in};
use crate::{clients::setup::scripts, fixtures::because};

pub(super) const READY: Duration = Duration::from_mins(2);
const INITIAL: &str = "what-the-administrator-gave-us";
/// Who signs in.
pub(super) const USER: (&str, &str) = ("alice", "correct horse battery staple");
pub(super) const ASSISTANT: &str = "https://assistant.mcp.example.com/mcp";

/// What each sample says at a server that has clients only.
const REFUSED: [(&str, &str); 12] = [
    ("assistant", "ResourcesUnsupported"),
    ("documents", "ResourcesUnsupported"),
    ("tickets", "ResourcesUnsupported"),
    ("everything", "ResourcesUnsupported"),
    ("reporter", "TokenLifetimeUnsupported"),
    ("scheduler", "AccessUnsupported"),
    ("archiver", "AuthenticationUnsupported"),
    ("desktop", "AccessUnsupported"),
    ("portal", "AccessUnsupported"),
    ("agent", "AccessUnsupported"),
    ("assistant-orders", "ExchangeUnsupported"),
    ("assistant-documents", "ExchangeUnsupported"),
];

/// What stays so when somebody else has made resources and scopes.
const STILL_REFUSED: [&str; 4] = ["reporter", "archiver", "assistant-orders", "assistant-documents"];

/// A sample as it is placed: kind, namespace and name.
type Sample = (&'static str, String, &'static str);

/// The parts.
pub(super) struct Company {
    pub(super) env: StoryEnv,
    pub(super) stand: Stand,
    pub(super) server: OidcProvider,
    pub(super) issuer: Issuer,
    proxy: RecordingProxy,
    operator: Operator,
}

pub(super) fn stories() -> Vec<Story> {
    vec![Story::new(
        "dynamic::the_samples_work_as_far_as_registration_goes",
        samples_work,
    )]
}

async fn samples_work(world: Arc<World>) -> anyhow::Result<()> {
    let company = Company::start(&world).await?;
    company.clients_only().await?;
    company.resources_of_somebody_else().await?;
    signed_in::machines(&company).await?;
    signed_in::users(&company).await?;
    company.end().await
}

impl Company {
    /// Starts them, with resources and scopes at the server as its administrator would make them.
    async fn start(world: &Arc<World>) -> anyhow::Result<Self> {
        let env = StoryEnv::new(world, "dynamic-samples").await?;
        for team in samples::TEAMS {
            env.kubectl()
                .run(&["create", "namespace", &placed(&env, team)])
                .await?;
        }
        let stand = Stand::prepare(world).await?;
        let options = Options {
            initial_access_token: Some(INITIAL.to_owned()),
            resources: resources(&env, &stand),
            users: BTreeMap::from([(USER.0.to_owned(), USER.1.to_owned())]),
            ..Options::default()
        };
        let server =
            OidcProvider::start(&scripts(&env).await?, world.authority(), world.host(), &options).await?;
        let proxy = RecordingProxy::start_at(world.host(), server.issuer(), world.authority())?;
        let mut options = samples::operator_options(&env);
        stand.allow(&mut options, &env, Some("mcp-auth-gate:none"))?;
        Ok(Self {
            operator: env.start_operator_with(&options).await?,
            issuer: Issuer::discover(server.issuer(), world.authority()).await?,
            env,
            stand,
            server,
            proxy,
        })
    }

    /// Each object says why it cannot be, and nothing is asked of the server.
    async fn clients_only(&self) -> anyhow::Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "namespace": self.env.namespace(), "name": "company-registration" },
            "stringData": { "initial-access-token": INITIAL },
        });
        self.env.apply(&secret).await?;
        let registration = json!({ "initialAccessTokenRef": { "name": "company-registration" } });
        let home = scene::authorization_server(&self.env, &self.server, &self.proxy, &registration);
        samples::apply(&self.env, &self.stand, &home).await?;
        for (object, why) in self.objects() {
            let Some(why) = why else {
                let named = (object.0, &*object.1, object.2);
                self.env.wait_condition(named, ("Ready", "True"), READY).await?;
                continue;
            };
            self.refuses(&object, why).await?;
        }
        let asked: Vec<_> = self.proxy.calls().into_iter().filter(is_registration).collect();
        ensure!(asked.is_empty(), "{asked:?}");
        ensure!(self.server.clients().await?.is_empty());
        Ok(())
    }

    /// Once the AuthorizationServer says that its administrator has made them, what can be is so.
    async fn resources_of_somebody_else(&self) -> anyhow::Result<()> {
        let patch =
            json!({ "spec": { "dynamicRegistration": { "resourceManagement": "External" } } }).to_string();
        let arguments = [
            "patch",
            "authorizationserver",
            "company",
            "-n",
            self.env.namespace(),
        ];
        let how = ["--type=merge", "-p", &patch];
        self.env.kubectl().must(&[&arguments[..], &how].concat()).await?;
        let ready = async {
            for (object, why) in self.objects() {
                let (kind, namespace, name) = (object.0, &*object.1, object.2);
                if let Some(why) = why.filter(|_| STILL_REFUSED.contains(&name)) {
                    self.refuses(&object, why).await?;
                    continue;
                }
                if kind == "McpServer" {
                    let as_declared = ("Registered", "True", "RegisteredExternally");
                    because(&self.env, (kind, namespace, name), as_declared).await?;
                }
                if name != GATED.2 || self.stand.has_pods() {
                    self.env
                        .wait_condition((kind, namespace, name), ("Ready", "True"), READY)
                        .await?;
                }
            }
            anyhow::Ok(())
        };
        tokio::try_join!(self.stand.open(&self.env), ready)?;
        let clients = self.server.clients().await?;
        let mut names: Vec<_> = clients.iter().map(|client| &client["client_name"]).collect();
        names.sort_unstable_by_key(|name| name.as_str());
        let expected = ["Agent", "Desktop assistant", "Portal", "Scheduler"];
        ensure!(names == expected, "{names:?}");
        Ok(())
    }

    /// The samples as they are placed, each with why it is refused, if it is.
    fn objects(&self) -> Vec<(Sample, Option<&'static str>)> {
        let refusal = |name| REFUSED.iter().find(|(refused, _)| *refused == name);
        let objects = OBJECTS.iter().map(|(kind, namespace, name)| {
            let object = (*kind, placed(&self.env, namespace), *name);
            (object, refusal(*name).map(|(_, why)| *why))
        });
        objects.collect()
    }

    /// It is refused for this reason, which people can read, and is not waited for.
    async fn refuses(&self, (kind, namespace, name): &Sample, why: &str) -> anyhow::Result<()> {
        let named = (*kind, namespace.as_str(), *name);
        let accepted = because(&self.env, named, ("Accepted", "False", why)).await?;
        let message = accepted["message"].as_str().unwrap_or_default();
        let what_to_do = [
            "leave out",
            "choose one of",
            "let its administrator",
            "registration of clients only",
        ];
        ensure!(
            what_to_do.iter().any(|words| message.contains(words)),
            "{name}: {message}"
        );
        because(&self.env, named, ("Ready", "False", why)).await?;
        because(&self.env, named, ("Stalled", "True", why))
            .await
            .map(drop)
    }

    pub(super) fn team(&self, number: usize) -> String {
        placed(&self.env, samples::TEAMS[number])
    }

    /// Nothing is left at the server.
    async fn end(self) -> anyhow::Result<()> {
        samples::remove(&self.env, READY).await?;
        let left = self.server.clients().await?;
        ensure!(left.is_empty(), "{left:?}");
        self.operator.stop().await
    }
}

/// What the administrator has made: every resource of the samples with its scopes.
fn resources(env: &StoryEnv, stand: &Stand) -> BTreeMap<String, String> {
    let [team_a, team_b] = samples::TEAMS.map(|team| placed(env, team));
    let all = [
        (ASSISTANT.to_owned(), format!("mcp.{team_a}.assistant")),
        (
            format!("https://documents.{team_b}.mcp.example.com/mcp"),
            "documents:read documents:write documents:delete".to_owned(),
        ),
        (
            format!("https://tickets.{team_b}.mcp.example.com/mcp"),
            "tickets:read tickets:write".to_owned(),
        ),
        (
            stand.edge().resource(),
            "everything:use everything:environment".to_owned(),
        ),
    ];
    all.into()
}

/// The status of an object of the first or the second team.
pub(super) async fn status(company: &Company, kind: &str, team: usize, name: &str) -> anyhow::Result<Value> {
    let found = company.env.get(kind, &company.team(team), name).await?;
    Ok(found.with_context(|| format!("there is no {kind} {name}"))?["status"].clone())
}
