use serde_json::json;

use super::{
    login::scene,
    support::{Bench, CALLBACK, MCP, encoded, login, tokens},
};
use crate::oauth::OAuthClient;

/// "Explicit API authorization": a stranger needs a grant of subject type `user`, also where the API allows all.
#[tokio::test]
async fn a_stranger_needs_a_grant_for_users() {
    let bench = Bench::new().await;
    bench.for_mcp().await;
    bench.alice();
    bench.api(MCP, &["a", "b"], json!({})).await;
    let stranger = bench.stranger(json!({})).await;
    let issuer = bench.issuer().await;
    let client = OAuthClient::public(&stranger);
    let refused = async || {
        let refused = issuer
            .sign_in(&client, &login("a"))
            .await
            .unwrap()
            .refused()
            .unwrap();
        assert_eq!(refused.error, "unauthorized_client");
        assert!(
            refused
                .error_description
                .contains("is not authorized to access resource server")
        );
    };
    refused().await;
    bench.grant(&stranger, MCP, "client", &["a", "b"]).await;
    refused().await;
    bench.grant(&stranger, MCP, "user", &["a"]).await;
    assert_eq!(tokens(&issuer, &stranger, "a b unknown").await.scope, "a");
    // "There is no default": whoever asks for nothing gets nothing.
    assert_eq!(tokens(&issuer, &stranger, "").await.scope, "");
    let server = format!("resource-servers/{}", encoded(MCP));
    let deny = json!({"subject_type_authorization": {"user": {"policy": "deny_all"}}});
    bench.patch(&server, deny).await.ok(200);
    refused().await;
}

/// Policies of an API for clients of our own: all, a grant, none. Where all may, leaving out `scope` means everything.
#[tokio::test]
async fn our_own_clients_follow_the_policy_of_the_api() {
    let bench = Bench::new().await;
    bench.for_mcp().await;
    bench.alice();
    bench.api(MCP, &["a", "b"], json!({})).await;
    let body = json!({
        "name": "own", "app_type": "native", "oidc_conformant": true, "callbacks": [CALLBACK],
        "grant_types": ["authorization_code"], "token_endpoint_auth_method": "none",
    });
    let own = bench.post("clients", body).await.ok(201);
    let own = own["client_id"].as_str().unwrap();
    let issuer = bench.issuer().await;
    assert_eq!(tokens(&issuer, own, "").await.scope, "a b");
    let with_id = tokens(&issuer, own, "a openid").await;
    assert!(with_id.id_token.is_some());
    let token = issuer.verify(&with_id.access_token).await.unwrap();
    let userinfo = format!("{}userinfo", bench.auth0.issuer());
    assert_eq!(token.audiences(), [MCP.to_owned(), userinfo]);

    let server = format!("resource-servers/{}", encoded(MCP));
    let policy = |policy: &str| json!({"subject_type_authorization": {"user": {"policy": policy}}});
    bench.patch(&server, policy("require_client_grant")).await.ok(200);
    let client = OAuthClient::public(own);
    issuer
        .sign_in(&client, &login("a"))
        .await
        .unwrap()
        .refused()
        .unwrap();
    bench.grant(own, MCP, "user", &["b"]).await;
    assert_eq!(tokens(&issuer, own, "").await.scope, "");
    assert_eq!(tokens(&issuer, own, "a b").await.scope, "b");
    bench.patch(&server, policy("deny_all")).await.ok(200);
    issuer
        .sign_in(&client, &login("b"))
        .await
        .unwrap()
        .refused()
        .unwrap();
}

