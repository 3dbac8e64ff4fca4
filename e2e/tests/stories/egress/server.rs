//! A server that looks like an authorization server up to one point and misbehaves there. It runs as a process of its
//! own: this very program, started with the variables of [`environment`].
//!
//! A realm's name says where and how: `token-hang` has good metadata and a token endpoint that never answers.

use std::{env, fs, io::Write, net::Ipv4Addr, path::Path, process::ExitCode, sync::Arc};

use anyhow::Context;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Says that this process is the server, and holds what its answers hold.
const CANARY: &str = "MCP_AUTH_HOSTILE_CANARY";
const CERTIFICATE: &str = "MCP_AUTH_HOSTILE_CERTIFICATE";
const KEY: &str = "MCP_AUTH_HOSTILE_KEY";

/// What it says when it listens.
pub(super) const LISTENING: &str = "listening";

/// Ten times as much as is read of an answer.
const LONG: usize = 10 * 1024 * 1024;

/// Enough for what the operator sends.
const LONGEST_REQUEST: usize = 64 * 1024;

/// What makes a process the server.
pub(super) fn environment(certificate: &Path, key: &Path, canary: &str) -> [(&'static str, String); 3] {
    [
        (CANARY, canary.to_owned()),
        (CERTIFICATE, certificate.display().to_string()),
        (KEY, key.display().to_string()),
    ]
}

/// Whether this process is to be the server.
pub(super) fn is_asked_for() -> bool {
    env::var_os(CANARY).is_some()
}

/// Serves until the process is killed.
pub(super) fn run() -> ExitCode {
    let Ok(runtime) = tokio::runtime::Runtime::new() else {
        return ExitCode::FAILURE;
    };
    let Err(error) = runtime.block_on(serve());
    let _ = writeln!(std::io::stderr(), "{error:#}");
    ExitCode::FAILURE
}

async fn serve() -> anyhow::Result<std::convert::Infallible> {
    mcp_auth_e2e::use_aws_lc();
    let canary: Arc<str> = env::var(CANARY)?.into();
    let certificate = CertificateDer::from_pem_slice(&fs::read(env::var(CERTIFICATE)?)?)?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(env::var(KEY)?)?)?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 443)).await?;
    writeln!(std::io::stdout(), "{LISTENING}")?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (tls, canary) = (tls.clone(), Arc::clone(&canary));
        tokio::spawn(async move {
            // The other side notices what goes wrong with a connection.
            let _ = answer(tls, stream, &canary).await;
        });
    }
}

async fn answer(tls: TlsAcceptor, stream: TcpStream, canary: &str) -> anyhow::Result<()> {
    let mut stream = tls.accept(stream).await?;
    let path = request(&mut stream).await?;
    let (place, realm) = place(&path).context("not a place of an authorization server")?;
    let (where_, how) = realm.split_once('-').context("not one of our realms")?;
    if where_ == place {
        misbehave(&mut stream, how, canary).await?;
    } else {
        let host = stream.get_ref().0.local_addr()?.ip();
        stream
            .write_all(good(place, &host.to_string(), realm).as_bytes())
            .await?;
    }
    stream.shutdown().await?;
    Ok(())
}

/// Reads a request whole, and gives its path.
async fn request(stream: &mut TlsStream<TcpStream>) -> anyhow::Result<String> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                let path = head.split(' ').nth(1).context("no path")?;
                return Ok(path.split('?').next().unwrap_or_default().to_owned());
            }
        }
        anyhow::ensure!(read.len() < LONGEST_REQUEST, "too long");
        anyhow::ensure!(stream.read_buf(&mut read).await? > 0, "half a request");
    }
}

/// Which part of an authorization server a path belongs to, and the realm in it.
fn place(path: &str) -> Option<(&'static str, &str)> {
    if let Some(rest) = path.strip_prefix("/admin/realms/") {
        return Some(("admin", rest.split('/').next()?));
    }
    let (realm, rest) = path.strip_prefix("/realms/")?.split_once('/')?;
    match rest {
        ".well-known/openid-configuration" => Some(("discovery", realm)),
        "protocol/openid-connect/token" => Some(("token", realm)),
        _ => None,
    }
}

/// What an honest server would answer.
fn good(place: &str, host: &str, realm: &str) -> String {
    let issuer = format!("https://{host}/realms/{realm}");
    let endpoint = |name: &str| format!("{issuer}/protocol/openid-connect/{name}");
    let body = match place {
        "discovery" => json!({
            "issuer": issuer,
            "authorization_endpoint": endpoint("auth"),
            "token_endpoint": endpoint("token"),
            "jwks_uri": endpoint("certs"),
        }),
        "token" => json!({ "access_token": "a.b.c", "token_type": "Bearer", "expires_in": 300 }),
        _ => json!([]),
    };
    let body = body.to_string();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn misbehave(stream: &mut TlsStream<TcpStream>, how: &str, canary: &str) -> anyhow::Result<()> {
    let head = |status: &str, more: &str| {
        format!("HTTP/1.1 {status} {canary}\r\nx-{canary}: {canary}\r\n{more}connection: close\r\n\r\n")
    };
    match how {
        "redirect" => {
            let location = format!("location: https://127.0.0.1/{canary}\r\n");
            stream.write_all(head("302", &location).as_bytes()).await?;
            stream.write_all(format!("<a>{canary}</a>").as_bytes()).await?;
        }
        "garbage" => {
            stream.write_all(head("200", "").as_bytes()).await?;
            stream
                .write_all(format!("{{\"issuer\": {canary}").as_bytes())
                .await?;
        }
        "long" => {
            stream.write_all(head("200", "").as_bytes()).await?;
            let line = format!("{canary}\n");
            for _ in 0..LONG / line.len() {
                stream.write_all(line.as_bytes()).await?;
            }
        }
        // Until the other side gives up.
        _ => {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
        }
    }
    Ok(())
}
