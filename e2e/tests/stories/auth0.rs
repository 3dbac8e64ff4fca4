//! The stand-in for Auth0, in front of programs that others made and that know the real one, and in front of our provider as
//! a library: every call that it makes.

mod actions;
mod conformance;
mod credentials;
pub(crate) mod live;
pub(crate) mod operator;
pub(crate) mod others;
mod scene;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use mcp_auth_e2e::{
    auth0::{Auth0, Setup},
    gate::process::{self, GateProcess},
    mcp::{Ended, Front, Identity, Login, McpServer, Said, Scripts, Sdk},
    oauth::Browser,
    pki::Authority,
    ports,
    run_folder::RunFolder,
    runner::Story,
    tools::NpmTools,
};
use secrecy::SecretString;
use serde_json::{Value, json};

const READ: &str = "lab:read";
const WRITE: &str = "lab:write";
const PASSWORD: &str = "correct horse battery staple";

pub(crate) fn stories() -> Vec<Story> {
    let mut stories = vec![
        Story::alone("auth0::the_typescript_sdk_signs_in_and_steps_up", sdk),
        Story::alone("auth0::what_runs_at_a_live_tenant_leaves_it_as_it_was", |_| {
            live::leaves_a_tenant_as_it_was()
        }),
    ];
    stories.extend(live::column(None));
    stories.extend(operator::stories());
    stories
}

/// A tenant as an operator would leave it, and a gate before a server.
struct Lab {
    auth0: Auth0,
    authority: Authority,
    scripts: Scripts,
    front: Front,
    gate: GateProcess,
    _server: McpServer,
    client_id: String,
    callback: String,
}

impl Lab {
    async fn start(run: &Arc<RunFolder>) -> anyhow::Result<Self> {
        mcp_auth_e2e::use_aws_lc();
        let authority = Authority::new()?;
        let auth0 = Auth0::start(&authority, Setup::default()).await?;
        let npm = NpmTools::prepare(run.path()).await?;
        let scripts = Scripts::install(npm, run.subfolder("auth0-sdk")?, &authority)?;
        let (server, front) = tokio::try_join!(McpServer::everything(&scripts), Front::start())?;
        let callback = format!("http://127.0.0.1:{}/callback", ports::free()?);
        let client_id = set_up(&auth0, &front.resource(), &callback).await?;
        let policy = policy(&auth0, &authority, &front.resource(), &server.url());
        let key = STANDARD.encode(rand::random::<[u8; 32]>());
        let credentials = BTreeMap::from([("session-keys", key)]);
        let folder = scripts.folder();
        let gate = GateProcess::start(folder, process::faces()?, Some(&policy), &credentials, &[])?;
        gate.wait_until_ready().await?;
        front.lead_to(gate.faces().proxy);
        Ok(Self {
            auth0,
            authority,
            scripts,
            front,
            gate,
            _server: server,
            client_id,
            callback,
        })
    }

    async fn run(&self, steps: &Value) -> anyhow::Result<(Ended, Vec<Said>)> {
        let browser = Browser::new(self.authority.trust(), "alice", &SecretString::from(PASSWORD))?;
        let login_page = format!("{}authorize?", self.auth0.issuer());
        let client = Sdk {
            scripts: &self.scripts,
            version: 2,
            pin: None,
            url: &self.front.resource(),
            client: (Identity::Registered(&self.client_id), &self.callback),
            login_page: &login_page,
        };
        let (ended, said) = client.run(steps, &browser).await?;
        ensure!(ended.code == Some(0), "{}", ended.printed);
        Ok((ended, said))
    }
}

