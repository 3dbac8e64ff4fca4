//! Whose tokens a server may exchange: at Keycloak, by an entry of ours among those of others.

mod role;

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{
    oauth::{Answer, Exchange, LoginRequest},
    operator::Operator,
    runner::Story,
    samples,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::fixtures::{Named, SOON, apply_all, native, open_server, policy, ready, server, web};

const NOTES: &str = "https://notes.example.com/mcp";
const PASSWORD: &str = "correct horse battery staple";
const DRIFT: &str = "mcp_auth_operator_drift_repaired_total";

/// What Keycloak says about the token of a client that is not on the list.
const REFUSED: &str = "invalid_request: Value for claim 'azp' not allowed";

/// Where the two documents are that others write to as well, and what each calls its entries.
const DOCUMENTS: [(&str, &str); 2] = [
    ("/client-policies/profiles", "profiles"),
    ("/client-policies/policies", "policies"),
];

/// What changes at Keycloak is found out about by nothing but the clock.
const RESYNC: &str = "3s";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "subjects::only_the_tokens_of_the_clients_that_a_policy_names_are_exchanged",
            exchange,
        ),
        Story::new(
            "subjects::without_the_role_the_policy_is_refused_until_it_is_granted",
            role::without_it,
        ),
    ]
}

/// Limits that somebody else made, one for each document, as Keycloak shows them.
fn foreign() -> Value {
    json!({
        "profiles": [{
            "name": "theirs",
            "description": "Of another team",
            "executors": [{ "executor": "pkce-enforcer", "configuration": { "auto-configure": true } }],
        }],
        "policies": [{
            "name": "theirs",
            "description": "Of another team",
            "enabled": false,
            "conditions": [{ "condition": "client-access-type", "configuration": { "type": ["public"] } }],
            "profiles": ["theirs"],
        }],
    })
}

async fn put_foreign(env: &StoryEnv) -> anyhow::Result<()> {
    for (path, field) in DOCUMENTS {
        let document = json!({ field: foreign()[field] });
        env.realm().admin().put(path, &document).await?;
    }
    Ok(())
}

/// The entries of both documents: those of others, and the names of ours.
async fn entries(env: &StoryEnv) -> anyhow::Result<(Value, Vec<BTreeSet<String>>)> {
    let prefix = format!("mcpauth.{0}.{0}.notes.", env.namespace());
    let (mut theirs, mut ours) = (json!({}), Vec::new());
    for (path, field) in DOCUMENTS {
        let document = env.realm().admin().get(path).await?;
        let entries = document[field].as_array().cloned().context("no list")?;
        let name = |entry: &Value| entry["name"].as_str().unwrap_or_default().to_owned();
        let (own, foreign): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|entry| name(entry).starts_with(&prefix));
        theirs[field] = json!(foreign);
        ours.push(own.iter().map(name).collect());
    }
    Ok((theirs, ours))
}

/// Fails unless others' entries are what they were, and there are so many of ours in each document.
async fn entries_are(env: &StoryEnv, ours: usize) -> anyhow::Result<()> {
    let (theirs, own) = entries(env).await?;
    ensure!(theirs == foreign(), "{theirs}");
    ensure!(own[0].len() == ours && own[0] == own[1], "{own:?}");
    Ok(())
}

/// The policy with subjects.
fn limited(env: &StoryEnv) -> Named<'_> {
    ("TokenExchangePolicy", env.namespace(), "notes-to-archive")
}

/// Two targets for `notes`, of which one is only for the tokens of `desktop`.
fn objects(env: &StoryEnv) -> Vec<Value> {
    let mut limited = policy(env, "notes-to-archive", "notes", "archive");
    limited["spec"]["subjectClients"] = json!([{ "name": "desktop" }]);
    let mut notes = server(env, "notes");
    notes["spec"]["allowedClients"] = json!([{ "namespaces": { "from": "Same" } }]);
    vec![
        env.authorization_server("main"),
        notes,
        open_server(env, "archive"),
        open_server(env, "ledger"),
        native(env, "desktop", &["notes"]),
        web(env, "portal", &["notes"]),
        limited,
        policy(env, "notes-to-ledger", "notes", "ledger"),
    ]
}

