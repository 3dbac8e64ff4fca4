//! Which servers are trusted.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// A server with a certificate of `authority` for `name`, valid as `adjust` says. Returns its port.
fn serve(authority: &Authority, name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> u16 {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
    adjust(&mut parameters);
    let certificate = parameters.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let (config, listener) = (
        Arc::new(config),
        std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut request = [0; 4096];
            // A client that does not trust us hangs up, as it should.
            if stream.read(&mut request).is_ok_and(|read| read > 0) {
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
                let _ = stream.flush();
            }
        }
    });
    port
}

async fn get(port: u16, host: &str, bundle: Option<&str>) -> Result<Answer, EgressError> {
    let policy = EgressPolicy {
        allow_http: false,
        ..DEVELOPMENT
    };
    let client = Egress::new(policy).client(Audience::AuthorizationServer, bundle.map(str::as_bytes))?;
    client
        .get(&Url::parse(&format!("https://{host}:{port}/")).unwrap())
        .await
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_when_given() {
    let (ours, theirs) = (authority(), authority());
    let port = serve(&ours, "localhost", |_| {});
    assert_eq!(
        get(port, "localhost", Some(&ours.pem())).await.unwrap().body,
        b"ok"
    );
    let both = format!("{}\n{}", theirs.pem(), ours.pem());
    assert_eq!(get(port, "localhost", Some(&both)).await.unwrap().body, b"ok");
    let unknown = EgressError::Tls(TlsProblem::UnknownIssuer);
    assert_eq!(get(port, "localhost", None).await.unwrap_err(), unknown);
    assert_eq!(
        get(port, "localhost", Some(&theirs.pem())).await.unwrap_err(),
        unknown
    );
}

#[tokio::test]
async fn a_certificate_must_be_for_the_host_and_for_now() {
    let authority = authority();
    let problem = async |port| match get(port, "localhost", Some(&authority.pem())).await {
        Err(EgressError::Tls(problem)) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        problem(serve(&authority, "elsewhere.example", |_| {})).await,
        TlsProblem::WrongName
    );
    let expired = serve(&authority, "localhost", |parameters| {
        parameters.not_before = rcgen::date_time_ymd(2019, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    assert_eq!(problem(expired).await, TlsProblem::Expired);
    let early = serve(&authority, "localhost", |parameters| {
        parameters.not_before = rcgen::date_time_ymd(2999, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(3000, 1, 1);
    });
    assert_eq!(problem(early).await, TlsProblem::NotYetValid);
}

#[tokio::test]
async fn plain_text_is_no_tls() {
    let server = Server::start(async |mut stream: TcpStream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        // Closing with the client's greeting unread would reset the connection before it reads this.
        let mut greeting = [0; 4096];
        stream.read(&mut greeting).await.map(drop)
    })
    .await;
    let error = get(server.port, "127.0.0.1", None).await.unwrap_err();
    assert_eq!(error, EgressError::Tls(TlsProblem::Handshake));
}

#[tokio::test]
async fn a_bundle_without_certificates_is_refused() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let broken = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    for bundle in ["", "not PEM", key.as_str(), broken] {
        let error = Egress::new(DEVELOPMENT)
            .client(Audience::Tenant, Some(bundle.as_bytes()))
            .unwrap_err();
        assert_eq!(error, EgressError::CaBundle, "{bundle:?}");
    }
}