/// The tenant's settings, the API, a strict public client and its grant; the client's id.
async fn set_up(auth0: &Auth0, resource: &str, callback: &str) -> anyhow::Result<String> {
    let dashboard = auth0.dashboard();
    let settings = json!({
        "resource_parameter_profile": "compatibility",
        "authorization_response_iss_parameter_supported": true,
        "flags": {"use_scope_descriptions_for_consent": true},
    });
    dashboard.patch("tenants/settings", settings).await?;
    let api = json!({
        "identifier": resource, "name": "Lab", "token_dialect": "rfc9068_profile_authz",
        "allow_offline_access": true,
        "scopes": [
            {"value": READ, "description": "Look around in the lab"},
            {"value": WRITE, "description": "Change things in the lab"},
        ],
        "subject_type_authorization": {"user": {"policy": "require_client_grant"}, "client": {"policy": "deny_all"}},
    });
    dashboard.post("resource-servers", api).await?;
    let client = json!({
        "name": "desktop", "app_type": "native", "is_first_party": false, "third_party_security_mode": "strict",
        "redirection_policy": "allow_always", "callbacks": [callback], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    });
    let client = dashboard.post("clients", client).await?;
    let id = client["client_id"].as_str().context("a client without an id")?;
    let grant =
        json!({"client_id": id, "audience": resource, "scope": [READ, WRITE], "subject_type": "user"});
    dashboard.post("client-grants", grant).await?;
    auth0.add_user("alice", &SecretString::from(PASSWORD));
    Ok(id.to_owned())
}

fn policy(auth0: &Auth0, authority: &Authority, resource: &str, upstream: &str) -> Value {
    let issuer = auth0.issuer();
    json!({
        "version": 1,
        "server": {"namespace": "team-a", "name": "lab"},
        "resource": resource,
        "authorizationServer": {
            "issuer": issuer,
            "jwksUri": format!("{issuer}.well-known/jwks.json"),
            "tokenEndpoint": format!("{issuer}oauth/token"),
            "tokenTypes": [{"header": "at+jwt"}],
            "otherAudiences": [],
            "caBundle": authority.pem(),
        },
        "scopes": [{"name": READ, "challenge": true}, {"name": WRITE}],
        "rules": [
            {"kind": "Tool", "match": "echo", "scopes": [READ]},
            {"kind": "Tool", "match": "get-sum", "scopes": [WRITE]},
        ],
        "upstream": {"url": upstream},
    })
}

/// The client finds the tenant by the challenge, its user signs in and consents, it calls a tool, is told that it lacks a
/// scope for another, asks for that, and calls it. The issuer ends in a slash, `resource` alone names the API, and the
/// token is of RFC 9068's form.
async fn sdk(run: Arc<RunFolder>) -> anyhow::Result<()> {
    let lab = Lab::start(&run).await?;
    let steps = json!([
        ["list"],
        ["call", "echo", {"message": "hello"}],
        ["call", "get-sum", {"a": 2, "b": 3}],
        ["list"],
    ]);
    let (ended, said) = lab.run(&steps).await?;
    let results: Vec<&Value> = said
        .iter()
        .filter_map(|said| match said {
            Said::Step { result, .. } => result.as_ref(),
            _ => None,
        })
        .collect();
    let expected = [
        json!(["echo"]),
        json!("Echo: hello"),
        json!("The sum of 2 and 3 is 5."),
        json!(["echo", "get-sum"]),
    ];
    ensure!(results == expected.iter().collect::<Vec<_>>(), "{said:#?}");
    let [first, second] = &ended.logins[..] else {
        bail!("{:?}", ended.logins);
    };
    asked(&lab, first, &[READ])?;
    asked(&lab, second, &[READ, WRITE])?;
    ensure!(first.password && !second.password, "{first:?} {second:?}");
    let consent: BTreeSet<&str> = second.consent.iter().flatten().map(String::as_str).collect();
    ensure!(consent.contains("Change things in the lab"), "{second:?}");
    ensure!(!consent.contains("Look around in the lab"), "{second:?}");
    let log = lab.gate.log()?;
    ensure!(!log.contains("eyJ"), "the gate logs tokens");
    Ok(())
}

fn asked(lab: &Lab, login: &Login, scopes: &[&str]) -> anyhow::Result<()> {
    let mut asked = login.scopes();
    asked.remove("offline_access");
    ensure!(
        asked == scopes.iter().copied().collect()
            && login.asked("resource") == lab.front.resource()
            && login.asked("client_id") == lab.client_id
            && login.asked("code_challenge_method") == "S256",
        "{login:?}"
    );
    Ok(())
}
