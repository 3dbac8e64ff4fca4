//! The calls themselves.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use mcp_auth_crds::v1alpha1::Endpoints;
use reqwest::{Method as Verb, StatusCode};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use url::{Origin, Url};

use super::{
    Asked, Demand, Information, Managed, Method, Offered, Registrar, Unregistered, answer::Expected,
    prove::Prover,
};
use crate::{
    egress::{Audience, Egress},
    lease::Leadership,
    metrics::Metrics,
    provider::{
        Credential, ProviderError, RealmRegistry,
        discovery::Discovered,
        http::{Answer, Body, Effect, HttpClient, ONE, Request, Shown},
        keycloak::SetupError,
    },
};

/// How long an answer is waited for. Longer than elsewhere: one that comes too late may leave a client that nobody can
/// reach.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What a connection is made of.
pub struct Settings<'a> {
    /// Where to connect instead of where the metadata says.
    pub endpoints: &'a Endpoints,
    /// What the server says of itself.
    pub discovered: &'a Discovered,
    /// Without it nobody may register; `None`: registration is open.
    pub initial_access_token: Option<Credential>,
    /// Certificates (PEM) to trust for this server, beside those of the platform.
    pub ca_bundle: Option<&'a [u8]>,
    /// Limits of all realms.
    pub realms: &'a RealmRegistry,
    /// The way out.
    pub egress: &'a Egress,
    /// Counts the calls.
    pub metrics: Metrics,
    /// Asked before every write.
    pub leadership: Leadership,
}

/// A registration endpoint. Holds secrets: never printed.
pub struct Registration {
    http: HttpClient,
    /// Where we register.
    endpoint: Url,
    /// Where the server says that one registers, and so where registrations are managed.
    place: Origin,
    realm: String,
    offered: Offered,
    initial_access_token: Option<SecretString>,
    token_endpoint: Url,
    issuer: String,
    /// When anything was learnt of a client last, by its id.
    learnt: Mutex<HashMap<String, Instant>>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

fn parse(which: &'static str, text: &str) -> Result<Url, SetupError> {
    Url::parse(text).map_err(|_| SetupError::Address { which })
}

impl Registration {
    /// A connection. Nothing is asked yet. `None`: the server offers no registration.
    ///
    /// # Errors
    /// When an address or the CA bundle cannot be used.
    pub fn new(settings: Settings<'_>) -> Result<Option<Self>, SetupError> {
        let (endpoints, discovered) = (settings.endpoints, settings.discovered);
        let named = discovered.registration_endpoint.as_deref();
        let (Some(connected), Some(told)) = (
            endpoints.registration.as_deref().or(named),
            named.or(endpoints.registration.as_deref()),
        ) else {
            return Ok(None);
        };
        let endpoint = parse("endpoints.registration", connected)?;
        let place = parse("registration_endpoint", told)?.origin();
        let token = endpoints
            .token
            .as_deref()
            .unwrap_or(&discovered.metadata.token_endpoint);
        let realm = endpoint.as_str().trim_end_matches('/').to_owned();
        let http = HttpClient {
            egress: settings.egress.client_with_timeout(
                Audience::AuthorizationServer,
                settings.ca_bundle,
                TIMEOUT,
            )?,
            limits: settings.realms.limits(&realm),
            metrics: settings.metrics,
            leadership: settings.leadership,
        };
        Ok(Some(Self {
            http,
            endpoint,
            place,
            realm,
            offered: Offered {
                methods: discovered.authentication_methods.clone(),
                scopes: discovered.scopes.clone(),
            },
            initial_access_token: settings
                .initial_access_token
                .map(|token| SecretString::from(token.expose())),
            token_endpoint: parse("endpoints.token", token)?,
            issuer: discovered.metadata.issuer.clone(),
            learnt: Mutex::default(),
        }))
    }

    /// Where to ask for a registration: at the place at which we register, whatever name the server has for that.
    fn address(&self, operation: &'static str, managed: &Managed) -> Result<Url, ProviderError> {
        let wrong = || ProviderError::Malformed {
            operation,
            why: "the address of the registration is none",
        };
        let mut url = Url::parse(managed.uri.expose()).map_err(|_| wrong())?;
        // The journal's own content is looked at again: the token must not leave for anywhere else.
        if url.origin() != self.place {
            return Err(ProviderError::Malformed {
                operation,
                why: "the registration was made at another place",
            });
        }
        if self.endpoint.origin() != self.place {
            url.set_scheme(self.endpoint.scheme()).map_err(|()| wrong())?;
            url.set_host(self.endpoint.host_str()).map_err(|_| wrong())?;
            url.set_port(self.endpoint.port()).map_err(|()| wrong())?;
        }
        Ok(url)
    }

