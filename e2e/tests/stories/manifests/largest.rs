//! Objects as large as the schema allows, with the sizes read from the schema itself.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// A name, the object, and the words of the refusal if it is to be refused.
type Case = (&'static str, Value, Option<&'static str>);

/// The longest names of what Kubernetes itself limits.
const LONGEST_LABEL: usize = 63;

/// What no request may be larger than. An object at every limit at once can be larger: each case is at as many
/// limits as fit.
const LARGEST_REQUEST: usize = 3 * 1024 * 1024;

/// The cases of every kind.
pub(super) fn objects() -> anyhow::Result<Vec<Case>> {
    let mut cases = servers()?;
    cases.extend(clients()?);
    cases.extend(authorization_servers()?);
    cases.push(("the largest TokenExchangePolicy", policy()?, None));
    for (name, object, _) in &cases {
        let size = serde_json::to_vec(object)?.len();
        ensure!(
            size < LARGEST_REQUEST,
            "{name} has {size} bytes: no request may have them"
        );
    }
    Ok(cases)
}

/// The spec of a kind as the schema has it.
struct Schema(Value);

impl Schema {
    fn of(kind: &str) -> anyhow::Result<Self> {
        let crd = mcp_auth_crds::all()
            .into_iter()
            .find(|crd| crd.spec.names.kind == kind)
            .context("no such kind")?;
        let crd = serde_json::to_value(crd)?;
        Ok(Self(
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone(),
        ))
    }

    /// A limit (`maxItems`, `maxLength`, `maxProperties`) of a field such as `rules.scopes`: lists are passed through.
    fn limit(&self, field: &str, limit: &str) -> anyhow::Result<usize> {
        let mut at = &self.0;
        for name in field.split('.') {
            let inside = if at["items"].is_object() { &at["items"] } else { at };
            at = &inside["properties"][name];
        }
        let here = if limit == "maxLength" && at["items"].is_object() {
            &at["items"]
        } else {
            at
        };
        let size = here[limit]
            .as_u64()
            .with_context(|| format!("{field} has no {limit}"))?;
        Ok(usize::try_from(size)?)
    }

    /// As many values as the field holds, each different and as long as it may be, made from a beginning.
    fn full(&self, field: &str, beginning: &str) -> anyhow::Result<Vec<String>> {
        let length = self.limit(field, "maxLength")?;
        Ok((0..self.limit(field, "maxItems")?)
            .map(|number| padded(beginning, number, length))
            .collect())
    }
}

fn padded(beginning: &str, number: usize, length: usize) -> String {
    format!(
        "{beginning}{number:0>width$}",
        width = length.saturating_sub(beginning.len())
    )
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "mcpauth.dev/v1alpha1", "kind": kind, "metadata": { "name": "a".repeat(52) }, "spec": spec })
}

/// The object with another value in a field such as `rules.scopes`, of each list in the last place.
fn with_last(object: &Value, field: &str, value: Value) -> anyhow::Result<Value> {
    let mut changed = object.clone();
    let mut at = &mut changed["spec"];
    for name in field.split('.') {
        at = match &mut at[name] {
            Value::Array(list) => list.last_mut().with_context(|| format!("{field} is empty"))?,
            other => other,
        };
    }
    *at = value;
    Ok(changed)
}

fn servers() -> anyhow::Result<Vec<Case>> {
    let largest = server(&Schema::of("McpServer")?)?;
    let with = |field: &str| with_last(&largest, field, json!("z".repeat(128)));
    Ok(vec![
        (
            "a rule of the largest McpServer",
            with("rules.scopes")?,
            Some("names a scope that is not declared"),
        ),
        (
            "a client of the largest McpServer",
            with("allowedClients.scopes")?,
            Some("allowedClients names a scope"),
        ),
        (
            "an implied scope of the largest McpServer",
            with("scopes.implies")?,
            Some("implies a scope that is not"),
        ),
        (
            "a default scope of the largest McpServer",
            with("defaultScopes")?,
            Some("defaultScopes names a scope"),
        ),
        ("the largest McpServer", largest, None),
    ])
}

