use super::*;

fn server() -> McpServer {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
        "metadata": {"namespace": "team", "name": "orders", "generation": 3},
        "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h.example/mcp", "enforcement": {"mode": "External"}},
        "status": {"scopes": ["read"], "secretName": "orders-mcp-auth", "secretHash": "abc"},
    }))
    .unwrap()
}

#[test]
fn what_a_pass_did_not_reach_stays_and_what_it_did_changes() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let halt = Halt::waiting("AuthorizationServerNotReady", "Wait");
    let (stopped, _) = status(&server(), Progress::default(), Some(&halt), now);
    assert_eq!(
        (stopped.scopes.len(), stopped.secret_name.as_deref()),
        (1, Some("orders-mcp-auth"))
    );
    assert!(condition::find(&stopped.conditions, types::RECONCILING).is_some());

    let mut progress = Progress::default();
    progress.accepted(&server());
    progress.published(&server());
    let (whole, _) = status(&server(), progress, None, now);
    assert_eq!(whole.secret_name, None, "no policy needs it any more");
    assert!(condition::is_true(&whole.conditions, types::READY));
    assert_eq!(whole.observed_generation, Some(3));
}

#[test]
fn a_paused_server_says_what_it_lost_and_nothing_else() {
    let only = |clients: &[&str]| Subjects::Only(clients.iter().map(|id| (*id).to_owned()).collect());
    let mark = crate::controllers::home::mark(&server(), "i");
    let mut want = super::super::desired::bare_resource(&server(), mark);
    want.exchange_scopes = [
        ("kept".to_owned(), Subjects::Any),
        ("wider".to_owned(), only(&["a", "b"])),
        ("narrower".to_owned(), only(&["a"])),
        ("detached".to_owned(), only(&["a"])),
        ("new".to_owned(), Subjects::Any),
    ]
    .into();
    let mut server = server();
    assert_eq!(without(&server, &want), None);
    let mut status = server.status.clone().unwrap();
    let say = |status: &mut McpServerStatus, held: &[(&str, Subjects)]| {
        let held = held
            .iter()
            .map(|(scope, subjects)| ((*scope).to_owned(), subjects.clone()));
        (status.exchange_scopes, status.exchange_limits) = exchange(&held.collect());
    };
    let held = [
        ("kept", Subjects::Any),
        ("wider", only(&["a"])),
        ("narrower", only(&["a", "b"])),
        ("detached", Subjects::Any),
        ("lost", Subjects::Any),
    ];
    say(&mut status, &held);
    server.status = Some(status.clone());
    let left = [
        ("kept", Subjects::Any),
        ("wider", only(&["a"])),
        ("narrower", only(&["a"])),
    ];
    say(&mut status, &left);
    assert_eq!(without(&server, &want), Some(status.clone()));
    server.status = Some(status);
    assert_eq!(without(&server, &want), None, "it was said");
}

#[test]
fn whose_tokens_can_be_exchanged_is_said_and_what_cannot_be_removed_too() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mark = crate::controllers::home::mark(&server(), "i");
    let want = ResourceSpec {
        exchange_scopes: [
            ("a".to_owned(), Subjects::Any),
            ("b".to_owned(), Subjects::Only(["x".to_owned()].into())),
        ]
        .into(),
        ..super::super::desired::bare_resource(&server(), mark)
    };
    let after = |locked: Option<Refusal>| {
        let mut progress = Progress::default();
        progress.accepted(&server());
        progress.registered(&want, locked);
        progress.published(&server());
        status(&server(), progress, None, now).0
    };
    let whole = after(None);
    assert_eq!(whole.exchange_scopes, ["a", "b"]);
    let limit = ExchangeLimit {
        scope: "b".into(),
        clients: vec!["x".into()],
    };
    assert_eq!(whole.exchange_limits, [limit]);
    assert!(condition::is_true(&whole.conditions, types::READY));
    let stuck = after(Some(Refusal::new("PermissionMissing", "Grant it")));
    assert_eq!(stuck.exchange_limits, whole.exchange_limits);
    let ready = condition::find(&stuck.conditions, types::READY).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "PermissionMissing")
    );
}

#[test]
fn only_a_server_with_credentials_says_whether_they_are_ready() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let says = |needs: Option<bool>| {
        let (mut server, mut progress) = (server(), Progress::default());
        progress.accepted(&server);
        progress.published(&server);
        if let Some(needs) = needs {
            server.status = None;
            progress.needs_credentials(needs);
        }
        let halt = Halt::refused("SecretNotOwned", "Delete it");
        let (status, _) = status(&server, progress, Some(&halt), now);
        let reason =
            |type_| condition::find(&status.conditions, type_).map(|condition| condition.reason.clone());
        reason(types::CREDENTIALS_READY)
    };
    assert_eq!(says(Some(false)), None);
    assert_eq!(says(Some(true)).as_deref(), Some("Waiting"), "for Registered");
    assert!(says(None).is_some(), "it had some before");
}

