//! What a client is to be registered as, what of its wishes such a server cannot do, and how it is proved. Pure.

use std::collections::BTreeSet;

use mcp_auth_crds::v1alpha1::{
    ApplicationType, AuthenticationMethod, AuthorizationServer, Consent, ManagedClient, McpClient,
};

use super::super::desired::{self, Granted};
use crate::{
    controllers::halt::Halt,
    policy::external,
    provider::{
        Authentication, ClientSpec, Grant,
        registration::{Application, Asked, Demand, Method, Offered, method},
    },
};

/// The scope without which some servers give no refresh tokens (OpenID Connect Core section 11).
const OFFLINE: &str = "offline_access";

/// Why a client that somebody else registers is not served here: nothing would keep two McpClients from naming the same.
pub(in super::super) fn existing_unsupported() -> Halt {
    Halt::refused(
        "ExistingUnsupported",
        "At an authorization server that offers registration only, nobody can tell whose a client is: use managed, or another AuthorizationServer",
    )
}

/// What such a server cannot do for the client.
pub(super) fn unsupported(
    client: &McpClient,
    managed: &ManagedClient,
    authorization_server: &AuthorizationServer,
    offered: &Offered,
) -> Option<Halt> {
    let by = desired::method(managed);
    let can_show = match by {
        AuthenticationMethod::ClientSecret => method(&offered.methods).is_some(),
        AuthenticationMethod::None => true,
        AuthenticationMethod::PrivateKeyJwt | AuthenticationMethod::ServiceAccountToken => false,
    };
    if !can_show {
        return Some(Halt::refused(
            "AuthenticationUnsupported",
            "Clients that are registered dynamically authenticate with ClientSecret, if the authorization server offers client_secret_basic or client_secret_post, or with None: choose one of these",
        ));
    }
    if client.spec.access_token_lifetime.is_some() {
        return Some(Halt::refused(
            "TokenLifetimeUnsupported",
            "Registration has no word for the lifetime of access tokens: leave out accessTokenLifetime, the authorization server decides",
        ));
    }
    if managed.consent == Some(Consent::Skip) {
        return Some(Halt::refused(
            "ConsentUnsupported",
            "Registration has no word for consent: leave it out, the authorization server decides whether people are asked",
        ));
    }
    if !client.spec.access.is_empty() && external::is_external(authorization_server) == Some(false) {
        return Some(Halt::refused(
            "AccessUnsupported",
            "The authorization server offers registration of clients only, so it has no McpServers: leave out access, or let its administrator make them there and say dynamicRegistration.resourceManagement: External",
        ));
    }
    None
}

/// What the client registers with. The number of the registration is added when it is begun.
pub(super) fn asked(managed: &ManagedClient, want: &ClientSpec, offered: &Offered) -> Asked {
    let refreshes = want.grants.contains(&Grant::RefreshToken);
    let mut scopes = want.scopes.clone();
    // Nothing that the server has not heard of, and nothing where it decides by itself.
    if !scopes.is_empty() && refreshes && offered.scopes.contains(OFFLINE) {
        scopes.insert(OFFLINE.to_owned());
    }
    let confidential = method(&offered.methods).unwrap_or(Method::Basic);
    Asked {
        name: want.display_name.clone(),
        software_id: want.client_id.clone(),
        software_version: String::new(),
        redirect_uris: want.redirect_uris.clone(),
        grants: want.grants.clone(),
        method: match want.authentication {
            Authentication::None => Method::None,
            _ => confidential,
        },
        scopes,
        application: match managed.application_type {
            Some(ApplicationType::Native) => Application::Native,
            Some(ApplicationType::Web) | None => Application::Web,
        },
    }
}

/// What shows that the client works: a token for each resource where it gets tokens for itself, else a made-up code.
pub(super) fn demands(want: &ClientSpec, access: &Granted) -> Vec<Demand> {
    if !want.grants.contains(&Grant::ClientCredentials) {
        let redirect_uri = want.redirect_uris.first().cloned();
        return redirect_uri
            .map(|redirect_uri| Demand::Code { redirect_uri })
            .into_iter()
            .collect();
    }
    let granted = access
        .decisions
        .iter()
        .filter(|decision| !decision.granted.is_empty());
    let tokens: Vec<_> = granted
        .map(|decision| Demand::Token {
            resource: Some(decision.resource.clone()),
            scopes: decision.granted.clone(),
        })
        .collect();
    if tokens.is_empty() {
        return vec![Demand::Token {
            resource: None,
            scopes: BTreeSet::new(),
        }];
    }
    tokens
}
