//! What is wrong from the start is said in one line, with an exit code, and without a back-trace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    control_plane::ControlPlane,
    operator::{Operator, SERVICE_ACCOUNT, binary},
    ports,
    process::capture,
    runner::Story,
    secrets,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Longer than the operator waits for a silent API server.
const TIMEOUT: Duration = Duration::from_secs(40);

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("command_line::bad_flags_are_named_one_line_each", bad_flags),
        Story::new("command_line::help_explains_every_flag", help),
        Story::new("command_line::a_cluster_out_of_reach_is_one_line", out_of_reach),
        Story::new("command_line::missing_definitions_are_named", missing_definitions),
        Story::new("command_line::missing_rights_are_named", missing_rights),
    ]
}

/// How a run of the binary ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the binary to its end, with nothing around it that could tell it of a cluster but this kubeconfig.
async fn run(world: &World, arguments: &[&str], kubeconfig: Option<&Path>) -> anyhow::Result<Ended> {
    let mut command = Command::new(binary()?);
    command
        .args(arguments)
        .env_clear()
        .env("HOME", world.folder().path().join("nobody"))
        .env("RUST_BACKTRACE", "full");
    command.envs(kubeconfig.map(|file| ("KUBECONFIG", file)));
    let output = capture(&command, "", TIMEOUT).await?;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

impl Ended {
    /// Fails unless it ended with this code and these lines on the standard error stream, nothing else.
    fn says(&self, code: i32, lines: &[&str]) -> anyhow::Result<()> {
        let said: Vec<&str> = self.stderr.lines().collect();
        let as_meant =
            said.len() == lines.len() && said.iter().zip(lines).all(|(said, line)| said.contains(line));
        ensure!(
            self.code == Some(code) && as_meant && self.stdout.is_empty(),
            "it ended with {:?} and said\n{}{}\ninstead of {lines:#?}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(())
    }
}

async fn bad_flags(world: Arc<World>) -> anyhow::Result<()> {
    // Arguments, and what each line says.
    let table: [(&[&str], &[&str]); 9] = [
        (
            &[],
            &["--namespace: is not known outside a pod: give --namespace or set POD_NAMESPACE"],
        ),
        (
            &["--colour"],
            &["unexpected argument '--colour' found (--help explains every flag)"],
        ),
        (&["serve"], &["unexpected argument 'serve' found"]),
        (
            &["--resync-interval"],
            &["a value is required for '--resync-interval <DURATION>'"],
        ),
        (
            &["--namespace=n", "--resync-interval=10"],
            &["--resync-interval: \"10\""],
        ),
        (
            &["--namespace=n", "--log-level=loud"],
            &["--log-level: \"loud\" is not a log filter"],
        ),
        (
            &["--namespace=n", "--insecure-allow-loopback=perhaps"],
            &["invalid value 'perhaps'"],
        ),
        (&["--namespace=n", "--admin-address=here"], &["--admin-address: "]),
        // Everything that is wrong, at once.
        (
            &[
                "--namespace=My_Namespace",
                "--max-backoff=never",
                "--lease-duration=1h",
                "--concurrency=0",
            ],
            &[
                "--namespace: ",
                "--max-backoff: ",
                "--lease-duration: ",
                "--concurrency: ",
            ],
        ),
    ];
    for (arguments, lines) in table {
        let ended = run(&world, arguments, None).await?;
        ended.says(2, lines).with_context(|| arguments.join(" "))?;
        ensure!(
            ended
                .stderr
                .lines()
                .all(|line| line.starts_with("mcp-auth-operator: ")),
            "{}",
            ended.stderr
        );
    }
    Ok(())
}

async fn help(world: Arc<World>) -> anyhow::Result<()> {
    let help = run(&world, &["--help"], None).await?;
    ensure!(help.code == Some(0) && help.stderr.is_empty(), "{}", help.stderr);
    for flag in [
        "--namespace",
        "--watch-namespaces",
        "--installation",
        "--resync-interval",
        "--max-backoff",
        "--lease-name",
        "--deletion-timeout",
        "--log-level",
        "--insecure-allow-loopback",
    ] {
        let variable = format!(
            "MCP_AUTH_OPERATOR_{}",
            flag.trim_start_matches("--").replace('-', "_").to_uppercase()
        );
        ensure!(
            help.stdout.contains(flag) && help.stdout.contains(&variable),
            "{flag}: {}",
            help.stdout
        );
    }
    let version = run(&world, &["--version"], None).await?;
    ensure!(
        version.code == Some(0) && version.stdout.starts_with("mcp-auth-operator "),
        "{}",
        version.stdout
    );
    Ok(())
}

/// The flags of a run that would work in a cluster.
const GOOD: [&str; 3] = ["--namespace=n", "--installation=i", "--admin-address=127.0.0.1:0"];

/// A kubeconfig for a cluster at this address.
fn kubeconfig(world: &World, name: &str, address: &str) -> anyhow::Result<PathBuf> {
    let content = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": { "server": address } }],
        "users": [{ "name": "u", "user": { "token": "none" } }],
    });
    let file = world.folder().path().join(format!("{name}.json"));
    fs::write(&file, content.to_string())?;
    Ok(file)
}

