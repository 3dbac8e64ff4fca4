mod tls;

use super::*;

#[test]
fn only_https_and_loopback_are_spoken_to() {
    for (address, plainly, with_flag) in [
        ("https://as.example.com/jwks", true, true),
        ("http://as.example.com/jwks", false, true),
        ("http://127.0.0.1:8080/jwks", true, true),
        ("http://[::1]:8080/jwks", true, true),
        ("http://localhost:8080/jwks", true, true),
        // Whoever answers for these names need not be this machine.
        ("http://localhost.example.com/jwks", false, true),
        ("http://127.0.0.1.example.com/jwks", false, true),
        ("http://10.0.0.1/jwks", false, true),
        ("http://0.0.0.0/jwks", false, true),
        ("file:///etc/passwd", false, false),
        ("ftp://as.example.com/jwks", false, false),
        ("as.example.com/jwks", false, false),
    ] {
        assert_eq!(
            Outbound::new(false).checked(address).is_ok(),
            plainly,
            "{address}"
        );
        assert_eq!(
            Outbound::new(true).checked(address).is_ok(),
            with_flag,
            "{address}"
        );
    }
}

#[test]
fn a_bundle_must_hold_certificates() {
    let certificate = rcgen::generate_simple_self_signed(["as.example.com".to_owned()])
        .unwrap()
        .cert
        .pem();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (what, bundle, good) in [
        ("none", None, true),
        ("one", Some(certificate.clone()), true),
        ("two", Some(certificate.repeat(2)), true),
        ("empty", Some(String::new()), false),
        ("no PEM", Some("certificate".to_owned()), false),
        ("a broken one", Some(broken.to_owned()), false),
        ("a good and a broken one", Some(certificate + broken), false),
    ] {
        assert_eq!(tls(bundle.as_deref()).is_ok(), good, "{what}");
    }
}

#[test]
fn one_client_is_kept_and_replaced_with_the_bundle() {
    let outbound = Outbound::new(false);
    let kept = |outbound: &Outbound| outbound.client.lock().unwrap().as_ref().map(|(b, _)| b.clone());
    outbound.client(None).unwrap();
    assert_eq!(kept(&outbound), Some(None));
    let certificate = rcgen::generate_simple_self_signed(["as.example.com".to_owned()]).unwrap();
    let bundle = certificate.cert.pem();
    outbound.client(Some(&bundle)).unwrap();
    assert_eq!(kept(&outbound), Some(Some(bundle)));
    assert!(outbound.client(Some("")).is_err(), "and a broken one never");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_for_ever() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let reply = Outbound::new(false).get(&url, None, 100).await;
    assert_eq!(reply.map(drop), Err(OutboundError::Timeout));
}

#[test]
fn an_answer_does_not_show_its_body() {
    let reply = Reply {
        status: StatusCode::OK,
        body: b"secret".to_vec(),
    };
    assert_eq!(format!("{reply:?}"), "Reply { status: 200, body: 6 bytes }");
}