fn server(schema: &Schema) -> anyhow::Result<Value> {
    let scopes: Vec<_> = (0..schema.limit("scopes", "maxItems")?)
        .map(|number| padded("s:", number, 128))
        .collect();
    // The last ones: those that take longest to find.
    let some = |field: &str| anyhow::Ok(scopes[scopes.len() - schema.limit(field, "maxItems")?..].to_vec());
    let implied = some("scopes.implies")?;
    let declared = scopes.iter().map(|name| {
        let implies: Vec<_> = implied.iter().filter(|implied| *implied != name).collect();
        json!({ "name": name, "description": "é".repeat(255), "challenge": true, "implies": implies })
    });
    let rule = json!({ "kind": "Tool", "match": "t".repeat(256), "scopes": some("rules.scopes")? });
    let client = json!({
        "namespaces": { "from": "All" }, "exchange": true, "scopes": some("allowedClients.scopes")?,
        "names": schema.full("allowedClients.names", "n")?,
    });
    let origins = schema.full("enforcement.gate.allowedOrigins", "https://app.example.com")?;
    let spec = json!({
        "authorizationServerRef": { "name": "n".repeat(LONGEST_LABEL), "namespace": "m".repeat(LONGEST_LABEL) },
        "resource": format!("https://orders.mcp.example.com/{}", "p".repeat(224)),
        "scopes": declared.collect::<Vec<_>>(),
        "rules": vec![rule; schema.limit("rules", "maxItems")?],
        "defaultScopes": some("defaultScopes")?,
        "target": { "service": "s".repeat(LONGEST_LABEL), "port": "p".repeat(63), "path": format!("/{}", "q".repeat(254)) },
        "enforcement": { "mode": "Gate", "gate": {
            "allowedOrigins": origins, "tls": { "secretName": "s".repeat(253) },
        } },
        "allowedClients": vec![client; schema.limit("allowedClients", "maxItems")?],
    });
    Ok(object("McpServer", &spec))
}

fn clients() -> anyhow::Result<Vec<Case>> {
    let largest = client(&Schema::of("McpClient")?)?;
    let again = largest["spec"]["access"][0]["server"].clone();
    let user = json!(format!("https://me@{}.example.com/", "a".repeat(LONGEST_LABEL)));
    Ok(vec![
        (
            "a server of the largest McpClient",
            with_last(&largest, "access.server", again)?,
            Some("each server once"),
        ),
        (
            "a redirect URI of the largest McpClient",
            with_last(&largest, "managed.redirectUris", user)?,
            Some("a redirect URI has no user information"),
        ),
        ("the largest McpClient", largest, None),
    ])
}

fn client(schema: &Schema) -> anyhow::Result<Value> {
    let scopes = 0..schema.limit("access.scopes", "maxItems")?;
    let scopes: Vec<_> = scopes.map(|number| padded("s:", number, 128)).collect();
    let access = (0..schema.limit("access", "maxItems")?).map(|number| {
        let server =
            json!({ "name": padded("n", number, LONGEST_LABEL), "namespace": "m".repeat(LONGEST_LABEL) });
        json!({ "server": server, "scopes": scopes })
    });
    let keys = [
        "client-id",
        "client-secret",
        "client-key.jwk",
        "client-key.pem",
        "key-id",
        "issuer",
        "token-endpoint",
        "scope",
        "resource",
    ];
    let keys = keys
        .iter()
        .enumerate()
        .map(|(number, key)| ((*key).to_owned(), json!(padded("k", number, 253))));
    let prefix = ["d"; 4].map(|letter| letter.repeat(62)).join(".");
    let labels = (0..schema.limit("secret.labels", "maxProperties")?).map(|number| {
        (
            format!("{prefix}/{}", padded("k", number, LONGEST_LABEL)),
            json!("v".repeat(LONGEST_LABEL)),
        )
    });
    let spec = json!({
        "authorizationServerRef": { "name": "n".repeat(LONGEST_LABEL), "namespace": "m".repeat(LONGEST_LABEL) },
        "managed": {
            "displayName": "é".repeat(128),
            "applicationType": "native",
            "grantTypes": ["authorization_code", "refresh_token", "client_credentials"],
            "redirectUris": schema.full("managed.redirectUris", "com.example.app:/")?,
        },
        "access": access.collect::<Vec<_>>(),
        "secret": {
            "name": "s".repeat(253),
            "keys": Value::Object(keys.collect()),
            "labels": Value::Object(labels.collect()),
        },
        "rotation": {
            "interval": "87599h59m60s",
            "overlap": "719h59m60s",
            "window": {
                "schedule": format!("* * * * {}", "1,".repeat(60)),
                "timeZone": "z".repeat(64),
                "duration": "167h59m60s",
            },
        },
        "accessTokenLifetime": "23h59m60s",
    });
    Ok(object("McpClient", &spec))
}

fn policy() -> anyhow::Result<Value> {
    let schema = Schema::of("TokenExchangePolicy")?;
    let required: Vec<_> = (0..schema.limit("scopes.requires", "maxItems")?)
        .map(|number| padded("r:", number, 128))
        .collect();
    let scopes = (0..schema.limit("scopes", "maxItems")?)
        .map(|number| json!({ "name": padded("s:", number, 128), "requires": required }));
    let spec = json!({
        "serverRef": { "name": "n".repeat(LONGEST_LABEL) },
        "mcpServerRef": { "name": "n".repeat(LONGEST_LABEL), "namespace": "m".repeat(LONGEST_LABEL) },
        "scopes": scopes.collect::<Vec<_>>(),
        "subjectClients": (0..schema.limit("subjectClients", "maxItems")?)
            .map(|number| json!({ "name": padded("c", number, LONGEST_LABEL), "namespace": "m".repeat(LONGEST_LABEL) }))
            .collect::<Vec<_>>(),
        "delivery": "Endpoint",
    });
    Ok(object("TokenExchangePolicy", &spec))
}

