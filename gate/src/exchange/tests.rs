mod caller;
mod kept;
mod reply;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::testing::{
    AuthorizationServer, ManualClock, NOW, Script, Signer, TARGET, allowed, claims, exchange, issued, policy,
};

/// Everything that an exchange needs.
struct Stage {
    server: AuthorizationServer,
    signer: Signer,
    clock: Arc<ManualClock>,
    exchanges: Arc<Exchanges>,
    policy: Arc<Policy>,
}

impl Stage {
    /// The authorization server gives each call a token of its own, good for two minutes.
    async fn new() -> Self {
        let signer = Signer::new("one");
        let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
        let clock = ManualClock::at(NOW);
        let exchanges = Arc::new(Exchanges::new(Outbound::new(false), clock.clone()));
        exchanges.set_client(Some(&client("s3cret")));
        let policy = policy(&server, &json!({"exchanges": [exchange("orders", "Header")]}));
        exchanges.follow(&policy);
        let stage = Self {
            server,
            signer,
            clock,
            exchanges,
            policy,
        };
        stage.issue(120, Duration::ZERO);
        stage
    }

    /// The authorization server gives each call a token of its own from now on.
    fn issue(&self, lifetime: i64, delay: Duration) {
        let signer = Signer::new("issuer");
        let number = std::sync::atomic::AtomicUsize::new(0);
        self.server.set_token(move |_| {
            let number = number.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let token = signer.sign(&json!({"aud": TARGET, "exp": NOW + 3600, "jti": number}));
            Script::json(200, &issued(&token, lifetime)).after(delay)
        });
    }

    /// What this caller's request gets.
    async fn header_token(&self, changes: &Value) -> Result<Option<SecretString>, Box<Answer>> {
        self.header_token_by(&self.policy, changes).await
    }

    async fn header_token_by(
        &self,
        policy: &Policy,
        changes: &Value,
    ) -> Result<Option<SecretString>, Box<Answer>> {
        let token = self.signer.sign(&claims(&self.server, changes));
        let allowed = allowed(policy, &self.signer, &token);
        self.exchanges.header_token(policy, &allowed).await
    }

    fn calls(&self) -> usize {
        self.server.calls().len()
    }
}

fn client(secret: &str) -> ClientCredentials {
    ClientCredentials {
        id: "https://mcp.example.com/mcp".to_owned(),
        secret: secret.into(),
    }
}
