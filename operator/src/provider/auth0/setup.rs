//! What a connection to a tenant is made of.

use std::collections::BTreeMap;

use mcp_auth_crds::v1alpha1::Endpoints;

use crate::{
    clock::SharedClock,
    egress::Egress,
    lease::Leadership,
    metrics::Metrics,
    provider::{RealmRegistry, SignIn, discovery::Discovered},
};

/// What a connection to a tenant is made of.
pub struct Settings<'a> {
    /// The canonical domain of the tenant, as in `example.eu.auth0.com`; users may sign in at another.
    pub domain: &'a str,
    /// Where to connect instead of where the domain and the metadata say.
    pub endpoints: &'a Endpoints,
    /// What the tenant says of itself.
    pub discovered: &'a Discovered,
    /// Client id of the operator's credential.
    pub client_id: String,
    /// How the operator signs in.
    pub sign_in: SignIn,
    /// Tells the time.
    pub clock: SharedClock,
    /// Certificates (PEM) to trust for this server, beside those of the platform.
    pub ca_bundle: Option<&'a [u8]>,
    /// The installation.
    pub installation: &'a str,
    /// Whether the operator is to set what of the tenant as a whole MCP needs.
    pub manages_settings: bool,
    /// Whether the AuthorizationServer lets anybody exchange tokens by an action.
    pub exchanges_by_action: bool,
    /// The clients that may be taken over, by the id that Auth0 knows them by, and by whom, as
    /// `<kind>/<namespace>/<name>`.
    pub adoption: BTreeMap<String, String>,
    /// Limits of all tenants.
    pub realms: &'a RealmRegistry,
    /// The way out.
    pub egress: &'a Egress,
    /// Counts the calls.
    pub metrics: Metrics,
    /// Asked before every write.
    pub leadership: Leadership,
}
