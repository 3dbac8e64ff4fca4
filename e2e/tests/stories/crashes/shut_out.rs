//! Whoever led before is shut out at Keycloak by a change of the operator's client, and nothing else of that client
//! changes.

use std::{collections::BTreeSet, fmt, sync::Arc};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use http::{Method, StatusCode};
use mcp_auth_e2e::{
    oauth::OAuthClient,
    operator::{Operator, OperatorOptions, SERVICE_ACCOUNT},
    proxy::{Call, Fault},
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::frozen;
use crate::{
    fixtures::{SOON, apply_all, because, machine, ready, server},
    keys::{
        account,
        credentials::{
            KEYED, POD, at_operators_home, federated, home_by_key, home_by_token, key_secret, keyed,
            put_token, read_tokens,
        },
    },
};

/// What the operator warns of where it cannot shut anybody out.
const NOT_SHUT_OUT: &str =
    "calls that another replica sent before this one led are accepted until their tokens expire";

/// When Keycloak ends the secret of a client.
const EXPIRES: &str = "client.secret.expiration.time";

/// How the operator signs in.
#[derive(Clone, Copy, Debug)]
enum Way {
    Secret,
    Key,
    Token,
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Secret => "secret",
            Self::Key => "key",
            Self::Token => "token",
        })
    }
}

/// A realm and manifests for an operator that is one of the realm's clients.
struct Scene {
    env: StoryEnv,
    options: OperatorOptions,
    /// That client.
    own: OAuthClient,
    /// Its server, and what that needs.
    objects: Vec<Value>,
    reader: Value,
}

impl Scene {
    async fn new(world: &Arc<World>, way: Way) -> anyhow::Result<Self> {
        let name = format!("crashes-shut-out-{way}");
        let env = StoryEnv::with_operator_roles(world, &name, &["manage-clients"]).await?;
        let mut options = env.operator_options();
        frozen::LEASE.clone_into(&mut options.lease_duration);
        let (own, mut objects) = match way {
            Way::Secret => by_secret(&env),
            Way::Key => by_key(&env).await?,
            Way::Token => by_token(&env, &mut options).await?,
        };
        let at_home = |object: Value| match way {
            Way::Token => at_operators_home(&env, object),
            Way::Secret | Way::Key => object,
        };
        objects.push(at_home(server(&env, "notes")));
        let reader = at_home(machine(&env, "reader", &["notes"]));
        Ok(Self {
            env,
            options,
            own,
            objects,
            reader,
        })
    }

    /// The operator's client as Keycloak has it, its credentials included. Its lists come in any order.
    async fn own_client(&self) -> anyhow::Result<Value> {
        let found = self.env.realm().find_client(self.own.id()).await?;
        let mut client = found.context("the operator's client is gone")?;
        let fields = client.as_object_mut().into_iter().flatten();
        for list in fields.filter_map(|(_, value)| value.as_array_mut()) {
            list.sort_by_key(Value::to_string);
        }
        Ok(client)
    }

    /// Whether this token is good for anything at the Admin API.
    async fn accepts(&self, token: &SecretString) -> anyhow::Result<bool> {
        let world = self.env.world();
        let (url, realm) = (world.keycloak().url(), self.env.realm().name());
        let response = world
            .authority()
            .http_client()?
            .build()?
            .get(format!("{url}/admin/realms/{realm}/clients?max=1"))
            .bearer_auth(token.expose_secret())
            .send()
            .await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(false),
            other => anyhow::bail!("the Admin API answers {other}"),
        }
    }

    /// So many of these tokens are.
    async fn accepted(&self, tokens: &[SecretString]) -> anyhow::Result<usize> {
        let asked = try_join_all(tokens.iter().map(|token| self.accepts(token))).await?;
        Ok(asked.into_iter().filter(|accepted| *accepted).count())
    }

    /// Waits until the McpClient is registered and proved.
    async fn reader_is_ready(&self) -> anyhow::Result<()> {
        ready(&self.env, ("McpClient", self.env.namespace(), "reader"), SOON).await
    }
}

fn by_secret(env: &StoryEnv) -> (OAuthClient, Vec<Value>) {
    let realm = env.realm();
    let own = OAuthClient::confidential(realm.operator_client_id(), realm.operator_client_secret().clone());
    (own, vec![env.authorization_server("main")])
}

/// The client has a secret as well, which nobody uses, and which expires.
async fn by_key(env: &StoryEnv) -> anyhow::Result<(OAuthClient, Vec<Value>)> {
    policy(env, &expiring_secrets(), &attribute("use.jwks.string", "true")).await?;
    let pem = keyed(env).await?;
    let own = OAuthClient::signing(KEYED, &SecretString::from(pem.clone()), env.realm().issuer())?;
    ensure!(expires(env, KEYED).await?, "its secret does not expire");
    Ok((own, vec![key_secret(env, &pem), home_by_key(env)]))
}

