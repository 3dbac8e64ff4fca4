//! Which scopes of which API a client gets. Everything that issues tokens asks here.

use std::collections::BTreeSet;

use super::{
    clients::Client,
    errors::OAuthRefusal,
    tenant::{Tenant, User, granted, scopes_of},
    wire::{Object, is_true, text},
};

/// Scopes of OpenID Connect, which belong to no API.
const OPENID: [&str; 6] = ["openid", "profile", "email", "address", "phone", "groups"];

/// In whose name a token is.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    /// The client's own (`subject_type` client).
    Client,
    /// A user's (`subject_type` user).
    User(&'a User),
}

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) client: &'a Client,
    pub(super) audience: &'a str,
    pub(super) subject: Subject<'a>,
    /// None: the parameter was left out.
    pub(super) scopes: Option<&'a [String]>,
    /// Whether only a grant will do, whatever the API's policy.
    pub(super) by_grant_only: bool,
}

/// What there is.
pub(super) struct Access<'a> {
    pub(super) server: &'a Object,
    pub(super) scopes: BTreeSet<String>,
    /// The claim `permissions`, if the API wants it.
    pub(super) permissions: Option<BTreeSet<String>>,
}

/// Requested ∩ allowed by policy or grant ∩ permitted to the user. Consent is asked for afterwards.
pub(super) fn decide<'a>(tenant: &'a Tenant, wanted: &Wanted<'_>) -> Result<Access<'a>, OAuthRefusal> {
    let server = tenant
        .api(wanted.audience)
        .ok_or_else(|| OAuthRefusal::denied(&format!("Service not found: {}", wanted.audience)))?;
    let (ceiling, explicit) = ceiling(tenant, server, wanted)?;
    let scopes = match (wanted.subject, wanted.scopes) {
        (Subject::Client, Some(asked)) => machine(&ceiling, asked)?,
        // Where the API allows every client, leaving out the parameter means everything; where it wants a grant, a client
        // has to name what it wants.
        (Subject::User(_), None) if explicit => BTreeSet::new(),
        (Subject::User(_), Some(asked)) => {
            let asked = asked.iter().filter(|scope| ceiling.contains(*scope));
            asked.cloned().collect()
        }
        (_, None) => ceiling.clone(),
    };
    Ok(restrict(tenant, server, wanted, scopes))
}

/// The most that a client can have of an API, and whether it has it by a grant. A third-party client always needs one,
/// also where the policy says that everybody may ("Explicit API authorization").
fn ceiling(
    tenant: &Tenant,
    server: &Object,
    wanted: &Wanted<'_>,
) -> Result<(BTreeSet<String>, bool), OAuthRefusal> {
    let client = wanted.client;
    let kind = match wanted.subject {
        Subject::Client => "client",
        Subject::User(_) => "user",
    };
    let policies = server.get("subject_type_authorization");
    let policy = policies.and_then(|policies| policies[kind]["policy"].as_str());
    if policy == Some("deny_all") || (client.is_third_party() && is_true(server, "is_system")) {
        return Err(refused(wanted));
    }
    if policy == Some("allow_all") && !client.is_strict() && !wanted.by_grant_only {
        return Ok((scopes_of(server), false));
    }
    let fits =
        |grant: &&Object| text(grant, "audience") == wanted.audience && text(grant, "subject_type") == kind;
    let mut grants = tenant.grants.values().filter(fits);
    let own = grants.find(|grant| text(grant, "client_id") == client.id());
    let default = || {
        let mut grants = tenant.grants.values().filter(fits);
        let default = grants.find(|grant| text(grant, "default_for") == "third_party_clients");
        default.filter(|_| client.is_third_party())
    };
    // A grant of the client itself beats the default, also where it holds less.
    let grant = own.or_else(default).ok_or_else(|| refused(wanted))?;
    Ok((granted(grant, server), true))
}

/// How a missing grant is told: in other words to a machine than to a login, and in others to a third party.
fn refused(wanted: &Wanted<'_>) -> OAuthRefusal {
    let (id, audience) = (wanted.client.oauth_id(), wanted.audience);
    match wanted.subject {
        Subject::Client => OAuthRefusal::denied(&format!(
            "Client is not authorized to access \"{audience}\". You need to create a \"client-grant\" associated to \
             this API. See: https://auth0.com/docs/api/v2#!/Client_Grants/post_client_grants"
        )),
        Subject::User(_) => OAuthRefusal::client(&format!(
            "Client \"{id}\" is not authorized to access resource server \"{audience}\"."
        )),
    }
}

/// A machine that asks for more than it has gets nothing.
fn machine(ceiling: &BTreeSet<String>, asked: &[String]) -> Result<BTreeSet<String>, OAuthRefusal> {
    let missing: Vec<&str> = asked
        .iter()
        .filter(|scope| !ceiling.contains(*scope))
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(asked.iter().cloned().collect());
    }
    let description = format!("Client has not been granted scopes: {}", missing.join(", "));
    Err(OAuthRefusal::denied(&description))
}

/// Role-based access control: with `enforce_policies` a user's token has no scope that the user's roles do not permit. The
/// claim `permissions` comes only with a dialect that has it. For a user it names everything that the roles permit,
/// whatever the client may do: whoever trusts it instead of `scope` gives clients too much.
fn restrict<'a>(
    tenant: &Tenant,
    server: &'a Object,
    wanted: &Wanted<'_>,
    mut scopes: BTreeSet<String>,
) -> Access<'a> {
    let mut permissions = None;
    if is_true(server, "enforce_policies") {
        let permitted = match wanted.subject {
            Subject::Client => scopes.clone(),
            Subject::User(user) => tenant.permissions(user, wanted.audience),
        };
        scopes.retain(|scope| permitted.contains(scope));
        if text(server, "token_dialect").ends_with("_authz") {
            permissions = Some(permitted);
        }
    }
    Access {
        server,
        scopes,
        permissions,
    }
}

/// Takes the scopes that belong to no API out of what was asked for.
pub(super) fn of_api(asked: Vec<String>) -> Vec<String> {
    let mut asked = asked;
    asked.retain(|scope| !OPENID.contains(&scope.as_str()) && scope != "offline_access");
    asked
}