async fn out_of_reach(world: Arc<World>) -> anyhow::Result<()> {
    let missing = world.folder().path().join("no-such-kubeconfig");
    let nonsense = world.folder().path().join("nonsense-kubeconfig");
    fs::write(&nonsense, "\t{ this is no kubeconfig")?;
    let refused = format!("https://127.0.0.1:{}", ports::free()?);
    let refusing = kubeconfig(&world, "refusing", &refused)?;
    // The certificate of this one is of an authority that the kubeconfig does not name.
    let untrusted = kubeconfig(&world, "untrusted", world.control_plane().address())?;
    // Never accepts, so that whoever connects hears nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let silent = kubeconfig(&world, "silent", &format!("http://{}", silent.local_addr()?))
        .map(|file| (file, silent))?;

    let unreachable = format!("cannot reach the API server at {refused}");
    let table = [
        (None, "no cluster to work with: set KUBECONFIG or run in a pod"),
        (Some(&missing), "no cluster to work with"),
        (Some(&nonsense), "no cluster to work with"),
        (Some(&refusing), unreachable.as_str()),
        (Some(&untrusted), "cannot reach the API server at"),
        (Some(&silent.0), "cannot reach the API server at"),
    ];
    for (file, line) in table {
        for format in ["json", "text"] {
            let arguments = [&GOOD[..], &["--log-format", format]].concat();
            let ended = run(&world, &arguments, file.map(PathBuf::as_path)).await?;
            ended.says(1, &[line])?;
        }
    }
    // Whom the API server does not know.
    let stranger = unknown_user(&world)?;
    let ended = run(&world, &GOOD, Some(&stranger)).await?;
    ended.says(1, &["does not accept the operator's credentials"])?;
    // Whoever switched the logs off is told all the same.
    let arguments = [&GOOD[..], &["--log-level=off"]].concat();
    let ended = run(&world, &arguments, Some(&refusing)).await?;
    ended.says(1, &[&format!("mcp-auth-operator: {unreachable}")])
}

/// The admin's kubeconfig with a token that nobody has.
fn unknown_user(world: &World) -> anyhow::Result<PathBuf> {
    let mut config: Value = serde_saphyr::from_str(&fs::read_to_string(world.control_plane().kubeconfig())?)?;
    config["users"][0]["user"] = json!({ "token": secrets::random_text() });
    let file = world.folder().path().join("stranger.json");
    fs::write(&file, config.to_string())?;
    Ok(file)
}