/// The token of a user who signed in with this client at `notes`.
async fn users_token(env: &StoryEnv, client: &str, redirect_uri: &str) -> anyhow::Result<SecretString> {
    let issuer = env.issuer().await?;
    let client = samples::oauth_client(env, env.namespace(), &format!("{client}-mcp-client")).await?;
    let login = LoginRequest {
        redirect_uri: redirect_uri.to_owned(),
        scope: "notes:use".to_owned(),
        resource: Some(NOTES.to_owned()),
        username: "alice".to_owned(),
        password: SecretString::from(PASSWORD),
    };
    let code = issuer.sign_in(&client, &login).await?.granted()?;
    let tokens = issuer.redeem(&client, &code).await?.granted()?;
    ensure!(issuer.verify(&tokens.access_token).await?.audiences() == [NOTES]);
    Ok(tokens.access_token)
}

/// The answer to an exchange of a token for these scopes.
async fn ask(env: &StoryEnv, token: &SecretString, scope: &str) -> anyhow::Result<Answer> {
    let notes = samples::oauth_client(env, env.namespace(), "notes-mcp-auth").await?;
    let exchange = Exchange {
        subject_token: token,
        scope: Some(scope),
        audience: None,
    };
    env.issuer().await?.exchange(&notes, &exchange).await
}

/// Exchanges a token for these scopes, each `<target>:use`, and checks that it is good for their targets.
async fn works(env: &StoryEnv, token: &SecretString, scope: &str) -> anyhow::Result<()> {
    let tokens = ask(env, token, scope)
        .await?
        .granted()
        .with_context(|| scope.to_owned())?;
    let token = env.issuer().await?.verify(&tokens.access_token).await?;
    let audiences: BTreeSet<String> = token.audiences().iter().map(ToString::to_string).collect();
    let expected = scope.split(' ').map(|scope| {
        let target = scope.split(':').next().unwrap_or_default();
        format!("https://{target}.example.com/mcp")
    });
    ensure!(audiences == expected.collect(), "{}", token.claims);
    Ok(())
}

/// Checks that an exchange is refused with this error and description.
async fn fails(env: &StoryEnv, token: &SecretString, scope: &str, why: &str) -> anyhow::Result<()> {
    let refused = ask(env, token, scope)
        .await?
        .refused()
        .with_context(|| scope.to_owned())?;
    ensure!(refused.to_string() == why, "{scope}: {refused}");
    Ok(())
}

async fn all_ready(env: &StoryEnv) -> anyhow::Result<()> {
    for (kind, name) in [
        ("McpClient", "desktop"),
        ("McpClient", "portal"),
        ("TokenExchangePolicy", "notes-to-archive"),
        ("TokenExchangePolicy", "notes-to-ledger"),
    ] {
        ready(env, (kind, env.namespace(), name), SOON).await?;
    }
    Ok(())
}

async fn start(env: &StoryEnv) -> anyhow::Result<Operator> {
    let mut options = env.operator_options();
    RESYNC.clone_into(&mut options.resync_interval);
    env.start_operator_with(&options).await
}

async fn exchange(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "subjects").await?;
    env.realm().create_user("alice", PASSWORD).await?;
    put_foreign(&env).await?;
    let operator = start(&env).await?;
    apply_all(&env, &objects(&env)).await?;
    all_ready(&env).await?;
    entries_are(&env, 1).await?;

    let desktop = users_token(&env, "desktop", "http://127.0.0.1:41234/callback").await?;
    let portal = users_token(&env, "portal", "https://portal.example.com/callback").await?;
    for scope in ["archive:use", "ledger:use", "archive:use ledger:use"] {
        works(&env, &desktop, scope).await?;
    }
    works(&env, &portal, "ledger:use").await?;
    for scope in ["archive:use", "archive:use ledger:use", "ledger:use archive:use"] {
        fails(&env, &portal, scope, REFUSED).await?;
    }

    tampering(&env, &operator, &portal).await?;
    works(&env, &desktop, "archive:use").await?;

    // Another list, and none.
    change_subjects(&env, &json!([{ "name": "portal" }, { "name": "desktop" }])).await?;
    works(&env, &desktop, "archive:use").await?;
    works(&env, &portal, "archive:use").await?;
    change_subjects(&env, &json!([{ "name": "portal" }])).await?;
    fails(&env, &desktop, "archive:use", REFUSED).await?;
    entries_are(&env, 1).await?;
    change_subjects(&env, &Value::Null).await?;
    works(&env, &desktop, "archive:use").await?;
    entries_are(&env, 0).await?;
    change_subjects(&env, &json!([{ "name": "desktop" }])).await?;
    fails(&env, &portal, "archive:use", REFUSED).await?;
    entries_are(&env, 1).await?;

    end(&env, &desktop).await?;
    operator.stop().await
}

