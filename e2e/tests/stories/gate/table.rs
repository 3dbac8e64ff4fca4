//! Sends every row through a face, and compares what came of it.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, bail, ensure};
use futures::StreamExt as _;
use mcp_auth_e2e::{
    gate::{
        client::{self, Replies},
        http1::Message,
    },
    leaks::Known,
};

use super::{
    case::{Case, Difference, Expect, Framing, SIGNATURE, TOKEN},
    cases, check,
    scene::{Face, Front, Scene},
};

/// Rows at a time.
const AT_A_TIME: usize = 8;
/// So many problems are shown.
const SHOWN: usize = 40;
const PATIENCE: Duration = Duration::from_secs(15);
/// The header by which requests are told apart at the server.
pub(crate) const CASE: &str = "x-case";

/// A row that was sent.
pub(crate) struct Sent {
    pub(crate) number: usize,
    pub(crate) token: String,
    pub(crate) replies: Replies,
}

/// What a row expects of a face, and why it is another thing than of the proxy.
pub(crate) fn expected(case: &Case, face: Face) -> (Expect, Option<Difference>) {
    let other = match face {
        Face::Proxy => None,
        Face::Envoy => case.envoy.as_ref(),
        Face::Traefik => case.traefik.as_ref(),
        Face::ForwardAuth => case
            .traefik
            .as_ref()
            .filter(|(_, difference)| difference.is_of_the_face()),
    };
    let (expect, difference) = match other {
        Some((expect, difference)) => (expect, Some(*difference)),
        None => (&case.expect, None),
    };
    let expect = match (face, expect) {
        (Face::ForwardAuth, Expect::Passes { .. }) => Expect::Leave,
        // A success would be leave to send the request on.
        (Face::ForwardAuth, Expect::Metadata | Expect::Answers { status: 204, .. }) => Expect::Front(&[400]),
        _ => expect.clone(),
    };
    (expect, difference)
}

/// Whether a row says anything of this face: framing, and what Traefik overwrites or never tells, is no affair of the
/// face that it asks.
fn concerns(case: &Case, face: Face) -> bool {
    let request = &case.request;
    let is_framing = matches!(request.framing, Framing::As(_) | Framing::Raw);
    let overwritten = ["x-forwarded-method", "x-forwarded-uri"];
    let is_overwritten = request
        .headers
        .iter()
        .any(|(name, _)| overwritten.contains(&name.as_str()));
    let is_path = request.target.starts_with('/') && !request.target.contains('#');
    face != Face::ForwardAuth || (!is_framing && !is_overwritten && is_path)
}

/// All rows through one face. Fails with a line for each that went wrong.
pub(crate) async fn run(scene: &Scene, front: &Front) -> anyhow::Result<usize> {
    let mut cases = cases::all();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.why).collect();
    ensure!(names.len() == cases.len(), "two rows have one name");
    cases.retain(|case| concerns(case, front.face));
    let before = scene.upstream.requests().len();
    let sent: Vec<anyhow::Result<Sent>> = futures::stream::iter(cases.iter().enumerate())
        .map(|(number, case)| send(scene, front, number, case))
        .buffered(AT_A_TIME)
        .collect()
        .await;
    let requests = scene.upstream.requests().split_off(before);
    let mut problems = Vec::new();
    let mut tokens = Known::default();
    for (case, sent) in cases.iter().zip(sent) {
        let (expect, _) = expected(case, front.face);
        let outcome = sent.and_then(|sent| {
            tokens.add(case.why, &sent.token);
            check::row(scene, case, &expect, &sent, &requests)
        });
        if let Err(error) = outcome {
            problems.push(format!("{}: {error:#}", case.why));
        }
    }
    problems.extend(strangers(&requests, cases.len()));
    problems.extend(canary(&tokens, &requests)?);
    let logs = tokens.search()?.must_miss_logs(&scene.folder);
    problems.extend(logs.err().map(|error| error.to_string()));
    let failed = problems.len();
    problems.truncate(SHOWN);
    if !problems.is_empty() {
        bail!(
            "{failed} problems with {} rows through {:?}:\n{}",
            cases.len(),
            front.face,
            problems.join("\n")
        );
    }
    Ok(cases.len())
}

/// Requests at the server that no row sent.
fn strangers(requests: &[Message], rows: usize) -> Vec<String> {
    let is_known = |request: &&Message| {
        let number = request
            .value(CASE)
            .and_then(|number| number.parse::<usize>().ok());
        number.is_some_and(|number| number < rows)
    };
    let strange = requests.iter().filter(|request| !is_known(request));
    strange
        .map(|request| format!("nobody sent {:?}", String::from_utf8_lossy(&request.bytes())))
        .collect()
}

/// No token of any row is in anything that any row sent to the server, encoded or not.
fn canary(tokens: &Known, requests: &[Message]) -> anyhow::Result<Vec<String>> {
    let search = tokens.search()?;
    let mut found = Vec::new();
    for request in requests {
        let bytes = request.bytes();
        let plain: Vec<u8> = percent_decoded(&bytes);
        for text in [&bytes, &plain] {
            found.extend(
                search
                    .must_miss("a request to the server", text)
                    .err()
                    .map(|error| error.to_string()),
            );
        }
    }
    Ok(found)
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, behind)) = rest.split_first() {
        let hex = (*first == b'%').then(|| behind.get(..2)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    decoded
}

async fn send(scene: &Scene, front: &Front, number: usize, case: &Case) -> anyhow::Result<Sent> {
    let token = case.token.mint(scene)?;
    let bytes = written(case, front.face, number, &token);
    let replies = client::exchange(front.address, &bytes, PATIENCE)
        .await
        .context("no answer")?;
    Ok(Sent {
        number,
        token,
        replies,
    })
}

/// The bytes of a row.
fn written(case: &Case, face: Face, number: usize, token: &str) -> Vec<u8> {
    let request = &case.request;
    let body = filled(&request.body, number, token);
    if matches!(request.framing, Framing::Raw) {
        return body;
    }
    let target = match face {
        Face::ForwardAuth => "/forward-auth",
        _ => &request.target,
    };
    let mut lines = vec![format!("{} {target} HTTP/1.1", request.method)];
    let mut line = |name: &str, value: &str| lines.push(format!("{name}: {value}"));
    if face == Face::ForwardAuth {
        line("x-forwarded-method", request.method);
        line("x-forwarded-uri", &request.target);
    }
    for (name, value) in &request.headers {
        line(name, value);
    }
    line(CASE, &number.to_string());
    line("connection", "close");
    let body = match request.framing {
        Framing::Length => {
            line("content-length", &body.len().to_string());
            body
        }
        Framing::Chunks(size) => {
            line("transfer-encoding", "chunked");
            chunked(&body, size)
        }
        Framing::As(headers) => {
            for (name, value) in headers {
                line(name, value);
            }
            body
        }
        Framing::Nothing | Framing::Raw => body,
    };
    let head = lines.join("\r\n") + "\r\n\r\n";
    let head = filled(head.as_bytes(), number, token);
    [head, body].concat()
}

/// The body of a row as it was meant.
pub(crate) fn body(case: &Case, sent: &Sent) -> Vec<u8> {
    filled(&case.request.body, sent.number, &sent.token)
}

fn filled(template: &[u8], number: usize, token: &str) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(template) else {
        return template.to_vec();
    };
    let signature = token.rsplit('.').next().unwrap_or_default();
    let text = text.replace(TOKEN, token).replace(SIGNATURE, signature);
    text.replace("{case}", &number.to_string()).into_bytes()
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut chunks: Vec<u8> = Vec::new();
    for chunk in body.chunks(size) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    chunks
}
