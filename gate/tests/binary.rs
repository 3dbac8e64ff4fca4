//! The binary as it is run: flags, files, probes, signals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use std::{fs, process::Command};

use common::{Gate, POLICY, PROGRAM, until};
use mcp_auth_gate_core::document::Document;

#[test]
fn what_cannot_be_used_is_told_in_one_line_each() {
    let output = Command::new(PROGRAM)
        .args(["--threads=0", "--access-log=maybe"])
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "mcp-auth-gate: --policy: is missing: name a file",
            "mcp-auth-gate: --threads: \"0\" is not a whole number from 1 to 1024",
            "mcp-auth-gate: --access-log: \"maybe\" is not a form of access logs: write off, hashed or plain",
        ]
    );
}

#[test]
fn an_address_that_is_taken_is_told() {
    let gate = Gate::start(POLICY, &[]);
    let taken = gate.address("proxy");
    let output = Command::new(PROGRAM)
        .args(["--policy=/nowhere", "--log-format=text"])
        .arg(format!("--proxy-address={taken}"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains(&format!("cannot listen on {taken}: Address")),
        "{told}"
    );
}

#[test]
fn a_policy_is_followed_and_a_bad_one_is_not() {
    let gate = Gate::start("", &["--credentials=credentials"]);
    let (proxy, admin) = (gate.address("proxy"), gate.address("admin"));
    let metadata = "/.well-known/oauth-protected-resource/mcp";
    assert_eq!(common::get(admin, "/readyz").0, 503);
    assert_eq!(common::get(admin, "/livez").0, 200);
    assert_eq!(
        common::get(proxy, metadata).0,
        503,
        "nothing before there is a policy"
    );
    assert_eq!(common::get(proxy, "/mcp").0, 503);

    fs::write(gate.folder.path().join("policy.json"), POLICY).unwrap();
    until(|| common::get(admin, "/readyz").0 == 200);
    let hash = Document::hash(POLICY.as_bytes());
    let (_, shown) = common::get(admin, "/policy");
    // Nobody answers where the policy says that keys are.
    let expected = format!("{{\"credentials\":null,\"keys\":false,\"policy\":\"{hash}\"}}");
    assert_eq!(shown, expected);
    let (status, document) = common::get(proxy, metadata);
    assert_eq!(status, 200);
    assert!(document.contains("https://mcp.example.com/mcp"), "{document}");
    assert_eq!(common::get(proxy, "/mcp").0, 401);

    fs::write(gate.folder.path().join("policy.json"), &POLICY[..100]).unwrap();
    until(|| {
        common::get(admin, "/readyz")
            .1
            .contains("policy: the policy file is malformed")
    });
    assert_eq!(common::get(admin, "/readyz").0, 200, "the one before is in force");
    assert_eq!(common::get(proxy, "/mcp").0, 401);

    let credentials = gate.folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("client-id"), "notes").unwrap();
    until(|| {
        common::get(admin, "/readyz")
            .1
            .contains("credentials: client-id and client-secret")
    });
    fs::write(credentials.join("client-secret"), "a-secret-of-tests").unwrap();
    let files = [("client-id", "notes"), ("client-secret", "a-secret-of-tests")];
    let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    let hash = Document::credentials_hash(&files.into());
    until(|| common::get(admin, "/policy").1.contains(&hash));
    assert!(!gate.stop().contains("a-secret-of-tests"));
}

#[test]
fn asked_to_stop_it_ends_well() {
    let gate = Gate::start(POLICY, &[]);
    assert!(gate.stop().contains("stopping"));
}

#[test]
fn requests_are_logged_without_what_they_carried() {
    let gate = Gate::start(POLICY, &["--access-log=plain"]);
    let proxy = gate.address("proxy");
    common::get(proxy, "/mcp?access_token=a-token-in-a-query");
    common::get(proxy, "/.well-known/oauth-protected-resource/mcp");
    let log = gate.stop();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("mcp_auth_gate::access"))
        .collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines[0].contains("\"status\":401") && lines[0].contains("\"reason\":\"token_missing\""),
        "{log}"
    );
    assert!(!log.contains("a-token-in-a-query"), "{log}");
}
