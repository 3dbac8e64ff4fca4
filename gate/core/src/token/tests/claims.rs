//! What a token says, once its signature was found good.

use proptest::prelude::*;

use super::*;

/// The claims of a good token with changes; null takes one away.
fn changed(change: &Value) -> Value {
    let mut claims = claims("mcp:use");
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    claims
}

/// What becomes of a token with these claims, signed as it should be.
fn judge(payload: &str, header_type: &Value) -> Result<(), TokenError> {
    let mut header = json!({"alg": "ES256", "kid": "p256"});
    if !header_type.is_null() {
        header["typ"] = header_type.clone();
    }
    let token = signers().p256.sign(
        Algorithm::ES256,
        header.to_string().as_bytes(),
        payload.as_bytes(),
    );
    verify(&token)?.check(&policy(), NOW)
}

fn with(change: &Value) -> Result<(), TokenError> {
    judge(&changed(change).to_string(), &json!("at+jwt"))
}

#[test]
fn a_token_is_for_this_server_alone() {
    let userinfo = "https://as.example/realms/r/userinfo";
    for (aud, good, why) in [
        (json!(RESOURCE), true, "as text"),
        (json!([RESOURCE]), true, "as a list"),
        (json!([RESOURCE, RESOURCE]), true, "twice the same"),
        (
            json!([RESOURCE, userinfo]),
            true,
            "and the issuer's userinfo endpoint",
        ),
        (json!([userinfo, RESOURCE]), true, "in any order"),
        (json!(userinfo), false, "for the userinfo endpoint alone"),
        (json!("https://other.example/mcp"), false, "for another server"),
        (
            json!([RESOURCE, "https://other.example/mcp"]),
            false,
            "for two servers: one could replay it at the other",
        ),
        (json!([RESOURCE, "account"]), false, "for anything else besides"),
        (json!([RESOURCE, ""]), false, "for nobody besides"),
        (json!(format!("{RESOURCE}/")), false, "with a slash"),
        (json!("https://mcp.example"), false, "for the whole host"),
        (json!(RESOURCE.to_uppercase()), false, "in upper case"),
        (
            json!(format!("{RESOURCE} https://other.example")),
            false,
            "a list written as text",
        ),
        (json!([]), false, "for nobody"),
        (json!(""), false, "for nobody"),
        (Value::Null, false, "says nothing"),
    ] {
        let expected = if good { Ok(()) } else { Err(TokenError::Audience) };
        assert_eq!(with(&json!({"aud": aud})), expected, "{aud}: {why}");
    }
    let null = claims("x")
        .to_string()
        .replace(&format!("\"{RESOURCE}\""), "null");
    assert_eq!(judge(&null, &json!("at+jwt")), Err(TokenError::Audience));
    for aud in [json!({"a": RESOURCE}), json!([1]), json!(1), json!([[RESOURCE]])] {
        assert_eq!(with(&json!({"aud": aud})), Err(TokenError::Malformed), "{aud}");
    }
}

#[test]
fn a_token_is_good_for_its_time_give_or_take_the_skew() {
    for (change, expected, why) in [
        (json!({"exp": NOW + 1}), Ok(()), "a second to go"),
        (json!({"exp": NOW}), Ok(()), "over, but clocks differ"),
        (json!({"exp": NOW - CLOCK_SKEW + 1}), Ok(()), "the last second"),
        (
            json!({"exp": NOW - CLOCK_SKEW}),
            Err(TokenError::Expired),
            "over by all clocks",
        ),
        (json!({"exp": 0}), Err(TokenError::Expired), "long ago"),
        (json!({"exp": -1}), Err(TokenError::Expired), "before time"),
        (json!({"exp": i64::MAX}), Ok(()), "never: nothing overflows"),
        (
            json!({"exp": i64::MIN}),
            Err(TokenError::Expired),
            "nothing overflows",
        ),
        (json!({"nbf": NOW}), Ok(()), "from now on"),
        (
            json!({"nbf": NOW + CLOCK_SKEW}),
            Ok(()),
            "soon, but clocks differ",
        ),
        (
            json!({"nbf": NOW + CLOCK_SKEW + 1}),
            Err(TokenError::NotYetValid),
            "not yet by any clock",
        ),
        (json!({"nbf": i64::MIN}), Ok(()), "nothing overflows"),
        (json!({"nbf": i64::MAX}), Err(TokenError::NotYetValid), "never"),
        (json!({"exp": 1_800_000_001.5}), Ok(()), "with a fraction"),
        (
            json!({"exp": 1_799_999_990.9}),
            Err(TokenError::Expired),
            "the fraction does not help",
        ),
        (json!({"exp": 1e11}), Ok(()), "with an exponent"),
        (json!({"exp": 1e300}), Err(TokenError::Malformed), "no time"),
        (json!({"exp": u64::MAX}), Err(TokenError::Malformed), "no time"),
        (json!({"exp": null}), Err(TokenError::Malformed), "for ever"),
        (
            json!({"exp": format!("{}", NOW + 300)}),
            Err(TokenError::Malformed),
            "as text",
        ),
        (
            json!({"exp": [NOW + 300]}),
            Err(TokenError::Malformed),
            "as a list",
        ),
        (json!({"nbf": "0"}), Err(TokenError::Malformed), "as text"),
        (
            json!({"iat": NOW + 3600}),
            Ok(()),
            "when it was made is nobody's concern",
        ),
    ] {
        assert_eq!(with(&change), expected, "{change}: {why}");
    }
}