/// Gives the policy other subjects and waits until the policy says that they are in force.
async fn change_subjects(env: &StoryEnv, clients: &Value) -> anyhow::Result<()> {
    let patch = json!({ "spec": { "subjectClients": clients } }).to_string();
    env.kubectl()
        .must(&[
            "patch",
            "tokenexchangepolicy",
            "notes-to-archive",
            "-n",
            env.namespace(),
            "--type=merge",
            "-p",
            &patch,
        ])
        .await?;
    ready(env, limited(env), SOON).await
}

/// Somebody edits or removes what limits the exchange: each is set right and counted, and harms nobody else's entries.
async fn tampering(env: &StoryEnv, operator: &Operator, portal: &SecretString) -> anyhow::Result<()> {
    let admin = env.realm().admin();
    let labels = [("kind", "McpServer"), ("what", "AuthorizationServer")];
    let before = [admin.get(DOCUMENTS[0].0).await?, admin.get(DOCUMENTS[1].0).await?];
    let theirs = foreign();
    let mut open = before[0].clone();
    open["profiles"][1]["executors"][0]["configuration"]["allowed-value"] = json!(".*");
    let mut off = before[1].clone();
    off["policies"][1]["enabled"] = json!(false);
    let gone = json!({ "policies": theirs["policies"] });
    for (what, (path, _), document) in [
        ("a pattern for everybody", DOCUMENTS[0], open),
        ("a policy that is off", DOCUMENTS[1], off),
        ("no policy", DOCUMENTS[1], gone),
    ] {
        let counted = operator.metric(DRIFT, &labels).await?;
        admin.put(path, &document).await?;
        wait_for(&format!("the repair of {what}"), SOON, async || {
            let now = [admin.get(DOCUMENTS[0].0).await?, admin.get(DOCUMENTS[1].0).await?];
            Ok(if now == before {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{now:?}"))
            })
        })
        .await?;
        wait_for(&format!("the count of {what}"), SOON, async || {
            let now = operator.metric(DRIFT, &labels).await?;
            Ok(if now > counted {
                Seen::Done(())
            } else {
                Seen::NotYet(now.to_string())
            })
        })
        .await?;
        fails(env, portal, "archive:use", REFUSED).await.context(what)?;
    }
    entries_are(env, 1).await
}

/// The policy goes, and what it made with it; then the server with another one.
async fn end(env: &StoryEnv, desktop: &SecretString) -> anyhow::Result<()> {
    let object = env
        .get("TokenExchangePolicy", env.namespace(), "notes-to-archive")
        .await?
        .context("the policy")?;
    let delete = async |kind: &str, name: &str| {
        env.kubectl()
            .must(&["delete", kind, name, "-n", env.namespace(), "--timeout=40s"])
            .await
            .map(drop)
    };
    delete("tokenexchangepolicy", "notes-to-archive").await?;
    entries_are(env, 0).await?;
    fails(
        env,
        desktop,
        "archive:use",
        "invalid_scope: Invalid scopes: archive:use",
    )
    .await?;
    works(env, desktop, "ledger:use").await?;
    let client = env
        .realm()
        .find_client(NOTES)
        .await?
        .context("the client of notes")?;
    ensure!(
        client["attributes"]["mcpauth.exchange-limits"].is_null(),
        "{}",
        client["attributes"]
    );

    env.apply(&json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"],
        "metadata": { "namespace": env.namespace(), "name": "notes-to-archive" },
    }))
    .await?;
    ready(env, limited(env), SOON).await?;
    entries_are(env, 1).await?;
    delete("mcpserver", "notes").await?;
    entries_are(env, 0).await
}
