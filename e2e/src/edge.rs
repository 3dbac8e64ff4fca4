//! The public address of one server. Like an ingress it ends TLS, and passes on what comes as it came.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::pki::Authority;

/// Listens with a certificate of the run's authority, on a port of its own. It ends when it is dropped.
pub struct Edge {
    address: SocketAddr,
    to: Arc<Mutex<Option<SocketAddr>>>,
    serving: AbortHandle,
}

impl Edge {
    /// Listens at an address of this machine. Connections are closed until they are led somewhere.
    pub async fn start(host: Ipv4Addr, authority: &Authority) -> anyhow::Result<Self> {
        let tls = TlsAcceptor::from(authority.server_certificate_at(&host.to_string())?.tls_config()?);
        let listener = TcpListener::bind((host, 0)).await.context("no public address")?;
        let address = listener.local_addr()?;
        let to = Arc::<Mutex<Option<SocketAddr>>>::default();
        let serving = tokio::spawn(serve(listener, tls, Arc::clone(&to))).abort_handle();
        Ok(Self { address, to, serving })
    }

    /// Its host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The canonical URI of an MCP server behind it.
    pub fn resource(&self) -> String {
        format!("https://{}/mcp", self.address)
    }

    /// Leads connections here from now on, such as to the address of a Service.
    pub fn lead_to(&self, address: SocketAddr) {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, to: Arc<Mutex<Option<SocketAddr>>>) {
    let mut connections = JoinSet::new();
    loop {
        // An error of accept concerns one connection that is already gone.
        if let Ok((stream, _)) = listener.accept().await {
            let to = *to.lock().unwrap_or_else(PoisonError::into_inner);
            let tls = tls.clone();
            // Errors of a connection are the other side's to notice.
            connections.spawn(async move { pass(stream, &tls, to).await.ok() });
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(stream: TcpStream, tls: &TlsAcceptor, to: Option<SocketAddr>) -> anyhow::Result<()> {
    let mut outside = tls.accept(stream).await?;
    let mut inside = TcpStream::connect(to.context("it leads nowhere yet")?).await?;
    inside.set_nodelay(true)?;
    copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}
