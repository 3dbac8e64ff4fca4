//! What a pass over a Service does: pure.

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource as _, ResourceExt as _, api::ObjectMeta, runtime::events::EventType};
use mcp_auth_crds::{
    annotations::{MANAGED_BY, MANAGER},
    v1alpha1::{Enforcement, McpServer, McpServerSpec, ServerScope, Target},
};

use super::annotations::{self, Request};
use crate::cluster::is_deleting;

/// What to do about a Service.
#[derive(Debug)]
pub(super) enum Step {
    /// All is as it should be.
    Nothing,
    /// Create or change the McpServer.
    Apply(Box<McpServer>),
    /// Delete the McpServer: it is not asked for any more, or has to be replaced.
    Delete {
        /// The one to delete.
        server: Box<McpServer>,
        /// What changed, when it has to be replaced.
        replaced: Option<&'static str>,
    },
    /// The McpServer is being deleted; its end wakes the Service.
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
            Self::Delete {
                replaced: Some(what), ..
            } => Some((
                EventType::Normal,
                "ReplacingServer",
                format!("{what} changed, which an McpServer cannot follow: it is deleted and created anew"),
            )),
            _ => None,
        }
    }
}

/// Whether there is anything to do: it is annotated, or owns an McpServer.
pub(super) fn concerns_us<'a>(service: &Service, mut servers: impl Iterator<Item = &'a McpServer>) -> bool {
    annotations::any(service) || servers.any(|server| owns(service, server))
}

fn owns(service: &Service, server: &McpServer) -> bool {
    service.metadata.uid.is_some()
        && server
            .owner_references()
            .iter()
            .any(|owner| Some(&owner.uid) == service.metadata.uid.as_ref())
}

/// Decides.
pub(super) fn step(service: &Service, existing: Option<&McpServer>) -> Step {
    let owned = existing.filter(|server| owns(service, server));
    let request = match annotations::read(service) {
        Ok(Some(request)) => request,
        Ok(None) => {
            return match owned {
                Some(server) if !is_deleting(server) => Step::Delete {
                    server: Box::new(server.clone()),
                    replaced: None,
                },
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
    match (existing, owned) {
        (None, _) => Step::Apply(Box::new(wanted)),
        (Some(_), None) => Step::Refuse {
            reason: "ServerNotOwned",
            note: format!(
                "McpServer {} exists and does not belong to this Service: remove the annotations, or delete it",
                service.name_any()
            ),
        },
        (Some(_), Some(server)) if is_deleting(server) => Step::Await,
        (Some(_), Some(server)) => {
            if let Some(what) = immutable_difference(&server.spec, &wanted.spec) {
                return Step::Delete {
                    server: Box::new(server.clone()),
                    replaced: Some(what),
                };
            }
            if holds(server, &wanted) {
                Step::Nothing
            } else {
                Step::Apply(Box::new(wanted))
            }
        }
    }
}

fn immutable_difference(is: &McpServerSpec, wanted: &McpServerSpec) -> Option<&'static str> {
    if is.resource != wanted.resource {
        return Some("The resource");
    }
    (is.authorization_server_ref != wanted.authorization_server_ref).then_some("The AuthorizationServer")
}

/// Whether what we set is what is there. Fields that we leave out may be set by others.
fn holds(server: &McpServer, wanted: &McpServer) -> bool {
    server.spec.scopes == wanted.spec.scopes
        && server.spec.target == wanted.spec.target
        && server.spec.enforcement == wanted.spec.enforcement
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
            }),
            enforcement: Enforcement {
                mode: request.enforcement,
            },
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
            Step::Delete {
                replaced: Some(_), ..
            } => "replace",
            Step::Delete { .. } => "delete",
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
        let cases = [
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
                "somebody else's",
                service(Some(a), "s"),
                Some(existing(a, "s", "2")),
                "ServerNotOwned",
            ),
            ("bad", service(Some("x"), "s"), None, "BadAnnotation"),
        ];
        for (name, service, existing, expected) in cases {
            assert_eq!(kind(&step(&service, existing.as_ref())), expected, "{name}");
        }
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
