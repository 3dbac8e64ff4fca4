use super::*;

/// Loads `arguments` with no environment but `surroundings`.
fn load(arguments: &[&str], surroundings: &Surroundings) -> Result<Config, Unusable> {
    Config::load(
        std::iter::once("mcp-auth-operator").chain(arguments.iter().copied()),
        surroundings,
    )
}

fn in_a_pod() -> Surroundings {
    Surroundings {
        pod_namespace: Some("operators".to_owned()),
        service_account_namespace: None,
    }
}

#[track_caller]
fn problems(arguments: &[&str]) -> Vec<String> {
    match load(arguments, &in_a_pod()) {
        Err(Unusable::Values(errors)) => errors.iter().map(ToString::to_string).collect(),
        other => panic!("expected refused values, got {other:?}"),
    }
}

#[test]
fn the_defaults_are_those_that_help_promises() {
    let config = load(&[], &in_a_pod()).unwrap();
    assert_eq!(config.namespace, "operators");
    assert_eq!(config.watch, WatchScope::All);
    assert_eq!(config.installation, None);
    assert_eq!(config.resync_interval, Duration::from_mins(10));
    assert_eq!(config.max_backoff, Duration::from_mins(5));
    assert_eq!(
        config.lease,
        LeaseConfig {
            name: "mcp-auth-operator".to_owned(),
            duration: Duration::from_secs(15)
        }
    );
    assert_eq!(config.deletion_timeout, Duration::from_hours(1));
    assert_eq!(config.admin_address.to_string(), "[::]:8080");
    assert_eq!(config.log_format, LogFormat::Json);
    let logged = |level| config.log_filter.enables("mcp_auth_operator::lease", level);
    assert!(logged(tracing::Level::INFO) && !logged(tracing::Level::DEBUG));
    assert_eq!(config.concurrency, 8);
    assert_eq!(config.authorization_server_rate.get(), 50);
    let token = PathBuf::from("/var/run/secrets/mcpauth.dev/token");
    assert_eq!(config.service_account_token_files, [token]);
    assert_eq!(config.egress, EgressPolicy::default());
}

