//! What a pass over a Service does: pure.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource as _, ResourceExt as _, api::ObjectMeta, runtime::events::EventType};
use mcp_auth_crds::{
    annotations::{MANAGED_BY, MANAGER},
    v1alpha1::{Enforcement, EnforcementMode, McpServer, McpServerSpec, ScopeName, ServerScope, Target},
};

use super::annotations::{self, Request};
use crate::{cluster::is_deleting, error::Error};

/// What to do about a Service.
#[derive(Debug)]
pub(super) enum Step {
    /// All is as it should be.
    Nothing,
    /// Create or change the McpServer.
    Apply(Box<McpServer>),
    /// Delete the McpServer: it is not asked for any more.
    Delete(Box<McpServer>),
    /// Delete the McpServer; its end wakes the Service, which then gets another.
    Replace {
        /// The one to delete.
        server: Box<McpServer>,
        /// The one to come.
        wanted: Box<McpServer>,
        /// What changed.
        what: &'static str,
    },
    /// The McpServer is being deleted, or will be; its end wakes the Service.
    Await,
    /// The annotations are of no use.
    Refuse {
        /// Stable.
        reason: &'static str,
        /// What to write instead.
        note: String,
    },
}

impl Step {
    /// What to tell the owner of the Service.
    pub(super) fn event(&self) -> Option<(EventType, &'static str, String)> {
        match self {
            Self::Refuse { reason, note } => Some((EventType::Warning, reason, note.clone())),
            Self::Replace { what, .. } => Some((
                EventType::Normal,
                "ReplacingServer",
                format!("{what} changed, which an McpServer cannot follow: it is deleted and created anew"),
            )),
            _ => None,
        }
    }
}

/// What to say when the API server does not take an McpServer. Its words are about names and rules.
pub(super) fn refused(error: &Error) -> Option<Step> {
    match error {
        Error::Cluster {
            reason: "Invalid" | "Forbidden",
            message,
        } => Some(Step::Refuse {
            reason: "ServerRefused",
            note: format!("change the Service: the API server refuses its McpServer: {message}"),
        }),
        _ => None,
    }
}

/// Whether there is anything to do: it is annotated, or the McpServer of its name is its own.
pub(super) fn concerns_us(service: &Service, server: Option<&McpServer>) -> bool {
    annotations::any(service) || server.is_some_and(|server| owner(service, server) == Owner::Service)
}

/// Whose an McpServer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The Service's.
    Service,
    /// A Service's of the same name that is gone: the garbage collector will delete it.
    Predecessor,
    /// Somebody else's. Also one whose user wrote an owner reference to let it go with the Service: only a
    /// controller's reference says whose work it is.
    Other,
}

fn owner(service: &Service, server: &McpServer) -> Owner {
    let owners = server.owner_references();
    match owners.iter().find(|owner| owner.controller == Some(true)) {
        Some(owner) if Some(&owner.uid) == service.metadata.uid.as_ref() => Owner::Service,
        Some(owner)
            if owner.kind == Service::kind(&())
                && owner.api_version == Service::api_version(&())
                && owner.name == service.name_any() =>
        {
            Owner::Predecessor
        }
        _ => Owner::Other,
    }
}

/// Decides.
pub(super) fn step(service: &Service, existing: Option<&McpServer>) -> Step {
    let found = existing.map(|server| (server, owner(service, server)));
    let request = match annotations::read(service) {
        Ok(Some(request)) => request,
        Ok(None) => {
            return match found {
                Some((server, Owner::Service)) if !is_deleting(server) => {
                    Step::Delete(Box::new(server.clone()))
                }
                _ => Step::Nothing,
            };
        }
        Err(problems) => {
            return Step::Refuse {
                reason: "BadAnnotation",
                note: problems.join("; "),
            };
        }
    };
    let Some(wanted) = server(service, request) else {
        return Step::Nothing;
    };
    match found {
        None => Step::Apply(Box::new(wanted)),
        Some((server, _)) if is_deleting(server) => Step::Await,
        Some((_, Owner::Predecessor)) => Step::Await,
        Some((_, Owner::Other)) => Step::Refuse {
            reason: "ServerNotOwned",
            note: format!(
                "McpServer {} exists and does not belong to this Service: remove the annotations, or delete it",
                service.name_any()
            ),
        },
        Some((server, Owner::Service)) => follow(server, wanted),
    }
}

