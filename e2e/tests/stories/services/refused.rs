//! What is said about annotations that are of no use.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::{
    operator::Operator,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Map, Value, json};

use super::{
    AUTHORIZATION_SERVER, ENFORCEMENT, PATH, PORT, RESOURCE, SCOPES, annotations, is_refusal, is_told,
    prepare, ready_server, service, start, stored, told, warning,
};
use crate::{
    fixtures::{SOON, apply_all},
    inventory::{Realm, published},
};

/// A Service whose annotations are good but for `change`, where null removes one.
struct Case {
    name: String,
    change: Value,
    ports: Option<Value>,
    said: Said,
}

/// What is to be said about it.
enum Said {
    /// Our words, all of them.
    Exactly(String),
    /// Some words of the API server.
    Refusal(&'static str),
}

impl Case {
    fn manifest(&self, env: &StoryEnv, annotations: &Value) -> Value {
        let mut service = service(env.namespace(), &self.name, annotations);
        if let Some(ports) = &self.ports {
            // Only a headless Service may have no ports.
            service["spec"]["clusterIP"] = json!("None");
            service["spec"]["ports"] = ports.clone();
        }
        service
    }

    fn bad(&self, env: &StoryEnv) -> Value {
        self.manifest(env, &merged(&annotations(&self.name), &self.change))
    }

    /// With good annotations: none about the port where `ports` leaves no choice, a name where there are many.
    fn good(&self, env: &StoryEnv) -> Value {
        let port = match self.ports.as_ref().and_then(Value::as_array) {
            None => json!("mcp"),
            Some(ports) => ports.last().map_or(Value::Null, |port| port["name"].clone()),
        };
        self.manifest(env, &merged(&annotations(&self.name), &json!({ PORT: port })))
    }

