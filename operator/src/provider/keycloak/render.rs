//! What we want, in Keycloak's words. Every flag is said: Keycloak's own defaults would make a client public, allow
//! password logins and give it every role of its users.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{ids::Ids, mark, overlap::SecretAttributes};
use crate::provider::{
    Authentication, ClientSpec, Credential, Grant, Mark, ResourceSpec, ScopeSpec, ServiceAccount,
    key::ALGORITHM,
};

/// By what a client authenticates.
pub(super) const AUTHENTICATOR: &str = "clientAuthenticatorType";
/// What [`AUTHENTICATOR`] is for a client with a secret; also for a public one, which has nothing to show.
pub(super) const BY_SECRET: &str = "client-secret";
/// The same for a client that signs assertions.
const BY_KEY: &str = "client-jwt";
/// The same for a client that sends assertions that somebody else signed.
const BY_ACCOUNT: &str = "federated-jwt";

/// The scope that carries `sub`; without it access tokens name no subject.
pub(super) const BASIC: &str = "basic";
/// Keycloak attaches this scope to every client with a service account, again and again.
pub(super) const SERVICE_ACCOUNT: &str = "service_account";
/// OpenID Connect Core section 11.
const OFFLINE_ACCESS: &str = "offline_access";

/// Switches that are attributes. What a client gets here beyond its spec, others gave it.
pub(super) const SWITCHES: [&str; 5] = [
    "oauth2.device.authorization.grant.enabled",
    "oauth2.jwt.authorization.grant.enabled",
    "oidc.ciba.grant.enabled",
    TOKEN_EXCHANGE,
    REFRESH_TOKENS,
];
pub(super) const TOKEN_EXCHANGE: &str = "standard.token.exchange.enabled";
const REFRESH_TOKENS: &str = "use.refresh.tokens";

/// On a server's client while there may be limits of its exchange: its own id, by which they find the client.
pub(super) const LIMITED: &str = "mcpauth.exchange-limits";

/// A client as Keycloak is to have it.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    pub(super) id: Uuid,
    pub(super) client_id: String,
    /// Everything but what follows.
    pub(super) fields: Map<String, Value>,
    pub(super) attributes: BTreeMap<&'static str, String>,
    /// Of its secrets, where they are known.
    pub(super) secrets: SecretAttributes,
    /// Optional client scopes; the default ones are [`BASIC`] and, where it is, [`SERVICE_ACCOUNT`].
    pub(super) scopes: BTreeSet<String>,
}

impl Desired {
    /// The body of a change. Scopes are not in it: Keycloak ignores them there. No protocol mappers: one could add an
    /// audience.
    pub(super) fn body(&self, secret: Option<&Credential>) -> Value {
        let mut body = self.fields.clone();
        let attributes: BTreeMap<_, _> = self.all_attributes().collect();
        body.insert("attributes".into(), json!(attributes));
        body.insert("protocolMappers".into(), json!([]));
        if let Some(secret) = secret {
            body.insert("secret".into(), json!(secret.expose()));
        }
        Value::Object(body)
    }

    /// The body of a creation, which takes those scopes along that exist.
    pub(super) fn creation(&self, secret: Option<&Credential>, exists: impl Fn(&str) -> bool) -> Value {
        let mut body = self.body(secret);
        let optional: Vec<_> = self.scopes.iter().filter(|scope| exists(scope)).collect();
        body["id"] = json!(self.id.to_string());
        // Said, even where it is empty: else Keycloak attaches the realm's, which could carry any audience.
        body["defaultClientScopes"] = json!([BASIC]);
        body["optionalClientScopes"] = json!(optional);
        body
    }

    /// Name and value of each attribute. May hold a secret: never printed.
    pub(super) fn all_attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let own = self.attributes.iter();
        own.map(|(name, value)| (*name, value.as_str()))
            .chain(self.secrets.iter())
    }

    /// Whether the client may have this default scope.
    pub(super) fn allows_default(&self, scope: &str) -> bool {
        scope == BASIC || (scope == SERVICE_ACCOUNT && self.fields["serviceAccountsEnabled"] == json!(true))
    }
}

