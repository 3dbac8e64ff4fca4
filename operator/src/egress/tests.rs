mod addresses;
mod exchanges;
mod keeping;
mod tls;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// Everything that the flags can open.
const DEVELOPMENT: EgressPolicy = EgressPolicy {
    allow_http: true,
    allow_private_for_tenants: true,
    insecure_allow_loopback: true,
};

/// Only plain http is opened: what is left is the check of addresses.
const PLAIN: EgressPolicy = EgressPolicy {
    allow_http: true,
    allow_private_for_tenants: false,
    insecure_allow_loopback: false,
};

/// A server on loopback that treats each connection with `serve`, and counts them.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { port, connections }
    }

    /// A server that gives this answer and closes the connection.
    async fn answering(answer: impl Into<String>) -> Self {
        let answer: Arc<str> = answer.into().into();
        Self::start(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                read_request(&mut stream).await?;
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            }
        })
        .await
    }

    fn url(&self, host: &str) -> Url {
        format!("http://{host}:{}/path", self.port).parse().unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Reads a request without a body.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await?;
        request.push(byte);
    }
    Ok(String::from_utf8_lossy(&request).into_owned())
}

fn client(policy: EgressPolicy, audience: Audience) -> EgressClient {
    Egress::new(policy).client(audience, None).unwrap()
}
