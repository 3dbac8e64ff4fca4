//! MCP clients as others made them, unmodified, in front of a gate. They are told the address of the server and the
//! id of a client that the operator registered, and nothing else.

pub(crate) mod setup;

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{bail, ensure};
use mcp_auth_e2e::{
    mcp::{Ended, Identity, Inspector, Login, Said, Sdk},
    runner::Story,
    world::World,
};
use serde_json::{Value, json};

use crate::{
    fixtures::{SOON, native, ready},
    inventory::credential,
};
use setup::{Protected, READ, WRITE, Which, asked, found_its_way, stepped_up};

/// The one revision of the wire without sessions.
const STATELESS: &str = "2026-07-28";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("clients::the_inspector_signs_in_and_steps_up", inspector),
        Story::new("clients::the_typescript_sdk_signs_in_and_steps_up", sdk),
        Story::new(
            "clients::the_typescript_sdk_does_so_on_the_stateless_wire",
            sdk_stateless,
        ),
        Story::new(
            "clients::the_old_typescript_sdk_steps_up_only_without_a_refresh_token",
            old_sdk,
        ),
    ]
}

/// One tool for normal use, one for those who may write, and none of the others for anybody.
pub(crate) fn rules(read: &str, write: &str) -> Value {
    json!([
        { "kind": "Tool", "match": read, "scopes": [READ] },
        { "kind": "Tool", "match": write, "scopes": [WRITE] },
        { "kind": "Prompt", "match": "simple-prompt", "scopes": [WRITE] },
    ])
}

/// An Inspector looks for a tool in the list before it calls it, so that it does not even ask for one that the gate
/// leaves out. A prompt it asks for without that.
async fn inspector(world: Arc<World>) -> anyhow::Result<()> {
    let rules = rules("echo", "get-sum");
    let lab = Protected::new(&world, "clients-inspector", Which::Everything, &rules).await?;
    let browser = lab.browser()?;
    let (url, login_page) = (lab.front.resource(), lab.login_page());
    let client = (lab.client_id.as_str(), lab.callback.as_str());
    let inspector = Inspector::new(&lab.scripts, &url, client, &login_page)?;
    let list = ["--method", "tools/list"];
    let echo = [
        "--method",
        "tools/call",
        "--tool-name",
        "echo",
        "--tool-arg",
        "message=hello",
    ];
    let sum = [
        "--method",
        "tools/call",
        "--tool-name",
        "get-sum",
        "--tool-arg",
        "a=2",
        "b=3",
    ];
    let prompt = ["--method", "prompts/get", "--prompt-name", "simple-prompt"];

    let (ended, tools) = inspector.run("list", &list, &browser).await?;
    asked(only_login(&ended)?, &lab, &[READ])?;
    ensure!(tool_names(&tools) == ["echo"], "{tools}");
    found_its_way(&lab.front)?;
    let (ended, answer) = inspector.run("echo", &echo, &browser).await?;
    no_login(&ended)?;
    ensure!(answer["content"][0]["text"] == "Echo: hello", "{answer}");
    let (ended, _) = inspector.run("hidden", &sum, &browser).await?;
    ensure!(
        ended.code == Some(5) && ended.logins.is_empty() && ended.printed.contains("tool_not_found"),
        "{}",
        ended.printed
    );

    let (ended, answer) = inspector.run("prompt", &prompt, &browser).await?;
    let login = only_login(&ended)?;
    asked(login, &lab, &[READ, WRITE])?;
    // It wants a refresh token that outlives the session, and everything to be consented to anew.
    let everything = [
        "Change things in the lab",
        "Look around in the lab",
        "Offline Access",
    ];
    ensure!(consented(login) == everything, "{login:?}");
    ensure!(answer["messages"][0]["role"] == "user", "{answer}");
    stepped_up(&lab.front, "prompts/get simple-prompt")?;

    let (ended, answer) = inspector.run("sum", &sum, &browser).await?;
    no_login(&ended)?;
    ensure!(
        answer["content"][0]["text"] == "The sum of 2 and 3 is 5.",
        "{answer}"
    );
    let (ended, tools) = inspector.run("list-again", &list, &browser).await?;
    no_login(&ended)?;
    ensure!(tool_names(&tools) == ["echo", "get-sum"], "{tools}");
    lab.finish().await
}

