//! What is said of access.

use super::*;

fn decision(granted: &[&str], awaited: &[&str], refused: &[&str]) -> Decision {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Decision {
        server: "team/orders".into(),
        resource: "https://h/".into(),
        granted: set(granted),
        awaited: set(awaited),
        refused: set(refused),
    }
}

#[test]
fn access_is_granted_only_when_all_of_it_is() {
    let cases = [
        (vec![decision(&["a"], &[], &[])], vec![], Status::True, "Granted"),
        (
            vec![decision(&["a"], &["b"], &[])],
            vec![],
            Status::Unknown,
            "ServerNotReady",
        ),
        (
            vec![decision(&["a"], &["b"], &["c"])],
            vec![],
            Status::False,
            "ScopesRefused",
        ),
        (
            vec![decision(&["a"], &[], &[])],
            vec!["team/gone"],
            Status::Unknown,
            "ServerNotFound",
        ),
        (vec![], vec![], Status::True, "NothingRequested"),
    ];
    for (decisions, missing, status, reason) in cases {
        let access = Granted {
            decisions,
            missing: missing.into_iter().map(str::to_owned).collect(),
            ..Granted::default()
        };
        let report = access_report(&access);
        assert_eq!((report.status, report.reason), (status, reason));
    }
}

#[test]
fn what_is_closed_is_named_as_the_client_names_it() {
    let closed = |server: &str, scopes: &[&str]| Closed {
        server: server.into(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    };
    let access = Granted {
        decisions: vec![decision(&["a"], &["b"], &[])],
        closed: vec![closed("payroll/a", &["x", "y"]), closed("payroll/b", &[])],
        missing: vec!["team/gone".into()],
        ..Granted::default()
    };
    let message = "Nobody lets this client use McpServer payroll/a (x, y); payroll/b at this AuthorizationServer: ask its team for an entry in allowedClients";
    assert_eq!(
        access_report(&access),
        Report::no(types::ACCESS_GRANTED, "NotAllowed", message)
    );
}

#[test]
fn what_is_refused_is_named() {
    let access = Granted {
        decisions: vec![decision(&[], &[], &["orders:write"])],
        ..Granted::default()
    };
    let message = access_report(&access).message;
    assert!(
        message.contains("team/orders does not allow orders:write"),
        "{message}"
    );
}
