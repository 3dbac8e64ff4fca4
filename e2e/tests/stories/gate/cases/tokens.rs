//! Whose token it is, what it is for, and where it came.

use mcp_auth_e2e::gate::{issuer, keys};
use serde_json::json;

use crate::gate::{
    case::{Case, Challenge, Difference, Expect, REFUSED, Token, unsigned},
    scene::{RESOURCE, Scene},
};

const UNREADABLE: &str = "the token cannot be read";
const ALGORITHM: &str = "the token is signed in a way that is not accepted";
const ISSUER: &str = "the token is from another issuer";
const KEY: &str = "the token is signed with a key that is not known";
const SIGNATURE: &str = "the signature of the token is wrong";
const TYPE: &str = "the token is no access token";
const AUDIENCE: &str = "the token is for another audience";
const EXPIRED: &str = "the token has expired";
const NOT_YET: &str = "the token is not valid yet";

pub(crate) fn cases() -> Vec<Case> {
    [places(), signatures(), claims(), types()]
        .into_iter()
        .flatten()
        .collect()
}

fn places() -> Vec<Case> {
    let missing = |case: Case| case.answers(401, Challenge::Missing, REFUSED);
    let joined = Expect::Answers {
        status: 401,
        challenge: Challenge::Invalid(UNREADABLE),
        code: Some(REFUSED),
    };
    let twice = |case: Case| case.answers(400, Challenge::Place, REFUSED);
    vec![
        missing(Case::new("no token").without("authorization")),
        missing(
            Case::new("no token, and a body that is no JSON")
                .without("authorization")
                .body("{"),
        ),
        missing(
            Case::new("a token in the query alone")
                .without("authorization")
                .target("/a/mcp?access_token={token}"),
        ),
        missing(
            Case::new("a token in a cookie alone")
                .without("authorization")
                .header("cookie", "access_token={token}"),
        ),
        missing(
            Case::new("a token in another header alone")
                .without("authorization")
                .header("x-access-token", "{token}"),
        ),
        missing(Case::new("Basic").set("authorization", "Basic YTpi")),
        missing(Case::new("a token without a scheme").set("authorization", "{token}")),
        missing(Case::new("a token under DPoP").set("authorization", "DPoP {token}")),
        missing(Case::new("a scheme alone").set("authorization", "Bearer")),
        twice(Case::new("a token in header and query").target("/a/mcp?access_token={token}")),
        twice(Case::new("a token in header and query, escaped").target("/a/mcp?access%5Ftoken={token}")),
        twice(Case::new("a token in the query by another name").target("/a/mcp?x={token}")),
        twice(Case::new("the signature of the token in the query").target("/a/mcp?{signature}=1")),
        twice(Case::new("two tokens in two headers").header("authorization", "Bearer {token}"))
            .envoy(Difference::HeadersJoined, joined.clone()),
        twice(Case::new("a token and a password in two headers").header("authorization", "Basic YTpi"))
            .envoy(Difference::HeadersJoined, joined.clone()),
        Case::new("two tokens in one header")
            .set("authorization", "Bearer {token}, Bearer {token}")
            .invalid(UNREADABLE),
        Case::new("a token in quotes")
            .set("authorization", "Bearer \"{token}\"")
            .invalid(UNREADABLE),
        Case::new("a scheme in lower case").set("authorization", "bearer {token}"),
        Case::new("a scheme in upper case").set("authorization", "BEARER {token}"),
        Case::new("a query without a token").target("/a/mcp?a=b&token=c"),
        Case::new("a body with the token")
            .call_with(r#"{"name":"read_note","arguments":{"t":"{token}"}}"#)
            .bad(-32600),
        Case::new("a body with the signature as a key")
            .call_with(r#"{"name":"read_note","arguments":{"{signature}":1}}"#)
            .bad(-32600),
    ]
}

fn signatures() -> Vec<Case> {
    vec![
        Case::new("RS256").token(Token::Made(|scene| {
            let key = scene.issuer.rsa_key();
            key.sign(&key.header(), &scene.issuer.claims(RESOURCE, "mcp:use")?)
        })),
        Case::new("alg none")
            .token(Token::Made(unsigned))
            .invalid(ALGORITHM),
        Case::new("alg None, with a signature")
            .token(Token::Header("alg", json!("None")))
            .invalid(ALGORITHM),
        Case::new("HS256 with the public key as the secret")
            .token(Token::Made(|scene| {
                let key = scene.issuer.rsa_key();
                let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "rsa"});
                keys::sign_with_secret(
                    key.public_pem().as_bytes(),
                    &header,
                    &scene.issuer.claims(RESOURCE, "mcp:use")?,
                )
            }))
            .invalid(ALGORITHM),
        Case::new("HS256 with the public key, said to be RS256")
            .token(Token::Made(|scene| {
                let key = scene.issuer.rsa_key();
                keys::sign_with_secret(
                    key.public_pem().as_bytes(),
                    &key.header(),
                    &scene.issuer.claims(RESOURCE, "mcp:use")?,
                )
            }))
            .invalid(SIGNATURE),
        Case::new("ES256 under the id of the RSA key")
            .token(Token::Header("kid", json!("rsa")))
            .invalid(KEY),
        Case::new("a key id that nobody knows")
            .token(Token::Header("kid", json!("gone")))
            .invalid(KEY),
        Case::new("another key under a known id")
            .token(Token::Made(|scene| {
                let header = scene.issuer.ec_key().header();
                scene
                    .stranger
                    .sign(&header, &scene.issuer.claims(RESOURCE, "mcp:use")?)
            }))
            .invalid(SIGNATURE),
        Case::new("a token that brings its own key")
            .token(Token::Made(|scene| {
                let mut header = scene.issuer.ec_key().header();
                header["jwk"] = scene.stranger.public_jwk()?;
                scene
                    .stranger
                    .sign(&header, &scene.issuer.claims(RESOURCE, "mcp:use")?)
            }))
            .invalid(SIGNATURE),
        Case::new("no key id, where one key fits").token(Token::Header("kid", json!(null))),
        Case::new("demands that nobody understands")
            .token(Token::Header("crit", json!(["x"])))
            .invalid(ALGORITHM),
        Case::new("the claims of one token, the signature of another")
            .token(Token::Made(spliced))
            .invalid(SIGNATURE),
        Case::new("a signature that was cut off")
            .set("authorization", "Bearer {token}x")
            .invalid(SIGNATURE),
        Case::new("an opaque token")
            .token(Token::Made(|_| Ok("2YotnFZFEjr1zCsicMWpAA".to_owned())))
            .invalid(UNREADABLE),
        Case::new("an encrypted token of five parts")
            .token(Token::Made(|_| Ok("e30.a.b.c.d".to_owned())))
            .invalid(UNREADABLE),
        Case::new("a token without signature")
            .token(Token::Made(|scene| {
                let token = scene.issuer.sign(&scene.issuer.claims(RESOURCE, "mcp:use")?)?;
                Ok(token
                    .rsplit_once('.')
                    .map(|(signed, _)| format!("{signed}."))
                    .unwrap_or_default())
            }))
            .invalid(SIGNATURE),
        Case::new("a token of 20 KB")
            .token(Token::Claim("x", |_| json!("x".repeat(15_000))))
            .invalid(UNREADABLE),
    ]
}