/// "Role-Based Access Control": scopes are those that the user's roles permit; the claim `permissions` names all that the
/// roles permit (choice), also what the client may not.
#[tokio::test]
async fn roles_limit_the_scopes_of_users() {
    let (bench, stranger) = scene().await;
    let server = format!("resource-servers/{}", encoded(MCP));
    let enforce = json!({"enforce_policies": true, "token_dialect": "rfc9068_profile_authz"});
    bench.patch(&server, enforce).await.ok(200);
    let issuer = bench.issuer().await;
    assert_eq!(tokens(&issuer, &stranger, "a b").await.scope, "");

    let role = bench.post("roles", json!({"name": "r"})).await.ok(200);
    let permissions = |names: &[&str]| {
        let permission = |name: &&str| json!({"resource_server_identifier": MCP, "permission_name": name});
        json!({"permissions": names.iter().map(permission).collect::<Vec<_>>()})
    };
    let path = format!("roles/{}/permissions", role["id"].as_str().unwrap());
    bench.post(&path, permissions(&["a", "b"])).await.ok(201);
    let first = tokens(&issuer, &stranger, "").await;
    let subject = issuer
        .verify(&first.access_token)
        .await
        .unwrap()
        .text("sub")
        .replace('|', "%7C");
    bench
        .post(&format!("users/{subject}/roles"), json!({"roles": [role["id"]]}))
        .await
        .ok(204);
    let second = tokens(&issuer, &stranger, "a").await;
    assert_eq!(second.scope, "a");
    let token = issuer.verify(&second.access_token).await.unwrap();
    assert_eq!(token.claims["permissions"], json!(["a", "b"]));
    assert_eq!(token.typ.as_deref(), Some("at+jwt"));
}

/// "User consent": skipped for our own clients where the API says so, unless the callback is on the user's machine.
#[tokio::test]
async fn our_own_clients_can_skip_consent_unless_anybody_could_listen() {
    let bench = Bench::new().await;
    bench.for_mcp().await;
    bench.alice();
    let skip = json!({"skip_consent_for_verifiable_first_party_clients": true});
    bench.api(MCP, &["a"], skip).await;
    let local = "http://localhost:6274/callback";
    let body = json!({
        "name": "own", "app_type": "native", "oidc_conformant": true, "callbacks": [CALLBACK, local],
        "grant_types": ["authorization_code"], "token_endpoint_auth_method": "none",
    });
    let own = bench.post("clients", body).await.ok(201);
    let client = OAuthClient::public(own["client_id"].as_str().unwrap());
    let issuer = bench.issuer().await;
    let code = issuer
        .sign_in(&client, &login("a"))
        .await
        .unwrap()
        .granted()
        .unwrap();
    assert_eq!(code.consent, None);
    let mut request = login("a");
    request.redirect_uri = local.to_owned();
    let code = issuer
        .sign_in(&client, &request)
        .await
        .unwrap()
        .granted()
        .unwrap();
    assert_eq!(code.consent, Some(vec!["a".to_owned()]));
}

/// `use_scope_descriptions_for_consent`.
#[tokio::test]
async fn consent_can_speak_in_the_words_of_the_api() {
    let (bench, stranger) = scene().await;
    let server = format!("resource-servers/{}", encoded(MCP));
    let scopes = json!({"scopes": [{"value": "a", "description": "Read <everything>"}, {"value": "b"}]});
    bench.patch(&server, scopes).await.ok(200);
    let on = json!({"flags": {"use_scope_descriptions_for_consent": true}});
    bench.patch("tenants/settings", on).await.ok(200);
    let client = OAuthClient::public(&stranger);
    let code = bench
        .issuer()
        .await
        .sign_in(&client, &login("a b"))
        .await
        .unwrap();
    let consent = code.granted().unwrap().consent.unwrap();
    assert_eq!(consent, ["Read <everything>", "b"]);
}

/// "/userinfo: not supported" for third parties; for others it says who the user is.
#[tokio::test]
async fn userinfo_is_for_our_own_clients() {
    let (bench, stranger) = scene().await;
    let issuer = bench.issuer().await;
    let url = format!("{}/userinfo", bench.auth0.url());
    let who = async |token: &secrecy::SecretString| {
        let token = secrecy::ExposeSecret::expose_secret(token);
        super::support::read(bench.http.get(&url).bearer_auth(token)).await
    };
    let tokens = tokens(&issuer, &stranger, "a openid").await;
    who(&tokens.access_token).await.no(401, "Unauthorized");
    let body = json!({
        "name": "own", "app_type": "native", "oidc_conformant": true, "callbacks": [CALLBACK],
        "grant_types": ["authorization_code"], "token_endpoint_auth_method": "none",
    });
    let own = bench.post("clients", body).await.ok(201);
    let tokens = super::support::tokens(&issuer, own["client_id"].as_str().unwrap(), "a openid").await;
    let user = who(&tokens.access_token).await.ok(200);
    let token = issuer.verify(&tokens.access_token).await.unwrap();
    assert_eq!(user["sub"], token.text("sub"));
}
