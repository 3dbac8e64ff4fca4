//! What of `clientRegistration` an authorization server cannot do, in plain words. Pure.

use mcp_auth_crds::v1alpha1::{AuthorizationServer, ClientRegistration, DynamicClients};

use crate::{
    controllers::halt::Halt,
    provider::{Conflict, ObservedSettings},
};

/// The reason of a proof that failed.
pub(super) const UNPROVED: &str = "ClosedScopesUnproved";

/// The reason of a wish for anybody where redirect URIs are looked at.
const HOSTS_NEEDED: &str = "RedirectHostsNeeded";

/// The reason of a wish that Auth0 cannot grant.
const NOT_AT_AUTH0: &str = "NotAtAuth0";

/// After which refusals what was open is shut, wherever it is. At Auth0 it is after each: what stands in the way there
/// lets more in than is to be.
pub(super) const SHUTTING: [&str; 2] = [UNPROVED, HOSTS_NEEDED];

/// Whether what is wished for can be had there.
pub(super) fn check(server: &AuthorizationServer, spec: &ClientRegistration) -> Result<(), Halt> {
    let refusal = if server.spec.auth0.is_some() {
        at_auth0(spec)
    } else {
        elsewhere(spec)
    };
    refusal.map_or(Ok(()), |(reason, message)| Err(Halt::refused(reason, message)))
}

/// Auth0 registers whoever comes, with whatever redirect URIs.
fn at_auth0(spec: &ClientRegistration) -> Option<(&'static str, &'static str)> {
    if spec.metadata_documents.is_some() {
        return Some((
            "MetadataDocumentsUnsupported",
            "Auth0 reads no metadata document that nobody has registered there: leave out clientRegistration.metadataDocuments, and make an McpClient with metadataDocument for each document that is to be a client",
        ));
    }
    if spec.refuse_device_flow == Some(true) {
        return Some((
            NOT_AT_AUTH0,
            "Auth0 lets no client that registers itself use the device flow: leave out clientRegistration, and then write it without refuseDeviceFlow",
        ));
    }
    let dynamic = spec.dynamic.as_ref()?;
    if dynamic.any_redirect_host != Some(true) || names_hosts(dynamic) {
        return Some((
            NOT_AT_AUTH0,
            "Auth0 registers clients with whatever redirect URIs they name: say so by clientRegistration.dynamic.anyRedirectHost: true, instead of trustedRedirectHosts and presets",
        ));
    }
    dynamic.max_clients.map(|_| {
        (
            NOT_AT_AUTH0,
            "Auth0 knows no limit of clients but that of the tenant's plan: leave out clientRegistration.dynamic.maxClients",
        )
    })
}

/// Whose redirect URIs are looked at has no use for that word.
fn elsewhere(spec: &ClientRegistration) -> Option<(&'static str, &'static str)> {
    let dynamic = spec.dynamic.as_ref()?;
    (dynamic.any_redirect_host == Some(true)).then_some((
        HOSTS_NEEDED,
        "This authorization server checks the redirect URIs of clients that register themselves: name their hosts in clientRegistration.dynamic.trustedRedirectHosts or presets, instead of anyRedirectHost",
    ))
}

fn names_hosts(dynamic: &DynamicClients) -> bool {
    !(dynamic.trusted_redirect_hosts.is_empty() && dynamic.presets.is_empty())
}

/// What is said where these settings are other than they are to be, and the operator is not to set them.
pub(super) fn settings_missing(differing: &ObservedSettings) -> Halt {
    let names: Vec<&str> = differing.keys().map(String::as_str).collect();
    Halt::refused(
        "TenantSettingsNeeded",
        format!(
            "Clients can register themselves only with other settings of the tenant ({}): let the operator keep them by auth0.manageTenantSettings: true, or set dynamic_client_registration_security_mode to strict and then flags.enable_dynamic_client_registration to true",
            names.join(", ")
        ),
    )
}

/// What is said of a grant for third-party clients at an API of ours that somebody else has made.
pub(super) fn grant_held(conflicts: &[Conflict]) -> Option<Halt> {
    let Conflict { subject, .. } = conflicts.first()?;
    Some(Halt::refused(
        "DefaultGrantHeld",
        format!(
            "The {subject} was not made by the operator, and what it gives every client has that registers itself: delete it in the tenant, or leave out clientRegistration"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn server(provider: &Value) -> AuthorizationServer {
        let mut spec = json!({"issuer": "https://as/", "credentials": {"secretRef": {"name": "c"}}});
        spec.as_object_mut()
            .unwrap()
            .extend(provider.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": {"namespace": "platform", "name": "main"}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn each_server_takes_what_it_can_do_and_no_more() {
        let auth0 = server(&json!({"auth0": {"domain": "as"}}));
        let keycloak = server(&json!({"keycloak": {"realm": "r"}}));
        let any = json!({"dynamic": {"anyRedirectHost": true}});
        let hosts = json!({"dynamic": {"trustedRedirectHosts": ["localhost"]}});
        let presets = json!({"dynamic": {"presets": ["Inspector"]}});
        let both = json!({"dynamic": {"anyRedirectHost": true, "presets": ["Inspector"]}});
        let most = json!({"dynamic": {"anyRedirectHost": true, "maxClients": 5}});
        let device = json!({"dynamic": {"anyRedirectHost": true}, "refuseDeviceFlow": true});
        let documents = json!({"metadataDocuments": {"allowedDomains": ["claude.ai"]}});
        for (server, spec, expected) in [
            (&auth0, &any, None),
            (&auth0, &hosts, Some("NotAtAuth0")),
            (&auth0, &presets, Some("NotAtAuth0")),
            (&auth0, &both, Some("NotAtAuth0")),
            (&auth0, &most, Some("NotAtAuth0")),
            (&auth0, &device, Some("NotAtAuth0")),
            (&auth0, &documents, Some("MetadataDocumentsUnsupported")),
            (&keycloak, &any, Some("RedirectHostsNeeded")),
            (&keycloak, &hosts, None),
            (&keycloak, &documents, None),
        ] {
            let spec_ = serde_json::from_value(spec.clone()).unwrap();
            let reason = check(server, &spec_).err().map(|halt| halt.reason());
            assert_eq!(reason, expected, "{spec}");
        }
    }
}
