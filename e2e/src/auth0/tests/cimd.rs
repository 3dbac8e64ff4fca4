use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{
    credentials::{Key, claims},
    support::{Bench, CALLBACK, MCP, login},
};
use crate::oauth::OAuthClient;

/// A site at `client.example`, which answers with keys at `/keys` and with one document everywhere else.
struct Site {
    address: SocketAddr,
    shown: Arc<Mutex<(StatusCode, String)>>,
    keys: Arc<Mutex<String>>,
}

impl Site {
    async fn start(bench: &Bench) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        bench.auth0.publish("client.example", address);
        let certificate = bench
            .authority
            .server_certificate_for(&["client.example"])
            .unwrap();
        let tls = TlsAcceptor::from(certificate.tls_config().unwrap());
        let site = Self {
            address,
            shown: Arc::new(Mutex::new((StatusCode::OK, String::new()))),
            keys: Arc::default(),
        };
        let (shown, keys) = (Arc::clone(&site.shown), Arc::clone(&site.keys));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = tls.accept(stream).await else {
                    continue;
                };
                let (shown, keys) = (Arc::clone(&shown), Arc::clone(&keys));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (status, body) = match request.uri().path() {
                        "/keys" => (StatusCode::OK, keys.lock().unwrap().clone()),
                        _ => shown.lock().unwrap().clone(),
                    };
                    let answer = Response::builder().status(status);
                    let answer = answer.header(header::LOCATION, "https://client.example/other");
                    async move { answer.body(Full::<Bytes>::from(body)) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        site
    }

    fn url(&self) -> String {
        format!("https://client.example:{}/oauth/client.json", self.address.port())
    }

    /// Publishes these keys.
    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        *self.keys.lock().unwrap() = json!({"keys": keys}).to_string();
    }

    fn show(&self, document: &Value) {
        *self.shown.lock().unwrap() = (StatusCode::OK, document.to_string());
    }

    fn document(&self) -> Value {
        json!({
            "client_id": self.url(), "client_name": "An MCP client", "redirect_uris": [CALLBACK],
            "grant_types": ["authorization_code"], "token_endpoint_auth_method": "none",
            "client_uri": "https://client.example/",
        })
    }
}

/// Recorded (TestAccClientCIMD): what a registered document becomes. "Register": 201, and 200 for the same address.
#[tokio::test]
async fn a_document_becomes_a_client_once() {
    let bench = Bench::new().await;
    let site = Site::start(&bench).await;
    site.show(&site.document());
    let body = json!({"external_client_id": site.url()});
    let registered = bench.post("clients/cimd/register", body.clone()).await.ok(201);
    let id = registered["client_id"].as_str().unwrap();
    assert!(id.starts_with("tpc_"));
    assert_eq!(
        registered["mapped_fields"],
        json!({
            "external_client_id": site.url(), "name": "An MCP client", "callbacks": [CALLBACK],
            "grant_types": ["authorization_code"], "app_type": "native", "token_endpoint_auth_method": "none",
        })
    );
    let validation = &registered["validation"];
    assert_eq!(
        (&validation["valid"], &validation["violations"]),
        (&json!(true), &json!([]))
    );
    assert!(validation["warnings"][0].as_str().unwrap().contains("client_uri"));

    let client = bench.get(&format!("clients/{id}")).await.ok(200);
    for (field, value) in [
        ("external_client_id", json!(site.url())),
        ("external_metadata_type", json!("cimd")),
        ("external_metadata_created_by", json!("admin")),
        ("third_party_security_mode", json!("strict")),
        ("is_first_party", json!(false)),
    ] {
        assert_eq!(client[field], value, "{field}");
    }
    let again = bench.post("clients/cimd/register", body).await.ok(200);
    assert_eq!(again["client_id"], id);
    let found = bench
        .get(&format!("clients?external_client_id={}", site.url()))
        .await
        .ok(200);
    assert_eq!(found.as_array().unwrap().len(), 1);
}

/// "Idempotent upsert": calling again takes over the document, also what an administrator had changed of it.
#[tokio::test]
async fn registering_again_follows_the_document() {
    let bench = Bench::new().await;
    let site = Site::start(&bench).await;
    site.show(&site.document());
    let body = json!({"external_client_id": site.url()});
    let registered = bench.post("clients/cimd/register", body.clone()).await.ok(201);
    let path = format!("clients/{}", registered["client_id"].as_str().unwrap());
    let change = json!({
        "grant_types": ["authorization_code", "refresh_token"], "app_type": "spa", "description": "kept",
        "client_metadata": {"owner": "team"}, "oidc_conformant": true,
    });
    let changed = bench.patch(&path, change).await.ok(200);
    // Recorded: the answer to a change does not say where the metadata come from.
    assert!(changed.get("external_client_id").is_none());
    let mut document = site.document();
    document["client_name"] = json!("Renamed");
    document["redirect_uris"] = json!(["https://client.example/new"]);
    site.show(&document);
    bench.post("clients/cimd/register", body).await.ok(200);
    let client = bench.get(&path).await.ok(200);
    assert_eq!(client["name"], "Renamed");
    assert_eq!(client["callbacks"], json!(["https://client.example/new"]));
    assert_eq!(client["grant_types"], json!(["authorization_code"]));
    assert_eq!(client["app_type"], "native");
    assert_eq!(client["description"], "kept");
    assert_eq!(client["client_metadata"], json!({"owner": "team"}));
}

