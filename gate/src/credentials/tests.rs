use super::*;

fn parse(files: &[(&str, &[u8])]) -> Result<Credentials, CredentialsError> {
    let owned = |(name, content): &(&str, &[u8])| ((*name).to_owned(), content.to_vec());
    Credentials::parse(&files.iter().map(owned).collect())
}

#[test]
fn session_keys_are_one_or_two_lines_of_32_bytes() {
    let (a, b, c) = (
        STANDARD.encode([1; 32]),
        STANDARD.encode([2; 32]),
        STANDARD.encode([3; 32]),
    );
    let wrong = Err(CredentialsError::SessionKeys);
    for (what, content, expected) in [
        ("one", a.clone(), Ok(1)),
        ("one with a line end", format!("{a}\n"), Ok(1)),
        ("two", format!("{a}\n{b}\n"), Ok(2)),
        ("two with DOS line ends", format!("{a}\r\n{b}\r\n"), Ok(2)),
        ("three", format!("{a}\n{b}\n{c}\n"), wrong),
        (
            "the same twice",
            format!("{a}\n{a}\n"),
            Err(CredentialsError::SameSessionKeys),
        ),
        ("none", String::new(), wrong),
        ("an empty line", "\n".to_owned(), wrong),
        ("an empty line between", format!("{a}\n\n{b}"), wrong),
        ("31 bytes", STANDARD.encode([1; 31]), wrong),
        ("33 bytes", STANDARD.encode([1; 33]), wrong),
        ("no base64", "key".to_owned(), wrong),
        ("base64 twice", STANDARD.encode(&a), wrong),
    ] {
        let parsed = parse(&[(SESSION_KEYS, content.as_bytes())]);
        assert_eq!(parsed.map(|c| c.session_keys.len()), expected, "{what}");
    }
    assert_eq!(parse(&[(SESSION_KEYS, b"\xff")]).map(drop), wrong.map(drop));
    let both = parse(&[(SESSION_KEYS, format!("{a}\n{b}").as_bytes())]).unwrap();
    assert_eq!(
        both.session_keys[0].expose_secret(),
        &[1; 32],
        "the first line is the first key"
    );
}

#[test]
fn a_client_has_an_id_and_a_secret() {
    let id = (CLIENT_ID, b"https://mcp.example.com/mcp\n".as_slice());
    let secret = (CLIENT_SECRET, b"s3cret".as_slice());
    let client = parse(&[id, secret, ("other", b"\xff")]).unwrap().client.unwrap();
    assert_eq!(client.id, "https://mcp.example.com/mcp");
    assert_eq!(client.secret.expose_secret(), "s3cret");
    assert!(parse(&[]).unwrap().client.is_none());
    for (what, files, expected) in [
        ("only an id", vec![id], CredentialsError::HalfAClient),
        ("only a secret", vec![secret], CredentialsError::HalfAClient),
        (
            "an empty secret",
            vec![id, (CLIENT_SECRET, b"")],
            CredentialsError::ClientSecret,
        ),
        (
            "only a line end",
            vec![id, (CLIENT_SECRET, b"\n")],
            CredentialsError::ClientSecret,
        ),
        (
            "two lines",
            vec![id, (CLIENT_SECRET, b"a\nb")],
            CredentialsError::ClientSecret,
        ),
        (
            "no text",
            vec![(CLIENT_ID, b"\xff"), secret],
            CredentialsError::ClientId,
        ),
    ] {
        assert_eq!(parse(&files).map(drop), Err(expected), "{what}");
    }
}

#[test]
fn nothing_prints_what_is_secret() {
    let key = STANDARD.encode([65; 32]);
    let files: [(&str, &[u8]); 3] = [
        (SESSION_KEYS, key.as_bytes()),
        (CLIENT_ID, b"client"),
        (CLIENT_SECRET, b"s3cret"),
    ];
    let printed = format!("{:?}", parse(&files).unwrap());
    assert!(printed.contains("client"), "{printed}");
    assert!(
        !printed.contains("s3cret") && !printed.contains("65"),
        "{printed}"
    );
}