    async fn manage(
        &self,
        operation: &'static str,
        verb: Verb,
        managed: &Managed,
        body: Option<&Value>,
    ) -> Result<Answer, ProviderError> {
        let token = SecretString::from(managed.token.expose());
        let effect = if verb == Verb::GET {
            Effect::Read
        } else {
            Effect::Replace
        };
        let request = Request {
            operation,
            method: verb,
            url: self.address(operation, managed)?,
            effect,
            shown: Shown::Bearer(&token),
            body: body.map_or(Body::Empty, Body::Json),
            limit: ONE,
        };
        let answer = self.http.call(&request).await?;
        match answer.status {
            // RFC 7592 section 2: a client that is no more, or another token.
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => Err(ProviderError::Gone { operation }),
            status if status.is_success() => Ok(answer),
            _ => Err(answer.rejected(operation)),
        }
    }

    fn information(
        &self,
        operation: &'static str,
        managed: Option<&Managed>,
        answer: &Answer,
    ) -> Result<Information, ProviderError> {
        let document: Map<String, Value> = answer.json(operation)?;
        let expected = Expected {
            operation,
            place: &self.place,
            managed,
        };
        let information = expected.read(&document)?;
        self.note(&information.client_id);
        Ok(information)
    }

    fn learnt(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, client_id: &str) {
        self.learnt().insert(client_id.to_owned(), Instant::now());
    }

    fn prover(&self) -> Prover<'_> {
        Prover {
            http: &self.http,
            endpoint: &self.token_endpoint,
            issuer: &self.issuer,
        }
    }
}

#[async_trait]
impl Registrar for Registration {
    fn realm(&self) -> &str {
        &self.realm
    }

    fn offered(&self) -> &Offered {
        &self.offered
    }

    async fn register(&self, asked: &Asked) -> Result<Information, Unregistered> {
        const OPERATION: &str = "register_client";
        let body = Value::Object(asked.document());
        let request = Request {
            operation: OPERATION,
            method: Verb::POST,
            url: self.endpoint.clone(),
            effect: Effect::Create,
            shown: self
                .initial_access_token
                .as_ref()
                .map_or(Shown::Nothing, Shown::Bearer),
            body: Body::Json(&body),
            limit: ONE,
        };
        let answer = self.http.create(&request).await.map_err(|failed| Unregistered {
            error: failed.error,
            may_exist: failed.may_exist,
        })?;
        if !answer.status.is_success() {
            return Err(Unregistered {
                error: refused(OPERATION, &answer),
                may_exist: false,
            });
        }
        self.information(OPERATION, None, &answer)
            .map_err(|error| Unregistered {
                error,
                may_exist: true,
            })
    }

    async fn read(&self, managed: &Managed) -> Result<Information, ProviderError> {
        const OPERATION: &str = "read_registration";
        let answer = self.manage(OPERATION, Verb::GET, managed, None).await?;
        self.information(OPERATION, Some(managed), &answer)
    }

    async fn update(
        &self,
        managed: &Managed,
        secret: Option<&Credential>,
        asked: &Asked,
    ) -> Result<Information, ProviderError> {
        const OPERATION: &str = "update_registration";
        let mut document = asked.document();
        document.insert("client_id".to_owned(), json!(managed.client_id));
        if let Some(secret) = secret {
            document.insert("client_secret".to_owned(), json!(secret.expose()));
        }
        let body = Value::Object(document);
        let answer = self.manage(OPERATION, Verb::PUT, managed, Some(&body)).await?;
        self.information(OPERATION, Some(managed), &answer)
    }

    async fn remove(&self, managed: &Managed) -> Result<(), ProviderError> {
        let removed = self
            .manage("remove_registration", Verb::DELETE, managed, None)
            .await;
        if removed.is_ok() {
            self.learnt().remove(&managed.client_id);
        }
        removed.map(drop)
    }

    fn knows(&self, client_id: &str, within: Duration) -> bool {
        let learnt = self.learnt();
        learnt.get(client_id).is_some_and(|at| at.elapsed() < within)
    }

    async fn accepts(
        &self,
        client_id: &str,
        secret: &Credential,
        method: Method,
    ) -> Result<bool, ProviderError> {
        let accepted = self.prover().accepts(client_id, secret, method).await?;
        self.note(client_id);
        Ok(accepted)
    }

    async fn prove(
        &self,
        client_id: &str,
        secret: &Credential,
        method: Method,
        demand: &Demand,
    ) -> Result<(), ProviderError> {
        self.prover().prove(client_id, secret, method, demand).await
    }
}

/// Why a client was not registered.
fn refused(operation: &'static str, answer: &Answer) -> ProviderError {
    match answer.status {
        StatusCode::UNAUTHORIZED => ProviderError::Unauthenticated {
            code: Some(answer.code())
                .filter(|code| !code.is_empty())
                .unwrap_or_else(|| "HTTP 401".to_owned()),
        },
        _ => answer.rejected(operation),
    }
}
