//! A server that answers what a real one rarely does, and counts.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mcp_auth_crds::v1alpha1::{DiscoveredMetadata, Endpoints};
use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, Respond, ResponseTemplate,
    matchers::{body_string_contains, method, path, query_param, query_param_is_missing},
};

use super::super::{Keycloak, Settings};
use crate::{
    clock::SystemClock,
    egress::{Egress, EgressPolicy},
    lease::Leadership,
    metrics::Metrics,
    provider::{
        Call, Change, Credential, LimitSettings, Read, RealmRegistry, SignIn, Verb, discovery::Discovered,
    },
};

pub(super) const CLIENTS: &str = "/admin/realms/r/clients";
pub(super) const SCOPES: &str = "/admin/realms/r/client-scopes";
pub(super) const HOUR: Read = Read::Within(Duration::from_secs(3600));

pub(super) fn keycloak(server: &MockServer) -> Keycloak {
    keycloak_with_grant(server, "other")
}

/// One whose metadata names this grant type.
pub(super) fn keycloak_with_grant(server: &MockServer, grant: &str) -> Keycloak {
    let rate = NonZeroU32::new(10_000).unwrap();
    let realms = RealmRegistry::new(LimitSettings::new(rate, Duration::from_secs(30)));
    keycloak_of(server, grant, "op", &realms)
}

/// One that signs in as `operator`, and shares the realm with others.
pub(super) fn keycloak_of(
    server: &MockServer,
    grant: &str,
    operator: &str,
    realms: &RealmRegistry,
) -> Keycloak {
    let issuer = format!("{}/realms/r", server.uri());
    let metadata = DiscoveredMetadata {
        token_endpoint: format!("{issuer}/token"),
        issuer,
        ..Default::default()
    };
    let policy = EgressPolicy {
        allow_http: true,
        insecure_allow_loopback: true,
        ..Default::default()
    };
    Keycloak::new(Settings {
        manages_trust: true,
        self_registration: false,
        realm: "r",
        endpoints: &Endpoints::default(),
        discovered: &Discovered {
            metadata,
            grant_types: [grant.to_owned()].into(),
            ..Discovered::default()
        },
        client_id: operator.into(),
        sign_in: SignIn::Secret(Credential::new("op-secret")),
        token_files: &[],
        clock: SystemClock::shared(),
        ca_bundle: None,
        installation: "prod",
        client_ids: "prod.".into(),
        realms,
        egress: &Egress::new(policy),
        metrics: Metrics::default(),
        leadership: Leadership::uncontested(),
    })
    .unwrap()
}

/// Hands out token-1, token-2, …
struct TokenEndpoint {
    issued: Arc<AtomicUsize>,
    expires_in: u64,
}

impl Respond for TokenEndpoint {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        let n = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        ResponseTemplate::new(200)
            .set_body_json(json!({"access_token": format!("token-{n}"), "expires_in": self.expires_in}))
    }
}

pub(super) async fn sign_in(server: &MockServer, expires_in: u64) -> Arc<AtomicUsize> {
    let issued = Arc::new(AtomicUsize::new(0));
    Mock::given(method("POST"))
        .and(path("/realms/r/token"))
        .and(body_string_contains(
            "grant_type=client_credentials&client_id=op&client_secret=op-secret",
        ))
        .respond_with(TokenEndpoint {
            issued: Arc::clone(&issued),
            expires_in,
        })
        .mount(server)
        .await;
    issued
}

pub(super) fn own(manage: bool) -> Value {
    json!([{"id": "0", "clientId": "op", "access": {"view": true, "manage": manage}}])
}

pub(super) async fn exact(server: &MockServer, client_id: &str, found: Value) {
    Mock::given(method("GET"))
        .and(path(CLIENTS))
        .and(query_param("clientId", client_id))
        .and(query_param_is_missing("search"))
        .respond_with(ResponseTemplate::new(200).set_body_json(found))
        .mount(server)
        .await;
}

pub(super) async fn calls(server: &MockServer, of: &str) -> usize {
    let received = server.received_requests().await.unwrap();
    received
        .iter()
        .filter(|request| format!("{} {}", request.method, request.url.path()) == of)
        .count()
}

pub(super) fn create(client_id: &str) -> Call {
    Call {
        operation: "create_client",
        change: Change::Create,
        subject: String::new(),
        verb: Verb::Post,
        path: "/clients".into(),
        body: Some(json!({"id": format!("id-{client_id}"), "clientId": client_id})),
    }
}
