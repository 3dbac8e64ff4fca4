use std::time::Duration;

use serde_json::json;

use super::support::{Bench, MCP, encoded, tokens};
use crate::oauth::OAuthClient;

async fn scene() -> (Bench, String) {
    let bench = Bench::new().await;
    bench.for_mcp().await;
    bench.alice();
    bench
        .api(MCP, &["a", "b"], json!({"allow_offline_access": true}))
        .await;
    let stranger = bench.stranger(json!({})).await;
    bench.grant(&stranger, MCP, "user", &["a", "b"]).await;
    (bench, stranger)
}

/// `offline_access` is served if the API allows it and the client has the grant type.
#[tokio::test]
async fn a_refresh_token_needs_both_sides() {
    let (bench, stranger) = scene().await;
    let issuer = bench.issuer().await;
    let with = tokens(&issuer, &stranger, "a offline_access").await;
    assert!(with.refresh_token.is_some());
    assert_eq!(with.scope, "a offline_access");
    assert!(tokens(&issuer, &stranger, "a").await.refresh_token.is_none());

    let path = format!("clients/{stranger}");
    bench
        .patch(&path, json!({"grant_types": ["authorization_code"]}))
        .await
        .ok(200);
    assert!(
        tokens(&issuer, &stranger, "a offline_access")
            .await
            .refresh_token
            .is_none()
    );
    let types = json!({"grant_types": ["authorization_code", "refresh_token"]});
    bench.patch(&path, types).await.ok(200);
    let server = format!("resource-servers/{}", encoded(MCP));
    bench
        .patch(&server, json!({"allow_offline_access": false}))
        .await
        .ok(200);
    assert!(
        tokens(&issuer, &stranger, "a offline_access")
            .await
            .refresh_token
            .is_none()
    );
}

/// "Refresh Token Rotation": each use gives another; reuse ends all of them.
#[tokio::test]
async fn a_rotated_token_ends_its_family_when_it_comes_again() {
    let (bench, stranger) = scene().await;
    let (issuer, client) = (bench.issuer().await, OAuthClient::public(&stranger));
    let first = tokens(&issuer, &stranger, "a offline_access")
        .await
        .refresh_token
        .unwrap();
    let second = issuer
        .refresh(&client, &first, Some(MCP))
        .await
        .unwrap()
        .granted()
        .unwrap();
    assert_eq!(second.scope, "a offline_access");
    let second = second.refresh_token.unwrap();
    let refused = issuer
        .refresh(&client, &first, None)
        .await
        .unwrap()
        .refused()
        .unwrap();
    assert_eq!(refused.error, "invalid_grant");
    issuer
        .refresh(&client, &second, None)
        .await
        .unwrap()
        .refused()
        .unwrap();
}

/// `leeway`: for so long the old one is still good.
#[tokio::test]
async fn a_rotated_token_is_good_within_its_leeway() {
    let (bench, stranger) = scene().await;
    let path = format!("clients/{stranger}");
    bench
        .patch(&path, json!({"refresh_token": {"leeway": 60}}))
        .await
        .ok(200);
    let (issuer, client) = (bench.issuer().await, OAuthClient::public(&stranger));
    let first = tokens(&issuer, &stranger, "a offline_access")
        .await
        .refresh_token
        .unwrap();
    issuer
        .refresh(&client, &first, None)
        .await
        .unwrap()
        .granted()
        .unwrap();
    bench.auth0.advance(Duration::from_secs(30));
    issuer
        .refresh(&client, &first, None)
        .await
        .unwrap()
        .granted()
        .unwrap();
    bench.auth0.advance(Duration::from_secs(31));
    issuer
        .refresh(&client, &first, None)
        .await
        .unwrap()
        .refused()
        .unwrap();
}

