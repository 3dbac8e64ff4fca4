//! Tenants share an authorization server: each gets what was granted to it and nothing that is another's, and what is
//! refused leaves no trace at Keycloak.

mod adoption;
mod grants;
mod holders;
mod lending;
mod loss;
mod never;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    runner::Story,
    story::StoryEnv,
    wait::{Seen, wait_for},
};
use serde_json::{Value, json};

use crate::{
    fixtures::{Named, SOON, because},
    inventory::{Realm, kept, published},
};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "tenants::what_was_not_granted_is_refused_and_nothing_is_written",
            grants::refused,
        ),
        Story::new(
            "tenants::a_client_gets_no_scope_that_a_server_keeps_to_itself",
            lending::kept_to_itself,
        ),
        Story::new(
            "tenants::what_one_holds_is_refused_to_all_others_of_the_realm",
            holders::held,
        ),
        Story::new(
            "tenants::what_others_made_is_taken_over_only_with_consent",
            adoption::consent,
        ),
        Story::new(
            "tenants::what_is_keycloaks_or_the_operators_own_is_never_taken_over",
            never::never,
        ),
        Story::new(
            "tenants::a_lost_grant_takes_everything_away_until_it_is_given_back",
            loss::lost_and_given_back,
        ),
    ]
}

/// An object of a fixture, moved to another namespace, where it refers to an AuthorizationServer by namespace and name.
fn of(namespace: &str, (at, home): (&str, &str), mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    if object["spec"].get("authorizationServerRef").is_some() {
        object["spec"]["authorizationServerRef"] = json!({ "namespace": at, "name": home });
    }
    object
}

/// The same McpServer with this resource and these scopes.
fn claiming(mut server: Value, resource: &str, scopes: &[&str]) -> Value {
    server["spec"]["resource"] = json!(resource);
    server["spec"]["scopes"] = scopes.iter().map(|scope| json!({ "name": scope })).collect();
    server
}

/// Kind, namespace and name of an object.
fn named(object: &Value) -> Named<'_> {
    let metadata = &object["metadata"];
    (
        object["kind"].as_str().unwrap_or_default(),
        metadata["namespace"].as_str().unwrap_or_default(),
        metadata["name"].as_str().unwrap_or_default(),
    )
}

/// An object that is refused, and what its `Accepted` then says.
struct Case {
    object: Value,
    reason: &'static str,
    message: String,
}

impl Case {
    fn new(object: Value, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            object,
            reason,
            message: message.into(),
        }
    }

    /// Waits until it is refused in exactly these words, and checks that it left no trace in the cluster: what carries
    /// no finalizer has nothing at the authorization server.
    async fn is_refused(&self, env: &StoryEnv) -> anyhow::Result<()> {
        let (kind, namespace, name) = named(&self.object);
        let condition = because(env, (kind, namespace, name), ("Accepted", "False", self.reason)).await?;
        ensure!(
            condition["message"] == self.message.as_str(),
            "{kind} {namespace}/{name} is told {} instead of {:?}",
            condition["message"],
            self.message
        );
        because(env, (kind, namespace, name), ("Ready", "False", self.reason)).await?;
        let stored = env.get(kind, namespace, name).await?.context("it is gone")?;
        ensure!(
            stored["metadata"].get("finalizers").is_none(),
            "{kind} {namespace}/{name} carries a finalizer"
        );
        let own = published(env, namespace).await?;
        let ours = [
            format!("secret/{name}-mcp-client"),
            format!("secret/{name}-mcp-auth"),
            format!("configmap/{name}-mcp-auth"),
            format!("configmap/{name}-mcp-metadata"),
        ];
        for made in ours {
            ensure!(!own.contains(&made), "{made} was made in {namespace}");
        }
        Ok(())
    }
}

/// A time in which nothing may be written: neither at Keycloak nor in the operator's namespace.
struct Quiet {
    realm: Realm,
    kept: BTreeMap<String, BTreeSet<String>>,
}

impl Quiet {
    async fn begin(env: &StoryEnv) -> anyhow::Result<Self> {
        let quiet = Self {
            realm: Realm::read(env).await?,
            kept: kept(env).await?,
        };
        env.proxy().clear();
        Ok(quiet)
    }

    /// Fails if anything was written since it began. `after` says what could have been the cause.
    async fn is_kept(&self, env: &StoryEnv, after: &str) -> anyhow::Result<()> {
        let writes = env.proxy().writes();
        ensure!(writes.is_empty(), "after {after}: {writes:?}");
        ensure!(
            Realm::read(env).await? == self.realm,
            "the realm changed after {after}"
        );
        ensure!(kept(env).await? == self.kept, "something is kept of {after}");
        Ok(())
    }
}

/// Waits until all cases are refused, and checks after each that nothing was written.
async fn all_refused(env: &StoryEnv, cases: &[Case], quiet: &Quiet) -> anyhow::Result<()> {
    for case in cases {
        case.is_refused(env).await?;
        let (kind, namespace, name) = named(&case.object);
        quiet.is_kept(env, &format!("{kind} {namespace}/{name}")).await?;
    }
    Ok(())
}

/// Waits until `Accepted` of an object is False for this reason and in these words.
async fn told(
    env: &StoryEnv,
    (kind, namespace, name): Named<'_>,
    (reason, message): (&str, &str),
) -> anyhow::Result<()> {
    let what = format!("{kind} {namespace}/{name} to be told {message:?}");
    wait_for(&what, SOON, async || {
        let accepted = because(env, (kind, namespace, name), ("Accepted", "False", reason)).await?;
        Ok(if accepted["message"] == message {
            Seen::Done(())
        } else {
            Seen::NotYet(accepted["message"].to_string())
        })
    })
    .await
}

/// Waits until the operator has asked Keycloak twice more for each of these clients. At the second question its
/// decision about the first answer, and so about what is there now, has been carried out.
async fn looked_again(env: &StoryEnv, client_ids: &[&str]) -> anyhow::Result<()> {
    let looks = || -> Vec<usize> {
        let asked: Vec<_> = env
            .proxy()
            .calls()
            .iter()
            .filter_map(|call| call.query("clientId"))
            .collect();
        let count = |id: &&str| asked.iter().filter(|asked| asked == id).count();
        client_ids.iter().map(count).collect()
    };
    let before = looks();
    wait_for("looks at Keycloak", SOON, async || {
        let now = looks();
        let again = before.iter().zip(&now).all(|(before, now)| *now >= before + 2);
        Ok(if again {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{now:?} after {before:?} of {client_ids:?}"))
        })
    })
    .await
}

/// Everything that Keycloak says of a client or scope, in an order that does not depend on it.
async fn representation(env: &StoryEnv, path: &str) -> anyhow::Result<Value> {
    Ok(in_order(env.realm().admin().get(path).await?))
}

fn in_order(value: Value) -> Value {
    match value {
        Value::Array(list) => {
            let mut list: Vec<_> = list.into_iter().map(in_order).collect();
            list.sort_by_key(Value::to_string);
            Value::Array(list)
        }
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, field)| (name, in_order(field)))
            .collect(),
        other => other,
    }
}