/// What a document decides cannot be changed here.
#[tokio::test]
async fn what_a_document_says_cannot_be_changed() {
    let bench = Bench::new().await;
    let site = Site::start(&bench).await;
    site.show(&site.document());
    let body = json!({"external_client_id": site.url()});
    let registered = bench.post("clients/cimd/register", body).await.ok(201);
    let path = format!("clients/{}", registered["client_id"].as_str().unwrap());
    for (field, value) in [
        ("name", json!("x")),
        ("callbacks", json!(["https://evil.example/"])),
        ("logo_uri", json!("https://evil.example/l.png")),
        ("token_endpoint_auth_method", json!("client_secret_post")),
        ("client_secret", json!("chosen")),
        ("grant_types", json!(["client_credentials"])),
    ] {
        bench.patch(&path, json!({field: value})).await.no(
            400,
            if field == "grant_types" {
                "client_credentials"
            } else {
                field
            },
        );
    }
    let key = json!({"credential_type": "public_key", "pem": "x"});
    let reply = bench.post(&format!("{path}/credentials"), key).await;
    reply.no(400, "The keys of this client are those of its document");
}

/// "Register applications with CIMD": where a document may be.
#[tokio::test]
async fn not_every_address_is_that_of_a_document() {
    let bench = Bench::new().await;
    let long = format!("https://client.example/{}", "x".repeat(120));
    for address in [
        "http://client.example/c.json",
        "https://localhost/c.json",
        "https://127.0.0.1/c.json",
        "https://[::1]/c.json",
        "https://client.example",
        "https://client.example/",
        "https://client.example/a/../c.json",
        "https://client.example/%2e%2e/c.json",
        "https://client.example/c.json?x=1",
        "https://client.example/c.json#x",
        "https://user@client.example/c.json",
        "https://client.example:0/c.json",
        "client.example/c.json",
        &long,
    ] {
        for call in ["preview", "register"] {
            let body = json!({"external_client_id": address});
            let reply = bench.post(&format!("clients/cimd/{call}"), body).await;
            assert_eq!(reply.status, 400, "{address}: {}", reply.body);
        }
    }
}

/// "Document rules". A preview tells them; choice: a registration is refused.
#[tokio::test]
async fn a_document_must_keep_the_rules() {
    let bench = Bench::new().await;
    let site = Site::start(&bench).await;
    let body = json!({"external_client_id": site.url()});
    for (field, value) in [
        ("client_id", json!("https://other.example/c.json")),
        ("client_name", Value::Null),
        ("redirect_uris", json!([])),
        ("redirect_uris", json!(["https://*.client.example/"])),
        ("grant_types", json!(["client_credentials"])),
        ("token_endpoint_auth_method", json!("client_secret_post")),
        ("token_endpoint_auth_method", Value::Null),
        ("jwks", json!({"keys": []})),
        ("client_secret", json!("x")),
    ] {
        let mut document = site.document();
        document[field] = value.clone();
        site.show(&document);
        let preview = bench.post("clients/cimd/preview", body.clone()).await.ok(200);
        assert_eq!(preview["validation"]["valid"], false, "{field}: {value}");
        assert_eq!(
            preview["validation"]["violations"].as_array().unwrap().len(),
            1,
            "{field}: {value}"
        );
        bench
            .post("clients/cimd/register", body.clone())
            .await
            .no(400, "invalid_body");
    }
    let mut document = site.document();
    document["token_endpoint_auth_method"] = json!("private_key_jwt");
    document["jwks_uri"] = json!("https://other.example/keys");
    site.show(&document);
    let preview = bench.post("clients/cimd/preview", body.clone()).await.ok(200);
    assert!(preview.to_string().contains("same origin"));
    let none = bench.get("clients?is_first_party=false").await.ok(200);
    assert_eq!(none, json!([]));
}

