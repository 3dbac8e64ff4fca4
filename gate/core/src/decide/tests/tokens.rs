//! Where a token comes, and what an unknown key means.

use super::*;

#[test]
fn a_token_comes_once_in_its_header() {
    let good = token("mcp:use");
    let with = |value: &str| {
        post("", PING)
            .without("authorization")
            .with("authorization", value)
    };
    for (request, status, reason, why) in [
        (with(&format!("bearer {good}")), 200, "allowed", "lower case"),
        (with(&format!("BEARER {good}")), 200, "allowed", "upper case"),
        (
            with(&format!("Bearer   {good}")),
            200,
            "allowed",
            "more spaces (RFC 9110, 11.4)",
        ),
        (
            post("", PING).without("authorization"),
            401,
            "token_missing",
            "no header",
        ),
        (with(""), 401, "token_missing", "an empty header"),
        (with("Bearer"), 401, "token_missing", "a scheme alone"),
        (with("Basic YTpi"), 401, "token_missing", "another scheme"),
        (
            with(&format!("DPoP {good}")),
            401,
            "token_missing",
            "another scheme",
        ),
        (with(&good), 401, "token_missing", "no scheme"),
        (with(&format!("Bearer\t{good}")), 401, "token_missing", "a tab"),
        (
            with("Bearer "),
            401,
            "token_malformed",
            "nothing behind the scheme",
        ),
        (
            with(&format!("Bearer {good},Bearer {good}")),
            401,
            "token_malformed",
            "two in one",
        ),
        (
            with(&format!("Bearer {good} x")),
            401,
            "token_malformed",
            "two words",
        ),
        (
            with(&format!("Bearer \"{good}\"")),
            401,
            "token_malformed",
            "quotes",
        ),
        (with("Bearer ä"), 401, "token_malformed", "not ASCII"),
        (
            post(&good, PING).with("authorization", &format!("Bearer {good}")),
            400,
            "token_place",
            "two headers",
        ),
        (
            post(&good, PING).with("authorization", "Basic YTpi"),
            400,
            "token_place",
            "two headers of two kinds",
        ),
    ] {
        match request.decide() {
            Decision::Allow(_) => assert_eq!(reason, "allowed", "{why}"),
            decision => {
                let answer = answer(decision);
                assert_eq!(
                    (answer.status.as_u16(), answer.reason.as_str()),
                    (status, reason),
                    "{why}"
                );
            }
        }
    }
}

#[test]
fn a_token_in_the_query_is_refused() {
    let good = token("mcp:use");
    let signature = good.rsplit('.').next().unwrap();
    let escaped = signature.replacen(
        signature.get(..1).unwrap(),
        &format!("%{:02x}", signature.as_bytes()[0]),
        1,
    );
    let at = |target: String, request: Request| Request { target, ..request };
    let none = || post("", PING).without("authorization");
    for (request, status, reason, why) in [
        (
            at(format!("/a/mcp?access_token={good}"), none()),
            401,
            "token_missing",
            "instead of the header",
        ),
        (
            at(format!("/a/mcp?access_token={good}"), post(&good, PING)),
            400,
            "token_place",
            "and in the header",
        ),
        (
            at("/a/mcp?access_token=".into(), post(&good, PING)),
            400,
            "token_place",
            "an empty one",
        ),
        (
            at("/a/mcp?Access_Token=x".into(), post(&good, PING)),
            400,
            "token_place",
            "in other case",
        ),
        (
            at("/a/mcp?a=1&access%5Ftoken=x".into(), post(&good, PING)),
            400,
            "token_place",
            "escaped",
        ),
        (
            at(format!("/a/mcp?t={good}"), post(&good, PING)),
            400,
            "token_place",
            "under another name",
        ),
        (
            at(format!("/a/mcp?{signature}"), post(&good, PING)),
            400,
            "token_place",
            "as a name",
        ),
        (
            at(format!("/a/mcp?t={escaped}"), post(&good, PING)),
            400,
            "token_place",
            "escaped",
        ),
        (
            at("/a/mcp?t=x&access=token".into(), post(&good, PING)),
            200,
            "allowed",
            "anything else goes on",
        ),
    ] {
        match request.decide() {
            Decision::Allow(_) => assert_eq!(reason, "allowed", "{why}"),
            decision => {
                let answer = answer(decision);
                assert_eq!(
                    (answer.status.as_u16(), answer.reason.as_str()),
                    (status, reason),
                    "{why}"
                );
            }
        }
    }
}

/// Whether a request is to be decided again once the keys were fetched.
#[test]
fn an_unknown_key_is_worth_a_second_look() {
    let rsa = crate::testing::keys(&[signers().rsa.jwk(jsonwebtoken::Algorithm::RS256)]);
    let good = post(&token("mcp:use"), PING);
    for (keys, status) in [(&rsa, 401), (&Keys::default(), 503)] {
        let Decision::UnknownKey(answer) = good.decide_by(&policy(), keys, false) else {
            panic!("it must ask for keys");
        };
        assert_eq!(answer.status.as_u16(), status);
    }
    let mut foreign = claims("mcp:use");
    foreign["iss"] = json!("https://evil.example");
    let foreign = signers().stranger.token(jsonwebtoken::Algorithm::ES256, &foreign);
    for keys in [&rsa, &Keys::default()] {
        let decision = post(&foreign, PING).decide_by(&policy(), keys, false);
        assert!(
            matches!(decision, Decision::Answer(_)),
            "another issuer's tokens cost no call"
        );
    }
}