async fn missing_definitions(world: Arc<World>) -> anyhow::Result<()> {
    let folder = world.folder().subfolder("bare-control-plane")?;
    let tools = world
        .tools()
        .cluster
        .as_ref()
        .context("no control plane to start")?;
    let bare = ControlPlane::start(&folder, tools, world.authority()).await?;
    let all = "authorizationservers.mcpauth.dev, mcpclients.mcpauth.dev, mcpservers.mcpauth.dev, \
               tokenexchangepolicies.mcpauth.dev";
    let ended = run(&world, &GOOD, Some(bare.kubeconfig())).await?;
    ended.says(1, &["the cluster lacks the custom resource definitions"])?;
    for name in all.split(", ") {
        ensure!(ended.stderr.contains(name), "{}", ended.stderr);
    }
    ensure!(
        ended.stderr.contains("kubectl apply --server-side -f crds/yaml/"),
        "{}",
        ended.stderr
    );

    // One of them is there.
    let one = mcp_auth_e2e::world::checkout().join("crds/yaml/mcpauth.dev_mcpservers.yaml");
    let one = one.to_str().context("a path that is no text")?;
    bare.kubectl()
        .must(&["apply", "--server-side", "-f", one])
        .await?;
    let established = [
        "wait",
        "--for=condition=Established",
        "crd/mcpservers.mcpauth.dev",
        "--timeout=20s",
    ];
    bare.kubectl().must(&established).await?;
    wait_for(
        "the one definition not to be missed",
        Duration::from_secs(20),
        async || {
            let ended = run(&world, &GOOD, Some(bare.kubeconfig())).await?;
            ended.says(1, &["the cluster lacks the custom resource definitions"])?;
            Ok(if ended.stderr.contains("mcpservers.mcpauth.dev") {
                Seen::NotYet(ended.stderr)
            } else {
                Seen::Done(())
            })
        },
    )
    .await?;
    bare.stop().await
}

async fn missing_rights(world: Arc<World>) -> anyhow::Result<()> {
    let mut env = StoryEnv::new(&world, "rights").await?;
    let namespace = format!("--namespace={}", env.operator_namespace());
    let life = Duration::from_mins(10);
    let nobody = env
        .cluster()
        .service_account_kubeconfig(env.operator_namespace(), SERVICE_ACCOUNT, life)
        .await?;
    // No rights at all.
    let ended = run(
        &world,
        &[&namespace, "--admin-address=127.0.0.1:0"],
        Some(&nobody),
    )
    .await?;
    ended.says(1, &["cannot read the UID of the namespace kube-system"])?;
    ensure!(ended.stderr.contains("give --installation"), "{}", ended.stderr);
    let arguments = [
        &namespace,
        "--installation=i",
        "--admin-address=127.0.0.1:0",
        "--log-level=error",
    ];
    let ended = run(&world, &arguments, Some(&nobody)).await?;
    ended.says(
        1,
        &["cannot use the lease mcp-auth-operator in namespace rights-operator"],
    )?;

    // All that it needs, but not in a namespace that it is to serve: it waits for the rights, and says so.
    let served = env.operator_options();
    let folder = world.folder().subfolder("rights-operator")?;
    Operator::start(&folder, env.cluster(), &served)
        .await?
        .stop()
        .await?;
    let other = env.add_namespace("other").await?;
    let options = env.operator_options();
    let operator = Operator::launch(&folder, env.cluster(), &options).await?;
    wait_for("a complaint about the namespace", TIMEOUT, async || {
        let log = operator.log()?;
        let complains = log
            .lines()
            .any(|line| line.contains("is forbidden") && line.contains(&other) && line.contains("secrets"));
        Ok(if complains {
            Seen::Done(())
        } else {
            Seen::NotYet(log)
        })
    })
    .await?;
    let ready = tokio::time::timeout(Duration::from_secs(1), operator.wait_until_ready()).await;
    ensure!(!matches!(ready, Ok(Ok(()))), "it is ready without its rights");

    let account = format!("--serviceaccount={}:{SERVICE_ACCOUNT}", env.operator_namespace());
    let bind = [
        "create",
        "rolebinding",
        "served",
        "--clusterrole=mcp-auth-operator",
        &account,
        "-n",
        &other,
    ];
    env.kubectl().must(&bind).await?;
    operator.wait_until_ready().await?;
    ensure!(!operator.log()?.contains("panicked"), "{}", operator.log()?);
    operator.stop().await
}
