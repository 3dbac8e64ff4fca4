use std::time::Duration;

use serde_json::json;

use super::support::{Bench, CALLBACK, MCP, login, tokens};
use crate::{
    auth0::Setup,
    oauth::{OAuthClient, Pkce},
};

/// A tenant for MCP with alice, an API with two scopes, and a stranger with a grant for both; the stranger's id.
pub(super) async fn scene() -> (Bench, String) {
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

fn query<'a>(client: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut query = vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("state", "s"),
        ("resource", MCP),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
    ];
    query.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    query.extend(more.iter().filter(|(_, value)| !value.is_empty()));
    query
}

/// The whole way: login, consent, code, token; the token is for the API, in the name of the user.
#[tokio::test]
async fn a_user_signs_in_at_a_stranger() {
    let (bench, stranger) = scene().await;
    let issuer = bench.issuer().await;
    let client = OAuthClient::public(&stranger);
    let code = issuer
        .sign_in(&client, &login("a b openid"))
        .await
        .unwrap()
        .granted()
        .unwrap();
    assert_eq!(code.consent, Some(vec!["a".to_owned(), "b".to_owned()]));
    let tokens = issuer.redeem(&client, &code).await.unwrap().granted().unwrap();
    // "OIDC scopes and ID tokens: not supported" for third parties.
    assert!(tokens.id_token.is_none() && tokens.refresh_token.is_none());
    assert_eq!(tokens.scope, "a b");
    let token = issuer.verify(&tokens.access_token).await.unwrap();
    assert_eq!(token.claims["aud"], MCP);
    assert!(token.text("sub").starts_with("auth0|"));
    assert_eq!(token.text("azp"), stranger);
    // Choice: the shorter of the API's and the client's own lifetime.
    assert_eq!(token.lifetime().unwrap(), 3600);
    // What was agreed to once is not asked again.
    let code = issuer
        .sign_in(&client, &login("a"))
        .await
        .unwrap()
        .granted()
        .unwrap();
    assert_eq!(code.consent, None);
}

/// A code is good once, for a minute, for its client, its address and its verifier.
#[tokio::test]
async fn a_code_is_good_once_and_for_its_client() {
    let (bench, stranger) = scene().await;
    let issuer = bench.issuer().await;
    let client = OAuthClient::public(&stranger);
    let other = OAuthClient::public(bench.stranger(json!({})).await);
    let code = async || {
        issuer
            .sign_in(&client, &login("a"))
            .await
            .unwrap()
            .granted()
            .unwrap()
    };

    let first = code().await;
    let refused = issuer.redeem(&other, &first).await.unwrap().refused().unwrap();
    assert_eq!(refused.error, "invalid_grant");
    issuer.redeem(&client, &first).await.unwrap().granted().unwrap();
    let refused = issuer.redeem(&client, &first).await.unwrap().refused().unwrap();
    assert_eq!(refused.error, "invalid_grant");

    let mut elsewhere = code().await;
    elsewhere.redirect_for_tests("https://app.example.com/other");
    let refused = issuer
        .redeem(&client, &elsewhere)
        .await
        .unwrap()
        .refused()
        .unwrap();
    assert_eq!(refused.error_description, "redirect_uri is another one");
    // Choice: the API of the login is the API of the token.
    let mut other_api = code().await;
    other_api.resource_for_tests("https://other.example.com/");
    let refused = issuer
        .redeem(&client, &other_api)
        .await
        .unwrap()
        .refused()
        .unwrap();
    assert_eq!(refused.error_description, "resource is not that of the login");

    let late = code().await;
    bench.auth0.advance(Duration::from_mins(1));
    issuer.redeem(&client, &late).await.unwrap().refused().unwrap();

    // What the operator proves credentials with: a code that never was, and no credential of a client.
    let bogus = [
        ("grant_type", "authorization_code"),
        ("client_id", &stranger),
        ("code", "bogus"),
        ("redirect_uri", CALLBACK),
    ];
    bench.token(&bogus).await.no(403, "invalid_grant");
    let confidential = bench
        .stranger(json!({"token_endpoint_auth_method": "client_secret_post", "app_type": "regular_web"}))
        .await;
    let mut wrong = bogus.to_vec();
    wrong[1] = ("client_id", &confidential);
    wrong.push(("client_secret", "wrong"));
    bench.token(&wrong).await.no(401, "access_denied");
}