#[test]
fn every_flag_is_understood() {
    let arguments = [
        "--namespace=mine",
        "--watch-namespaces=b, a,b,",
        "--installation=blue",
        "--resync-interval=1s",
        "--max-backoff=1h30m",
        "--lease-name=a.b",
        "--lease-duration=2s",
        "--deletion-timeout=90s",
        "--admin-address=[::1]:0",
        "--log-format=text",
        "--log-level=debug,hyper=warn",
        "--concurrency=256",
        "--authorization-server-rate=10000",
        "--service-account-token-file=/a, b,",
        "--allow-http",
        "--allow-private-addresses=yes",
        "--insecure-allow-loopback=true",
        "--gate-image=registry.example.com/gate:1",
        "--gate-image-pull-policy=Never",
        "--gate-image-pull-secrets=a, b",
        "--gate-node-selector=disk=fast",
        "--gate-tolerations=edge:NoSchedule",
        "--gate-labels=example.com/team=platform",
        "--gate-max-cpu=500m",
        "--gate-max-memory=512Mi",
    ];
    let config = load(&arguments, &Surroundings::default()).unwrap();
    assert_eq!(config.namespace, "mine");
    assert_eq!(
        config.watch,
        WatchScope::Namespaces(vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(config.installation.as_deref(), Some("blue"));
    assert_eq!(config.resync_interval, Duration::from_secs(1));
    let gate = &config.gate;
    assert_eq!(gate.image.as_deref(), Some("registry.example.com/gate:1"));
    assert_eq!(
        (gate.image_pull_policy.as_str(), gate.image_pull_secrets.len()),
        ("Never", 2)
    );
    assert_eq!(
        (
            gate.node_selector.len(),
            gate.tolerations.len(),
            gate.labels.len()
        ),
        (1, 1, 1)
    );
    assert_eq!((gate.max_cpu_millis, gate.max_memory_bytes), (500, 512 << 20));
    assert_eq!(config.max_backoff, Duration::from_mins(90));
    assert_eq!(
        config.lease,
        LeaseConfig {
            name: "a.b".to_owned(),
            duration: Duration::from_secs(2)
        }
    );
    assert_eq!(config.deletion_timeout, Duration::from_secs(90));
    assert_eq!(config.admin_address.to_string(), "[::1]:0");
    assert_eq!(config.log_format, LogFormat::Text);
    assert_eq!(config.concurrency, 256);
    assert_eq!(config.authorization_server_rate.get(), 10_000);
    assert_eq!(config.service_account_token_files, ["/a", "b"].map(PathBuf::from));
    assert_eq!(
        config.egress,
        EgressPolicy {
            allow_http: true,
            allow_private_for_tenants: true,
            insecure_allow_loopback: true
        }
    );
}

#[test]
fn the_own_namespace_is_found_or_asked_for() {
    let file = |content: &str| Surroundings {
        pod_namespace: Some(String::new()),
        service_account_namespace: Some(content.to_owned()),
    };
    assert_eq!(load(&[], &file("from-file\n")).unwrap().namespace, "from-file");
    assert_eq!(
        load(&["--namespace=typed"], &file("from-file"))
            .unwrap()
            .namespace,
        "typed"
    );
    let Err(Unusable::Values(errors)) = load(&[], &Surroundings::default()) else {
        panic!("no namespace")
    };
    assert_eq!(
        errors[0].to_string(),
        "--namespace: is not known outside a pod: give --namespace or set POD_NAMESPACE"
    );
}

#[test]
fn each_bad_value_is_one_line_that_names_the_flag() {
    let cases = [
        ("--namespace=A_b", "--namespace: \"A_b\" is not usable as a name"),
        (
            "--watch-namespaces=ok,-no",
            "--watch-namespaces: \"-no\" is not usable as a name",
        ),
        (
            "--installation=Blue",
            "--installation: \"Blue\" is not usable as a name",
        ),
        (
            "--resync-interval=10",
            "--resync-interval: \"10\" is not a duration: write it as 90s, 10m or 1h30m",
        ),
        (
            "--resync-interval=0s",
            "--resync-interval: \"0s\" is too short: the least is 1s",
        ),
        ("--max-backoff=", "--max-backoff: \"\" is not a duration"),
        (
            "--lease-name=a..b",
            "--lease-name: \"a..b\" is not usable as the name of an object",
        ),
        (
            "--lease-duration=500ms",
            "--lease-duration: \"500ms\" is not a duration",
        ),
        (
            "--lease-duration=11m",
            "--lease-duration: \"11m\" is too long: the most is 600s",
        ),
        ("--deletion-timeout=0s", "--deletion-timeout: \"0s\" is too short"),
        (
            "--admin-address=8080",
            "--admin-address: \"8080\" is not an address: write it as 0.0.0.0:8080",
        ),
        (
            "--log-format=xml",
            "--log-format: \"xml\" is not a log format: write json or text",
        ),
        ("--log-level=loud!", "--log-level: \"loud!\" is not a log filter"),
        (
            "--concurrency=0",
            "--concurrency: \"0\" is not a whole number from 1 to 256",
        ),
        (
            "--concurrency=many",
            "--concurrency: \"many\" is not a whole number from 1 to 256",
        ),
        (
            "--authorization-server-rate=0",
            "--authorization-server-rate: \"0\" is not a whole number from 1 to 10000",
        ),
    ];
    for (argument, expected) in cases {
        let problems = problems(&[argument]);
        assert_eq!(problems.len(), 1, "{argument}: {problems:?}");
        assert!(problems[0].starts_with(expected), "{argument}: {}", problems[0]);
        assert!(!problems[0].contains('\n'), "{argument} takes more than a line");
    }
}

#[test]
fn all_bad_values_are_reported_at_once() {
    let problems = problems(&["--concurrency=0", "--log-format=xml", "--resync-interval=x"]);
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn every_flag_has_its_variable_and_an_explanation() {
    use clap::CommandFactory;
    for argument in Flags::command().get_arguments() {
        let Some(long) = argument.get_long() else { continue };
        let variable = format!("MCP_AUTH_OPERATOR_{}", long.to_uppercase().replace('-', "_"));
        assert_eq!(
            argument.get_env().and_then(|name| name.to_str()),
            Some(variable.as_str()),
            "--{long}"
        );
        assert!(
            argument
                .get_help()
                .is_some_and(|help| help.to_string().len() > 40),
            "--{long} is not explained"
        );
    }
    Flags::command().debug_assert();
}
