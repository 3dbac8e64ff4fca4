use super::*;

fn load(arguments: &[&str]) -> Result<Config, Unusable> {
    let all = ["mcp-auth-gate", "--policy=/p"].iter().chain(arguments);
    Config::load(all)
}

#[test]
fn the_defaults_are_as_they_are_documented() {
    let config = load(&[]).unwrap();
    assert_eq!(config.policy, PathBuf::from("/p"));
    assert_eq!(config.credentials, None);
    assert_eq!(config.addresses.proxy.to_string(), "[::]:8080");
    assert_eq!(config.addresses.admin.to_string(), "[::]:8081");
    assert!(config.addresses.tokens.is_none() && config.addresses.ext_authz.is_none());
    assert!(config.addresses.forward_auth.is_none() && config.tls.is_none() && config.replicas.is_none());
    let expected = Limits {
        body: 1 << 20,
        buffered: 64 << 20,
        header: 32 << 10,
        requests: 4096,
        per_caller: 1024,
        connections: 8192,
    };
    assert_eq!(config.limits, expected);
    assert_eq!(config.timeouts.stream_idle, None);
    assert_eq!(config.timeouts.upstream_header, Duration::from_mins(5));
    assert_eq!(config.access_log, AccessLogForm::Hashed);
    assert_eq!(config.log_format, LogFormat::Json);
    let logged = |level| config.log_filter.enables("mcp_auth_gate::proxy", level);
    assert!(logged(tracing::Level::INFO) && !logged(tracing::Level::DEBUG));
    assert_eq!(config.threads, None);
}

#[test]
fn values_are_understood() {
    let config = load(&[
        "--credentials=/c",
        "--tokens-address=[::]:8082",
        "--peers=notes-gate-peers:8082",
        "--pod-address=fd00::7",
        "--tls-certificate=/tls.crt",
        "--tls-key=/tls.key",
        "--max-body-size=4Mi",
        "--max-header-size=8192",
        "--stream-idle-timeout=1h30m",
        "--stream-grace=0s",
        "--threads=3",
        "--max-concurrent-requests=3",
        "--access-log=off",
        "--insecure-allow-http",
    ])
    .unwrap();
    let replicas = Replicas {
        peers: "notes-gate-peers:8082".to_owned(),
        own: "fd00::7".parse().unwrap(),
    };
    assert_eq!(config.replicas, Some(replicas));
    assert_eq!(config.tls.unwrap().key, PathBuf::from("/tls.key"));
    assert_eq!((config.limits.body, config.limits.header), (4 << 20, 8192));
    assert_eq!(config.timeouts.stream_idle, Some(Duration::from_mins(90)));
    assert_eq!(config.timeouts.stream_grace, Duration::ZERO);
    assert_eq!(config.threads, Some(3));
    assert_eq!(config.limits.per_caller, 1, "a quarter, and one at least");
    assert!(config.insecure_allow_http);
    // What a manifest leaves empty was not given.
    let config = load(&["--tokens-address=", "--peers=", "--threads=", "--tls-key="]).unwrap();
    assert!(config.addresses.tokens.is_none() && config.replicas.is_none() && config.tls.is_none());
}