/// What an Inspector shows of tools.
pub(crate) fn tool_names(result: &Value) -> Vec<&str> {
    let tools = result["tools"].as_array().map_or(&[][..], Vec::as_slice);
    tools.iter().filter_map(|tool| tool["name"].as_str()).collect()
}

/// The login of a run that succeeded after one.
pub(crate) fn only_login(ended: &Ended) -> anyhow::Result<&Login> {
    match &ended.logins[..] {
        [login] if ended.code == Some(0) => Ok(login),
        _ => bail!("{} logins: {}", ended.logins.len(), ended.printed),
    }
}

fn no_login(ended: &Ended) -> anyhow::Result<()> {
    ensure!(
        ended.code == Some(0) && ended.logins.is_empty(),
        "{}",
        ended.printed
    );
    Ok(())
}

/// What the user was asked to consent to, in the order of the alphabet.
fn consented(login: &Login) -> Vec<&str> {
    let consent = login.consent.iter().flatten();
    let asked: BTreeSet<&str> = consent.map(String::as_str).collect();
    asked.into_iter().collect()
}

async fn sdk(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Protected::new(
        &world,
        "clients-sdk",
        Which::Everything,
        &rules("echo", "get-sum"),
    )
    .await?;
    let steps = json!([
        ["list"],
        ["call", "echo", { "message": "hello" }],
        ["call", "get-sum", { "a": 2, "b": 3 }],
        ["list"],
    ]);
    let (ended, said) = lab_client(&lab, &lab.client_id, (2, None), &steps).await?;
    let expected = [
        granted(&[READ]),
        gave("list", json!(["echo"])),
        gave("call echo", json!("Echo: hello")),
        granted(&[READ, WRITE]),
        gave("call get-sum", json!("The sum of 2 and 3 is 5.")),
        gave("list", json!(["echo", "get-sum"])),
    ];
    ensure!(said == expected, "{said:#?}");
    signed_in_and_stepped_up(&lab, &ended, "tools/call get-sum")?;
    lab.finish().await
}

async fn sdk_stateless(world: Arc<World>) -> anyhow::Result<()> {
    let rules = rules("test_simple_text", "test_logging_tool");
    let lab = Protected::new(&world, "clients-sdk-stateless", Which::BothWires, &rules).await?;
    let steps = json!([
        ["list"],
        ["call", "test_simple_text", {}],
        ["call", "test_logging_tool", {}],
        ["list"],
    ]);
    let (ended, said) = lab_client(&lab, &lab.client_id, (2, Some(STATELESS)), &steps).await?;
    let expected = [
        granted(&[READ]),
        gave("list", json!(["test_simple_text"])),
        gave(
            "call test_simple_text",
            json!("This is a simple text response for testing."),
        ),
        granted(&[READ, WRITE]),
        gave("call test_logging_tool", json!("Done")),
        gave("list", json!(["test_simple_text", "test_logging_tool"])),
    ];
    ensure!(said == expected, "{said:#?}");
    signed_in_and_stepped_up(&lab, &ended, "tools/call test_logging_tool")?;
    let initialized = lab
        .front
        .visits()
        .into_iter()
        .any(|visit| visit.message == "initialize");
    ensure!(!initialized, "it spoke the old wire");
    lab.finish().await
}

