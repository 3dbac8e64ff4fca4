//! What the public address of a server answered to a request without a token, and what that says: pure.

use mcp_auth_crds::{
    condition::{Report, types},
    v1alpha1::McpServer,
};

use super::probe;
use crate::policy::{enforcement, names};

/// What a request without a token was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was served.
    Served,
    /// It was refused for want of a token, in the words of our gate; the metadata are ours as well.
    Challenged,
    /// It was refused for want of a token, in other words.
    Refused,
    /// The challenge is ours, and what it leads to is not.
    ForeignMetadata,
    /// The challenge is ours, and it leads nowhere.
    NoMetadata,
    /// Something answers there, and says nothing about tokens: it leads elsewhere, or knows no such path.
    Untelling,
    /// No telling: no answer, or one that may be another in a moment.
    Unclear,
}

/// What an answer with this status and these challenges is.
pub(super) fn answer(status: u16, challenges: &[&str], server: &McpServer) -> Answer {
    match status {
        200..300 => Answer::Served,
        401 if leads_to_ours(challenges, server) => Answer::Challenged,
        401 => Answer::Refused,
        300..=399 | 403 | 404 => Answer::Untelling,
        _ => Answer::Unclear,
    }
}

/// Whether a challenge names our metadata (RFC 9728 section 5.1).
fn leads_to_ours(challenges: &[&str], server: &McpServer) -> bool {
    let Some(url) = names::metadata_url(&server.spec.resource) else {
        return false;
    };
    let ours = format!("\"{url}\"");
    challenges.iter().any(|challenge| {
        challenge
            .split("resource_metadata=")
            .skip(1)
            .any(|value| value.starts_with(&ours))
    })
}

/// The condition `Enforced`.
pub(super) fn report(server: &McpServer, answer: Answer) -> Report {
    if enforcement::has_gate(server) {
        of_gate(server, answer)
    } else {
        of_server(answer)
    }
}

/// Of a server that validates by itself.
fn of_server(answer: Answer) -> Report {
    let type_ = types::ENFORCED;
    match answer {
        Answer::Served => Report::no(
            type_,
            "AnswersWithoutToken",
            "The server answered a request that carried no token: make it validate tokens as the ConfigMap says",
        ),
        Answer::Unclear | Answer::Untelling => Report::pending(
            type_,
            "ServerValidates",
            "The server validates tokens by itself; it could not be asked from here. It has to check that aud is its resource and nothing else",
        ),
        _ => Report::pending(
            type_,
            "ServerValidates",
            "The server validates tokens by itself; a request without one was refused. It has to check that aud is its resource and nothing else",
        ),
    }
}

/// Of a server behind a gate.
fn of_gate(server: &McpServer, answer: Answer) -> Report {
    let type_ = types::ENFORCED;
    let gate = names::gate(server.metadata.name.as_deref().unwrap_or_default());
    let metadata = names::metadata_url(&server.spec.resource).unwrap_or_default();
    match answer {
        Answer::Challenged => Report::yes(
            type_,
            "Enforced",
            "The public address refuses a request without a token, and leads to the metadata of this server",
        ),
        Answer::Served => Report::no(
            type_,
            "AnswersWithoutToken",
            format!(
                "The public address answered a request that carried no token: route it to Service {gate}"
            ),
        ),
        Answer::Refused => Report::no(
            type_,
            "ForeignChallenge",
            format!(
                "Something else than the gate refuses requests without a token at the public address: route it to Service {gate}"
            ),
        ),
        Answer::ForeignMetadata => Report::no(
            type_,
            "ForeignMetadata",
            format!(
                "What {metadata} serves does not speak of this resource: route it to Service {gate} as well"
            ),
        ),
        Answer::NoMetadata => Report::no(
            type_,
            "MetadataNotServed",
            format!(
                "Nothing is served at {metadata}, where clients look for the metadata: route it to Service {gate} as well"
            ),
        ),
        Answer::Unclear | Answer::Untelling => Report::pending(
            type_,
            "NotReached",
            "The public address could not be asked from here, or its answer says nothing about tokens",
        ),
    }
}

/// What the status tells of the last answer.
pub(super) fn stored(server: &McpServer, gate: bool) -> Option<Report> {
    let answers = [
        Answer::Served,
        Answer::Challenged,
        Answer::Refused,
        Answer::ForeignMetadata,
        Answer::NoMetadata,
        Answer::Unclear,
    ];
    let known = answers.map(|answer| {
        if gate {
            of_gate(server, answer)
        } else {
            of_server(answer)
        }
    });
    // What was said of the other mode says nothing of this one.
    let said = server.status.as_ref().and_then(|status| status.enforcement);
    let same = said.is_none_or(|mode| mode == enforcement::mode(server));
    same.then(|| probe::stored(server, types::ENFORCED, &known))
        .flatten()
}

#[cfg(test)]
mod tests {
    use mcp_auth_crds::condition::Status;
    use serde_json::{Value, json};

    use super::*;

    fn server(enforcement: &Value) -> McpServer {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"namespace": "team", "name": "notes", "uid": "u"},
            "spec": {"authorizationServerRef": {"name": "main"}, "resource": "https://h.example/mcp",
                     "target": {"service": "notes"}, "enforcement": enforcement},
        }))
        .unwrap()
    }

    #[test]
    fn only_an_answer_without_a_token_is_held_against_a_server_that_validates_by_itself() {
        for (answer, status) in [
            (Answer::Served, Status::False),
            (Answer::Refused, Status::Unknown),
            (Answer::Challenged, Status::Unknown),
            (Answer::Untelling, Status::Unknown),
            (Answer::Unclear, Status::Unknown),
        ] {
            assert_eq!(
                report(&server(&json!({"mode": "External"})), answer).status,
                status
            );
        }
    }

    #[test]
    fn a_gate_is_known_by_its_challenge_and_what_that_leads_to() {
        let server = server(&json!({}));
        let ours = r#"Bearer resource_metadata="https://h.example/.well-known/oauth-protected-resource/mcp", scope="a""#;
        for (status, challenges, expected) in [
            (200, &[][..], Answer::Served),
            (204, &[], Answer::Served),
            (401, &[ours], Answer::Challenged),
            (401, &["Basic realm=\"x\"", ours], Answer::Challenged),
            (401, &[], Answer::Refused),
            (401, &["Bearer"], Answer::Refused),
            (
                401,
                &[
                    r#"Bearer resource_metadata="https://h.example/.well-known/oauth-protected-resource/mcp/evil""#,
                ],
                Answer::Refused,
            ),
            (
                401,
                &[
                    r#"Bearer resource_metadata="https://evil/", x="https://h.example/.well-known/oauth-protected-resource/mcp""#,
                ],
                Answer::Refused,
            ),
            (302, &[], Answer::Untelling),
            (403, &[ours], Answer::Untelling),
            (404, &[], Answer::Untelling),
            (429, &[], Answer::Unclear),
            (503, &[], Answer::Unclear),
        ] {
            assert_eq!(
                answer(status, challenges, &server),
                expected,
                "{status} {challenges:?}"
            );
        }
        for (answer, status) in [
            (Answer::Challenged, Status::True),
            (Answer::Served, Status::False),
            (Answer::Refused, Status::False),
            (Answer::ForeignMetadata, Status::False),
            (Answer::NoMetadata, Status::False),
            (Answer::Untelling, Status::Unknown),
            (Answer::Unclear, Status::Unknown),
        ] {
            assert_eq!(report(&server, answer).status, status, "{answer:?}");
        }
    }
}