/// What brings the McpServer of a Service to what its annotations say now.
fn follow(server: &McpServer, mut wanted: McpServer) -> Step {
    let namespace = server.namespace().unwrap_or_default();
    let (is, becomes) = (
        &server.spec.authorization_server_ref,
        &wanted.spec.authorization_server_ref,
    );
    let same = is.name == becomes.name && is.namespace_or(&namespace) == becomes.namespace_or(&namespace);
    let what = match (server.spec.resource == wanted.spec.resource, same) {
        (true, true) => None,
        (true, false) => Some("The AuthorizationServer"),
        (false, _) => Some("The resource"),
    };
    if let Some(what) = what {
        return Step::Replace {
            server: Box::new(server.clone()),
            wanted: Box::new(wanted),
            what,
        };
    }
    // Its own namespace may be left out or not, but what stands there is for ever.
    wanted.spec.authorization_server_ref = is.clone();
    if holds(server, &wanted) {
        Step::Nothing
    } else {
        Step::Apply(Box::new(wanted))
    }
}

/// Whether what we set is what is there. What we leave out of a scope, or of the enforcement, may be set by others.
fn holds(server: &McpServer, wanted: &McpServer) -> bool {
    scopes(server) == scopes(wanted)
        && server.spec.target == wanted.spec.target
        && mode(server) == mode(wanted)
}

fn mode(server: &McpServer) -> Option<EnforcementMode> {
    server.spec.enforcement.as_ref()?.mode
}

fn scopes(server: &McpServer) -> BTreeSet<&ScopeName> {
    server.spec.scopes.iter().map(|scope| &scope.name).collect()
}