    /// The schema refuses the name itself, so that no annotation can make it good.
    fn is_hopeless(&self) -> bool {
        self.name.len() > 52 || self.name.starts_with('7')
    }
}

/// `base` with the entries of `change`; null removes one.
fn merged(base: &Value, change: &Value) -> Value {
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut all: Map<String, Value> = entries(base);
    all.extend(entries(change));
    all.retain(|_, value| !value.is_null());
    Value::Object(all)
}

const WHICH_SERVER: &str =
    "set mcpauth.dev/authorization-server to [namespace/]name of an AuthorizationServer";
const WHICH_RESOURCE: &str = "set mcpauth.dev/resource to the https URL at which clients reach the server, as a URL parser returns it and without query, fragment and user information, at most 255 characters, such as https://mcp.example.com/mcp";
const WHICH_SCOPES: &str = "set mcpauth.dev/scopes to at most 64 scope names separated by single spaces, each once and of at most 128 characters";
const WHICH_PORT: &str = "set mcpauth.dev/port to a port of the Service, one of mcp, 80, metrics, 9090";
const WHICH_PATH: &str = "set mcpauth.dev/path to a path that begins with a slash and has no query or fragment, at most 255 characters, such as /mcp";
const WHICH_MODE: &str = "set mcpauth.dev/enforcement to External, or remove it";

/// What people get wrong.
fn mistakes() -> Vec<(&'static str, Value, String)> {
    let one = |text: &str| text.to_owned();
    let reserved = |name: &str| {
        format!(
            "leave {name} out of mcpauth.dev/scopes: names of the authorization server itself, and names that begin with mcp., are refused"
        )
    };
    vec![
        (
            "no-server",
            json!({ AUTHORIZATION_SERVER: null }),
            one(WHICH_SERVER),
        ),
        ("no-resource", json!({ RESOURCE: null }), one(WHICH_RESOURCE)),
        (
            "server-form",
            json!({ AUTHORIZATION_SERVER: "a/b/c" }),
            one(WHICH_SERVER),
        ),
        (
            "upper-case",
            json!({ RESOURCE: "https://Orders.example.com/mcp" }),
            one(WHICH_RESOURCE),
        ),
        (
            "default-port",
            json!({ RESOURCE: "https://orders.example.com:443/mcp" }),
            one(WHICH_RESOURCE),
        ),
        (
            "query",
            json!({ RESOURCE: "https://orders.example.com/mcp?a=b" }),
            one(WHICH_RESOURCE),
        ),
        (
            "fragment",
            json!({ RESOURCE: "https://orders.example.com/mcp#a" }),
            one(WHICH_RESOURCE),
        ),
        (
            "user",
            json!({ RESOURCE: "https://a:b@orders.example.com/mcp" }),
            one(WHICH_RESOURCE),
        ),
        (
            "http",
            json!({ RESOURCE: "http://orders.example.com/mcp" }),
            one(WHICH_RESOURCE),
        ),
        (
            "root",
            json!({ RESOURCE: "https://orders.example.com" }),
            one(WHICH_RESOURCE),
        ),
        (
            "openid",
            json!({ SCOPES: "orders:read openid" }),
            reserved("openid"),
        ),
        (
            "own-prefix",
            json!({ SCOPES: "mcp.orders" }),
            reserved("mcp.orders"),
        ),
        (
            "commas",
            json!({ SCOPES: "orders:read,orders:write" }),
            one(WHICH_SCOPES),
        ),
        ("no-such-port", json!({ PORT: "http" }), one(WHICH_PORT)),
        (
            "which-port",
            json!({ PORT: null }),
            one("set mcpauth.dev/port to the port that speaks MCP, one of mcp, 80, metrics, 9090"),
        ),
        ("slash", json!({ PATH: "mcp" }), one(WHICH_PATH)),
        ("mode", json!({ ENFORCEMENT: "Off" }), one(WHICH_MODE)),
        (
            "everything",
            json!({ AUTHORIZATION_SERVER: "", RESOURCE: "", SCOPES: "", PORT: "", PATH: "", ENFORCEMENT: "" }),
            [
                WHICH_SERVER,
                WHICH_RESOURCE,
                WHICH_SCOPES,
                WHICH_PORT,
                WHICH_PATH,
                WHICH_MODE,
            ]
            .join("; "),
        ),
    ]
}

/// What somebody with bad intentions tries: to have text of theirs repeated, at any length.
fn attacks() -> Vec<(&'static str, Value, String)> {
    let long = "a".repeat(200 * 1024);
    let one = |text: &str| text.to_owned();
    vec![
        ("long-scope", json!({ SCOPES: long }), one(WHICH_SCOPES)),
        (
            "many-scopes",
            json!({ SCOPES: "a b ".repeat(50 * 1024) }),
            one(WHICH_SCOPES),
        ),
        ("long-path", json!({ PATH: format!("/{long}") }), one(WHICH_PATH)),
        (
            "long-resource",
            json!({ RESOURCE: format!("https://orders.example.com/{long}") }),
            one(WHICH_RESOURCE),
        ),
        (
            "long-server",
            json!({ AUTHORIZATION_SERVER: long }),
            one(WHICH_SERVER),
        ),
        (
            "new-lines",
            json!({ SCOPES: "a\nb", PATH: "/a\nb", RESOURCE: "https://orders.example.com/\nmcp" }),
            [WHICH_RESOURCE, WHICH_SCOPES, WHICH_PATH].join("; "),
        ),
        (
            "control-characters",
            json!({ AUTHORIZATION_SERVER: "main\u{1b}[2J", PATH: "/\u{1}", PORT: "mcp\u{0}" }),
            [WHICH_SERVER, WHICH_PORT, WHICH_PATH].join("; "),
        ),
    ]
}

/// Services that are unusual in themselves.
fn unusual() -> Vec<Case> {
    let ports: Vec<Value> = (0..100)
        .map(|n| json!({ "name": format!("a-long-name-of-a-port-{n}"), "port": 1000 + n }))
        .collect();
    let some: Vec<String> = (0..5)
        .flat_map(|n| [format!("a-long-name-of-a-port-{n}"), format!("{}", 1000 + n)])
        .collect();
    let case = |name: &str, change, ports, said| Case {
        name: name.to_owned(),
        change,
        ports,
        said,
    };
    vec![
        case(
            "many-ports",
            json!({ PORT: null, ENFORCEMENT: "Off" }),
            Some(Value::Array(ports)),
            Said::Exactly(format!(
                "set mcpauth.dev/port to the port that speaks MCP, one of {} and others; {WHICH_MODE}",
                some.join(", ")
            )),
        ),
        case(
            "portless",
            json!({}),
            Some(json!([])),
            Said::Exactly("remove mcpauth.dev/port, or add a port to the Service, which has none".to_owned()),
        ),
        case(
            "underscore",
            json!({ RESOURCE: "https://my_orders.example.com/mcp" }),
            None,
            Said::Refusal("resource is written as URL parsers return it: host in lower case"),
        ),
        case(
            "7-begins-with-a-digit",
            json!({}),
            None,
            Said::Refusal(
                "metadata.name must be a DNS label of at most 52 characters that starts with a letter",
            ),
        ),
        case(
            &"n".repeat(53),
            json!({}),
            None,
            Said::Refusal(
                "metadata.name must be a DNS label of at most 52 characters that starts with a letter",
            ),
        ),
    ]
}

fn cases() -> Vec<Case> {
    let table = mistakes().into_iter().chain(attacks());
    let simple = table.map(|(name, change, note)| Case {
        name: name.to_owned(),
        change,
        ports: None,
        said: Said::Exactly(note),
    });
    simple.chain(unusual()).collect()
}

pub(super) async fn told_once(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "service-refused").await?;
    let operator = start(&env).await?;
    let empty = prepare(&env).await?;
    env.proxy().clear();
    let cases = cases();
    let bad: Vec<Value> = cases.iter().map(|case| case.bad(&env)).collect();
    apply_all(&env, &bad).await?;
    for case in &cases {
        is_told_of(&env, case).await?;
    }
    // What is looked at again is not told again.
    for round in 0..2 {
        wake(&env, &operator, &cases, round).await?;
    }
    for case in &cases {
        is_told_of(&env, case).await?;
    }
    let made: Value = env
        .kubectl()
        .json(&["get", "mcpservers", "-n", env.namespace()])
        .await?;
    ensure!(made["items"] == json!([]), "{made}");
    let made = published(&env, env.namespace()).await?;
    ensure!(made.is_empty(), "{made:?}");
    ensure!(
        Realm::read(&env).await? == empty,
        "something was made at Keycloak"
    );
    let calls = env.proxy().writes();
    ensure!(calls.is_empty(), "{calls:#?}");
    again(&env, &cases).await?;
    mended(&env, &cases).await?;
    operator.stop().await
}