/// The client has a secret as well, which nobody uses, and which expires as soon as the client is changed.
async fn by_token(
    env: &StoryEnv,
    options: &mut OperatorOptions,
) -> anyhow::Result<(OAuthClient, Vec<Value>)> {
    let own = env.operator_namespace();
    federated(env).await?;
    env.apply(&account(own, SERVICE_ACCOUNT)).await?;
    let file = env.authority_file()?.with_file_name("token");
    let token = put_token(env, &file, env.realm().issuer()).await?;
    read_tokens(env, options, &file);
    let trusting = attribute("jwt.credential.issuer", "cluster");
    policy(env, &expiring_secrets(), &trusting).await?;
    ensure!(!expires(env, POD).await?, "its secret expires already");
    let objects = vec![env.ca_config_map(own), home_by_token(env)];
    Ok((OAuthClient::asserting(POD, token), objects))
}

/// What lets secrets expire.
fn expiring_secrets() -> Value {
    json!({ "executor": "secret-rotation", "configuration": {
        "expiration-period": 86_400, "rotated-expiration-period": 3600, "remaining-rotation-period": 3600,
    } })
}

/// Whether Keycloak ends the secret of a client.
async fn expires(env: &StoryEnv, id: &str) -> anyhow::Result<bool> {
    let client = env.realm().find_client(id).await?.context("no such client")?;
    Ok(client["attributes"][EXPIRES].is_string())
}

/// Clients with this attribute.
fn attribute(key: &str, value: &str) -> Value {
    let attributes = json!([{ "key": key, "value": value }]).to_string();
    json!({ "condition": "client-attributes", "configuration": { "attributes": attributes } })
}

fn any_client() -> Value {
    json!({ "condition": "any-client", "configuration": {} })
}

/// A client policy of the realm's own.
async fn policy(env: &StoryEnv, executor: &Value, condition: &Value) -> anyhow::Result<()> {
    let profiles = json!({ "profiles": [{ "name": "theirs", "description": "", "executors": [executor] }] });
    let policies = json!({ "policies": [{
        "name": "theirs", "description": "", "enabled": true, "conditions": [condition], "profiles": ["theirs"],
    }] });
    let admin = env.realm().admin();
    admin.put("/client-policies/profiles", &profiles).await?;
    admin.put("/client-policies/policies", &policies).await.map(drop)
}

fn is_creation(call: &Call) -> bool {
    call.method == Method::POST && call.path().ends_with("/clients")
}

pub(super) async fn however_it_signs_in(world: Arc<World>) -> anyhow::Result<()> {
    let ways = [Way::Secret, Way::Key, Way::Token].map(|way| {
        let world = &world;
        async move { shut_out(world, way).await.with_context(|| format!("by {way}")) }
    });
    try_join_all(ways).await.map(drop)
}

async fn shut_out(world: &Arc<World>, way: Way) -> anyhow::Result<()> {
    let scene = Scene::new(world, way).await?;
    let env = &scene.env;
    let before = scene.own_client().await?;
    let leader = env.start_operator_with(&scene.options).await?;
    apply_all(env, &scene.objects).await?;
    ready(env, ("McpServer", env.namespace(), "notes"), SOON).await?;
    let standby = env.launch_operator(&scene.options).await?;
    standby.wait_until_ready().await?;

    // A client that it makes is on its way when it is frozen.
    env.proxy().clear();
    let hits = env.proxy().inject(Fault::hold().on(is_creation).times(1));
    env.apply(&scene.reader).await?;
    tokio::time::timeout(SOON, hits.first())
        .await
        .context("no client was made")?;
    leader.process().freeze();
    let held = env.proxy().tokens();
    ensure!(scene.accepted(&held).await? > 0, "the leader holds no token");
    frozen::leads(&standby).await?;
    scene.reader_is_ready().await?;
    let accepted = scene.accepted(&held).await?;
    ensure!(accepted == 0, "{accepted} tokens of whoever led before are taken");
    too_late(&scene, &leader).await?;

    // Whoever signs in now is let in at once, by the credential of before.
    let issuer = env.issuer().await?;
    let tokens = issuer.client_credentials(&scene.own, None).await?.granted()?;
    ensure!(
        scene.accepts(&tokens.access_token).await?,
        "a new token is refused"
    );
    only_not_before_differs(&before, &scene.own_client().await?)?;
    for operator in [&leader, &standby] {
        ensure!(!operator.log()?.contains(NOT_SHUT_OUT), "it warns");
    }
    standby.stop().await
}

/// What was held arrives, and is refused; whoever sent it goes on, and ends without trying again.
async fn too_late(scene: &Scene, leader: &Operator) -> anyhow::Result<()> {
    let proxy = scene.env.proxy();
    proxy.heal()?;
    let status = wait_for("the answer to what was late", SOON, async || {
        let late = proxy.calls().into_iter().find(is_creation);
        let status = late.and_then(|call| call.status);
        Ok(status.map_or_else(|| Seen::NotYet("none".to_owned()), Seen::Done))
    })
    .await?;
    ensure!(status == StatusCode::UNAUTHORIZED, "what was late got {status}");
    leader.process().thaw();
    let ended = tokio::time::timeout(SOON, leader.process().wait()).await;
    let ended = ended.context("it goes on although another leads")??;
    ensure!(!ended.success(), "it ended as if it had been asked to");
    let creations = proxy.calls().into_iter().filter(is_creation).count();
    ensure!(creations == 2, "{creations} times the client was to be made");
    Ok(())
}

