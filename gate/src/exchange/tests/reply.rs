//! What is taken from a token endpoint.

use http::StatusCode;

use super::*;
use crate::{exchange::reply::read, outbound::Reply};

fn read_from(body: &Value, subject: &str) -> Result<Issued, ExchangeError> {
    let reply = Reply {
        status: StatusCode::OK,
        body: body.to_string().into_bytes(),
    };
    read(&reply, TARGET, &subject.into(), NOW)
}

#[test]
fn a_token_for_anybody_else_is_not_taken() {
    let signer = Signer::new("issuer");
    let sign = |aud: Value| signer.sign(&json!({"aud": aud, "exp": NOW + 60}));
    let audience = Some(ExchangeError::Audience);
    for (why, token, expected) in [
        ("the target", sign(json!(TARGET)), None),
        ("the target, as a list", sign(json!([TARGET])), None),
        ("another", sign(json!("https://other.example.com")), audience),
        (
            "the server itself",
            sign(json!("https://mcp.example.com/mcp")),
            audience,
        ),
        (
            "the target and another",
            sign(json!([TARGET, "account"])),
            audience,
        ),
        ("the target twice", sign(json!([TARGET, TARGET])), audience),
        ("nobody", sign(json!([])), audience),
        ("no audience", sign(Value::Null), audience),
        (
            "a prefix of the target",
            sign(json!("https://orders.example.co")),
            audience,
        ),
        ("no JWT", "opaque".to_owned(), None),
        ("two dots, but no JWT", "a.b.c".to_owned(), None),
    ] {
        let read = read_from(&issued(&token, 60), "subject");
        assert_eq!(read.err(), expected, "{why}");
    }
}

#[test]
fn an_answer_is_read_strictly() {
    let signer = Signer::new("issuer");
    let ends = |exp: i64| signer.sign(&json!({"aud": TARGET, "exp": exp}));
    let with = |field: &str, value: Value| {
        let mut answer = issued("opaque", 60);
        answer[field] = value;
        answer
    };
    let refresh = "urn:ietf:params:oauth:token-type:refresh_token";
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    for (why, answer, expected) in [
        ("as it should be", issued("opaque", 60), Ok(Some(NOW + 60))),
        (
            "the earlier end counts",
            issued(&ends(NOW + 30), 60),
            Ok(Some(NOW + 30)),
        ),
        ("whichever it is", issued(&ends(NOW + 90), 60), Ok(Some(NOW + 60))),
        (
            "an end of its own",
            {
                let mut answer = issued(&ends(NOW + 30), 0);
                answer.as_object_mut().unwrap().remove("expires_in");
                answer
            },
            Ok(Some(NOW + 30)),
        ),
        ("no end", with("expires_in", Value::Null), Ok(None)),
        (
            "it has ended",
            issued(&ends(NOW), 60),
            Err(ExchangeError::Expired),
        ),
        ("it has no life", issued("opaque", 0), Err(ExchangeError::Expired)),
        (
            "a negative life",
            issued("opaque", -5),
            Err(ExchangeError::Expired),
        ),
        ("the longest life", issued("opaque", i64::MAX), Ok(Some(i64::MAX))),
        (
            "bearer in any case",
            with("token_type", json!("bearer")),
            Ok(Some(NOW + 60)),
        ),
        (
            "another type of token",
            with("token_type", json!("DPoP")),
            Err(ExchangeError::TokenType),
        ),
        (
            "no access token",
            with("token_type", json!("N_A")),
            Err(ExchangeError::TokenType),
        ),
        ("a JWT", with("issued_token_type", json!(jwt)), Ok(Some(NOW + 60))),
        (
            "a refresh token",
            with("issued_token_type", json!(refresh)),
            Err(ExchangeError::TokenType),
        ),
        (
            "Keycloak left it out once",
            with("issued_token_type", Value::Null),
            Ok(Some(NOW + 60)),
        ),
        (
            "the caller's token",
            issued("subject", 60),
            Err(ExchangeError::Unchanged),
        ),
        (
            "what cannot stand in a header",
            issued("a\r\nX: y", 60),
            Err(ExchangeError::Malformed),
        ),
        ("two words", issued("a b", 60), Err(ExchangeError::Malformed)),
        ("no token", issued("", 60), Err(ExchangeError::Malformed)),
        (
            "no text",
            with("access_token", json!(1)),
            Err(ExchangeError::Malformed),
        ),
        ("no object", json!([]), Err(ExchangeError::Malformed)),
    ] {
        let read = read_from(&answer, "subject").map(|issued| issued.expires);
        assert_eq!(read, expected, "{why}");
    }
}