/// A document that cannot be had is told in `errors` by a preview: too large, moved, not there, not JSON.
#[tokio::test]
async fn a_document_that_cannot_be_fetched_is_an_error() {
    let bench = Bench::new().await;
    let site = Site::start(&bench).await;
    let body = json!({"external_client_id": site.url()});
    let mut large = site.document();
    large["client_uri"] = json!("x".repeat(5 * 1024));
    for (status, text) in [
        (200, large.to_string()),
        (302, site.document().to_string()),
        (403, site.document().to_string()),
        (200, "<html>".to_owned()),
    ] {
        *site.shown.lock().unwrap() = (StatusCode::from_u16(status).unwrap(), text);
        let preview = bench.post("clients/cimd/preview", body.clone()).await.ok(200);
        assert_eq!(preview["errors"].as_array().unwrap().len(), 1, "{preview}");
        assert_eq!(preview["validation"]["valid"], false);
        bench
            .post("clients/cimd/register", body.clone())
            .await
            .no(400, "invalid_body");
    }
    let elsewhere = json!({"external_client_id": "https://nowhere.example/c.json"});
    let preview = bench.post("clients/cimd/preview", elsewhere).await.ok(200);
    assert!(preview["errors"][0].as_str().unwrap().contains("ENOTFOUND"));
}

/// A preview changes nothing, and names the client if there is one.
#[tokio::test]
async fn a_preview_changes_nothing() {
    let bench = Bench::new().await;
    let site = Site::start(&bench).await;
    site.show(&site.document());
    let body = json!({"external_client_id": site.url()});
    let preview = bench.post("clients/cimd/preview", body.clone()).await.ok(200);
    assert!(preview.get("client_id").is_none());
    assert_eq!(preview["validation"]["valid"], true);
    assert_eq!(bench.get("clients?is_first_party=false").await.ok(200), json!([]));
    let registered = bench.post("clients/cimd/register", body.clone()).await.ok(201);
    let preview = bench.post("clients/cimd/preview", body).await.ok(200);
    assert_eq!(preview["client_id"], registered["client_id"]);
}

/// OAuth knows such a client by its address, not by its id. Choice: only while the tenant says that it serves documents.
#[tokio::test]
async fn oauth_knows_the_client_by_its_address() {
    let bench = Bench::new().await;
    let site = Site::start(&bench).await;
    site.show(&site.document());
    let body = json!({"external_client_id": site.url()});
    let registered = bench.post("clients/cimd/register", body).await.ok(201);
    let id = registered["client_id"].as_str().unwrap();
    let page = async |client: &str| {
        let query = [
            ("client_id", client),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
        ];
        bench.authorize(&query).await.2
    };
    assert!(page(&site.url()).await.contains("Unknown client"));
    let on = json!({"client_id_metadata_document_supported": true});
    bench.patch("tenants/settings", on).await.ok(200);
    assert!(!page(&site.url()).await.contains("Unknown client"));
    assert!(page(id).await.contains("Unknown client"));
}

/// "Document rules" about keys: those at `jwks_uri` are taken over at each registration, but a replaced key with the same
/// id is passed over.
#[tokio::test]
async fn a_document_can_have_keys() {
    let bench = Bench::new().await;
    bench.for_mcp().await;
    bench.alice();
    bench.api(MCP, &["a"], json!({})).await;
    let on = json!({"client_id_metadata_document_supported": true});
    bench.patch("tenants/settings", on).await.ok(200);
    let site = Site::start(&bench).await;
    let mut document = site.document();
    document["token_endpoint_auth_method"] = json!("private_key_jwt");
    document["jwks_uri"] = json!(format!("https://client.example:{}/keys", site.address.port()));
    site.show(&document);
    let body = json!({"external_client_id": site.url()});
    *site.keys.lock().unwrap() = json!({"keys": []}).to_string();
    bench
        .post("clients/cimd/register", body.clone())
        .await
        .no(400, "keys");
    let (first, same_id, second) = (
        Key::new("key-number-one"),
        Key::new("key-number-one"),
        Key::new("key-number-two"),
    );
    site.publish(&[&first]);
    let registered = bench.post("clients/cimd/register", body.clone()).await.ok(201);
    let id = registered["client_id"].as_str().unwrap();
    bench.grant(id, MCP, "user", &["a"]).await;
    let policy = json!({"redirection_policy": "allow_always"});
    bench.patch(&format!("clients/{id}"), policy).await.ok(200);

    let issuer = bench.issuer().await;
    let signs_in = async |key: &Key| {
        let assertion = key.sign(&claims(&bench, &site.url()));
        let client = OAuthClient::asserting(site.url(), assertion.into());
        let code = issuer
            .sign_in(&client, &login("a"))
            .await
            .unwrap()
            .granted()
            .unwrap();
        issuer.redeem(&client, &code).await.unwrap().granted().ok()
    };
    let token = issuer
        .verify(&signs_in(&first).await.unwrap().access_token)
        .await
        .unwrap();
    assert_eq!(token.text("azp"), site.url());
    site.publish(&[&same_id]);
    bench.post("clients/cimd/register", body.clone()).await.ok(200);
    assert!(signs_in(&same_id).await.is_none() && signs_in(&first).await.is_some());
    site.publish(&[&second]);
    bench.post("clients/cimd/register", body).await.ok(200);
    assert!(signs_in(&first).await.is_none() && signs_in(&second).await.is_some());
}