/// The client of an McpClient.
pub(super) fn client(ids: &Ids, want: &ClientSpec) -> Desired {
    let granted = |grant| want.grants.contains(&grant);
    let public = want.authentication == Authentication::None;
    let mut attributes = mark::attributes(&want.mark);
    attributes.extend(switches(false, granted(Grant::RefreshToken)));
    attributes.extend(tokens(want.token_lifetime));
    attributes.insert("pkce.code.challenge.method", "S256".to_owned());
    attributes.extend(assertions(&want.authentication));
    let mut scopes = want.scopes.clone();
    if granted(Grant::RefreshToken) {
        scopes.insert(OFFLINE_ACCESS.to_owned());
    }
    let mut fields = flags(&want.mark, &want.client_id, &want.display_name);
    fields.extend(fields_of(json!({
        "enabled": want.enabled,
        "publicClient": public,
        AUTHENTICATOR: match want.authentication {
            Authentication::PrivateKeyJwt => BY_KEY,
            Authentication::ServiceAccount(_) => BY_ACCOUNT,
            Authentication::ClientSecret | Authentication::None => BY_SECRET,
        },
        "standardFlowEnabled": granted(Grant::AuthorizationCode),
        "serviceAccountsEnabled": granted(Grant::ClientCredentials),
        "consentRequired": want.consent,
        "redirectUris": want.redirect_uris,
        // `+` stands for the origins of the redirect URIs, so the two cannot diverge. Only a public client asks for
        // tokens from a page of its own; a confidential one does so from its server, where CORS plays no part.
        "webOrigins": if public && !want.redirect_uris.is_empty() { json!(["+"]) } else { json!([]) },
    })));
    Desired {
        id: ids.client(&want.mark),
        client_id: want.client_id.clone(),
        fields,
        attributes,
        secrets: match want.authentication {
            // It has none that could be known from elsewhere.
            Authentication::ServiceAccount(_) => SecretAttributes::none(),
            _ => SecretAttributes::default(),
        },
        scopes,
    }
}

/// Which assertions of a client count. Whom a ServiceAccount stands for no more must not be found by its tokens.
fn assertions(authentication: &Authentication) -> Vec<(&'static str, String)> {
    let nobody = ServiceAccount::default();
    let account = match authentication {
        Authentication::ServiceAccount(account) => account,
        _ => &nobody,
    };
    let mut attributes = vec![
        ("jwt.credential.issuer", account.issuer.clone()),
        ("jwt.credential.sub", account.subject.clone()),
    ];
    if *authentication == Authentication::PrivateKeyJwt {
        // Its keys are nowhere but in the attribute beside these.
        attributes.extend([
            ("use.jwks.string", true.to_string()),
            ("use.jwks.url", false.to_string()),
            ("token.endpoint.auth.signing.alg", ALGORITHM.to_owned()),
        ]);
    }
    attributes
}

/// The client of an McpServer: an audience that can introspect and, if it has scopes for that, exchange tokens.
pub(super) fn resource(ids: &Ids, want: &ResourceSpec) -> Desired {
    let mut attributes = mark::attributes(&want.mark);
    attributes.extend(switches(!want.exchange_scopes.is_empty(), false));
    attributes.extend(tokens(want.exchange_token_lifetime));
    attributes.insert("resource_url", want.resource.clone());
    let mut fields = flags(&want.mark, &want.resource, &want.display_name);
    fields.extend(fields_of(json!({
        "enabled": true,
        "publicClient": false,
        "standardFlowEnabled": false,
        "serviceAccountsEnabled": false,
        "consentRequired": false,
        "redirectUris": [],
        "webOrigins": [],
    })));
    Desired {
        id: ids.client(&want.mark),
        client_id: want.resource.clone(),
        fields,
        attributes,
        secrets: SecretAttributes::default(),
        scopes: want.exchange_scopes.keys().cloned().collect(),
    }
}