/// "PKCE mandatory" for strict clients; choice: by S256. A login that was bound is redeemed with its verifier only.
#[tokio::test]
async fn a_stranger_must_bind_its_login() {
    let (bench, stranger) = scene().await;
    let issuer = bench.issuer().await;
    let client = OAuthClient::public(&stranger);
    for pkce in [Pkce::Missing, Pkce::Plain] {
        let refused = issuer.sign_in_with(&client, &login("a"), pkce).await.unwrap();
        assert_eq!(refused.refused().unwrap().error, "invalid_request");
    }
    let other = issuer
        .sign_in(&client, &login("a"))
        .await
        .unwrap()
        .granted()
        .unwrap();
    let code = issuer
        .sign_in(&client, &login("a"))
        .await
        .unwrap()
        .granted()
        .unwrap();
    let form = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let without = vec![
        form("grant_type", "authorization_code"),
        form(
            "code",
            secrecy::ExposeSecret::expose_secret(&code.value_for_tests()),
        ),
        form("redirect_uri", CALLBACK),
    ];
    let mut wrong = without.clone();
    wrong[1] = form(
        "code",
        secrecy::ExposeSecret::expose_secret(&other.value_for_tests()),
    );
    wrong.push(form(
        "code_verifier",
        "not-the-verifier-of-the-login-at-all-but-long-enough",
    ));
    for form in [without, wrong] {
        let refused = issuer.token(&client, form).await.unwrap().refused().unwrap();
        assert_eq!(refused.error_description, "Failed to verify code verifier");
    }
}

/// "/authorize parameter validation": others than the listed are refused; `ext-*` passes.
#[tokio::test]
async fn a_stranger_sends_known_parameters_only() {
    let (bench, stranger) = scene().await;
    for name in [
        "claims",
        "id_token_hint",
        "request",
        "request_uri",
        "screen_hint",
        "organization",
        "made_up",
    ] {
        let (_, to, _) = bench.authorize(&query(&stranger, &[(name, "x")])).await;
        assert!(
            to.starts_with(CALLBACK) && to.contains("error=invalid_request"),
            "{name}: {to}"
        );
    }
    let (_, to, _) = bench
        .authorize(&query(&stranger, &[("ext-trace", "x"), ("ui_locales", "de")]))
        .await;
    assert!(to.starts_with("/u/login"), "{to}");
    let (status, _, page) = bench
        .authorize(&[("client_id", stranger.as_str()), ("client_id", "other")])
        .await;
    assert!(status == 400 && page.contains("twice"));
}

/// What cannot be told to the client is told to the user: an unknown client, an address that is not one of its callbacks.
#[tokio::test]
async fn an_unknown_address_is_never_gone_to() {
    let (bench, stranger) = scene().await;
    for uri in [
        "https://evil.example/callback",
        "https://app.example.com/callback/",
        "https://app.example.com/callback?x=1",
        "https://app.example.com/other",
    ] {
        let (status, to, page) = bench.authorize(&query(&stranger, &[("redirect_uri", uri)])).await;
        assert!(
            status == 403 && to.is_empty() && page.contains("Callback URL mismatch"),
            "{uri}"
        );
    }
    let (status, to, page) = bench.authorize(&query("nobody", &[])).await;
    assert!(status == 403 && to.is_empty() && page.contains("Unknown client: nobody"));
    let (_, _, page) = bench.authorize(&query("<script>x</script>", &[])).await;
    assert!(!page.contains("<script>"));
}

/// "Resource parameter": it counts with the compatibility profile only, and after `audience`; without either a stranger
/// is refused in the vendor's words.
#[tokio::test]
async fn resource_counts_with_the_compatibility_profile_only() {
    let (bench, stranger) = scene().await;
    let (_, to, _) = bench.authorize(&query(&stranger, &[])).await;
    assert!(to.starts_with("/u/login"), "{to}");
    let (_, to, _) = bench
        .authorize(&query(&stranger, &[("audience", "https://x.example/")]))
        .await;
    assert!(
        to.contains("Service+not+found%3A+https%3A%2F%2Fx.example%2F"),
        "{to}"
    );
    let profile = json!({"resource_parameter_profile": "audience"});
    bench.patch("tenants/settings", profile).await.ok(200);
    let (_, to, _) = bench.authorize(&query(&stranger, &[])).await;
    assert!(
        to.contains("The+userinfo+audience+is+not+allowed+for+third+party+clients"),
        "{to}"
    );
    let (_, to, _) = bench.authorize(&query(&stranger, &[("audience", MCP)])).await;
    assert!(to.starts_with("/u/login"), "{to}");
    bench
        .patch("tenants/settings", json!({"default_audience": MCP}))
        .await
        .ok(200);
    let (_, to, _) = bench.authorize(&query(&stranger, &[])).await;
    assert!(to.starts_with("/u/login"), "{to}");
}

/// "Redirect protection": with it the client never hears of an error.
#[tokio::test]
async fn open_redirect_protection_keeps_errors_from_the_client() {
    let (bench, _) = scene().await;
    let protected = bench
        .stranger(json!({"redirection_policy": "open_redirect_protection"}))
        .await;
    let (status, to, page) = bench
        .authorize(&query(&protected, &[("code_challenge", "")]))
        .await;
    assert!(status == 400 && to.is_empty() && page.contains("code_challenge"));
    let open = bench
        .stranger(json!({"redirection_policy": "allow_always"}))
        .await;
    let (status, to, _) = bench.authorize(&query(&open, &[("code_challenge", "")])).await;
    assert!(status == 302 && to.starts_with(CALLBACK));
}