/// Waits until exactly what is to be said about a case was said, and that once.
async fn is_told_of(env: &StoryEnv, case: &Case) -> anyhow::Result<()> {
    let service = stored(env, &case.name).await?;
    match &case.said {
        Said::Exactly(note) => is_told(env, &service, &[warning("BadAnnotation", note)]).await,
        Said::Refusal(words) => {
            let what = format!("an Event on Service {}", case.name);
            let said = wait_for(&what, SOON, async || {
                let mut told = told(env, &service).await?;
                Ok(match (told.pop(), told.len()) {
                    (Some(said), 0) => Seen::Done(said),
                    (last, others) => Seen::NotYet(format!("{last:?} and {others} others")),
                })
            })
            .await?;
            is_refusal(&said, words)
        }
    }
}

/// Changes something else of every Service, and waits until each had another pass.
async fn wake(env: &StoryEnv, operator: &Operator, cases: &[Case], round: u32) -> anyhow::Result<()> {
    let passes = async || {
        let labels = [("kind", "Service")];
        operator
            .metric("mcp_auth_operator_reconciles_total", &labels)
            .await
    };
    let before = passes().await?;
    let (label, space) = (format!("example.com/round={round}"), env.namespace());
    let arguments = ["label", "services", "--all", "--overwrite", "-n", space, &label];
    env.kubectl().must(&arguments).await?;
    let wanted = before + f64::from(u32::try_from(cases.len())?);
    wait_for("another pass of every Service", SOON, async || {
        let now = passes().await?;
        Ok(if now >= wanted {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{now} of {wanted}"))
        })
    })
    .await
}

/// A Service that comes back as bad as it was is another Service: it is told again.
async fn again(env: &StoryEnv, cases: &[Case]) -> anyhow::Result<()> {
    for case in cases.iter().take(1) {
        let arguments = ["delete", "service", &case.name, "-n", env.namespace()];
        env.kubectl().must(&arguments).await?;
        env.apply(&case.bad(env)).await?;
        is_told_of(env, case).await?;
    }
    Ok(())
}

/// With good annotations each turns Ready, and nothing more is said.
async fn mended(env: &StoryEnv, cases: &[Case]) -> anyhow::Result<()> {
    let hopeful = || cases.iter().filter(|case| !case.is_hopeless());
    let good: Vec<Value> = hopeful().map(|case| case.good(env)).collect();
    apply_all(env, &good).await?;
    for case in hopeful() {
        ready_server(env, &case.name).await?;
        is_told_of(env, case).await?;
    }
    Ok(())
}
