//! What is wanted: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::ResourceExt as _;
use mcp_auth_crds::v1alpha1::{
    AdoptedKind, AuthenticationMethod, AuthorizationServer, Consent, DiscoveredMetadata, DurationText,
    GrantType, ManagedClient, McpClient, McpServer,
};

use super::{accounts, observe::Asked};
use crate::{
    controllers::{
        halt::{self, Halt},
        home,
    },
    credential::secret::{Content, data},
    policy::{
        access::{self, Caller, Decision},
        grants::Tenant,
        names, presets,
    },
    provider::{Authentication, ClientSpec, Credential, Grant, ObservedScopes, Proof, ServiceAccount},
};

/// Lifetime of access tokens, unless the spec says otherwise.
const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_mins(5);

/// What the client asks for in vain and in its own words, which are all that it may hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    /// The server as `<namespace>/<name>`.
    pub(super) server: String,
    /// The scopes that the entry names.
    pub(super) scopes: Vec<String>,
}

/// What the client gets, and why it does not get the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Granted {
    /// One decision for each entry of `access` that is in none of the other lists.
    pub(super) decisions: Vec<Decision>,
    /// What is asked of servers of other namespaces that allow nothing of it, if they exist at all.
    pub(super) closed: Vec<Closed>,
    /// Servers that do not exist, as `<namespace>/<name>`.
    pub(super) missing: Vec<String>,
    /// Servers that use another AuthorizationServer, as `<namespace>/<name>`.
    pub(super) elsewhere: Vec<String>,
}

impl Granted {
    /// All scopes that the client gets.
    pub(super) fn scopes(&self) -> BTreeSet<String> {
        self.decisions
            .iter()
            .flat_map(|decision| decision.granted.iter().cloned())
            .collect()
    }

    /// The same by audience.
    pub(super) fn by_audience(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut all: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for decision in self.decisions.iter().filter(|d| !d.granted.is_empty()) {
            let scopes = all.entry(decision.resource.clone()).or_default();
            scopes.extend(decision.granted.iter().cloned());
        }
        all
    }

    /// The audiences of a token with all these scopes.
    pub(super) fn audiences(&self) -> BTreeSet<String> {
        self.decisions
            .iter()
            .filter(|d| !d.granted.is_empty())
            .map(|d| d.resource.clone())
            .collect()
    }
}

/// How the client is registered.
pub(super) fn managed(client: &McpClient) -> Result<&ManagedClient, Halt> {
    client.spec.managed.as_ref().ok_or_else(|| {
        Halt::refused(
            "WayInMissing",
            "Say how the client comes to be: managed, metadataDocument or existing",
        )
    })
}

/// The client id at the authorization server.
pub(super) fn client_id(client: &McpClient, installation: &str) -> String {
    names::client_id(
        installation,
        &client.namespace().unwrap_or_default(),
        &client.name_any(),
    )
}

/// What the client may have of what it asks for, where `scopes` are those at the authorization server that may be a
/// server's.
pub(super) fn access(
    client: &McpClient,
    tenant: Tenant<'_>,
    authorization_server: &AuthorizationServer,
    servers: &[Asked],
    scopes: &dyn Fn(&McpServer) -> ObservedScopes,
    installation: &str,
) -> Granted {
    let name = client.name_any();
    let caller = Caller {
        tenant,
        name: &name,
        exchanges: false,
    };
    let mut granted = Granted::default();
    for (entry, server) in servers {
        let named = format!(
            "{}/{}",
            entry.server.namespace_or(tenant.namespace),
            entry.server.name
        );
        if access::is_closed(entry, server.as_deref(), caller) {
            let scopes = entry.scopes.iter().flatten();
            granted.closed.push(Closed {
                server: named,
                scopes: scopes.map(|scope| scope.0.clone()).collect(),
            });
            continue;
        }
        let Some(server) = server else {
            granted.missing.push(named);
            continue;
        };
        if !uses(server, authorization_server) {
            granted.elsewhere.push(named);
            continue;
        }
        granted.decisions.push(access::decide(
            entry,
            server,
            caller,
            installation,
            &scopes(server),
        ));
    }
    granted
}

/// Why the client gets nothing new. What it may not have any more is taken away all the same.
pub(super) fn held_back(client: &McpClient, access: &Granted) -> Option<Halt> {
    if let Some(server) = access.elsewhere.first() {
        return Some(Halt::refused(
            "DifferentAuthorizationServer",
            format!("McpServer {server} uses another AuthorizationServer: make a client of its own for it"),
        ));
    }
    halt::is_paused(client).then_some(Halt::Paused)
}

fn uses(server: &McpServer, authorization_server: &AuthorizationServer) -> bool {
    let namespace = server.namespace().unwrap_or_default();
    let reference = &server.spec.authorization_server_ref;
    Some(reference.namespace_or(&namespace)) == authorization_server.metadata.namespace.as_deref()
        && Some(reference.name.as_str()) == authorization_server.metadata.name.as_deref()
}

/// What of the spec has no effect at this authorization server.
pub(super) fn unheeded(
    client: &McpClient,
    authorization_server: &AuthorizationServer,
) -> Option<&'static str> {
    let of_the_api = authorization_server.spec.auth0.is_some();
    (of_the_api && client.spec.access_token_lifetime.is_some()).then_some(
        "accessTokenLifetime has no effect: at Auth0 tokens live as long as the API of the MCP server says, 5 minutes",
    )
}