#[test]
fn the_same_pass_at_another_time_gives_the_same_conditions() {
    let halt = Halt::refused("HostNotGranted", "Ask");
    let mut server = server();
    let (first, _) = status(
        &server,
        Progress::default(),
        Some(&halt),
        "2026-01-01T00:00:00Z".parse().unwrap(),
    );
    server.status = Some(first.clone());
    let (second, _) = status(
        &server,
        Progress::default(),
        Some(&halt),
        "2026-06-01T00:00:00Z".parse().unwrap(),
    );
    assert_eq!(first, second);
}

#[test]
fn what_no_watch_sees_is_looked_at_again_soon() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let at_rest = |gate, bypass, enforced: Report| {
        let mut progress = Progress::default();
        progress.gate([gate, bypass], GateStatus::default());
        progress.enforced(enforced);
        progress.next(&server(), now) == Next::Resync
    };
    let (gate, bypass, enforced) = (types::GATE_READY, types::BYPASS_CLOSED, types::ENFORCED);
    let yes = |type_| Report::yes(type_, "Yes", "");
    let open = |type_| Report::pending(type_, "Open", "");
    let no = |type_| Report::no(type_, "No", "");
    for (reports, expected, why) in [
        ((yes(gate), yes(bypass), yes(enforced)), true, "all is well"),
        (
            (yes(gate), yes(bypass), open(enforced)),
            false,
            "its address may lead to the gate by now",
        ),
        (
            (yes(gate), yes(bypass), no(enforced)),
            false,
            "somebody is at work on the route",
        ),
        (
            (open(gate), yes(bypass), yes(enforced)),
            false,
            "pods load their policy",
        ),
        (
            (yes(gate), no(bypass), yes(enforced)),
            false,
            "the network may close it by now",
        ),
        (
            (yes(gate), open(bypass), yes(enforced)),
            false,
            "the server has pods by now",
        ),
    ] {
        assert_eq!(at_rest(reports.0, reports.1, reports.2), expected, "{why}");
    }
}

#[test]
fn the_pauses_grow_while_nothing_changes_and_what_is_allowed_needs_no_look() {
    let (gate, bypass) = (types::GATE_READY, types::BYPASS_CLOSED);
    let at = |second| Timestamp::from_second(second).unwrap();
    let after = |seconds| Next::After(Duration::from_secs(seconds));
    let open = || Report::no(bypass, "OtherService", "");
    let waits = || Report::pending(gate, "RollingOut", "");
    let ready = || Report::yes(gate, "InForce", "");
    let since = |gate: &Report, bypass: &Report| {
        let first = condition::merge(&[], std::slice::from_ref(gate), None, at(0));
        condition::merge(&first, &[gate.clone(), bypass.clone()], None, at(1000))
    };
    for (allowed, before, reports, now, expected, why) in [
        (
            false,
            (ready(), open()),
            (ready(), open()),
            1010,
            after(30),
            "no sooner than that",
        ),
        (
            false,
            (ready(), open()),
            (ready(), open()),
            1090,
            after(90),
            "as long as it has been so",
        ),
        (
            true,
            (ready(), open()),
            (ready(), open()),
            1090,
            Next::Resync,
            "a way that is allowed",
        ),
        (
            true,
            (waits(), open()),
            (waits(), open()),
            1090,
            after(1090),
            "the gate is not ready",
        ),
        (
            false,
            (waits(), open()),
            (waits(), open()),
            1090,
            after(90),
            "what is newest counts",
        ),
        (
            false,
            (ready(), open()),
            (waits(), open()),
            1090,
            after(30),
            "it has just changed",
        ),
    ] {
        let mut server = server();
        server.spec.enforcement =
            serde_json::from_value(serde_json::json!({"allowBypass": allowed})).unwrap();
        server.status = Some(McpServerStatus {
            conditions: since(&before.0, &before.1),
            ..McpServerStatus::default()
        });
        let mut progress = Progress::default();
        progress.gate([reports.0, reports.1], GateStatus::default());
        assert_eq!(progress.next(&server, at(now)), expected, "{why}");
    }
}

#[test]
fn the_actions_that_are_in_force_are_told_and_those_that_were_taken_away_are_not() {
    let mut server = server();
    let mark = crate::controllers::home::mark(&server, "i");
    let mut want = super::super::desired::bare_resource(&server, mark);
    want.exchange_actions.names = ["swap".to_owned()].into();
    let now = Timestamp::UNIX_EPOCH;
    let mut progress = Progress::default();
    let profiles = [("swap".to_owned(), "tep_1".to_owned())].into();
    progress.acts_by(&want, &profiles);
    let (with, _) = status(&server, progress, None, now);
    assert_eq!(with.exchange_actions[0].profile, "tep_1");
    server.status = Some(with);
    let (kept, _) = status(&server, Progress::default(), None, now);
    assert_eq!(
        kept.exchange_actions.len(),
        1,
        "a pass that did not get there knows no better"
    );
    assert_eq!(without(&server, &want), None);
    want.exchange_actions.names.clear();
    assert!(without(&server, &want).unwrap().exchange_actions.is_empty());
    let mut progress = Progress::default();
    progress.lost(&server, &want);
    assert!(status(&server, progress, None, now).0.exchange_actions.is_empty());
    let mut progress = Progress::default();
    progress.withdrawn();
    assert!(status(&server, progress, None, now).0.exchange_actions.is_empty());
}
