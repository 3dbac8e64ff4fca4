use secrecy::SecretString;
use serde_json::{Value, json};

use super::support::{Bench, MCP, Reply, encoded};
use crate::oauth::OAuthClient;

async fn ask(bench: &Bench, (id, secret): &(String, String), more: &[(&str, &str)]) -> Reply {
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_id", id),
        ("client_secret", secret),
    ];
    form.extend(more);
    bench.token(&form).await
}

async fn claims(bench: &Bench, reply: Reply) -> (Option<String>, Value) {
    let token = reply.ok(200)["access_token"].as_str().unwrap().to_owned();
    let verified = bench
        .issuer()
        .await
        .verify(&SecretString::from(token))
        .await
        .unwrap();
    (verified.typ, verified.claims)
}

/// "Access Token Profiles": Auth0's own form and RFC 9068's.
#[tokio::test]
async fn a_token_has_the_form_of_its_api() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a", "b"], json!({"token_lifetime": 600})).await;
    let machine = bench.machine().await;
    bench.grant(&machine.0, MCP, "client", &["a", "b"]).await;
    let (typ, mut own) = claims(&bench, ask(&bench, &machine, &[("audience", MCP)]).await).await;
    assert_eq!(typ.as_deref(), Some("JWT"));
    let moments = ["iat", "exp"].map(|name| own.as_object_mut().unwrap().remove(name).unwrap());
    assert_eq!(moments[1].as_u64().unwrap() - moments[0].as_u64().unwrap(), 600);
    let expected = json!({
        "iss": bench.auth0.issuer(), "sub": format!("{}@clients", machine.0), "aud": MCP, "azp": machine.0,
        "scope": "a b", "gty": "client-credentials",
    });
    assert_eq!(own, expected);

    let path = format!("resource-servers/{}", encoded(MCP));
    for dialect in ["rfc9068_profile", "rfc9068_profile_authz"] {
        bench
            .patch(&path, json!({"token_dialect": dialect}))
            .await
            .ok(200);
        let (typ, claims) = claims(&bench, ask(&bench, &machine, &[("audience", MCP)]).await).await;
        assert_eq!(typ.as_deref(), Some("at+jwt"));
        assert_eq!(claims["client_id"], machine.0);
        assert!(claims["jti"].as_str().is_some());
        assert!(claims.get("azp").is_none() && claims.get("gty").is_none());
        // Without enforcement there is no claim, whatever the dialect.
        assert!(claims.get("permissions").is_none());
    }
    bench
        .patch(&path, json!({"enforce_policies": true}))
        .await
        .ok(200);
    let (_, with) = claims(&bench, ask(&bench, &machine, &[("audience", MCP)]).await).await;
    assert_eq!(with["permissions"], json!(["a", "b"]));
    bench
        .patch(&path, json!({"token_dialect": "rfc9068_profile"}))
        .await
        .ok(200);
    let (_, without) = claims(&bench, ask(&bench, &machine, &[("audience", MCP)]).await).await;
    assert!(without.get("permissions").is_none());
}

/// "Resource parameter": it is not among what the compatibility profile covers for this grant.
#[tokio::test]
async fn a_machine_names_its_api_by_audience() {
    let bench = Bench::new().await;
    bench.for_mcp().await;
    bench.api(MCP, &["a"], json!({})).await;
    let machine = bench.machine().await;
    bench.grant(&machine.0, MCP, "client", &["a"]).await;
    ask(&bench, &machine, &[]).await.no(403, "access_denied");
    ask(&bench, &machine, &[("resource", MCP)])
        .await
        .no(403, "access_denied");
    ask(&bench, &machine, &[("audience", "https://mcp.example.com")])
        .await
        .no(403, "Service not found");
    bench
        .patch("tenants/settings", json!({"default_audience": MCP}))
        .await
        .ok(200);
    ask(&bench, &machine, &[]).await.ok(200);
}

/// "Client Credentials Flow": a grant of subject type `client`, no more than it, everything of it if nothing is named.
#[tokio::test]
async fn a_machine_gets_what_its_grant_holds() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a", "b"], json!({})).await;
    let machine = bench.machine().await;
    let audience = ("audience", MCP);
    ask(&bench, &machine, &[audience])
        .await
        .no(403, "You need to create a");
    bench.grant(&machine.0, MCP, "user", &["a", "b"]).await;
    ask(&bench, &machine, &[audience])
        .await
        .no(403, "You need to create a");
    let grant = bench.grant(&machine.0, MCP, "client", &["a"]).await;
    let path = format!("client-grants/{}", grant["id"].as_str().unwrap());
    assert_eq!(ask(&bench, &machine, &[audience]).await.ok(200)["scope"], "a");
    let reply = ask(&bench, &machine, &[audience, ("scope", "a b")]).await;
    reply.no(403, "Client has not been granted scopes: b");
    // A scope that the API has no more is in no token.
    let server = format!("resource-servers/{}", encoded(MCP));
    bench
        .patch(&server, json!({"scopes": [{"value": "b"}]}))
        .await
        .ok(200);
    assert!(
        ask(&bench, &machine, &[audience])
            .await
            .ok(200)
            .get("scope")
            .is_none()
    );
    bench
        .patch(&path, json!({"allow_all_scopes": true}))
        .await
        .ok(200);
    assert_eq!(ask(&bench, &machine, &[audience]).await.ok(200)["scope"], "b");
    let deny = json!({"subject_type_authorization": {"client": {"policy": "deny_all"}}});
    bench.patch(&server, deny).await.ok(200);
    ask(&bench, &machine, &[audience]).await.no(403, "access_denied");
}

