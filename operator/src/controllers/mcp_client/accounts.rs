//! Clients that authenticate with tokens of a ServiceAccount: whether they may have theirs.

use kube::{Resource as _, ResourceExt as _};
use mcp_auth_crds::{
    condition::{self, types},
    v1alpha1::{AuthenticationMethod, AuthorizationServer, McpClient},
};

use super::desired;
use crate::{
    cluster::{has_finalizer, is_deleting},
    context::Context,
    controllers::halt::Halt,
    policy::homes::{Name, by_account},
};

/// The reason of a client whose ServiceAccount stands for another.
const TAKEN: &str = "ServiceAccountTaken";

/// The ServiceAccount whose tokens are to stand for the client.
pub(in crate::controllers) fn of(client: &McpClient) -> Option<&str> {
    let managed = client.spec.managed.as_ref()?;
    let account = managed.authentication.as_ref()?.service_account.as_ref()?;
    let by_token = desired::method(managed) == AuthenticationMethod::ServiceAccountToken;
    by_token.then_some(account.name.as_str())
}

/// Whether the client could not have its ServiceAccount, because it stands for another.
pub(in crate::controllers) fn is_refused(client: &McpClient) -> bool {
    let conditions = client.status.iter().flat_map(|status| &status.conditions);
    let mut accepted = conditions.filter(|condition| condition.type_ == types::ACCEPTED);
    accepted.any(|accepted| accepted.reason == TAKEN)
}

/// Whether tokens of a ServiceAccount are to stand for the client.
pub(in crate::controllers) fn is_used(client: &McpClient) -> bool {
    of(client).is_some()
}

/// Whether the client has to look again when `other` has changed: both want the same ServiceAccount, or it could not have
/// its own, which `other` may have left.
pub(in crate::controllers) fn contend(client: &McpClient, other: &McpClient) -> bool {
    client.metadata.namespace == other.metadata.namespace
        && client.metadata.name != other.metadata.name
        && of(client).is_some_and(|account| of(other) == Some(account) || is_refused(client))
}

/// What a client has of a ServiceAccount in a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// It is to stand for it: of two that want that, the older one has it.
    Wants,
    /// It stands for it, although the client wants something else by now, or elsewhere: nobody gets it before that has ended.
    Keeps,
}

/// Refuses a ServiceAccount that stands for another client of the realm: the authorization server would find either by its
/// tokens.
pub(super) fn free(client: &McpClient, ctx: &Context) -> Result<(), Halt> {
    let Some(account) = of(client) else {
        return Ok(());
    };
    let clients = ctx.feeds.clients.store().state();
    let own = realm(&wanted(client), ctx);
    let is_here = |home: &Name| realm(home, ctx) == own;
    let nearby = clients.iter().map(AsRef::as_ref);
    let claims = nearby.filter_map(|other| Some((other, claim(other, account, is_here)?)));
    let (holder, claim) = match holder(client, claims) {
        None => return Ok(()),
        Some((holder, claim)) => (holder.name_any(), claim),
    };
    Err(Halt::refused(
        TAKEN,
        match claim {
            Claim::Wants => {
                format!("ServiceAccount {account} stands for McpClient {holder} already: use another one")
            }
            Claim::Keeps => format!(
                "ServiceAccount {account} stands for McpClient {holder} until what that has of before has ended, see its status.registeredAt and status.previous: wait for that, or use another one"
            ),
        },
    ))
}

/// The AuthorizationServer at which the client is to be registered.
fn wanted(client: &McpClient) -> Name {
    let reference = &client.spec.authorization_server_ref;
    let namespace = client.namespace().unwrap_or_default();
    (
        reference.namespace_or(&namespace).to_owned(),
        reference.name.clone(),
    )
}

/// The realm of an AuthorizationServer; its name, where there is no connection that could tell.
fn realm((namespace, name): &Name, ctx: &Context) -> String {
    match ctx.connections.get(namespace, name) {
        Some(connection) => connection.realm().to_owned(),
        None => format!("{namespace}/{name}"),
    }
}

/// What a client has of the account where `is_here`.
fn claim(other: &McpClient, account: &str, is_here: impl Fn(&Name) -> bool) -> Option<Claim> {
    if of(other) == Some(account) && is_here(&wanted(other)) {
        return Some(Claim::Wants);
    }
    let keeps = by_account(other, account).iter().any(is_here);
    keeps.then_some(Claim::Keeps)
}

/// Which other client has the ServiceAccount, of those of its namespace that have a claim to it in the realm.
fn holder<'a>(
    client: &McpClient,
    claims: impl Iterator<Item = (&'a McpClient, Claim)>,
) -> Option<(&'a McpClient, Claim)> {
    let age = |client: &McpClient| {
        let meta = client.meta();
        let created = meta.creation_timestamp.clone().map(|time| time.0);
        (created, meta.name.clone())
    };
    let mut others = claims.filter(|(other, _)| {
        other.metadata.namespace == client.metadata.namespace && other.metadata.name != client.metadata.name
    });
    others.find(|(other, claim)| {
        let stays = !is_deleting(*other) || has_finalizer(*other);
        stays && (*claim == Claim::Keeps || is_deleting(*other) || age(other) < age(client))
    })
}

