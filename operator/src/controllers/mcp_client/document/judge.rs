//! What is wanted of a client with a metadata document of its own, and whether what the document says may be. Pure.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{AuthorizationServer, McpClient, MetadataDocument};

use crate::{
    controllers::{halt::Halt, home, mcp_client::desired},
    policy::{
        Refusal,
        grants::{self, Tenant},
        redirects,
    },
    provider::{DocumentSpec, Grant, Holder, Mark, ObservedDocument, Presence, Reading},
};

/// Whether all places may be to which users of the client are sent back: those that it is registered with, and those that
/// its document says now. Whoever has the document may change it at any time.
pub(super) fn callbacks(
    server: &AuthorizationServer,
    tenant: Tenant<'_>,
    observed: &ObservedDocument,
) -> Result<(), Refusal> {
    said(server, tenant, observed)?;
    are_granted(server, tenant, &observed.callbacks)
}

/// The same of those that its document says now.
pub(super) fn said(
    server: &AuthorizationServer,
    tenant: Tenant<'_>,
    observed: &ObservedDocument,
) -> Result<(), Refusal> {
    match &observed.reading {
        Reading::Valid { callbacks } => are_granted(server, tenant, callbacks),
        Reading::Unreachable | Reading::Invalid => Ok(()),
    }
}

fn are_granted(
    server: &AuthorizationServer,
    tenant: Tenant<'_>,
    callbacks: &BTreeSet<String>,
) -> Result<(), Refusal> {
    let all: Vec<String> = callbacks.iter().cloned().collect();
    if !all.iter().all(|uri| redirects::is_sound(uri)) {
        return Err(Refusal::new(
            "RedirectUriRefused",
            "The document names a redirect URI that no client may have, see docs/clients.md: whoever publishes it has to leave that out",
        ));
    }
    grants::client(server, tenant, &all)
}

/// The client at the authorization server. `access` is what it may have; `None`: nothing, nor any way to get it. `follows`:
/// what its document says may come into force.
pub(super) fn spec(
    client: &McpClient,
    document: &MetadataDocument,
    access: Option<&desired::Granted>,
    follows: bool,
    begun: bool,
    installation: &str,
) -> DocumentSpec {
    let named: BTreeSet<Grant> = document.grant_types.iter().copied().map(desired::grant).collect();
    let is_suspended = client.spec.is_suspended();
    DocumentSpec {
        mark: home::mark(client, installation),
        url: document.url.clone(),
        enabled: access.is_some() && !is_suspended,
        follows: follows && !is_suspended,
        grants: if named.is_empty() {
            [Grant::AuthorizationCode, Grant::RefreshToken].into()
        } else {
            named
        },
        audiences: access.map(desired::Granted::by_audience).unwrap_or_default(),
        adopt: begun,
    }
}

/// Whether it is registered, and this object's.
pub(super) fn owns(mark: &Mark, observed: &ObservedDocument) -> bool {
    matches!(&observed.presence, Presence::Held(Holder::Marked(holder)) if holder.same_object(mark))
}

/// What the document lacks for the client to be registered by it, or to go on as it says.
pub(super) fn shortcoming(want: &DocumentSpec, observed: &ObservedDocument) -> Option<Halt> {
    let is_registered = observed.presence != Presence::Absent;
    let gets_tokens = observed.grants.contains(&Grant::AuthorizationCode);
    match &observed.reading {
        Reading::Invalid => Some(Halt::refused(
            "DocumentInvalid",
            format!(
                "The authorization server makes no client of the document at {}: whoever publishes it has to correct it, see docs/auth0.md",
                want.url
            ),
        )),
        // What it said before goes on counting.
        Reading::Unreachable if is_registered && gets_tokens => None,
        Reading::Unreachable => Some(Halt::waiting(
            "DocumentUnreachable",
            format!(
                "The authorization server cannot read the document at {}",
                want.url
            ),
        )),
        Reading::Valid { .. } if is_registered && !gets_tokens => Some(Halt::refused(
            "GrantTypesMissing",
            format!(
                "The document at {} and grantTypes have not the grant type authorization_code in common",
                want.url
            ),
        )),
        Reading::Valid { .. } => None,
    }
}

/// Why a client with a metadata document cannot be there.
pub(super) fn unsupported(server: &AuthorizationServer) -> Halt {
    let instead = if server.spec.keycloak.is_some() {
        ": there, allow the document's domain in clientRegistration.metadataDocuments of the AuthorizationServer, and the client comes by itself"
    } else {
        ": use managed instead"
    };
    Halt::refused(
        "MetadataDocumentUnsupported",
        format!(
            "AuthorizationServer {} registers no clients by their metadata documents{instead}",
            server.name_any()
        ),
    )
}

/// That the tenant takes no address of a document for a client id, or `None`: it does.
pub(super) fn unadvertised(server: &AuthorizationServer, takes_documents: bool) -> Option<Halt> {
    if takes_documents {
        return None;
    }
    let name = server.name_any();
    let tenant = server.spec.auth0.as_ref();
    Some(
        if tenant.and_then(|tenant| tenant.manage_tenant_settings) == Some(true) {
            Halt::waiting(
                "DocumentsNotSupported",
                format!(
                    "Waits until AuthorizationServer {name} says that it takes addresses of documents for client ids"
                ),
            )
        } else {
            Halt::refused(
                "DocumentsNotSupported",
                format!(
                    "AuthorizationServer {name} does not say that it takes addresses of documents for client ids: set client_id_metadata_document_supported in the tenant, or let the operator do so with auth0.manageTenantSettings"
                ),
            )
        },
    )
}

/// What is told of a document that was begun to be registered, in the journal.
pub(super) fn begun(realm: &str, url: &str) -> String {
    format!("{realm} {url}")
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
