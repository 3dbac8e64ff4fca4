//! The faces besides the proxy: each listens only where a flag says so.

use std::sync::Arc;

use mcp_auth_cli::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    arbiter::Arbiter,
    authorizer::Authorizer,
    config::Config,
    exchange::Exchanges,
    ext_authz::ExtAuthz,
    forward_auth::ForwardAuth,
    handles::Handles,
    http_face::{self, Bounds},
    run::{RunError, listen},
    tokens_face::{Peers, Purchases, TokensFace},
};

#[cfg(test)]
mod tests;

/// How many handles there are per request at a time: one, and those whose answers are just ending.
const HANDLES_PER_REQUEST: usize = 2;

/// The faces that are on, with their listeners.
pub(crate) struct Faces {
    tokens: Option<(TokensFace, TcpListener)>,
    ext_authz: Option<(ExtAuthz, TcpListener)>,
    forward_auth: Option<(ForwardAuth, TcpListener)>,
    bounds: Bounds,
}

impl Faces {
    /// Listens for the faces that are on.
    pub(crate) async fn bind(
        config: &Config,
        arbiter: &Arbiter,
        registry: &mut Registry,
    ) -> Result<Self, RunError> {
        let mut faces = Self {
            tokens: None,
            ext_authz: None,
            forward_auth: None,
            bounds: Bounds {
                connections: config.limits.connections,
                header_read: config.timeouts.header_read,
                header: config.limits.header,
            },
        };
        if let Some(address) = config.addresses.tokens {
            let listener = listen("tokens", address).await?;
            let face = tokens(config, &listener, &arbiter.authorizer, &arbiter.exchanges)?;
            face.handles.register(registry);
            face.purchases.register(registry);
            faces.tokens = Some((face, listener));
        }
        if let Some(address) = config.addresses.ext_authz {
            let listener = listen("ext_authz", address).await?;
            faces.ext_authz = Some((ExtAuthz::new(arbiter.clone()), listener));
        }
        if let Some(address) = config.addresses.forward_auth {
            let listener = listen("forward_auth", address).await?;
            faces.forward_auth = Some((ForwardAuth::new(arbiter.clone()), listener));
        }
        Ok(faces)
    }

    /// The handles that the proxy mints; none when nobody could use them.
    pub(crate) fn handles(&self) -> Option<Handles> {
        self.tokens.as_ref().map(|(face, _)| face.handles.clone())
    }

    /// Serves until asked to stop. The server may buy tokens for as long as `proxy` has requests of it.
    pub(crate) async fn serve(self, shutdown: Shutdown, proxy: JoinHandle<()>) {
        let requested = {
            let shutdown = shutdown.clone();
            move || {
                let shutdown = shutdown.clone();
                async move { shutdown.requested().await }
            }
        };
        let (proxy_ended, ended) = tokio::sync::oneshot::channel::<()>();
        let proxy = async {
            let _ = proxy.await;
            drop(proxy_ended);
        };
        let tokens = async {
            if let Some((face, listener)) = self.tokens {
                let stop = async {
                    let _ = ended.await;
                };
                http_face::serve(listener, face.router(), self.bounds, stop).await;
            }
        };
        let ext_authz = async {
            if let Some((face, listener)) = self.ext_authz
                && let Err(error) = face.serve(listener, requested()).await
            {
                tracing::error!(face = "ext_authz", %error, "a face ended");
            }
        };
        let forward_auth = async {
            if let Some((face, listener)) = self.forward_auth {
                http_face::serve(listener, face.router(), self.bounds, requested()).await;
            }
        };
        tokio::join!(proxy, tokens, ext_authz, forward_auth);
    }
}

fn tokens(
    config: &Config,
    listener: &TcpListener,
    authorizer: &Arc<Authorizer>,
    exchanges: &Arc<Exchanges>,
) -> Result<TokensFace, RunError> {
    let mut own = listener.local_addr().map_err(|error| RunError::Listen {
        address: config.addresses.tokens.unwrap_or(config.addresses.proxy),
        error,
    })?;
    let mut peers = None;
    if let Some(replicas) = &config.replicas {
        own.set_ip(replicas.own);
        peers = Some(Arc::new(
            Peers::new(&replicas.peers).map_err(|_| RunError::Client)?,
        ));
    }
    let most = config.limits.requests.saturating_mul(HANDLES_PER_REQUEST);
    let handles = Handles::new(own, most, Arc::clone(authorizer.clock()));
    Ok(TokensFace {
        authorizer: Arc::clone(authorizer),
        exchanges: Arc::clone(exchanges),
        handles,
        peers,
        purchases: Purchases::default(),
    })
}
