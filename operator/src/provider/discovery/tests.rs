use super::*;

const ISSUER: &str = "https://kc.example/realms/r";

fn document() -> Document {
    Document {
        issuer: Some(ISSUER.into()),
        authorization_endpoint: Some(format!("{ISSUER}/auth")),
        token_endpoint: Some(format!("{ISSUER}/token")),
        jwks_uri: Some(format!("{ISSUER}/certs")),
        grant_types_supported: ["client_credentials".to_owned()].into(),
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

#[test]
fn metadata_that_is_not_believed() {
    let not = |why| DiscoveryError::NotMetadata { why };
    let cases: [(Document, DiscoveryError); 10] = [
        (
            Document {
                issuer: None,
                ..document()
            },
            not("it names no issuer"),
        ),
        (
            Document {
                issuer: Some(format!("{ISSUER}/")),
                ..document()
            },
            DiscoveryError::IssuerMismatch,
        ),
        (
            Document {
                issuer: Some(ISSUER.to_uppercase()),
                ..document()
            },
            DiscoveryError::IssuerMismatch,
        ),
        (
            Document {
                token_endpoint: None,
                ..document()
            },
            not("it has no token_endpoint"),
        ),
        (
            Document {
                jwks_uri: None,
                ..document()
            },
            not("it has no jwks_uri"),
        ),
        (
            Document {
                token_endpoint: Some("https://evil.example/token".into()),
                ..document()
            },
            foreign("token_endpoint"),
        ),
        (
            Document {
                token_endpoint: Some("http://kc.example/token".into()),
                ..document()
            },
            foreign("token_endpoint"),
        ),
        (
            Document {
                jwks_uri: Some("https://kc.example:8443/certs".into()),
                ..document()
            },
            foreign("jwks_uri"),
        ),
        (
            Document {
                jwks_uri: Some("data:text/plain,x".into()),
                ..document()
            },
            foreign("jwks_uri"),
        ),
        (
            Document {
                authorization_endpoint: Some("https://kc.example.evil.example/auth".into()),
                ..document()
            },
            foreign("authorization_endpoint"),
        ),
    ];
    for (document, expected) in cases {
        assert_eq!(
            judge(ISSUER, &Endpoints::default(), document),
            Err(expected.clone()),
            "{expected}"
        );
    }
}

#[test]
fn endpoints_may_be_where_the_platform_admin_says() {
    let inner = |path: &str| Some(format!("http://kc.platform.svc:8080/{path}"));
    let document = || Document {
        token_endpoint: inner("token"),
        jwks_uri: inner("certs"),
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