/// What is the same for all our clients.
fn flags(mark: &Mark, client_id: &str, name: &str) -> Map<String, Value> {
    fields_of(json!({
        "clientId": client_id,
        "name": name,
        "description": format!("{} {}/{}, managed by mcp-auth-operator", mark.kind, mark.namespace, mark.name),
        "protocol": "openid-connect",
        "bearerOnly": false,
        "implicitFlowEnabled": false,
        "directAccessGrantsEnabled": false,
        "authorizationServicesEnabled": false,
        "fullScopeAllowed": false,
        AUTHENTICATOR: BY_SECRET,
    }))
}

fn switches(exchange: bool, refresh: bool) -> impl Iterator<Item = (&'static str, String)> {
    SWITCHES.into_iter().map(move |name| {
        let on = match name {
            TOKEN_EXCHANGE => exchange,
            REFRESH_TOKENS => refresh,
            _ => false,
        };
        (name, on.to_string())
    })
}

/// What the tokens look like that are issued to the client.
fn tokens(lifetime: std::time::Duration) -> [(&'static str, String); 4] {
    [
        ("access.token.lifespan", lifetime.as_secs().to_string()),
        ("access.token.header.type.rfc9068", true.to_string()),
        ("client_credentials.use_refresh_token", false.to_string()),
        (
            "standard.token.exchange.enableRefreshRequestedTokenType",
            "NO".to_owned(),
        ),
    ]
}

fn fields_of(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The name of the one protocol mapper of our scopes.
pub(super) const AUDIENCE_MAPPER: &str = "audience";

/// A client scope as Keycloak is to have it.
#[derive(Clone, Debug)]
pub(super) struct DesiredScope {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) fields: Map<String, Value>,
    pub(super) attributes: BTreeMap<&'static str, String>,
    /// The configuration of the audience mapper.
    pub(super) mapper: BTreeMap<&'static str, String>,
}

impl DesiredScope {
    /// The body of a change. Mappers are not in it: Keycloak ignores them there.
    pub(super) fn body(&self) -> Value {
        let mut body = self.fields.clone();
        body.insert("attributes".into(), json!(self.attributes));
        Value::Object(body)
    }

    /// The body of a creation.
    pub(super) fn creation(&self) -> Value {
        let mut body = self.body();
        body["id"] = json!(self.id.to_string());
        body["protocolMappers"] = json!([self.mapper_body(None)]);
        body
    }

    /// The audience mapper, as a new one or in place of the one with this id.
    pub(super) fn mapper_body(&self, id: Option<&str>) -> Value {
        let mut body = json!({
            "name": AUDIENCE_MAPPER,
            "protocol": "openid-connect",
            "protocolMapper": AUDIENCE_MAPPER_TYPE,
            "consentRequired": false,
            "config": self.mapper,
        });
        if let Some(id) = id {
            body["id"] = json!(id);
        }
        body
    }
}

/// Where an audience mapper names its audience. Keycloak takes it as it is, whether such a client exists or not.
pub(super) const CLIENT_AUDIENCE: &str = "included.client.audience";
/// Keycloak's mapper with a fixed audience.
pub(super) const AUDIENCE_MAPPER_TYPE: &str = "oidc-audience-mapper";

/// One scope of the object that `mark` stands for.
pub(super) fn scope(ids: &Ids, mark: &Mark, want: &ScopeSpec) -> DesiredScope {
    let text = if want.description.is_empty() {
        &want.name
    } else {
        &want.description
    };
    let mut attributes = mark::attributes(mark);
    attributes.extend([
        ("include.in.token.scope", true.to_string()),
        ("display.on.consent.screen", true.to_string()),
        ("consent.screen.text", text.clone()),
        // The metadata of the realm would show every tenant's scopes to everybody.
        ("include.in.openid.provider.metadata", false.to_string()),
    ]);
    let mapper = BTreeMap::from([
        (CLIENT_AUDIENCE, want.audience.clone()),
        ("access.token.claim", true.to_string()),
        ("id.token.claim", false.to_string()),
        ("introspection.token.claim", true.to_string()),
        ("lightweight.claim", true.to_string()),
    ]);
    DesiredScope {
        id: ids.scope(mark, &want.name),
        name: want.name.clone(),
        fields: fields_of(json!({
            "name": want.name,
            "description": want.description,
            "protocol": "openid-connect",
        })),
        attributes,
        mapper,
    }
}