/// The McpServer of a Service. No label or other annotation is copied.
fn server(service: &Service, request: Request) -> Option<McpServer> {
    let mut server = McpServer::new(
        &service.name_any(),
        McpServerSpec {
            authorization_server_ref: request.authorization_server,
            resource: request.resource,
            scopes: request
                .scopes
                .into_iter()
                .map(|name| ServerScope {
                    name,
                    description: None,
                    challenge: None,
                    implies: Vec::new(),
                })
                .collect(),
            exchange_token_lifetime: None,
            rules: Vec::new(),
            default_scopes: None,
            target: Some(Target {
                service: service.name_any(),
                port: request.port,
                path: request.path,
                protocol: None,
            }),
            enforcement: Some(Enforcement {
                mode: Some(request.enforcement),
                ..Enforcement::default()
            }),
            allowed_clients: None,
        },
    );
    server.metadata = ObjectMeta {
        name: Some(service.name_any()),
        namespace: service.namespace(),
        labels: Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
        // Deleting the Service need not wait for the McpServer's clean-up at the authorization server.
        owner_references: Some(vec![OwnerReference {
            block_owner_deletion: None,
            ..service.controller_owner_ref(&())?
        }]),
        ..ObjectMeta::default()
    };
    Some(server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(resource: Option<&str>, scopes: &str) -> Service {
        let annotations = resource.map(|resource| {
            json!({"mcpauth.dev/authorization-server": "main", "mcpauth.dev/resource": resource, "mcpauth.dev/scopes": scopes, "secret": "x"})
        });
        serde_json::from_value(json!({
            "metadata": {"namespace": "team", "name": "orders", "uid": "1", "annotations": annotations, "labels": {"app": "x"}},
            "spec": {"ports": [{"port": 8080}]},
        }))
        .unwrap()
    }

    fn existing(resource: &str, scopes: &str, uid: &str) -> McpServer {
        let Step::Apply(mut server) = step(&service(Some(resource), scopes), None) else {
            panic!("applies")
        };
        server.metadata.owner_references.as_mut().unwrap()[0].uid = uid.into();
        *server
    }

    fn kind(step: &Step) -> &'static str {
        match step {
            Step::Nothing => "nothing",
            Step::Apply(_) => "apply",
            Step::Replace { .. } => "replace",
            Step::Delete(_) => "delete",
            Step::Await => "await",
            Step::Refuse { reason, .. } => reason,
        }
    }

    #[test]
    fn each_state_has_its_step() {
        let (a, b) = ("https://a.example/", "https://b.example/");
        let mut going = existing(a, "s", "1");
        going.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        let cases = vec![
            ("new", service(Some(a), "s"), None, "apply"),
            (
                "unchanged",
                service(Some(a), "s"),
                Some(existing(a, "s", "1")),
                "nothing",
            ),
            (
                "other scopes",
                service(Some(a), "s t"),
                Some(existing(a, "s", "1")),
                "apply",
            ),
            (
                "other resource",
                service(Some(b), "s"),
                Some(existing(a, "s", "1")),
                "replace",
            ),
            ("being replaced", service(Some(b), "s"), Some(going), "await"),
            (
                "annotations removed",
                service(None, ""),
                Some(existing(a, "s", "1")),
                "delete",
            ),
            (
                "never annotated",
                service(None, ""),
                Some(existing(a, "s", "2")),
                "nothing",
            ),
            (
                "of a Service that is gone",
                service(Some(a), "s"),
                Some(existing(a, "s", "2")),
                "await",
            ),
            ("bad", service(Some("x"), "s"), None, "BadAnnotation"),
        ];
        for (name, service, existing, expected) in cases {
            assert_eq!(kind(&step(&service, existing.as_ref())), expected, "{name}");
        }
    }

    #[test]
    fn whose_it_is_and_what_others_set_is_respected() {
        let a = "https://a.example/";
        let mut described = existing(a, "s", "1");
        described.spec.scopes[0].description = Some("by its user".into());
        let mut written_out = existing(a, "s", "1");
        written_out.spec.authorization_server_ref.namespace = Some("team".into());
        let mut elsewhere = existing(a, "s", "1");
        elsewhere.spec.authorization_server_ref.namespace = Some("platform".into());
        let mut linked = existing(a, "s", "1");
        linked.metadata.owner_references.as_mut().unwrap()[0].controller = None;
        let mut free = existing(a, "s", "1");
        free.metadata.owner_references = None;
        let cases = vec![
            (
                "a scope described",
                service(Some(a), "s"),
                Some(described),
                "nothing",
            ),
            ("same server", service(Some(a), "s"), Some(written_out), "nothing"),
            ("other server", service(Some(a), "s"), Some(elsewhere), "replace"),
            (
                "linked by its user",
                service(Some(a), "s"),
                Some(linked.clone()),
                "ServerNotOwned",
            ),
            (
                "linked, no annotations",
                service(None, ""),
                Some(linked),
                "nothing",
            ),
            ("nobody's", service(Some(a), "s"), Some(free), "ServerNotOwned"),
        ];
        for (name, service, existing, expected) in cases {
            assert_eq!(kind(&step(&service, existing.as_ref())), expected, "{name}");
        }
    }

    #[test]
    fn only_a_refusal_of_the_api_server_is_told() {
        let error = |reason| Error::Cluster {
            reason,
            message: "spec.resource: no".into(),
        };
        for reason in ["Invalid", "Forbidden"] {
            let (_, _, note) = refused(&error(reason)).unwrap().event().unwrap();
            assert!(note.ends_with(": spec.resource: no"), "{note}");
        }
        assert!(refused(&error("Unreachable")).is_none());
    }

    #[test]
    fn nothing_else_is_copied() {
        let Step::Apply(server) = step(&service(Some("https://a.example/"), "s"), None) else {
            panic!("applies")
        };
        assert!(server.metadata.annotations.is_none());
        assert_eq!(server.metadata.labels.unwrap().len(), 1);
        assert_eq!(server.metadata.owner_references.unwrap()[0].kind, "Service");
    }
}