/// How clients authenticate: exactly as they were told to.
#[tokio::test]
async fn a_client_authenticates_as_it_is_set() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a"], json!({})).await;
    let (id, secret) = bench.machine().await;
    bench.grant(&id, MCP, "client", &["a"]).await;
    let issuer = bench.issuer().await;
    let form = || -> Vec<(String, String)> {
        [("grant_type", "client_credentials"), ("audience", MCP)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    };
    let post = OAuthClient::confidential(&id, SecretString::from(secret.as_str()));
    let basic = post.clone().with_basic();
    issuer.token(&post, form()).await.unwrap().granted().unwrap();
    let refused = issuer.token(&basic, form()).await.unwrap().refused().unwrap();
    assert_eq!(refused.error, "access_denied");

    let path = format!("clients/{id}");
    let method = json!({"token_endpoint_auth_method": "client_secret_basic"});
    bench.patch(&path, method).await.ok(200);
    issuer.token(&basic, form()).await.unwrap().granted().unwrap();
    issuer.token(&post, form()).await.unwrap().refused().unwrap();
    let public = OAuthClient::public(&id);
    issuer.token(&public, form()).await.unwrap().refused().unwrap();
    let mut twice = form();
    twice.push(("client_secret".to_owned(), secret));
    let refused = issuer.token(&basic, twice).await.unwrap().refused().unwrap();
    assert_eq!(refused.error, "invalid_request");
    let unknown = OAuthClient::confidential("nobody", SecretString::from("x"));
    let refused = issuer.token(&unknown, form()).await.unwrap().refused().unwrap();
    assert_eq!(refused.error, "access_denied");
}

/// The token endpoint takes forms and JSON, and nothing twice (RFC 6749 section 3.2); other grants are unknown.
#[tokio::test]
async fn a_request_for_a_token_is_well_formed() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a"], json!({})).await;
    let machine = bench.machine().await;
    bench.grant(&machine.0, MCP, "client", &["a"]).await;
    let url = format!("{}/oauth/token", bench.auth0.url());
    let body = json!({
        "grant_type": "client_credentials", "client_id": machine.0, "client_secret": machine.1, "audience": MCP,
    });
    super::support::read(bench.http.post(&url).json(&body))
        .await
        .ok(200);
    let twice = [("audience", MCP), ("audience", "https://other.example/")];
    ask(&bench, &machine, &twice).await.no(400, "invalid_request");
    let text = bench.http.post(&url).body("grant_type=client_credentials");
    super::support::read(text).await.no(400, "invalid_request");
    let form = [
        ("grant_type", "password"),
        ("client_id", machine.0.as_str()),
        ("client_secret", machine.1.as_str()),
    ];
    bench.token(&form).await.no(400, "unsupported_grant_type");
    bench
        .patch(&format!("clients/{}", machine.0), json!({"grant_types": []}))
        .await
        .ok(200);
    ask(&bench, &machine, &[("audience", MCP)])
        .await
        .no(403, "unauthorized_client");
}

/// A client that is gone gets nothing.
#[tokio::test]
async fn a_deleted_client_gets_nothing() {
    let bench = Bench::new().await;
    bench.api(MCP, &["a"], json!({})).await;
    let machine = bench.machine().await;
    bench.grant(&machine.0, MCP, "client", &["a"]).await;
    bench.delete(&format!("clients/{}", machine.0)).await.ok(204);
    ask(&bench, &machine, &[("audience", MCP)])
        .await
        .no(401, "access_denied");
}

/// "Signing algorithms": as the API says, with the tenant's key or the API's secret.
#[tokio::test]
async fn a_token_is_signed_as_its_api_wants() {
    let bench = Bench::new().await;
    let machine = bench.machine().await;
    for algorithm in ["RS256", "RS512", "PS256", "HS256"] {
        let identifier = format!("https://{algorithm}.example.com/");
        let api = bench
            .api(&identifier, &["a"], json!({"signing_alg": algorithm}))
            .await;
        bench.grant(&machine.0, &identifier, "client", &["a"]).await;
        let token = ask(&bench, &machine, &[("audience", &identifier)]).await.ok(200);
        let token = token["access_token"].as_str().unwrap();
        let header = jsonwebtoken::decode_header(token).unwrap();
        assert_eq!(format!("{:?}", header.alg), algorithm);
        let key = if let Some(secret) = api.get("signing_secret") {
            jsonwebtoken::DecodingKey::from_secret(secret.as_str().unwrap().as_bytes())
        } else {
            let url = format!("{}/.well-known/jwks.json", bench.auth0.url());
            let keys = super::support::read(bench.http.get(url)).await.ok(200);
            let jwk = serde_json::from_value(keys["keys"][0].clone()).unwrap();
            jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap()
        };
        let claims = crate::auth0::keys::verified(token, &key, &[header.alg]).unwrap();
        assert_eq!(claims["aud"], json!(identifier));
    }
}