/// Version 1 of the SDK tries its refresh token before it sends the user anywhere, gets the scopes that it had, and gives
/// up. Without a refresh token it asks for the challenged scopes alone, and so loses what it had.
async fn old_sdk(world: Arc<World>) -> anyhow::Result<()> {
    let lab = Protected::new(
        &world,
        "clients-sdk-old",
        Which::Everything,
        &rules("echo", "get-sum"),
    )
    .await?;
    let (list, sum) = (json!(["list"]), json!(["call", "get-sum", { "a": 2, "b": 3 }]));
    let (ended, said) = lab_client(&lab, &lab.client_id, (1, None), &json!([list, sum, list])).await?;
    let expected = [
        granted(&[READ]),
        gave("list", json!(["echo"])),
        granted(&[READ]),
        failed(
            "call get-sum",
            "Streamable HTTP error: Server returned 403 after trying upscoping",
        ),
        gave("list", json!(["echo"])),
    ];
    ensure!(said == expected, "{said:#?}");
    asked(only_login(&ended)?, &lab, &[READ])?;
    found_its_way(&lab.front)?;

    let mut kiosk = native(&lab.env, "kiosk", &["lab"]);
    kiosk["spec"]["managed"]["grantTypes"] = json!(["authorization_code"]);
    kiosk["spec"]["access"][0]["scopes"] = json!([READ, WRITE]);
    lab.env.apply(&kiosk).await?;
    ready(&lab.env, ("McpClient", lab.env.namespace(), "kiosk"), SOON).await?;
    let kiosk = credential(&lab.env, "kiosk").await?;
    lab.front.clear();
    let (ended, said) = lab_client(&lab, kiosk.id(), (1, None), &json!([list, sum, list])).await?;
    let expected = [
        granted(&[READ]),
        gave("list", json!(["echo"])),
        granted(&[WRITE]),
        gave("call get-sum", json!("The sum of 2 and 3 is 5.")),
        granted(&[READ]),
        gave("list", json!(["echo"])),
    ];
    ensure!(said == expected, "{said:#?}");
    let scopes: Vec<BTreeSet<&str>> = ended.logins.iter().map(Login::scopes).collect();
    ensure!(
        scopes == [READ, WRITE, READ].map(|scope| BTreeSet::from([scope])),
        "{scopes:?}"
    );
    stepped_up(&lab.front, "tools/call get-sum")?;
    lab.finish().await
}

/// What a client of the SDK does and says in front of the lab.
async fn lab_client(
    lab: &Protected,
    client_id: &str,
    (version, pin): (u8, Option<&str>),
    steps: &Value,
) -> anyhow::Result<(Ended, Vec<Said>)> {
    let (url, login_page) = (lab.front.resource(), lab.login_page());
    let sdk = Sdk {
        scripts: &lab.scripts,
        version,
        pin,
        url: &url,
        client: (Identity::Registered(client_id), &lab.callback),
        login_page: &login_page,
    };
    let (ended, said) = sdk.run(steps, &lab.browser()?).await?;
    ensure!(ended.code == Some(0), "{}", ended.printed);
    Ok((ended, said))
}

/// The user gave the password once, and then consent to more.
fn signed_in_and_stepped_up(lab: &Protected, ended: &Ended, call: &str) -> anyhow::Result<()> {
    let [first, second] = &ended.logins[..] else {
        bail!("{:?}", ended.logins);
    };
    asked(first, lab, &[READ])?;
    ensure!(first.password, "{first:?}");
    asked(second, lab, &[READ, WRITE])?;
    // The user is signed in already, and is asked for what is new alone.
    ensure!(
        !second.password && consented(second) == ["Change things in the lab"],
        "{second:?}"
    );
    found_its_way(&lab.front)?;
    stepped_up(&lab.front, call)
}

fn granted(scopes: &[&str]) -> Said {
    Said::Granted(scopes.iter().map(|&scope| scope.to_owned()).collect())
}

pub(crate) fn gave(step: &str, result: Value) -> Said {
    Said::Step {
        step: step.to_owned(),
        result: Some(result),
        error: None,
    }
}

fn failed(step: &str, error: &str) -> Said {
    Said::Step {
        step: step.to_owned(),
        result: None,
        error: Some(error.to_owned()),
    }
}
