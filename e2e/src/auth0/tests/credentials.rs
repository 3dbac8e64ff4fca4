use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use super::support::{Bench, MCP, Reply, credentials};

pub(super) struct Key {
    pair: KeyPair,
    kid: &'static str,
}

impl Key {
    pub(super) fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        Self { pair, kid }
    }

    fn body(&self) -> Value {
        json!({
            "credential_type": "public_key", "name": self.kid, "pem": self.pair.public_key_pem(), "alg": "RS256",
            "kid": self.kid,
        })
    }

    pub(super) fn jwk(&self) -> Value {
        let key = EncodingKey::from_rsa_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.kid.to_owned());
        let key = EncodingKey::from_rsa_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }
}

/// A machine with two stored keys, neither of them in use; its id, and theirs.
async fn stored(bench: &Bench, keys: [&Key; 2]) -> (String, [String; 2]) {
    bench.api(MCP, &["a"], json!({})).await;
    let body = json!({
        "name": "machine", "app_type": "non_interactive", "grant_types": ["client_credentials"],
        "jwt_configuration": {"alg": "RS256"}, "token_endpoint_auth_method": "client_secret_post",
    });
    let (id, _) = credentials(&bench.post("clients", body).await.ok(201));
    bench.grant(&id, MCP, "client", &["a"]).await;
    let mut ids = Vec::new();
    for key in keys {
        let stored = bench
            .post(&format!("clients/{id}/credentials"), key.body())
            .await
            .ok(201);
        ids.push(stored["id"].as_str().unwrap().to_owned());
    }
    (id, ids.try_into().unwrap())
}

fn in_use(ids: &[&str]) -> Value {
    let credentials: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
    json!({
        "client_authentication_methods": {"private_key_jwt": {"credentials": credentials}},
        "token_endpoint_auth_method": null,
    })
}

pub(super) fn claims(bench: &Bench, client: &str) -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    let jti: u128 = rand::random();
    json!({
        "iss": client, "sub": client, "aud": bench.auth0.issuer(), "iat": now, "exp": now + 60, "jti": jti.to_string(),
    })
}

async fn ask(bench: &Bench, client: &str, assertion: &str) -> Reply {
    bench
        .token(&[
            ("grant_type", "client_credentials"),
            ("client_id", client),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
            ("audience", MCP),
        ])
        .await
}

/// Recorded (TestAccClientCredentialsPrivateKeyJWTFullRotation): a key that is stored does nothing; then two are in use;
/// the secret is hidden; then one; then the other can be deleted.
#[tokio::test]
async fn keys_rotate_as_recorded() {
    let bench = Bench::new().await;
    let (one, two) = (Key::new("key-number-one"), Key::new("key-number-two"));
    let (id, [first, second]) = stored(&bench, [&one, &two]).await;
    let path = format!("clients/{id}");
    ask(&bench, &id, &one.sign(&claims(&bench, &id)))
        .await
        .no(401, "access_denied");

    let client = bench.patch(&path, in_use(&[&first, &second])).await.ok(200);
    assert!(client.get("client_secret").is_none() && client.get("token_endpoint_auth_method").is_none());
    assert!(bench.get(&path).await.ok(200).get("client_secret").is_none());
    for key in [&one, &two] {
        ask(&bench, &id, &key.sign(&claims(&bench, &id))).await.ok(200);
    }
    // Choice: what is in use cannot be deleted.
    bench
        .delete(&format!("{path}/credentials/{first}"))
        .await
        .no(400, "in use");
    bench.patch(&path, in_use(&[&second])).await.ok(200);
    ask(&bench, &id, &one.sign(&claims(&bench, &id)))
        .await
        .no(401, "access_denied");
    ask(&bench, &id, &two.sign(&claims(&bench, &id))).await.ok(200);
    bench.delete(&format!("{path}/credentials/{first}")).await.ok(204);
    bench
        .delete(&format!("{path}/credentials/{first}"))
        .await
        .no(404, "credential");

    let secret =
        json!({"client_authentication_methods": null, "token_endpoint_auth_method": "client_secret_post"});
    let client = bench.patch(&path, secret).await.ok(200);
    assert!(client.get("client_secret").is_some());
    ask(&bench, &id, &two.sign(&claims(&bench, &id)))
        .await
        .no(401, "access_denied");
}

