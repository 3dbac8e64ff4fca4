//! The demo: the main job on real parts, told as it happens.

mod gate;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use secrecy::SecretString;

use crate::{
    control_plane::ControlPlane,
    interrupt,
    keycloak::OPERATOR_ROLES,
    node,
    oauth::{Exchange, Issuer, LoginRequest, OAuthClient, VerifiedToken},
    operator::{self, Operator},
    progress, samples,
    setting::Setting,
    stand::{self, Stand},
    story::StoryEnv,
    world::{self, World},
};

const READY: Duration = Duration::from_secs(90);
const USER: &str = "alice";
/// Not a name that a Keycloak of somebody's own is likely to have.
const REALM: &str = "mcp-auth-demo";
const SAMPLE_NAMESPACES: [&str; 3] = [samples::PLATFORM, samples::TEAMS[0], samples::TEAMS[1]];
/// Where [`StoryEnv`] puts the operator.
const OPERATOR_NAMESPACE: &str = "mcp-platform-operator";

/// Starts everything, shows the main job, and stays up until Ctrl-C unless `once`. What was made in a cluster or a
/// Keycloak that exists already is removed at the end, however it comes.
///
/// # Errors
/// When anything does not work as the demo says it does.
pub async fn run(once: bool) -> anyhow::Result<()> {
    let mut setting = Setting::from_env()?;
    setting.node = has_node(&setting).await;
    let mut demo = Demo::default();
    let shown = tokio::select! {
        shown = demo.show(&setting) => shown,
        asked = interrupt::requested() => asked.and_then(|()| bail!("interrupted")),
    };
    if shown.is_ok() && !once {
        demo.invite();
        interrupt::requested().await?;
    }
    let left = tokio::select! {
        left = demo.leave() => left,
        asked = interrupt::requested() => asked.and_then(|()| bail!("interrupted while cleaning up")),
    };
    shown.and(left)
}

/// Whether there will be a node; says why if not.
async fn has_node(setting: &Setting) -> bool {
    let problem = match &setting.gate_image {
        _ if !setting.existing_cluster => node::problem().await,
        Some(image) => Some(format!(
            "the operator is here and cannot ask pods of your cluster; {image} is run there all the same"
        )),
        None => Some(
            "your cluster is not known to have the image of the gate; GATE_IMAGE=... names one for it to run as well".to_owned(),
        ),
    };
    if let Some(problem) = &problem {
        say(&format!(
            "the gate that is shown is a process of this machine, with the policy that the operator writes for its pods: {problem}"
        ));
    }
    problem.is_none()
}

/// What was started and made so far. Of parts that exist already, only what was made is ever removed.
#[derive(Default)]
struct Demo {
    world: Option<Arc<World>>,
    /// Holds the proxy through which the operator speaks with Keycloak.
    env: Option<StoryEnv>,
    /// The public address of the server with a gate, and what is behind it.
    stand: Option<Stand>,
    operator: Option<Operator>,
    installed: bool,
    made_realm: bool,
}

impl Demo {
    async fn show(&mut self, setting: &Setting) -> anyhow::Result<()> {
        let world = self.world.insert(Arc::new(World::start_on(setting).await?));
        if setting.existing_cluster {
            nothing_in_the_way(world.control_plane()).await?;
            self.installed = true;
            say("installing the definitions and roles in the cluster");
            world::install(world.control_plane()).await?;
        }
        let realm = world.keycloak().create_realm(REALM, &OPERATOR_ROLES).await?;
        self.made_realm = setting.keycloak.is_some();
        let env = StoryEnv::in_realm(world, samples::PLATFORM.to_owned(), realm).await?;
        let env = &*self.env.insert(env);
        for team in samples::TEAMS {
            env.kubectl().must(&["create", "namespace", team]).await?;
        }
        say("starting the operator under the shipped roles");
        let stand = &*self.stand.insert(Stand::prepare(world).await?);
        let mut options = samples::operator_options(env);
        stand.allow(&mut options, env, gate_image(setting))?;
        self.operator = Some(env.start_operator_with(&options).await?);
        say(
            "kubectl apply of config/samples (the addresses of the authorization server and of the gate are those here)",
        );
        samples::apply(env, stand, &env.authorization_server("company")).await?;
        samples::wait_until_ready(env, stand, READY, |object, after| {
            say(&format!("Ready after {:4.1} s  {object}", after.as_secs_f64()));
        })
        .await?;
        print(&format!(
            "\n$ kubectl get mcp-auth -A\n{}",
            env.kubectl().must(&["get", "mcp-auth", "-A"]).await?
        ));

        if stand.has_pods() {
            proved(env).await?;
        }
        let issuer = env.issuer().await?;
        gate::show(env, &issuer, stand).await?;
        machine_client(env, &issuer).await?;
        user_and_exchange(env, &issuer).await?;
        metadata(env).await?;
        say("verdict: everything above is as declared");
        Ok(())
    }

