//! The binary as people meet it when something is wrong: one clear line, an exit code, and no back-trace.
#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Output},
    thread,
};

const BINARY: &str = env!("CARGO_BIN_EXE_mcp-auth-operator");

/// Runs the binary with nothing in its environment but back-traces switched on, and `variables`.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .env_clear()
        .env("RUST_BACKTRACE", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn standard_error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_and_version_are_no_errors() {
    let help = run(&["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    for flag in [
        "--namespace",
        "--watch-namespaces",
        "--installation",
        "--resync-interval",
        "--max-backoff",
        "--lease-name",
        "--lease-duration",
        "--deletion-timeout",
        "--admin-address",
        "--log-format",
        "--log-level",
        "--concurrency",
        "--authorization-server-rate",
        "--allow-http",
        "--allow-private-addresses",
        "--insecure-allow-loopback",
    ] {
        assert!(text.contains(flag), "{flag} is missing in\n{text}");
    }
    let version = run(&["--version"], &[]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        concat!("mcp-auth-operator ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn bad_input_is_a_line_each_and_exit_code_2() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--no-such-flag"],
            "mcp-auth-operator: unexpected argument '--no-such-flag' found (--help explains every flag)\n",
        ),
        (
            &["--namespace=x", "--resync-interval=soon"],
            "mcp-auth-operator: --resync-interval: \"soon\" is not a duration: write it as 90s, 10m or 1h30m\n",
        ),
        (
            &["--namespace=x", "--concurrency=0", "--log-format=xml"],
            "mcp-auth-operator: --log-format: \"xml\" is not a log format: write json or text\n\
             mcp-auth-operator: --concurrency: \"0\" is not a whole number from 1 to 256\n",
        ),
        (
            &[],
            "mcp-auth-operator: --namespace: is not known outside a pod: give --namespace or set POD_NAMESPACE\n",
        ),
    ];
    for (arguments, expected) in cases {
        let output = run(arguments, &[]);
        assert_eq!(standard_error(&output), *expected);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn variables_stand_for_flags_and_flags_win() {
    let variable = ("MCP_AUTH_OPERATOR_LEASE_DURATION", "never");
    let output = run(&["--namespace=x"], &[variable]);
    assert!(standard_error(&output).contains("--lease-duration: \"never\" is not a duration"));
    let output = run(&["--namespace=x", "--lease-duration=ever"], &[variable]);
    assert!(standard_error(&output).contains("--lease-duration: \"ever\" is not a duration"));
}

/// A kubeconfig for an API server at `url`.
fn kubeconfig(url: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(
        file,
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: \"{url}\"}}}}]\n\
         users: [{{name: u, user: {{token: hunter2}}}}]\n"
    )
    .unwrap();
    file
}

/// Runs the binary against the API server at `url`, and returns the only line that it wrote.
#[track_caller]
fn failure(url: &str, more: &[&str]) -> String {
    let kubeconfig = kubeconfig(url);
    let arguments = [&["--namespace=x", "--log-format=text"], more].concat();
    let variables = [
        ("KUBECONFIG", kubeconfig.path().to_str().unwrap()),
        ("MCP_AUTH_OPERATOR_ADMIN_ADDRESS", "127.0.0.1:0"),
    ];
    let output = run(&arguments, &variables);
    let text = standard_error(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        !text.contains("hunter2") && !text.contains("stack backtrace"),
        "{text}"
    );
    let mut lines = text.lines();
    let line = lines.next().unwrap().to_owned();
    assert_eq!(lines.next(), None, "more than a line: {text}");
    line
}

/// An API server that gives each path its answer; everything else is not found. Returns its URL.
fn api_server(answers: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 8192];
            let read = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = answers.iter().find(|(known, _)| *known == path);
            let (status, body) = answer.map_or(("404 Not Found", NOT_FOUND), |(_, body)| ("200 OK", *body));
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    url
}

/// What a real API server says of a group that it never heard of.
const NOT_FOUND: &str = "404 page not found\n";

const VERSION: &str = r#"{"major":"1","minor":"37","gitVersion":"v1.37.2","gitCommit":"","gitTreeState":"",
    "buildDate":"","goVersion":"","compiler":"","platform":""}"#;

#[test]
fn an_unreachable_api_server_is_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let line = failure(&url, &[]);
    assert!(
        line.contains(&format!("cannot reach the API server at {url}")),
        "{line}"
    );
    assert!(line.contains("refused"), "{line}");
    // With logs off there is still a line.
    let line = failure(&url, &["--log-level=off"]);
    assert!(
        line.starts_with("mcp-auth-operator: cannot reach the API server"),
        "{line}"
    );
}

#[test]
fn missing_definitions_are_named_in_one_line() {
    let line = failure(&api_server(&[("/version", VERSION)]), &[]);
    assert!(
        line.contains("mcpclients.mcpauth.dev") && line.contains("kubectl apply --server-side"),
        "{line}"
    );
}

#[test]
fn without_a_cluster_the_way_to_one_is_told() {
    let output = run(
        &["--namespace=x", "--admin-address=127.0.0.1:0"],
        &[("KUBECONFIG", "/nonexistent")],
    );
    let text = standard_error(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("no cluster to work with: set KUBECONFIG or run in a pod"),
        "{text}"
    );
}

#[test]
fn a_taken_admin_address_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("--admin-address={}", taken.local_addr().unwrap());
    let line = failure("http://127.0.0.1:9", &[&address]);
    assert!(line.contains("cannot listen on 127.0.0.1:"), "{line}");
}