/// RFC 9207: `iss` comes back only if the tenant is set to.
#[tokio::test]
async fn answers_name_their_issuer_if_set() {
    let (bench, stranger) = scene().await;
    let wrong = query(&stranger, &[("code_challenge", "")]);
    let (_, to, _) = bench.authorize(&wrong).await;
    assert!(to.contains("&iss=https") && to.contains("state=s"), "{to}");
    let off = json!({"authorization_response_iss_parameter_supported": false});
    bench.patch("tenants/settings", off).await.ok(200);
    let (_, to, _) = bench.authorize(&wrong).await;
    assert!(!to.contains("iss="), "{to}");
}

/// "Domain-level connections": a stranger's users come from nowhere else.
#[tokio::test]
async fn a_stranger_needs_a_domain_level_connection() {
    let bench = Bench::with(Setup {
        domain_connection: false,
        ..Setup::default()
    })
    .await;
    bench.for_mcp().await;
    bench.alice();
    bench.api(MCP, &["a"], json!({})).await;
    let stranger = bench.stranger(json!({})).await;
    bench.grant(&stranger, MCP, "user", &["a"]).await;
    let (_, to, _) = bench.authorize(&query(&stranger, &[])).await;
    assert!(to.contains("no+connections+enabled+for+the+client"), "{to}");
    let path = format!("connections/{}", bench.auth0.connection());
    bench
        .patch(&path, json!({"is_domain_connection": true}))
        .await
        .ok(200);
    tokens(&bench.issuer().await, &stranger, "a").await;
    // One that is for the token vault only is none to sign in with.
    bench
        .patch(&path, json!({"authentication": {"active": false}}))
        .await
        .ok(200);
    let (_, to, _) = bench.authorize(&query(&stranger, &[])).await;
    assert!(to.contains("no+connections+enabled"), "{to}");
}

/// A wrong password goes nowhere; nobody is signed in who did not sign in; `prompt=none` asks nobody.
#[tokio::test]
async fn nobody_gets_in_without_the_password() {
    let (bench, stranger) = scene().await;
    let issuer = bench.issuer().await;
    let mut wrong = login("a");
    wrong.password = secrecy::SecretString::from("wrong");
    let error = issuer
        .sign_in(&OAuthClient::public(&stranger), &wrong)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Wrong email or password"), "{error}");

    let (_, to, _) = bench.authorize(&query(&stranger, &[])).await;
    let state = to.split_once("state=").unwrap().1.to_owned();
    for path in ["authorize/resume", "u/consent"] {
        let url = format!("{}/{path}?state={state}", bench.auth0.url());
        let reply = bench.http.get(url).send().await.unwrap();
        assert_eq!(reply.status().as_u16(), 400, "{path}");
    }
    let silent = query(&stranger, &[("prompt", "none"), ("scope", "a")]);
    let (_, to, _) = bench.authorize(&silent).await;
    assert!(to.contains("error=login_required"), "{to}");
    // Somebody is signed in, but has not agreed to anything yet.
    let browser = bench
        .authority
        .http_client()
        .unwrap()
        .cookie_store(true)
        .build()
        .unwrap();
    let visit = async |url: String| {
        let reply = browser.get(url).send().await.unwrap();
        let to = reply
            .headers()
            .get("location")
            .map(|to| to.to_str().unwrap().to_owned());
        to.unwrap_or_default()
    };
    let form = [
        ("username", "alice"),
        ("password", "password"),
        ("action", "default"),
    ];
    let url = format!("{}/u/login?state={state}", bench.auth0.url());
    browser.post(url).form(&form).send().await.unwrap();
    let mut url = reqwest::Url::parse(&format!("{}/authorize", bench.auth0.url())).unwrap();
    url.query_pairs_mut().extend_pairs(silent);
    let to = visit(url.to_string()).await;
    assert!(to.starts_with("/authorize/resume"), "{to}");
    let to = visit(format!("{}{to}", bench.auth0.url())).await;
    assert!(to.contains("error=consent_required"), "{to}");
}

/// Only what a client is made for: other response types and clients without the grant.
#[tokio::test]
async fn only_codes_are_given_and_only_to_those_who_may() {
    let (bench, stranger) = scene().await;
    for kind in ["token", "id_token", "code token"] {
        let (_, to, _) = bench
            .authorize(&query(&stranger, &[("response_type", kind)]))
            .await;
        assert!(to.contains("error=unsupported_response_type"), "{to}");
    }
    let path = format!("clients/{stranger}");
    bench
        .patch(&path, json!({"grant_types": ["refresh_token"]}))
        .await
        .ok(200);
    let (_, to, _) = bench.authorize(&query(&stranger, &[])).await;
    assert!(to.contains("error=unauthorized_client"), "{to}");
}
