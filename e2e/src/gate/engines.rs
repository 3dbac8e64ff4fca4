//! Envoy and Traefik in front of a server, asking a gate about every request.
//!
//! Both send every path to the server and leave it to the gate to refuse those that are not its resource: what an engine
//! lets through by mistake must fail here.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::process::Faces;
use crate::{
    ports,
    process::Guarded,
    tools::EngineTools,
    wait::{Seen, wait_for},
};

const START_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest body that engines hold for the gate, in bytes: as much as the gate itself takes.
const LARGEST_BODY: u32 = 1 << 20;
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// A running engine. It is killed when this is dropped.
pub struct Engine {
    address: SocketAddr,
    process: Guarded,
}

impl Engine {
    /// Where clients reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process, to look at or to signal.
    pub fn process(&self) -> &Guarded {
        &self.process
    }

    async fn start(name: &str, command: &Command, log: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let process = Guarded::spawn(name, command, log)?;
        let listening = wait_for(name, START_TIMEOUT, async || {
            TcpStream::connect(address).await.context("nobody listens")?;
            Ok(Seen::Done(()))
        });
        tokio::select! {
            listening = listening => listening.with_context(|| process.log_tail())?,
            status = process.wait() => bail!("{name} ended ({}):\n{}", status?, process.log_tail()),
        }
        Ok(Self { address, process })
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free()?)))
}

/// Starts Envoy with the ext_authz face of a gate before a server.
pub async fn envoy(
    tools: &EngineTools,
    folder: &Path,
    gate: Faces,
    server: SocketAddr,
) -> anyhow::Result<Engine> {
    let address = free_address()?;
    let config = folder.join("envoy.json");
    fs::write(&config, envoy_config(address, gate, server).to_string())?;
    let mut command = Command::new(tools.envoy());
    command.arg("-c").arg(&config);
    command.args([
        "--use-dynamic-base-id",
        "--concurrency",
        "1",
        "--log-level",
        "warning",
    ]);
    Engine::start("Envoy", &command, &folder.join("envoy.log"), address).await
}

fn envoy_config(address: SocketAddr, gate: Faces, server: SocketAddr) -> Value {
    let listener = json!({
        "address": socket(address),
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": connection_manager()}]}],
    });
    let mut authorizer = cluster("gate", gate.ext_authz);
    authorizer["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        },
    });
    json!({"static_resources": {
        "listeners": [listener],
        "clusters": [cluster("server", server), cluster("metadata", gate.proxy), authorizer],
    }})
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": socket(address)}});
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

fn connection_manager() -> Value {
    let ext_authz = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "failure_mode_allow": false,
        "status_on_error": {"code": 503},
        "with_request_body": {"max_request_bytes": LARGEST_BODY, "allow_partial_message": false, "pack_as_bytes": true},
        "grpc_service": {"timeout": "5s", "envoy_grpc": {"cluster_name": "gate"}},
    });
    let router = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"});
    let unasked = json!({"envoy.filters.http.ext_authz": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
        "disabled": true,
    }});
    let routes = json!([
        {"match": {"prefix": WELL_KNOWN}, "route": {"cluster": "metadata"}, "typed_per_filter_config": unasked},
        {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s"}},
    ]);
    json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "mcp",
        "stream_idle_timeout": "0s",
        "normalize_path": true,
        "merge_slashes": true,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": ext_authz},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    })
}

/// Starts Traefik with the forward-auth face of a gate before a server. Pages of these origins can read its answers:
/// Traefik adds to an answer of the server only what its own configuration says.
pub async fn traefik(
    tools: &EngineTools,
    folder: &Path,
    gate: Faces,
    server: SocketAddr,
    pages: &[&str],
) -> anyhow::Result<Engine> {
    let address = free_address()?;
    let (static_file, dynamic_file) = (folder.join("traefik.yaml"), folder.join("traefik-routes.yaml"));
    // JSON is YAML as well.
    let config = json!({
        "entryPoints": {"web": {"address": address.to_string()}},
        "providers": {"file": {"filename": dynamic_file}},
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
    });
    fs::write(&static_file, config.to_string())?;
    fs::write(&dynamic_file, traefik_routes(gate, server, pages).to_string())?;
    let mut command = Command::new(tools.traefik());
    command.arg(format!("--configFile={}", static_file.display()));
    let engine = Engine::start("Traefik", &command, &folder.join("traefik.log"), address).await?;
    // It listens before it knows its routes.
    wait_for("the routes of Traefik", START_TIMEOUT, async || {
        let head = format!("GET {WELL_KNOWN}/none HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let replies = super::client::exchange(address, head.as_bytes(), START_TIMEOUT).await?;
        let known = replies.answers.iter().any(|answer| answer.body.starts_with(b"{"));
        Ok(if known {
            Seen::Done(())
        } else {
            Seen::NotYet("no route".to_owned())
        })
    })
    .await?;
    Ok(engine)
}

/// Headers of requests that the gate decides on: Traefik takes the client's away, and puts there what the gate says.
pub const DECIDED: [&str; 13] = [
    "Authorization",
    "Proxy-Authorization",
    "Cookie",
    "Mcp-Auth-Handle",
    "X-Access-Token",
    "X-Auth-Request-Access-Token",
    "X-Forwarded-Access-Token",
    "X-Mcp-Subject",
    "X-Mcp-Client",
    "X-Mcp-Scopes",
    "Mcp-Method",
    "Mcp-Name",
    "Mcp-Session-Id",
];

fn traefik_routes(gate: Faces, server: SocketAddr, pages: &[&str]) -> Value {
    let balanced =
        |address: SocketAddr| json!({"loadBalancer": {"servers": [{"url": format!("http://{address}")}]}});
    let auth = json!({"forwardAuth": {
        "address": format!("http://{}/forward-auth", gate.forward_auth),
        "forwardBody": true,
        "maxBodySize": LARGEST_BODY,
        "preserveRequestMethod": true,
        "trustForwardHeader": false,
        "authResponseHeaders": DECIDED,
    }});
    let cors = json!({"headers": {
        "accessControlAllowOriginList": pages,
        "accessControlExposeHeaders": ["WWW-Authenticate", "Mcp-Session-Id", "MCP-Protocol-Version"],
        "addVaryHeader": true,
    }});
    // Traefik leaves it out when it asks the gate, and would send it on to the server.
    let no_upgrade = json!({"headers": {"customRequestHeaders": {"Upgrade": ""}}});
    json!({"http": {
        "routers": {
            "metadata": {"rule": format!("PathPrefix(`{WELL_KNOWN}`)"), "entryPoints": ["web"], "service": "metadata"},
            "preflights": {"rule": "Method(`OPTIONS`)", "entryPoints": ["web"], "service": "metadata"},
            "mcp": {"rule": "PathPrefix(`/`)", "entryPoints": ["web"], "middlewares": ["cors", "no-upgrade", "auth"], "service": "server"},
        },
        "middlewares": {"cors": cors, "no-upgrade": no_upgrade, "auth": auth},
        "services": {"metadata": balanced(gate.proxy), "server": balanced(server)},
    }})
}