/// Where its users are sent back to.
pub(super) fn redirect_uris(managed: &ManagedClient) -> Vec<String> {
    let listed = managed.redirect_uris.iter().cloned();
    listed.chain(presets::redirect_uris(&managed.presets)).collect()
}

/// The client at the authorization server.
pub(super) fn client(
    client: &McpClient,
    managed: &ManagedClient,
    access: &Granted,
    authorization_server: &AuthorizationServer,
    installation: &str,
) -> ClientSpec {
    let mark = home::mark(client, installation);
    let client_id = client_id(client, installation);
    let consented = authorization_server.spec.adoption.iter().any(|consent| {
        consent.kind == AdoptedKind::Client
            && consent.id == client_id
            && (&consent.namespace, &consent.name) == (&mark.namespace, &mark.name)
    });
    let signs_users_in = managed.grant_types.contains(&GrantType::AuthorizationCode);
    let lifetime = client
        .spec
        .access_token_lifetime
        .as_ref()
        .and_then(DurationText::duration);
    ClientSpec {
        mark,
        client_id,
        display_name: managed.display_name.clone().unwrap_or_else(|| client.name_any()),
        enabled: !client.spec.is_suspended(),
        grants: managed.grant_types.iter().copied().map(grant).collect(),
        redirect_uris: redirect_uris(managed).into_iter().collect(),
        authentication: authentication(client, managed, authorization_server),
        consent: signs_users_in && managed.consent != Some(Consent::Skip),
        token_lifetime: lifetime.unwrap_or(ACCESS_TOKEN_LIFETIME),
        scopes: access.scopes(),
        audiences: access.by_audience(),
        adopt: consented,
    }
}

/// How the client authenticates.
fn authentication(
    client: &McpClient,
    managed: &ManagedClient,
    authorization_server: &AuthorizationServer,
) -> Authentication {
    match method(managed) {
        AuthenticationMethod::None => Authentication::None,
        AuthenticationMethod::PrivateKeyJwt => Authentication::PrivateKeyJwt,
        AuthenticationMethod::ClientSecret => Authentication::ClientSecret,
        AuthenticationMethod::ServiceAccountToken => {
            let namespace = client.namespace().unwrap_or_default();
            let status = authorization_server.status.as_ref();
            let trust = status.and_then(|status| status.service_account_issuer.as_ref());
            let account = accounts::of(client).zip(trust);
            Authentication::ServiceAccount(account.map_or_else(ServiceAccount::default, |(name, trust)| {
                ServiceAccount::new(&trust.identity_provider, &namespace, name)
            }))
        }
    }
}

/// The method of authentication that is asked for.
pub(super) fn method(managed: &ManagedClient) -> AuthenticationMethod {
    let authentication = managed.authentication.as_ref();
    authentication.map_or(AuthenticationMethod::ClientSecret, |authentication| {
        authentication.method
    })
}

pub(super) fn grant(grant: GrantType) -> Grant {
    match grant {
        GrantType::AuthorizationCode => Grant::AuthorizationCode,
        GrantType::RefreshToken => Grant::RefreshToken,
        GrantType::ClientCredentials => Grant::ClientCredentials,
    }
}

/// Name of the Secret that the workload reads.
pub(in crate::controllers) fn secret_name(client: &McpClient) -> String {
    if let Some(existing) = &client.spec.existing {
        return existing.secret_ref.name.clone();
    }
    let named = client.spec.secret.as_ref().and_then(|secret| secret.name.clone());
    named.unwrap_or_else(|| names::client_secret(&client.name_any()))
}

/// Name of the ConfigMap that the workload reads where nothing is secret.
pub(in crate::controllers) fn map_name(client: &McpClient) -> String {
    names::client_secret(&client.name_any())
}

/// Data of the Secret that the workload reads.
pub(super) fn secret_data(
    client: &McpClient,
    want: &ClientSpec,
    access: &Granted,
    metadata: &DiscoveredMetadata,
    secret: Option<&Credential>,
) -> BTreeMap<String, String> {
    let resource = match access.decisions.as_slice() {
        [only] if client.spec.access.len() == 1 => Some(only.resource.as_str()),
        _ => None,
    };
    let content = Content {
        client_id: &want.client_id,
        secret,
        issuer: &metadata.issuer,
        token_endpoint: &metadata.token_endpoint,
        scope: Some(access.scopes().into_iter().collect::<Vec<_>>().join(" ")),
        resource,
    };
    data(&content, client.spec.secret.as_ref())
}

/// Data of the ConfigMap that the workload reads where nothing is secret. `audience` is what its tokens have to be for.
pub(super) fn map_data(
    client: &McpClient,
    want: &ClientSpec,
    access: &Granted,
    metadata: &DiscoveredMetadata,
) -> BTreeMap<String, String> {
    let mut data = secret_data(client, want, access, metadata, None);
    data.insert("audience".to_owned(), metadata.issuer.clone());
    data
}

/// How the credential is proved: by a real token where the client gets one for itself, else by a made-up code.
pub(super) fn proof(want: &ClientSpec, access: &Granted, secret: &Credential) -> Option<Proof> {
    if want.grants.contains(&Grant::ClientCredentials) {
        return Some(Proof::ClientCredentials {
            client_id: want.client_id.clone(),
            secret: secret.clone(),
            scopes: want.scopes.clone(),
            audiences: access.audiences(),
        });
    }
    Some(Proof::AuthorizationCode {
        client_id: want.client_id.clone(),
        secret: secret.clone(),
        redirect_uri: want.redirect_uris.first()?.clone(),
    })
}
