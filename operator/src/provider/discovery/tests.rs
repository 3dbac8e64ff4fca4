use super::*;

const ISSUER: &str = "https://kc.example/realms/r";

fn document() -> Document {
    Document {
        issuer: Some(ISSUER.into()),
        authorization_endpoint: Some(format!("{ISSUER}/auth")),
        token_endpoint: Some(format!("{ISSUER}/token")),
        jwks_uri: Some(format!("{ISSUER}/certs")),
        registration_endpoint: Some(format!("{ISSUER}/register")),
        grant_types_supported: ["client_credentials".to_owned()].into(),
        ..Document::default()
    }
}

fn foreign(which: &'static str) -> DiscoveryError {
    DiscoveryError::ForeignEndpoint { which }
}

#[test]
fn what_the_server_says_is_taken_over_byte_for_byte() {
    let discovered = judge(ISSUER, &Endpoints::default(), document()).unwrap();
    assert_eq!(discovered.metadata.issuer, ISSUER);
    assert_eq!(discovered.metadata.token_endpoint, format!("{ISSUER}/token"));
    assert_eq!(discovered.metadata.jwks_uri, format!("{ISSUER}/certs"));
    assert_eq!(
        discovered.metadata.authorization_endpoint,
        Some(format!("{ISSUER}/auth"))
    );
    assert!(discovered.grant_types.contains("client_credentials"));
}

fn with(change: impl FnOnce(&mut Document)) -> Document {
    let mut document = document();
    change(&mut document);
    document
}

#[test]
fn metadata_of_others_or_of_nobody_is_not_believed() {
    let not = |why| DiscoveryError::NotMetadata { why };
    for (document, expected) in [
        (with(|d| d.issuer = None), not("it names no issuer")),
        (with(|d| d.token_endpoint = None), not("it has no token_endpoint")),
        (with(|d| d.jwks_uri = None), not("it has no jwks_uri")),
        (
            with(|d| d.issuer = Some(format!("{ISSUER}/"))),
            DiscoveryError::IssuerMismatch,
        ),
        (
            with(|d| d.issuer = Some(ISSUER.to_uppercase())),
            DiscoveryError::IssuerMismatch,
        ),
    ] {
        assert_eq!(judge(ISSUER, &Endpoints::default(), document), Err(expected));
    }
}

#[test]
fn endpoints_elsewhere_are_not_believed() {
    for elsewhere in [
        "https://evil.example/x",
        "http://kc.example/x",
        "https://kc.example:8443/x",
        "https://kc.example.evil.example/x",
        "https://kc.example@evil.example/x",
        "data:text/plain,x",
        "/realms/r/token",
        "",
    ] {
        let there = || Some(elsewhere.to_owned());
        for (document, which) in [
            (with(|d| d.token_endpoint = there()), "token_endpoint"),
            (with(|d| d.jwks_uri = there()), "jwks_uri"),
            (
                with(|d| d.authorization_endpoint = there()),
                "authorization_endpoint",
            ),
            (
                with(|d| d.registration_endpoint = there()),
                "registration_endpoint",
            ),
        ] {
            assert_eq!(
                judge(ISSUER, &Endpoints::default(), document),
                Err(foreign(which)),
                "{elsewhere}"
            );
        }
    }
}

#[test]
fn endpoints_may_be_where_the_platform_admin_says() {
    let inner = |path: &str| Some(format!("http://kc.platform.svc:8080/{path}"));
    let document = || Document {
        token_endpoint: inner("token"),
        jwks_uri: inner("certs"),
        registration_endpoint: None,
        ..document()
    };
    let endpoints = |text: &str| serde_json::from_str::<Endpoints>(text).unwrap();
    for (text, ok) in [
        (
            r#"{"discovery": "http://kc.platform.svc:8080/realms/r/.well-known/openid-configuration"}"#,
            true,
        ),
        (
            r#"{"token": "http://kc.platform.svc:8080/t", "jwks": "http://kc.platform.svc:8080/j"}"#,
            true,
        ),
        (
            r#"{"token": "https://elsewhere.example/t", "jwks": "https://elsewhere.example/j"}"#,
            true,
        ),
        (r#"{"token": "https://elsewhere.example/t"}"#, false),
        (r#"{"admin": "http://kc.platform.svc:8080"}"#, true),
        (r#"{"admin": "http://kc.platform.svc"}"#, false),
        ("{}", false),
    ] {
        assert_eq!(judge(ISSUER, &endpoints(text), document()).is_ok(), ok, "{text}");
    }
}

#[test]
fn errors_say_who_must_act() {
    for (error, reason, person) in [
        (DiscoveryError::IssuerMismatch, "IssuerMismatch", true),
        (
            DiscoveryError::NotFound { address: "a".into() },
            "MetadataNotFound",
            true,
        ),
        (
            DiscoveryError::Status { status: 503 },
            "AuthorizationServerUnavailable",
            false,
        ),
        (
            DiscoveryError::Egress(EgressError::Timeout),
            "AuthorizationServerUnreachable",
            false,
        ),
        (
            DiscoveryError::Egress(EgressError::TooLarge { limit: 1 }),
            "MalformedMetadata",
            true,
        ),
        (
            DiscoveryError::Egress(EgressError::Redirect),
            "MalformedMetadata",
            true,
        ),
        (foreign("jwks_uri"), "ForeignEndpoint", true),
    ] {
        assert_eq!((error.reason(), error.needs_a_person()), (reason, person));
    }
}