/// "Rotate Credentials": two at one time. The schema of a credential.
#[tokio::test]
async fn a_client_stores_two_well_formed_keys() {
    let bench = Bench::new().await;
    let (one, two) = (Key::new("key-number-one"), Key::new("key-number-two"));
    let (id, [first, _]) = stored(&bench, [&one, &two]).await;
    let path = format!("clients/{id}/credentials");
    bench
        .post(&path, Key::new("key-number-three").body())
        .await
        .no(400, "two credentials");
    bench.delete(&format!("{path}/{first}")).await.ok(204);
    bench.post(&path, two.body()).await.no(409, "kid");
    for (field, value) in [
        ("kid", json!("short")),
        ("kid", json!("with spaces in it")),
        (
            "pem",
            json!("-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"),
        ),
        ("pem", json!(one.pair.serialize_pem())),
        ("alg", json!("ES256")),
        ("credential_type", json!("x509_cert")),
        ("expires_at", json!("tomorrow, at about ten")),
        ("no_such_field", json!(1)),
    ] {
        let mut body = one.body();
        body[field] = value.clone();
        let reply = bench.post(&path, body).await;
        assert_eq!(reply.status, 400, "{field}: {value}");
    }
    let stored = bench.post(&path, one.body()).await.ok(201);
    assert!(stored.get("pem").is_none());
    let path = format!("{path}/{}", stored["id"].as_str().unwrap());
    bench
        .patch(&path, json!({"name": "x"}))
        .await
        .no(400, "Additional");
    let changed = bench
        .patch(&path, json!({"expires_at": "2030-01-01T00:00:00.000Z"}))
        .await
        .ok(200);
    assert_eq!(bench.get(&path).await.ok(200), changed);
}

/// "Authenticate with Private Key JWT": once, for five minutes at most, from the client about itself, for the issuer.
#[tokio::test]
async fn an_assertion_must_be_good() {
    let bench = Bench::new().await;
    let (one, two) = (Key::new("key-number-one"), Key::new("key-number-two"));
    let (id, [first, _]) = stored(&bench, [&one, &two]).await;
    bench
        .patch(&format!("clients/{id}"), in_use(&[&first]))
        .await
        .ok(200);
    let now = jsonwebtoken::get_current_timestamp();
    let token_endpoint = format!("{}oauth/token", bench.auth0.issuer());
    for (claim, value) in [
        ("aud", json!(bench.auth0.url())),
        ("aud", json!(token_endpoint)),
        ("aud", json!([bench.auth0.issuer(), "https://other.example/"])),
        ("iss", json!("somebody")),
        ("sub", json!("somebody")),
        ("exp", json!(now - 1)),
        ("exp", json!(now + 600)),
        ("exp", Value::Null),
        ("iat", json!(now + 60)),
        ("nbf", json!(now + 60)),
        ("jti", Value::Null),
        ("jti", json!("x".repeat(65))),
    ] {
        let mut claims = claims(&bench, &id);
        claims[claim] = value.clone();
        let reply = ask(&bench, &id, &one.sign(&claims)).await;
        assert_eq!(reply.status, 401, "{claim}: {value}");
    }
    // Signed by a key that is stored but not in use, and by a stranger's under a known name.
    ask(&bench, &id, &two.sign(&claims(&bench, &id)))
        .await
        .no(401, "access_denied");
    let forged = Key::new("key-number-one").sign(&claims(&bench, &id));
    ask(&bench, &id, &forged).await.no(401, "access_denied");

    let good = one.sign(&claims(&bench, &id));
    ask(&bench, &id, &good).await.ok(200);
    ask(&bench, &id, &good).await.no(401, "access_denied");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &id),
        ("client_secret", "whatever"),
        ("audience", MCP),
    ];
    bench.token(&form).await.no(401, "access_denied");
}