/// "Expiration required": an idle token ends after its idle lifetime.
#[tokio::test]
async fn a_refresh_token_ends() {
    let (bench, stranger) = scene().await;
    let (issuer, client) = (bench.issuer().await, OAuthClient::public(&stranger));
    let token = tokens(&issuer, &stranger, "a offline_access")
        .await
        .refresh_token
        .unwrap();
    bench.auth0.advance(Duration::from_hours(24 * 15));
    issuer
        .refresh(&client, &token, None)
        .await
        .unwrap()
        .refused()
        .unwrap();
}

/// A refresh looks at grants as they are now, needs no scope to be named, gives no more than the login, and is for the
/// API of the login and the client of the login only.
#[tokio::test]
async fn a_refresh_follows_grants_and_widens_nothing() {
    let (bench, stranger) = scene().await;
    let path = format!("clients/{stranger}");
    bench
        .patch(&path, json!({"refresh_token": {"rotation_type": "non-rotating"}}))
        .await
        .ok(200);
    let (issuer, client) = (bench.issuer().await, OAuthClient::public(&stranger));
    let token = tokens(&issuer, &stranger, "a offline_access")
        .await
        .refresh_token
        .unwrap();
    let again = issuer
        .refresh(&client, &token, None)
        .await
        .unwrap()
        .granted()
        .unwrap();
    assert!(again.refresh_token.is_none());
    assert_eq!(again.scope, "a offline_access");

    let form = |more: (&str, &str)| -> Vec<(String, String)> {
        let token = secrecy::ExposeSecret::expose_secret(&token);
        [("grant_type", "refresh_token"), ("refresh_token", token), more]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    };
    let refused = issuer
        .token(&client, form(("scope", "a b")))
        .await
        .unwrap()
        .refused()
        .unwrap();
    assert_eq!(refused.error, "invalid_grant");
    for parameter in ["audience", "resource"] {
        let other = form((parameter, "https://other.example/"));
        let refused = issuer.token(&client, other).await.unwrap().refused().unwrap();
        assert_eq!(refused.error, "access_denied");
    }
    // Nobody else's, not even of one with the same grants.
    let other = bench.stranger(json!({})).await;
    bench.grant(&other, MCP, "user", &["a", "b"]).await;
    let other = OAuthClient::public(other);
    let refused = issuer
        .refresh(&other, &token, None)
        .await
        .unwrap()
        .refused()
        .unwrap();
    assert_eq!(refused.error, "invalid_grant");

    let grants = bench
        .get(&format!("client-grants?client_id={stranger}"))
        .await
        .ok(200);
    let grant = format!("client-grants/{}", grants[0]["id"].as_str().unwrap());
    bench.patch(&grant, json!({"scope": ["b"]})).await.ok(200);
    let less = issuer
        .refresh(&client, &token, None)
        .await
        .unwrap()
        .granted()
        .unwrap();
    assert_eq!(less.scope, "offline_access");
    bench.delete(&grant).await.ok(204);
    let refused = issuer
        .refresh(&client, &token, None)
        .await
        .unwrap()
        .refused()
        .unwrap();
    assert_eq!(refused.error, "unauthorized_client");
}

/// "Revoke refresh tokens" (RFC 7009), by its own client only; a deleted client's are gone.
#[tokio::test]
async fn a_revoked_token_is_gone() {
    let (bench, stranger) = scene().await;
    let (issuer, client) = (bench.issuer().await, OAuthClient::public(&stranger));
    let token = tokens(&issuer, &stranger, "a offline_access")
        .await
        .refresh_token
        .unwrap();
    let revoke = async |client: &str| {
        let url = format!("{}/oauth/revoke", bench.auth0.url());
        let form = [
            ("client_id", client),
            ("token", secrecy::ExposeSecret::expose_secret(&token)),
        ];
        super::support::read(bench.http.post(url).form(&form))
            .await
            .ok(200);
    };
    revoke(&bench.stranger(json!({})).await).await;
    let next = issuer
        .refresh(&client, &token, None)
        .await
        .unwrap()
        .granted()
        .unwrap();
    revoke(&stranger).await;
    let next = next.refresh_token.unwrap();
    issuer
        .refresh(&client, &next, None)
        .await
        .unwrap()
        .refused()
        .unwrap();
}