    /// Says how to look around.
    fn invite(&self) {
        let Some(world) = &self.world else { return };
        print(&format!(
            "\nIt stays up for you to look around:\n  export KUBECONFIG={}\n  kubectl get mcp-auth -A; kubectl explain mcpclient.spec\n  Keycloak: {}\nCtrl-C stops everything.",
            world.control_plane().kubeconfig().display(),
            world.keycloak().url(),
        ));
    }

    /// Removes what was made in parts that go on without us, and stops the others.
    async fn leave(&mut self) -> anyhow::Result<()> {
        let Some(world) = &self.world else { return Ok(()) };
        if self.installed {
            progress::during("removing the samples from the cluster", remove_samples(world)).await?;
        }
        if let Some(operator) = self.operator.take() {
            operator.stop().await?;
        }
        if self.installed {
            progress::during("removing the operator from the cluster", async {
                remove(world, &[OPERATOR_NAMESPACE]).await?;
                operator::revoke(world.control_plane(), OPERATOR_NAMESPACE).await?;
                world::uninstall(world.control_plane()).await
            })
            .await?;
        }
        if self.made_realm {
            world.keycloak().remove_realm(REALM).await?;
        }
        world.stop().await
    }
}

/// The image of the gate for a cluster without our node. Nothing is pulled where nothing runs.
fn gate_image(setting: &Setting) -> Option<&str> {
    let ours = (!setting.existing_cluster).then_some("mcp-auth-gate:none");
    setting.gate_image.as_deref().or(ours)
}

/// What the operator found out about the gate by itself.
async fn proved(env: &StoryEnv) -> anyhow::Result<()> {
    let (namespace, name) = stand::SAMPLE;
    for condition in ["GateReady", "Enforced", "BypassClosed"] {
        let found = env
            .wait_condition(("McpServer", namespace, name), (condition, "True"), READY)
            .await?;
        say(&format!(
            "{condition} of McpServer {namespace}/{name}: {}",
            found["message"].as_str().unwrap_or_default()
        ));
    }
    Ok(())
}

/// Fails when the cluster has something already that the demo would change.
async fn nothing_in_the_way(cluster: &ControlPlane) -> anyhow::Result<()> {
    let kubectl = cluster.kubectl();
    let definitions = [
        "get",
        "crd",
        "mcpservers.mcpauth.dev",
        "--ignore-not-found",
        "--output=name",
    ];
    ensure!(
        kubectl.must(&definitions).await?.is_empty(),
        "the definitions of mcp-auth-operator are installed in the cluster at {}: two operators would disturb each other",
        cluster.address()
    );
    for namespace in SAMPLE_NAMESPACES
        .iter()
        .chain(&[OPERATOR_NAMESPACE, world::SHIPPED_NAMESPACE])
    {
        let get = [
            "get",
            "namespace",
            namespace,
            "--ignore-not-found",
            "--output=name",
        ];
        ensure!(
            kubectl.must(&get).await?.is_empty(),
            "the cluster at {} has a namespace {namespace}, which the demo would use",
            cluster.address()
        );
    }
    Ok(())
}

/// The objects before their namespaces, in which the operator's rights are bound, and the operator last: what it has
/// registered, it has to clean up.
async fn remove_samples(world: &World) -> anyhow::Result<()> {
    let kubectl = world.control_plane().kubectl();
    for kinds in [
        "services,tokenexchangepolicies,mcpclients,mcpservers",
        "authorizationservers",
    ] {
        for namespace in SAMPLE_NAMESPACES {
            let delete = [
                "delete",
                kinds,
                "--all",
                "--timeout=60s",
                "--namespace",
                namespace,
            ];
            kubectl.must(&delete).await?;
        }
    }
    remove(world, &SAMPLE_NAMESPACES).await
}

async fn remove(world: &World, namespaces: &[&str]) -> anyhow::Result<()> {
    let delete = ["delete", "namespace", "--ignore-not-found", "--timeout=120s"];
    let kubectl = world.control_plane().kubectl();
    kubectl.must(&[&delete, namespaces].concat()).await.map(drop)
}