/// A key is good until it expires.
#[tokio::test]
async fn a_key_ends_with_its_time() {
    let bench = Bench::new().await;
    let (one, two) = (Key::new("key-number-one"), Key::new("key-number-two"));
    let (id, [first, _]) = stored(&bench, [&one, &two]).await;
    bench
        .patch(&format!("clients/{id}"), in_use(&[&first]))
        .await
        .ok(200);
    ask(&bench, &id, &one.sign(&claims(&bench, &id))).await.ok(200);
    let past = json!({"expires_at": "2020-01-01T00:00:00.000Z"});
    bench
        .patch(&format!("clients/{id}/credentials/{first}"), past)
        .await
        .ok(200);
    ask(&bench, &id, &one.sign(&claims(&bench, &id)))
        .await
        .no(401, "access_denied");
}

/// The two ways exclude each other; a key wants RS256; credentials named in a change must be there.
#[tokio::test]
async fn keys_and_secrets_exclude_each_other() {
    let mut bench = Bench::new().await;
    let (one, two) = (Key::new("key-number-one"), Key::new("key-number-two"));
    let (id, [first, _]) = stored(&bench, [&one, &two]).await;
    let path = format!("clients/{id}");
    let mut both = in_use(&[&first]);
    both.as_object_mut().unwrap().remove("token_endpoint_auth_method");
    bench.patch(&path, both).await.no(400, "exclude each other");
    bench
        .patch(&path, in_use(&["cred_x"]))
        .await
        .no(400, "does not exist");
    bench.patch(&path, in_use(&[&first])).await.ok(200);
    bench
        .post(&format!("{path}/rotate-secret"), json!({}))
        .await
        .no(400, "key");
    bench
        .patch(&path, json!({"client_secret": "x"}))
        .await
        .no(400, "key");

    bench.only(&["update:clients", "create:clients"]).await;
    bench
        .patch(&path, in_use(&[&first]))
        .await
        .no(403, "update:client_credentials");
    let inline =
        json!({"name": "c", "client_authentication_methods": {"private_key_jwt": {"credentials": []}}});
    bench
        .post("clients", inline)
        .await
        .no(403, "create:client_credentials");
}

/// "Create a client" with keys in the body, which becomes references.
#[tokio::test]
async fn a_client_can_be_made_with_its_key() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a"], json!({})).await;
    let key = Key::new("key-number-one");
    let body = json!({
        "name": "c", "grant_types": ["client_credentials"], "jwt_configuration": {"alg": "RS256"},
        "client_authentication_methods": {"private_key_jwt": {"credentials": [key.body()]}},
    });
    let client = bench.post("clients", body).await.ok(201);
    assert!(client.get("client_secret").is_none());
    let list = client["client_authentication_methods"]["private_key_jwt"]["credentials"].clone();
    assert_eq!(list[0].as_object().unwrap().keys().collect::<Vec<_>>(), ["id"]);
    let id = client["client_id"].as_str().unwrap();
    bench.grant(id, MCP, "client", &["a"]).await;
    ask(&bench, id, &key.sign(&claims(&bench, id))).await.ok(200);
    bench.auth0.advance(Duration::from_mins(2));
    ask(&bench, id, &key.sign(&claims(&bench, id)))
        .await
        .no(401, "access_denied");
}

/// The operator's own application can have a key instead of a secret.
#[tokio::test]
async fn the_operator_can_have_a_key() {
    let bench = Bench::new().await;
    let key = Key::new("key-of-the-operator");
    let id = bench.auth0.operator().client_id.clone();
    bench
        .auth0
        .authenticate_operator_with(&key.pair.public_key_pem(), key.kid)
        .unwrap();
    let audience = bench.auth0.management_audience();
    let assertion = key.sign(&claims(&bench, &id));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &id),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", &assertion),
        ("audience", &audience),
    ];
    let token = bench.token(&form).await.ok(200);
    assert!(
        token["scope"]
            .as_str()
            .unwrap()
            .contains("update:tenant_settings")
    );
    let secret = secrecy::ExposeSecret::expose_secret(&bench.auth0.operator().client_secret);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", id.as_str()),
        ("client_secret", secret),
        ("audience", &audience),
    ];
    bench.token(&form).await.no(401, "access_denied");
}