/// An AuthorizationServer at every limit at once would be three times as large as a request may be: one for hosts,
/// one for names, one for the scopes of APIs.
fn authorization_servers() -> anyhow::Result<Vec<Case>> {
    let schema = Schema::of("AuthorizationServer")?;
    let hosts = authorization_server(&schema, &grant_of_hosts(&schema)?, 1)?;
    let names = authorization_server(&schema, &grant_of_names(&schema)?, 1)?;
    let nothing = json!({ "namespaces": { "from": "All" }, "clients": {} });
    let scopes = authorization_server(&schema, &nothing, schema.limit("apis.scopes", "maxItems")?)?;
    Ok(vec![
        ("the AuthorizationServer with the most hosts", hosts, None),
        (
            "a name of the AuthorizationServer with the most names",
            with_last(&names, "grants.tokenExchange.apis", json!("other"))?,
            Some("grants names an API that is not declared"),
        ),
        ("the AuthorizationServer with the most names", names, None),
        (
            "a scope of the AuthorizationServer with the most scopes",
            with_last(&scopes, "apis.scopes.name", json!("email"))?,
            Some("the operator does not manage scopes that belong to the authorization server"),
        ),
        ("the AuthorizationServer with the most scopes", scopes, None),
    ])
}

fn authorization_server(schema: &Schema, grant: &Value, scopes: usize) -> anyhow::Result<Value> {
    let apis = api_names(schema)?.into_iter().map(|name| {
        let scopes = (0..scopes).map(|number| {
            json!({ "name": padded(&name, number, 128), "description": "d".repeat(255) })
        });
        json!({ "name": name, "audience": "u".repeat(255), "manage": true, "scopes": scopes.collect::<Vec<_>>() })
    });
    let adoption = (0..schema.limit("adoption", "maxItems")?).map(
        |number| json!({ "kind": "Scope", "id": padded("i", number, 255), "namespace": "m", "name": "n" }),
    );
    let realm = "r".repeat(222);
    let spec = json!({
        "issuer": format!("https://login.example.com/realms/{realm}"),
        "keycloak": { "realm": realm },
        "credentials": { "secretRef": { "name": "s".repeat(253) } },
        "grants": vec![grant; schema.limit("grants", "maxItems")?],
        "apis": apis.collect::<Vec<_>>(),
        "adoption": adoption.collect::<Vec<_>>(),
        "clientRegistration": client_registration(schema)?,
    });
    Ok(object("AuthorizationServer", &spec))
}

fn client_registration(schema: &Schema) -> anyhow::Result<Value> {
    let parents = ["h"; 3].map(|letter| letter.repeat(62)).join(".");
    let hosts = |field: &str, beginning: &str| -> anyhow::Result<Vec<String>> {
        let most = schema.limit(&format!("clientRegistration.{field}"), "maxItems")?;
        Ok((0..most)
            .map(|number| padded(&format!("{beginning}{parents}."), number, 253))
            .collect())
    };
    Ok(json!({
        "dynamic": { "trustedRedirectHosts": hosts("dynamic.trustedRedirectHosts", "*.")?, "maxClients": 100_000 },
        "metadataDocuments": {
            "allowedDomains": hosts("metadataDocuments.allowedDomains", "")?,
            "redirectHosts": hosts("metadataDocuments.redirectHosts", "*.")?,
        },
    }))
}

fn grant_of_hosts(schema: &Schema) -> anyhow::Result<Value> {
    let parents = ["h"; 3].map(|letter| letter.repeat(62)).join(".");
    let hosts = (0..schema.limit("grants.servers.hosts", "maxItems")?)
        .map(|number| padded(&format!("*.{parents}."), number, 253));
    let schemes = (0..schema.limit("grants.clients.redirectHosts", "maxItems")?)
        .map(|number| format!("{}:", padded("s", number, 252)));
    Ok(json!({
        "namespaces": { "from": "All" },
        "servers": { "hosts": hosts.collect::<Vec<_>>() },
        "clients": { "redirectHosts": schemes.collect::<Vec<_>>() },
    }))
}

fn grant_of_names(schema: &Schema) -> anyhow::Result<Value> {
    Ok(json!({
        "namespaces": { "from": "All" },
        "servers": { "hosts": ["*"], "scopePrefixes": schema.full("grants.servers.scopePrefixes", "p:")? },
        "tokenExchange": { "apis": api_names(schema)? },
    }))
}

fn api_names(schema: &Schema) -> anyhow::Result<Vec<String>> {
    Ok((0..schema.limit("apis", "maxItems")?)
        .map(|number| padded("a", number, LONGEST_LABEL))
        .collect())
}