/// Nothing of the operator's client is another but the time before which its tokens do not count, which has come.
fn only_not_before_differs(before: &Value, after: &Value) -> anyhow::Result<()> {
    let (mut was, mut is) = (before.clone(), after.clone());
    let [from, to] =
        [&mut was, &mut is].map(|client| client["notBefore"].take().as_i64().unwrap_or_default());
    ensure!(from == 0 && to > 0, "notBefore went from {from} to {to}");
    // When a secret ends that is not in use is Keycloak's own matter.
    for client in [&mut was, &mut is] {
        client["attributes"][EXPIRES].take();
    }
    ensure_same(&was, &is)
}

/// Names the fields that differ, not what is in them.
fn ensure_same(was: &Value, is: &Value) -> anyhow::Result<()> {
    let fields = was.as_object().into_iter().chain(is.as_object()).flatten();
    let changed: BTreeSet<_> = fields
        .map(|(field, _)| field)
        .filter(|field| was[*field] != is[*field])
        .collect();
    ensure!(
        changed.is_empty(),
        "of the operator's client changed: {changed:?}"
    );
    Ok(())
}

pub(super) async fn where_it_is_refused(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::with_operator_roles(&world, "crashes-not-shut-out", &[]).await?;
    let (own, mut objects) = by_secret(&env);
    objects.push(server(&env, "notes"));
    let reader = machine(&env, "reader", &["notes"]);
    let options = env.operator_options();
    let scene = Scene {
        env,
        options,
        own,
        objects,
        reader,
    };
    let env = &scene.env;
    let before = scene.own_client().await?;
    let operator = env.start_operator_with(&scene.options).await?;
    apply_all(env, &scene.objects).await?;
    env.apply(&scene.reader).await?;
    let home = ("AuthorizationServer", env.namespace(), "main");
    because(env, home, ("Ready", "False", "PermissionMissing")).await?;
    // Without the role there is nothing that could come late.
    let writes = env.proxy().writes();
    ensure!(writes.is_empty(), "{writes:?}");

    // With it, Keycloak refuses this change and no other: the operator's client has what no client may have any more.
    policy(
        env,
        &json!({ "executor": "full-scope-disabled", "configuration": { "auto-configure": false } }),
        &any_client(),
    )
    .await?;
    env.realm().grant_operator_role("manage-clients").await?;
    scene.reader_is_ready().await?;
    ensure_same(&before, &scene.own_client().await?)?;
    let warned = operator.log()?.matches(NOT_SHUT_OUT).count();
    ensure!(warned == 1, "it warned {warned} times");
    let held = env.proxy().tokens();
    operator.stop().await?;
    let operator = env.start_operator_with(&scene.options).await?;
    warns(&operator, "invalid_registration").await?;
    ensure!(scene.accepted(&held).await? > 0, "the warning is wrong");
    ready(env, home, SOON).await?;
    operator.stop().await?;
    its_secret_expires(&scene).await
}

/// Keycloak fails where the change would let the secret of the operator's client expire; nor is it changed when that
/// expires, because Keycloak replaces a secret that is past its end, and nobody would know the new one.
async fn its_secret_expires(scene: &Scene) -> anyhow::Result<()> {
    let env = &scene.env;
    let home = ("AuthorizationServer", env.namespace(), "main");
    policy(env, &expiring_secrets(), &any_client()).await?;
    ensure!(!expires(env, scene.own.id()).await?, "its secret expires already");
    for why in ["HTTP 500", "lets the secret of the operator's client expire"] {
        let before = scene.own_client().await?;
        let operator = env.start_operator_with(&scene.options).await?;
        warns(&operator, why).await?;
        ready(env, home, SOON).await?;
        ensure_same(&before, &scene.own_client().await?)?;
        operator.stop().await?;
        // Its administrator changes it.
        let path = format!("/clients/{}", before["id"].as_str().unwrap_or_default());
        env.realm().admin().put(&path, &before).await?;
        ensure!(expires(env, scene.own.id()).await?, "its secret does not expire");
    }
    Ok(())
}

/// Waits until it warns for this reason.
async fn warns(operator: &Operator, why: &str) -> anyhow::Result<()> {
    wait_for("its warning", SOON, async || {
        let log = operator.log()?;
        let warning = log.lines().find(|line| line.contains(NOT_SHUT_OUT));
        Ok(match warning {
            Some(line) if line.contains(why) => Seen::Done(()),
            other => Seen::NotYet(other.unwrap_or("none").to_owned()),
        })
    })
    .await
}
