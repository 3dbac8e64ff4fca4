//! Annotations that are of no use, and what is said about each.

use mcp_auth_e2e::story::StoryEnv;
use serde_json::{Map, Value, json};

use super::super::{AUTHORIZATION_SERVER, ENFORCEMENT, PATH, PORT, RESOURCE, SCOPES, annotations, service};

/// A Service whose annotations are good but for `change`, where null removes one.
pub(super) struct Case {
    pub(super) name: String,
    change: Value,
    ports: Option<Value>,
    pub(super) said: Said,
    /// Whether it is given good annotations in the end.
    pub(super) mended: bool,
}

/// What is to be said about it.
pub(super) enum Said {
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

    pub(super) fn bad(&self, env: &StoryEnv) -> Value {
        self.manifest(env, &merged(&annotations(&self.name), &self.change))
    }

    /// With good annotations: none about the port where `ports` leaves no choice, a name where there are many.
    pub(super) fn good(&self, env: &StoryEnv) -> Value {
        let port = match self.ports.as_ref().and_then(Value::as_array) {
            None => json!("mcp"),
            Some(ports) => ports.last().map_or(Value::Null, |port| port["name"].clone()),
        };
        self.manifest(env, &merged(&annotations(&self.name), &json!({ PORT: port })))
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

pub(super) const WHICH_SERVER: &str =
    "set mcpauth.dev/authorization-server to [namespace/]name of an AuthorizationServer";
pub(super) const WHICH_RESOURCE: &str = "set mcpauth.dev/resource to the https URL at which clients reach the server, as a URL parser returns it and without query, fragment and user information, at most 255 characters, such as https://mcp.example.com/mcp";
const WHICH_SCOPES: &str = "set mcpauth.dev/scopes to at most 64 scope names separated by single spaces, each once and of at most 128 characters";
const WHICH_PORT: &str = "set mcpauth.dev/port to a port of the Service, one of mcp, 80, metrics, 9090";
pub(super) const WHICH_SPEAKS: &str =
    "set mcpauth.dev/port to the port that speaks MCP, one of mcp, 80, metrics, 9090";
pub(super) const WHICH_PATH: &str = "set mcpauth.dev/path to a path that begins with a slash and has no query or fragment, at most 255 characters, such as /mcp";
const WHICH_MODE: &str = "set mcpauth.dev/enforcement to Gate or External, or remove it, which means Gate";

const BAD_NAME: &str = "metadata.name must be a DNS label of at most 52 characters that starts with a letter";

/// A case of the default Service: its name, what is changed about the annotations, and what is to be said.
type Line = (&'static str, Value, String);

/// Resources that no MCP client would spell like this, or that are no place for a server.
fn resources() -> Vec<Line> {
    let lines = [
        ("upper-case", "https://Orders.example.com/mcp"),
        ("default-port", "https://orders.example.com:443/mcp"),
        ("query", "https://orders.example.com/mcp?a=b"),
        ("fragment", "https://orders.example.com/mcp#a"),
        ("user", "https://a:b@orders.example.com/mcp"),
        ("http", "http://orders.example.com/mcp"),
        ("root", "https://orders.example.com"),
        ("no-url", "orders.example.com/mcp"),
    ];
    let line = |(name, resource)| (name, json!({ RESOURCE: resource }), WHICH_RESOURCE.to_owned());
    lines.map(line).into()
}

/// What else people get wrong.
fn mistakes() -> Vec<Line> {
    let reserved = |name: &str| {
        format!(
            "leave {name} out of mcpauth.dev/scopes: names of the authorization server itself, and names that begin with mcp., are refused"
        )
    };
    let (openid, own) = (reserved("openid"), reserved("mcp.orders"));
    let everything =
        json!({ AUTHORIZATION_SERVER: "", RESOURCE: "", SCOPES: "", PORT: "", PATH: "", ENFORCEMENT: "" });
    let all = [
        WHICH_SERVER,
        WHICH_RESOURCE,
        WHICH_SCOPES,
        WHICH_PORT,
        WHICH_PATH,
        WHICH_MODE,
    ]
    .join("; ");
    let lines = [
        ("no-server", json!({ AUTHORIZATION_SERVER: null }), WHICH_SERVER),
        ("no-resource", json!({ RESOURCE: null }), WHICH_RESOURCE),
        (
            "server-form",
            json!({ AUTHORIZATION_SERVER: "a/b/c" }),
            WHICH_SERVER,
        ),
        ("openid", json!({ SCOPES: "orders:read openid" }), &openid),
        ("own-prefix", json!({ SCOPES: "mcp.orders" }), &own),
        ("commas", json!({ SCOPES: "a,b" }), WHICH_SCOPES),
        ("no-such-port", json!({ PORT: "http" }), WHICH_PORT),
        ("which-port", json!({ PORT: null }), WHICH_SPEAKS),
        ("slash", json!({ PATH: "mcp" }), WHICH_PATH),
        ("mode", json!({ ENFORCEMENT: "Off" }), WHICH_MODE),
        ("everything", everything, &all),
    ];
    lines
        .map(|(name, change, note)| (name, change, note.to_owned()))
        .into()
}

/// What somebody with bad intentions tries: to have text of theirs repeated, at any length.
fn attacks() -> Vec<Line> {
    let long = "a".repeat(200 * 1024);
    let three = |notes: [&str; 3]| notes.join("; ");
    let new_lines = json!({ SCOPES: "a\nb", PATH: "/a\nb", RESOURCE: "https://orders.example.com/\nmcp" });
    let new_lines_say = three([WHICH_RESOURCE, WHICH_SCOPES, WHICH_PATH]);
    let control = json!({ AUTHORIZATION_SERVER: "main\u{1b}[2J", PATH: "/\u{1}", PORT: "mcp\u{0}" });
    let control_say = three([WHICH_SERVER, WHICH_PORT, WHICH_PATH]);
    let far = format!("https://orders.example.com/{long}");
    let lines = [
        ("long-scope", json!({ SCOPES: long }), WHICH_SCOPES),
        (
            "many-scopes",
            json!({ SCOPES: "a b ".repeat(50 * 1024) }),
            WHICH_SCOPES,
        ),
        ("long-path", json!({ PATH: format!("/{long}") }), WHICH_PATH),
        ("long-resource", json!({ RESOURCE: far }), WHICH_RESOURCE),
        ("long-server", json!({ AUTHORIZATION_SERVER: long }), WHICH_SERVER),
        ("new-lines", new_lines, &new_lines_say),
        ("control-characters", control, &control_say),
    ];
    lines
        .map(|(name, change, note)| (name, change, note.to_owned()))
        .into()
}

/// Services that are unusual in themselves.
fn unusual() -> Vec<Case> {
    let ports: Vec<Value> = (0..100)
        .map(|n| json!({ "name": format!("a-long-name-of-a-port-{n}"), "port": 1000 + n }))
        .collect();
    let some: Vec<String> = (0..3)
        .flat_map(|n| [format!("a-long-name-of-a-port-{n}"), format!("{}", 1000 + n)])
        .collect();
    let case = |name: &str, change, ports, said| Case {
        name: name.to_owned(),
        change,
        ports,
        mended: !matches!(said, Said::Refusal(BAD_NAME)),
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
        case("7-begins-with-a-digit", json!({}), None, Said::Refusal(BAD_NAME)),
        case(&"n".repeat(53), json!({}), None, Said::Refusal(BAD_NAME)),
    ]
}

/// All of them. Of mistakes of one kind, and where only the name is wrong, not all are mended: it takes its time.
pub(super) fn all() -> Vec<Case> {
    let simple = |lines: Vec<Line>, mended| {
        lines.into_iter().map(move |(name, change, note)| Case {
            name: name.to_owned(),
            change,
            ports: None,
            said: Said::Exactly(note),
            mended,
        })
    };
    let cases = simple(resources(), false).chain(simple(mistakes(), true));
    cases.chain(simple(attacks(), false)).chain(unusual()).collect()
}