/// Refuses a ServiceAccount of which the authorization server takes no tokens.
pub(super) fn trusted(client: &McpClient, server: &AuthorizationServer) -> Result<(), Halt> {
    if !is_used(client) {
        return Ok(());
    }
    let name = server.name_any();
    let keycloak = server.spec.keycloak.as_ref();
    if keycloak.is_none_or(|realm| realm.service_account_issuer.is_none()) {
        return Err(Halt::refused(
            "ServiceAccountsNotTrusted",
            format!(
                "AuthorizationServer {name} takes no tokens of ServiceAccounts: ask its administrator for keycloak.serviceAccountIssuer, or choose another method"
            ),
        ));
    }
    let status = server.status.as_ref();
    let trust = status.and_then(|status| status.service_account_issuer.as_ref());
    if trust.is_some_and(|trust| trust.trusted) {
        return Ok(());
    }
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let why = condition::find(conditions, types::REGISTERED)
        .filter(|registered| registered.status != "True")
        .map_or_else(String::new, |registered| format!(" ({})", registered.reason));
    Err(Halt::waiting(
        "ServiceAccountsNotReady",
        format!("AuthorizationServer {name} does not take tokens of ServiceAccounts yet{why}"),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn client(name: &str, created: &str, account: &Value) -> McpClient {
        client_at(name, created, "main", account)
    }

    fn client_at(name: &str, created: &str, home: &str, account: &Value) -> McpClient {
        serde_json::from_value(json!({
            "apiVersion": "mcpauth.dev/v1alpha1", "kind": "McpClient",
            "metadata": {"namespace": "team", "name": name, "creationTimestamp": created},
            "spec": {
                "authorizationServerRef": {"name": home},
                "managed": {"grantTypes": ["client_credentials"], "authentication": account},
            },
        }))
        .unwrap()
    }

    fn by(account: &str) -> Value {
        json!({"method": "ServiceAccountToken", "serviceAccount": {"name": account}})
    }

    fn home(name: &str) -> Value {
        json!({"authorizationServerRef": {"name": name}, "issuer": "i", "clientId": "c", "serviceAccount": "robot"})
    }

    /// To `next`, from where the robot stood for it, younger than any other.
    fn moved(name: &str, account: &Value, is_over: bool) -> McpClient {
        let mut before = home("main");
        if is_over {
            before["tokensUntil"] = json!("2026-01-04T00:00:00Z");
        }
        let mut client = client_at(name, "2026-01-03T00:00:00Z", "next", account);
        client.status = serde_json::from_value(json!({ "previous": [before] })).unwrap();
        client
    }

    /// The same when it is not there yet.
    fn about_to_move(name: &str, account: &Value) -> McpClient {
        let mut client = moved(name, account, false);
        client.status = serde_json::from_value(json!({ "registeredAt": home("main") })).unwrap();
        client
    }

    /// Whether `own` cannot have the robot in the realm of `main` because of `other`.
    fn held_by(own: &McpClient, other: &McpClient) -> bool {
        let is_here = |(_, name): &Name| name == "main";
        let claims = [own, other].into_iter();
        let claims = claims.filter_map(|other| Some((other, claim(other, "robot", is_here)?)));
        holder(own, claims).is_some()
    }

    #[test]
    fn of_two_that_want_one_account_the_older_has_it() {
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let own = client("own", late, &by("robot"));
        let mut leaving = client("a", late, &by("robot"));
        leaving.metadata.deletion_timestamp = serde_json::from_value(json!(late)).unwrap();
        let mut cleaning = leaving.clone();
        cleaning.metadata.finalizers = Some(vec!["mcpauth.dev/cleanup".into()]);
        let mut elsewhere = client("a", early, &by("robot"));
        elsewhere.metadata.namespace = Some("other".into());
        for (what, other, held) in [
            ("older", client("z", early, &by("robot")), true),
            ("as old, and first by name", client("a", late, &by("robot")), true),
            (
                "as old, and later by name",
                client("z", late, &by("robot")),
                false,
            ),
            ("another account", client("a", early, &by("other")), false),
            (
                "another method",
                client("a", early, &json!({"method": "None"})),
                false,
            ),
            ("gone", leaving, false),
            ("going, but still there", cleaning, true),
            ("another namespace", elsewhere, false),
            ("itself", own.clone(), false),
        ] {
            let found = held_by(&own, &other);
            assert_eq!(found, held, "{what}");
        }
    }

    #[test]
    fn what_is_still_there_of_before_holds_the_account() {
        let early = "2026-01-01T00:00:00Z";
        let own = client("own", "2026-01-02T00:00:00Z", &by("robot"));
        for (what, other, held) in [
            (
                "in another realm",
                client_at("a", early, "next", &by("robot")),
                false,
            ),
            (
                "younger, and moved away from there",
                moved("a", &by("robot"), false),
                true,
            ),
            (
                "moved away with another account",
                moved("a", &by("other"), false),
                true,
            ),
            (
                "moved away with a secret",
                moved("a", &json!({"method": "ClientSecret"}), false),
                true,
            ),
            ("ended there", moved("a", &by("other"), true), false),
            ("about to move", about_to_move("a", &by("robot")), true),
        ] {
            assert_eq!(held_by(&own, &other), held, "{what}");
        }
    }

    #[test]
    fn who_waits_for_an_account_looks_again_when_another_client_changes() {
        let own = client("own", "2026-01-01T00:00:00Z", &by("robot"));
        let mut refused = own.clone();
        refused.status =
            serde_json::from_value(json!({"conditions": [{"type": "Accepted", "status": "False",
            "reason": TAKEN, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
            .unwrap();
        let other = |account: &Value| client("other", "2026-01-01T00:00:00Z", account);
        assert!(contend(&own, &other(&by("robot"))));
        assert!(!contend(&own, &other(&by("another"))));
        assert!(contend(&refused, &other(&by("another"))), "it may have left it");
        assert!(!contend(&refused, &refused), "itself");
        assert!(!contend(&other(&json!({"method": "None"})), &own));
    }
}