/// `typ` of the header, claims, and whether that is an access token by this policy: RFC 9068, or Keycloak's.
#[test]
fn only_access_tokens_are_access_tokens() {
    let (yes, no) = (Ok(()), Err(TokenError::Type));
    let keycloak_id = json!({"typ": "ID", "azp": "agent", "nonce": "x", "aud": "agent"});
    for (header, payload, expected, why) in [
        (json!("at+jwt"), json!({}), &yes, "RFC 9068"),
        (json!("AT+JWT"), json!({}), &yes, "without regard to case"),
        (json!("application/at+jwt"), json!({}), &yes, "in full"),
        (
            json!("Application/AT+jwt"),
            json!({}),
            &yes,
            "in full, without regard to case",
        ),
        (
            json!("application/application/at+jwt"),
            json!({}),
            &no,
            "twice is once too many",
        ),
        (json!("at+jwt "), json!({}), &no, "with a space"),
        (json!("at"), json!({}), &no, "half"),
        (
            json!("JWT"),
            json!({"typ": "Bearer"}),
            &yes,
            "Keycloak's access token",
        ),
        (
            json!("JWT"),
            json!({"typ": "bearer"}),
            &yes,
            "without regard to case",
        ),
        (json!("JWT"), json!({}), &no, "any token"),
        (json!("JWT"), json!({"typ": "ID"}), &no, "Keycloak's ID token"),
        (
            json!("JWT"),
            json!({"typ": "Refresh"}),
            &no,
            "Keycloak's refresh token",
        ),
        (
            json!("JWT"),
            json!({"typ": "Offline"}),
            &no,
            "Keycloak's offline token",
        ),
        (
            json!("JWT"),
            json!({"typ": "Logout"}),
            &no,
            "Keycloak's logout token",
        ),
        (json!("JWT"), keycloak_id, &no, "Keycloak's ID token as it is"),
        (
            json!("id_token+jwt"),
            json!({"typ": "Bearer"}),
            &no,
            "another type",
        ),
        (json!("dpop+jwt"), json!({}), &no, "a proof"),
        (json!("oauth-id-jag+jwt"), json!({}), &no, "a grant"),
        (json!(""), json!({"typ": "Bearer"}), &no, "empty"),
        (Value::Null, json!({"typ": "Bearer"}), &no, "absent"),
    ] {
        assert_eq!(
            &judge(&changed(&payload).to_string(), &header),
            expected,
            "{header} {payload}: {why}"
        );
    }
    assert_eq!(
        judge(&claims("x").to_string(), &json!(1)),
        Err(TokenError::Malformed)
    );
}

/// No two readers may see different claims in one token.
#[test]
fn a_claim_twice_is_refused() {
    let good = claims("mcp:use").to_string();
    for field in [
        "\"iss\":\"x\"",
        "\"aud\":\"x\"",
        "\"exp\":1",
        "\"scope\":\"x\"",
        "\"client_id\":\"x\"",
    ] {
        let before = format!("{{{field},{}", &good[1..]);
        let after = format!("{},{field}}}", &good[..good.len() - 1]);
        assert_eq!(
            judge(&before, &json!("at+jwt")),
            Err(TokenError::Malformed),
            "{field} first"
        );
        assert_eq!(
            judge(&after, &json!("at+jwt")),
            Err(TokenError::Malformed),
            "{field} last"
        );
    }
}

