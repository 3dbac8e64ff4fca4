//! How far a pass got, and the status that follows from it.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use mcp_auth_crds::{
    condition::{self, Report, types},
    v1alpha1::{
        AuthorizationServer, AuthorizationServerStatus, ClientRegistrationStatus, DiscoveredMetadata,
        ServiceAccountTrust, TenantSetting,
    },
};

use super::{
    observe::{Credentials, Referrers},
    self_registration, tenant_settings, trust,
};
use crate::{
    controllers::halt::{self, Halt},
    provider::{Access, ScopeSpec},
};

/// The conditions in the order in which a pass reaches them. Only where clients are to register themselves something is
/// accepted or not.
const ORDER: [&str; 4] = [
    types::METADATA_DISCOVERED,
    types::CREDENTIALS_VALID,
    types::ACCEPTED,
    types::REGISTERED,
];

/// How far a pass got.
#[derive(Debug, Default)]
pub(super) struct Progress {
    reports: Vec<Report>,
    metadata: Option<DiscoveredMetadata>,
    capabilities: Option<Vec<String>>,
    /// By what tokens of ServiceAccounts count, as is known from before or now.
    trust: Option<ServiceAccountTrust>,
    /// What clients find that register themselves, as is known from before or now.
    registration: Option<ClientRegistrationStatus>,
    /// What settings of the tenant were before, as is known from before or now.
    settings: Vec<TenantSetting>,
    servers: usize,
    clients: usize,
}

impl Progress {
    pub(super) fn new(server: &AuthorizationServer, referrers: &Referrers) -> Self {
        Self {
            trust: trust::stored(server).cloned(),
            registration: self_registration::stored(server).cloned(),
            settings: tenant_settings::stored(server).to_vec(),
            servers: referrers.servers,
            clients: referrers.clients,
            ..Self::default()
        }
    }

    pub(super) fn discovered(&mut self, metadata: &DiscoveredMetadata) {
        self.metadata = Some(metadata.clone());
        let message = "The metadata names this issuer";
        self.reports
            .push(Report::yes(types::METADATA_DISCOVERED, "Discovered", message));
    }

    pub(super) fn signed_in(&mut self, access: &Access) {
        self.capabilities = Some(
            access
                .capabilities
                .iter()
                .map(|capability| capability.as_str().to_owned())
                .collect(),
        );
        let message = "The operator signed in and has every permission that it needs";
        self.reports
            .push(Report::yes(types::CREDENTIALS_VALID, "SignedIn", message));
    }

    /// Whether registration works shows when a client registers: there is nothing to ask before.
    pub(super) fn may_register(&mut self, access: &Access, credentials: &Credentials) {
        let capabilities = access.capabilities.iter();
        self.capabilities = Some(
            capabilities
                .map(|capability| capability.as_str().to_owned())
                .collect(),
        );
        let message = match credentials {
            Credentials::Registration(None) => "The authorization server offers registration to everybody",
            _ => {
                "The authorization server offers registration; whether it accepts the initial access token shows when a client is registered"
            }
        };
        self.reports.push(Report::yes(
            types::CREDENTIALS_VALID,
            "RegistrationOffered",
            message,
        ));
    }

    pub(super) fn trusts(&mut self, trust: Option<ServiceAccountTrust>) {
        self.trust = trust;
    }

    /// What settings of the tenant were before, as is known from before or now.
    pub(super) fn settings(&self) -> &[TenantSetting] {
        &self.settings
    }

    pub(super) fn had_settings(&mut self, settings: Vec<TenantSetting>) {
        self.settings = settings;
    }

    pub(super) fn registers(&mut self, registration: Option<ClientRegistrationStatus>) {
        self.registration = registration;
    }

    /// Clients can register themselves, and have these scopes.
    pub(super) fn opened(&mut self, scopes: BTreeSet<String>) {
        let message = match scopes.len() {
            0 => "Clients can register themselves, and no McpServer is open to them".to_owned(),
            count => format!("Clients can register themselves, and have {count} scopes at most"),
        };
        self.reports.push(Report::yes(types::ACCEPTED, "Proved", message));
        self.registration = Some(ClientRegistrationStatus {
            open: true,
            scopes: scopes.into_iter().collect(),
        });
    }

    pub(super) fn registered(&mut self, scopes: &[ScopeSpec]) {
        let message = match scopes.len() {
            0 => "There is no managed API to register".to_owned(),
            count => format!("The {count} scopes of managed APIs exist as declared"),
        };
        self.reports
            .push(Report::yes(types::REGISTERED, "Registered", message));
    }
}

/// The status after a pass. What the pass did not reach stays as it was.
pub(super) fn status(
    server: &AuthorizationServer,
    progress: Progress,
    halt: Option<&Halt>,
    now: Timestamp,
) -> (AuthorizationServerStatus, Vec<Report>) {
    let old = server.status.clone().unwrap_or_default();
    let accepts = server.spec.client_registration.is_some();
    let order: Vec<_> = ORDER
        .into_iter()
        .filter(|type_| accepts || *type_ != types::ACCEPTED)
        .collect();
    let parts = halt::complete(&order, progress.reports, halt);
    let well = condition::well("Connected", &parts, types::CREDENTIALS_VALID);
    let reports = condition::summarize(parts, &[], &well);
    let generation = server.metadata.generation;
    let count = |number: usize| i64::try_from(number).ok();
    let status = AuthorizationServerStatus {
        observed_generation: generation,
        conditions: condition::merge(&old.conditions, &reports, generation, now),
        capabilities: progress.capabilities.unwrap_or(old.capabilities),
        metadata: progress.metadata.or(old.metadata),
        service_account_issuer: progress.trust,
        client_registration: progress.registration,
        tenant_settings: progress.settings,
        servers: count(progress.servers),
        clients: count(progress.clients),
    };
    (status, reports)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ready_after(report: impl FnOnce(&mut Progress)) -> Report {
        let server: AuthorizationServer = serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "AuthorizationServer",
            "metadata": { "namespace": "platform", "name": "main" },
            "spec": { "issuer": "https://as.example", "dynamicRegistration": {} },
        }))
        .unwrap();
        let metadata = DiscoveredMetadata {
            issuer: "https://as.example".into(),
            authorization_endpoint: None,
            token_endpoint: "https://as.example/token".into(),
            jwks_uri: "https://as.example/jwks".into(),
        };
        let mut progress = Progress::default();
        progress.discovered(&metadata);
        report(&mut progress);
        progress.registered(&[]);
        let (_, reports) = status(&server, progress, None, Timestamp::UNIX_EPOCH);
        let mut ready = reports.into_iter().filter(|report| report.type_ == types::READY);
        ready.next().unwrap()
    }

    #[test]
    fn it_is_not_said_to_be_signed_in_where_there_is_nothing_to_sign_in_at() {
        let signed_in = ready_after(|progress| progress.signed_in(&Access::default()));
        assert_eq!(signed_in.reason, "Ready");
        assert!(signed_in.message.contains("signed in"), "{}", signed_in.message);
        let open = Credentials::Registration(None);
        let registers = ready_after(|progress| progress.may_register(&Access::default(), &open));
        assert_eq!(registers.reason, "Ready");
        assert!(
            registers.message.contains("to everybody"),
            "{}",
            registers.message
        );
        assert!(!registers.message.contains("signed in"), "{}", registers.message);
    }
}
