//! An authorization server of which nothing is real but the keys: it publishes them, and signs whatever it is asked to.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use url::form_urlencoded;

use super::{
    http1::{Reader, Side},
    keys::SigningKey,
};

/// The issuer. It ends when it is dropped.
pub struct TestIssuer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    keys: Mutex<Keys>,
    exchanges: Mutex<Vec<Vec<(String, String)>>>,
    fetches: AtomicUsize,
    is_down: AtomicBool,
}

#[derive(Clone)]
struct Keys {
    rsa: Arc<SigningKey>,
    ec: Arc<SigningKey>,
    /// How often the EC key was replaced.
    generation: usize,
}

impl TestIssuer {
    /// Starts one with an RSA and an EC key, on a port of 127.0.0.1, over plain HTTP.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            keys: Mutex::new(Keys {
                rsa: Arc::new(SigningKey::rsa("rsa")?),
                ec: Arc::new(SigningKey::ec("ec-0")?),
                generation: 0,
            }),
            exchanges: Mutex::default(),
            fetches: AtomicUsize::new(0),
            is_down: AtomicBool::new(false),
        });
        let serving = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&shared)));
                }
            }
        });
        Ok(Self {
            address,
            shared,
            serving,
        })
    }

    /// The `iss` of its tokens.
    pub fn issuer(&self) -> String {
        format!("http://{}/realms/test", self.address)
    }

    /// Where its keys are.
    pub fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.issuer())
    }

    /// Where tokens are exchanged.
    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.issuer())
    }

    /// The key that signs ordinary tokens.
    pub fn ec_key(&self) -> Arc<SigningKey> {
        lock(&self.shared.keys).ec.clone()
    }

    /// The other key.
    pub fn rsa_key(&self) -> Arc<SigningKey> {
        lock(&self.shared.keys).rsa.clone()
    }

    /// Claims of a good access token for this audience with these scopes, for five minutes, as a value to change.
    pub fn claims(&self, audience: &str, scope: &str) -> anyhow::Result<Value> {
        let now = now()?;
        Ok(json!({
            "iss": self.issuer(),
            "sub": "alice",
            "aud": audience,
            "exp": now + 300,
            "iat": now,
            "client_id": "agent",
            "scope": scope,
            // Every token is another one.
            "jti": format!("{:x}", rand::random::<u128>()),
        }))
    }

    /// Signs with the key of ordinary tokens.
    pub fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let key = self.ec_key();
        key.sign(&key.header(), claims)
    }

    /// Replaces the EC key by a new one with a new id; tokens signed before are not to be accepted any more.
    pub fn rotate(&self) -> anyhow::Result<()> {
        let mut keys = lock(&self.shared.keys);
        keys.generation += 1;
        keys.ec = Arc::new(SigningKey::ec(&format!("ec-{}", keys.generation))?);
        Ok(())
    }

    /// From now on connections are closed without an answer, or answered again.
    pub fn set_down(&self, down: bool) {
        self.shared.is_down.store(down, Ordering::SeqCst);
    }

    /// How often the keys were asked for, answered or not.
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// The forms of all exchanges that were asked for.
    pub fn exchanges(&self) -> Vec<Vec<(String, String)>> {
        lock(&self.shared.exchanges).clone()
    }
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Seconds of Unix time.
pub fn now() -> anyhow::Result<i64> {
    #[expect(clippy::disallowed_methods, reason = "tokens of a test are for this moment")]
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).context("it is before 1970")?;
    Ok(i64::try_from(since.as_secs())?)
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> anyhow::Result<()> {
    let (source, mut sink) = stream.into_split();
    let mut reader = Reader::new(source);
    while let Some(mut request) = reader.head().await? {
        reader.body(&mut request, Side::Requests).await?;
        let (status, body) = match request.request_line() {
            ("GET", "/realms/test/jwks") => {
                shared.fetches.fetch_add(1, Ordering::SeqCst);
                ("200 OK", shared.jwks()?)
            }
            ("POST", "/realms/test/token") => ("200 OK", shared.exchange(&request.body)?),
            _ => ("404 Not Found", json!({})),
        };
        if shared.is_down.load(Ordering::SeqCst) {
            return Ok(());
        }
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        sink.write_all(format!("{head}{body}").as_bytes()).await?;
    }
    Ok(())
}

impl Shared {
    fn jwks(&self) -> anyhow::Result<Value> {
        let keys = lock(&self.keys).clone();
        Ok(json!({"keys": [keys.rsa.public_jwk()?, keys.ec.public_jwk()?]}))
    }

    /// RFC 8693: a token for the audience that the scopes belong to, as Keycloak does it: `reports:read` is of
    /// `https://reports.example`.
    fn exchange(&self, form: &[u8]) -> anyhow::Result<Value> {
        let form: Vec<(String, String)> = form_urlencoded::parse(form).into_owned().collect();
        let field = |name: &str| {
            let found = form.iter().find(|(field, _)| field == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let now = now()?;
        let claims = json!({
            "aud": format!("https://{}.example", field("scope").split(':').next().unwrap_or_default()),
            "scope": field("scope"),
            "exp": now + 300,
            "jti": format!("{:x}", rand::random::<u128>()),
        });
        lock(&self.exchanges).push(form.clone());
        let key = lock(&self.keys).ec.clone();
        Ok(json!({
            "access_token": key.sign(&key.header(), &claims)?,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": field("scope"),
        }))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