/// A client without a user: its token, and a scope that it does not get.
async fn machine_client(env: &StoryEnv, issuer: &Issuer) -> anyhow::Result<()> {
    say("McpClient team-a/reporter: a token with the credential in Secret team-a/reporter-mcp-client");
    let reporter = samples::oauth_client(env, "team-a", "reporter-mcp-client").await?;
    let tokens = issuer
        .client_credentials(&reporter, Some("documents:read"))
        .await?
        .granted()?;
    let token = issuer.verify(&tokens.access_token).await?;
    claims(&token);
    ensure!(
        token.audiences() == ["https://documents.team-b.mcp.example.com/mcp"],
        "another audience"
    );
    let refused = issuer
        .client_credentials(&reporter, Some("documents:write"))
        .await?
        .refused()?;
    say(&format!(
        "the same client asks for documents:write, which it was not granted: {}",
        refused.error
    ));
    Ok(())
}

/// A user signs in, and the server that they call exchanges their token.
async fn user_and_exchange(env: &StoryEnv, issuer: &Issuer) -> anyhow::Result<()> {
    let password = "correct horse battery staple";
    env.realm().create_user(USER, password).await?;
    say("McpClient team-a/desktop: a user signs in on Keycloak's own pages (PKCE, consent)");
    let desktop = samples::oauth_client(env, "team-a", "desktop-mcp-client").await?;
    let request = LoginRequest {
        redirect_uri: "http://127.0.0.1:33418/callback".to_owned(),
        scope: "mcp.team-a.assistant".to_owned(),
        resource: Some("https://assistant.mcp.example.com/mcp".to_owned()),
        username: USER.to_owned(),
        password: SecretString::from(password.to_owned()),
    };
    let code = issuer.sign_in(&desktop, &request).await?.granted()?;
    let tokens = issuer.redeem(&desktop, &code).await?.granted()?;
    claims(&issuer.verify(&tokens.access_token).await?);

    let server = samples::oauth_client(env, "team-a", "assistant-mcp-auth").await?;
    for (policy, scope, audience) in [
        (
            "assistant-orders",
            "orders-api:read",
            "https://orders.internal.example.com",
        ),
        (
            "assistant-documents",
            "documents:read",
            "https://documents.team-b.mcp.example.com/mcp",
        ),
    ] {
        say(&format!(
            "TokenExchangePolicy team-a/{policy}: the assistant exchanges that token for {scope}"
        ));
        let exchanged = exchange(issuer, &server, &tokens.access_token, scope).await?;
        claims(&exchanged);
        ensure!(exchanged.audiences() == [audience], "another audience");
    }
    Ok(())
}

async fn exchange(
    issuer: &Issuer,
    server: &OAuthClient,
    subject: &SecretString,
    scope: &str,
) -> anyhow::Result<VerifiedToken> {
    let exchange = Exchange {
        subject_token: subject,
        scope: Some(scope),
        audience: None,
    };
    let tokens = issuer.exchange(server, &exchange).await?.granted()?;
    issuer.verify(&tokens.access_token).await
}

/// The published document, as any MCP client reads it.
async fn metadata(env: &StoryEnv) -> anyhow::Result<()> {
    say(
        "ConfigMap team-b/tickets-mcp-metadata, of the McpServer that the annotated Service became (RFC 9728)",
    );
    let path = "jsonpath={.data.oauth-protected-resource}";
    let document = env
        .kubectl()
        .must(&[
            "get",
            "configmap",
            "tickets-mcp-metadata",
            "-n",
            "team-b",
            "-o",
            path,
        ])
        .await?;
    let parsed: serde_json::Value = serde_json::from_str(&document).context("the document is not JSON")?;
    ensure!(
        parsed["authorization_servers"][0] == env.realm().issuer(),
        "another issuer"
    );
    print(&document);
    Ok(())
}

/// The claims that matter; never the token.
fn claims(token: &VerifiedToken) {
    let lifetime = token
        .lifetime()
        .map_or_else(|_| "?".to_owned(), |seconds| format!("{seconds} s"));
    print(&format!(
        "      typ   {}\n      iss   {}\n      sub   {}\n      azp   {}\n      aud   {}\n      scope {}\n      valid {lifetime}",
        token.typ.as_deref().unwrap_or("-"),
        token.text("iss"),
        token.text("sub"),
        token.text("azp"),
        token.audiences().join(" "),
        token.text("scope"),
    ));
}

fn say(line: &str) {
    progress::say(line);
}

#[expect(clippy::print_stdout, reason = "the demo shows what was made")]
fn print(text: &str) {
    println!("{text}");
}
