//! What is said when something that is wanted at the authorization server belongs to somebody else.

use mcp_auth_crds::v1alpha1::AuthorizationServer;

use super::halt::Halt;
use crate::provider::{Conflict, Holder};

/// The refusal that follows from the first conflict. The holder is named only to those who may know it: its own
/// namespace, and the namespace of the AuthorizationServer.
pub fn refusal(
    conflicts: &[Conflict],
    namespace: &str,
    installation: &str,
    server: &AuthorizationServer,
) -> Option<Halt> {
    let Conflict { subject, holder } = conflicts.first()?;
    let at = server.metadata.namespace.as_deref().unwrap_or_default();
    let platform = at == namespace;
    Some(match holder {
        Holder::BuiltIn => Halt::refused(
            "BuiltIn",
            format!("The {subject} belongs to the authorization server itself: choose another name"),
        ),
        Holder::Marked(mark) if mark.installation != installation => Halt::refused(
            "HeldByAnotherInstallation",
            format!("The {subject} is held by another installation of the operator: choose another name"),
        ),
        Holder::Marked(mark) if platform || mark.namespace == namespace => Halt::refused(
            "AlreadyHeld",
            format!(
                "The {subject} is held by {} {}/{}: choose another name, or delete that one",
                mark.kind, mark.namespace, mark.name
            ),
        ),
        Holder::Marked(_) => Halt::refused(
            "AlreadyHeld",
            format!("The {subject} is held by another namespace: choose another name"),
        ),
        Holder::Unmarked { .. } => Halt::refused(
            "NotAdopted",
            format!(
                "The {subject} exists at the authorization server and was not made by the operator: choose another name, or ask for it in adoption of AuthorizationServer {at}/{}",
                server.metadata.name.as_deref().unwrap_or_default()
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Mark;

    #[test]
    fn holders_are_named_only_to_those_who_may_know() {
        let server: AuthorizationServer = serde_json::from_value(serde_json::json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": {"namespace": "platform", "name": "main"},
            "spec": {"issuer": "https://as/realms/r", "credentials": {"secretRef": {"name": "c"}}},
        }))
        .unwrap();
        let held = |installation: &str| {
            Holder::Marked(Mark {
                installation: installation.into(),
                kind: "McpServer".into(),
                namespace: "victim".into(),
                name: "s".into(),
                uid: "u".into(),
            })
        };
        let cases = [
            (held("i"), "victim", "AlreadyHeld", true),
            (held("i"), "platform", "AlreadyHeld", true),
            (held("i"), "curious", "AlreadyHeld", false),
            (held("j"), "platform", "HeldByAnotherInstallation", false),
            (Holder::BuiltIn, "platform", "BuiltIn", false),
            (Holder::Unmarked { adopter: None }, "curious", "NotAdopted", false),
        ];
        for (holder, namespace, reason, named) in cases {
            let conflict = Conflict {
                subject: "scope a".into(),
                holder,
            };
            let Some(Halt::Refused(refusal)) = refusal(&[conflict], namespace, "i", &server) else {
                panic!()
            };
            assert_eq!(refusal.reason, reason);
            assert_eq!(refusal.message.contains("victim"), named, "{}", refusal.message);
        }
    }
}