#[test]
fn every_value_that_cannot_be_used_is_named_with_what_to_write() {
    for (argument, flag, says) in [
        ("--policy=", "--policy", "name a file"),
        ("--proxy-address=8080", "--proxy-address", "0.0.0.0:8080"),
        ("--admin-address=localhost:1", "--admin-address", "0.0.0.0:8080"),
        ("--tokens-address=:1", "--tokens-address", "0.0.0.0:8080"),
        ("--ext-authz-address=x", "--ext-authz-address", "0.0.0.0:8080"),
        (
            "--forward-auth-address=x",
            "--forward-auth-address",
            "0.0.0.0:8080",
        ),
        ("--peers=name", "--peers", "a name and a port"),
        ("--peers=a@b:1", "--peers", "a name and a port"),
        ("--peers=name:1", "--pod-address", "is needed with --peers"),
        ("--pod-address=name", "--pod-address", "10.0.0.1"),
        ("--tls-key=/k", "--tls-certificate", "name a file"),
        ("--tls-certificate=/c", "--tls-key", "name a file"),
        ("--max-body-size=1M", "--max-body-size", "1Mi"),
        ("--max-body-size=1000000000Mi", "--max-body-size", "1Mi"),
        ("--max-body-size=65Mi", "--max-body-size", "not between"),
        ("--max-buffered-size=64", "--max-buffered-size", "not between"),
        ("--max-header-size=1", "--max-header-size", "not between"),
        ("--max-header-size=-1", "--max-header-size", "32Ki"),
        (
            "--max-concurrent-requests=0",
            "--max-concurrent-requests",
            "from 1 to",
        ),
        ("--max-header-size=257Ki", "--max-header-size", "not between"),
        (
            "--max-requests-per-caller=0",
            "--max-requests-per-caller",
            "from 1 to",
        ),
        ("--max-connections=x", "--max-connections", "from 1 to"),
        (
            "--header-read-timeout=0s",
            "--header-read-timeout",
            "the least is 1s",
        ),
        ("--body-read-timeout=5", "--body-read-timeout", "write it as 90s"),
        ("--connect-timeout=1h", "--connect-timeout", "the most is 300s"),
        (
            "--upstream-header-timeout=s",
            "--upstream-header-timeout",
            "write it as 90s",
        ),
        (
            "--stream-idle-timeout=1d",
            "--stream-idle-timeout",
            "write it as 90s",
        ),
        ("--stream-grace=25h", "--stream-grace", "the most is"),
        ("--drain-timeout=0s", "--drain-timeout", "the least is 1s"),
        ("--threads=0", "--threads", "from 1 to 1024"),
        ("--log-format=xml", "--log-format", "json or text"),
        ("--log-level=loud", "--log-level", "write a level"),
        ("--access-log=yes", "--access-log", "off, hashed or plain"),
    ] {
        let arguments = ["mcp-auth-gate", "--policy=/p", argument];
        let arguments = arguments
            .iter()
            .filter(|one| argument != "--policy=" || **one != "--policy=/p");
        match Config::load(arguments) {
            Err(Unusable::Values(problems)) => {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let named = lines.iter().find(|line| line.starts_with(&format!("{flag}: ")));
                assert!(
                    named.is_some_and(|line| line.contains(says)),
                    "{argument}: {lines:?}"
                );
                // The other flag of a pair is named, too.
                assert!(lines.len() == 1 || argument.starts_with("--peers"), "{lines:?}");
            }
            other => panic!("{argument}: {other:?}"),
        }
    }
}

#[test]
fn there_is_memory_for_the_largest_body() {
    let config = load(&["--max-body-size=2Mi", "--max-buffered-size=2Mi"]).unwrap();
    assert_eq!(config.limits.buffered, 2 << 20);
    let Unusable::Values(problems) = load(&["--max-body-size=3Mi", "--max-buffered-size=2Mi"]).unwrap_err()
    else {
        panic!("not a value")
    };
    assert!(
        problems[0]
            .to_string()
            .starts_with("--max-buffered-size: is less than"),
        "{problems:?}"
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let unusable = load(&["--threads=0", "--log-format=xml", "--peers=x"]).unwrap_err();
    let Unusable::Values(problems) = &unusable else {
        panic!("{unusable:?}")
    };
    let flags: Vec<&str> = problems.iter().map(|problem| problem.flag).collect();
    assert_eq!(flags, ["--peers", "--pod-address", "--threads", "--log-format"]);
    assert_eq!(unusable.exit_code(), 2);
    assert_eq!(load(&["--help"]).unwrap_err().exit_code(), 0);
    assert_eq!(load(&["--what"]).unwrap_err().exit_code(), 2);
}