#[test]
fn clients_that_were_suspended_are_refused_under_any_name() {
    let policy = policy_with(&json!({"deniedClients": ["gone"]}));
    for (change, expected) in [
        (json!({"client_id": "agent"}), Ok(())),
        (json!({"client_id": "gone"}), Err(TokenError::ClientDenied)),
        (
            json!({"client_id": "agent", "azp": "gone"}),
            Err(TokenError::ClientDenied),
        ),
        (
            json!({"client_id": "gone", "azp": "agent"}),
            Err(TokenError::ClientDenied),
        ),
        (
            json!({"client_id": null, "azp": "gone"}),
            Err(TokenError::ClientDenied),
        ),
        (json!({"client_id": null, "azp": "agent"}), Ok(())),
        (json!({"client_id": null}), Err(TokenError::Anonymous)),
        (json!({"client_id": ""}), Err(TokenError::Anonymous)),
        (json!({"client_id": "GONE"}), Ok(())),
    ] {
        let token = signers().p256.token(Algorithm::ES256, &changed(&change));
        assert_eq!(verify(&token).unwrap().check(&policy, NOW), expected, "{change}");
    }
}

#[test]
fn a_token_says_whose_it_is() {
    for (change, expected) in [
        (json!({"client_id": null}), Ok(())),
        (json!({"sub": null}), Ok(())),
        (
            json!({"sub": null, "client_id": null}),
            Err(TokenError::Anonymous),
        ),
        (
            json!({"sub": "", "client_id": "", "azp": ""}),
            Err(TokenError::Anonymous),
        ),
    ] {
        let token = signers().p256.token(Algorithm::ES256, &changed(&change));
        assert_eq!(
            verify(&token).unwrap().check(&policy(), NOW),
            expected,
            "{change}"
        );
    }
}

#[test]
fn scopes_are_read_as_issuers_write_them() {
    for (change, scopes) in [
        (json!({"scope": "a b"}), &["a", "b"][..]),
        (json!({"scope": "  b   a b "}), &["a", "b"]),
        (json!({"scope": ["a", "b"]}), &["a", "b"]),
        (json!({"scope": null, "scp": ["a"]}), &["a"]),
        (json!({"scope": "a", "scp": "b"}), &["a", "b"]),
        (json!({"scope": ""}), &[]),
        (json!({"scope": null}), &[]),
        (json!({"scope": "a\tb,c"}), &["a\tb,c"]),
    ] {
        let claims = verify(&signers().p256.token(Algorithm::ES256, &changed(&change))).unwrap();
        assert_eq!(
            claims.scopes.iter().map(String::as_str).collect::<Vec<_>>(),
            scopes,
            "{change}"
        );
    }
    for change in [
        json!({"scope": 1}),
        json!({"scope": {"a": true}}),
        json!({"scp": [["a"]]}),
        json!({"iss": null}),
        json!({"sub": 1}),
    ] {
        assert_eq!(with(&change), Err(TokenError::Malformed), "{change}");
    }
}

#[test]
fn claims_say_who_calls() {
    let change = json!({"azp": "other", "sub": "bob", "nbf": NOW - 5});
    let token = signers().p256.token(Algorithm::ES256, &changed(&change));
    let claims = verify(&token).unwrap();
    assert_eq!(
        (claims.subject.as_str(), claims.client.as_str()),
        ("bob", "agent")
    );
    assert_eq!(claims.clients.iter().collect::<Vec<_>>(), ["agent", "other"]);
    assert_eq!((claims.expires, claims.not_before), (NOW + 300, Some(NOW - 5)));
    let machine = json!({"sub": null, "client_id": null, "azp": "agent"});
    let claims = verify(&signers().p256.token(Algorithm::ES256, &changed(&machine))).unwrap();
    assert_eq!((claims.subject.as_str(), claims.client.as_str()), ("", "agent"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(token in "[A-Za-z0-9_.=-]{0,80}|\\PC{0,40}") {
        prop_assert!(verify(&token).is_err());
    }

    /// A token with one character changed is another token, and nobody signed it.
    #[test]
    fn no_changed_token_is_accepted(at: prop::sample::Index, to in "[A-Za-z0-9_.-]") {
        let good = token("mcp:use");
        let mut changed = good.clone();
        let at = at.index(good.len());
        changed.replace_range(at..=at, &to);
        prop_assert!(changed == good || verify(&changed).is_err(), "{} at {}", to, at);
    }
}