/// The good signature of a token that may read under claims that say it may write.
fn spliced(scene: &Scene) -> anyhow::Result<String> {
    let token = |scopes| scene.issuer.sign(&scene.issuer.claims(RESOURCE, scopes)?);
    let (reader, writer) = (token("mcp:use notes:read")?, token("mcp:use notes:write")?);
    let claims = writer.rsplit_once('.').map(|(signed, _)| signed.to_owned());
    let signature = reader.rsplit_once('.').map(|(_, signature)| signature.to_owned());
    Ok(format!(
        "{}.{}",
        claims.unwrap_or_default(),
        signature.unwrap_or_default()
    ))
}

fn ago(seconds: i64) -> serde_json::Value {
    json!(issuer::now().unwrap_or_default() - seconds)
}

fn claims() -> Vec<Case> {
    let with = |why, claim, value| Case::new(why).token(Token::Claim(claim, value));
    let suspended = "the client of the token was suspended";
    vec![
        with("a foreign issuer", "iss", |_| json!("https://evil.example")).invalid(ISSUER),
        with("the issuer with a slash", "iss", |scene| {
            json!(scene.issuer.issuer() + "/")
        })
        .invalid(ISSUER),
        with("no issuer", "iss", |_| json!(null)).invalid(UNREADABLE),
        with("a foreign audience", "aud", |_| {
            json!("https://other.example/mcp")
        })
        .invalid(AUDIENCE),
        with("the host as audience", "aud", |_| json!("https://mcp.example")).invalid(AUDIENCE),
        with("the audience with a slash", "aud", |_| {
            json!("https://mcp.example/a/mcp/")
        })
        .invalid(AUDIENCE),
        with("no audience", "aud", |_| json!(null)).invalid(AUDIENCE),
        with("a list with the audience alone", "aud", |_| json!([RESOURCE])),
        with("the audience and userinfo", "aud", |scene| {
            json!([RESOURCE, scene.userinfo()])
        }),
        with("a token for two servers", "aud", |_| {
            json!([RESOURCE, "https://other.example"])
        })
        .invalid(AUDIENCE),
        with("a list without the audience", "aud", |scene| {
            json!([scene.userinfo()])
        })
        .invalid(AUDIENCE),
        with("expired", "exp", |_| ago(60)).invalid(EXPIRED),
        with("expired a moment ago", "exp", |_| ago(2)),
        with("never expires", "exp", |_| json!(null)).invalid(UNREADABLE),
        with("expires as text", "exp", |_| json!("9999999999")).invalid(UNREADABLE),
        with("not yet valid", "nbf", |_| ago(-60)).invalid(NOT_YET),
        with("valid in a moment", "nbf", |_| ago(-2)),
        with("a suspended client", "client_id", |_| json!("suspended")).invalid(suspended),
        with("a suspended client by its other name", "azp", |_| {
            json!("suspended")
        })
        .invalid(suspended),
        Case::new("no scopes at all").scopes("").needs("mcp:use"),
        Case::new("scopes of somebody else")
            .scopes("openid profile email")
            .needs("mcp:use"),
        Case::new("one scope that implies another")
            .scopes("notes:admin")
            .call("write_note"),
    ]
}

fn types() -> Vec<Case> {
    let typed = |why, typ| Case::new(why).token(Token::Header("typ", typ));
    let keycloak = |why, make| Case::new(why).token(Token::Made(make));
    vec![
        typed("typ in full", json!("application/at+jwt")),
        typed("typ JWT without more", json!("JWT")).invalid(TYPE),
        typed("no typ", json!(null)).invalid(TYPE),
        keycloak("Keycloak's access token", |scene| as_keycloak(scene, "Bearer")),
        keycloak("Keycloak's ID token", |scene| as_keycloak(scene, "ID")).invalid(TYPE),
        keycloak("Keycloak's refresh token", |scene| as_keycloak(scene, "Refresh")).invalid(TYPE),
    ]
}

fn as_keycloak(scene: &Scene, typ: &str) -> anyhow::Result<String> {
    let key = scene.issuer.ec_key();
    let (mut header, mut claims) = (key.header(), scene.issuer.claims(RESOURCE, "mcp:use")?);
    header["typ"] = json!("JWT");
    claims["typ"] = json!(typ);
    key.sign(&header, &claims)
}
