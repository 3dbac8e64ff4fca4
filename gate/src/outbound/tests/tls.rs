//! Against a real TLS server.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// TLS with a certificate of this authority for this name.
fn acceptor(authority: &Authority, name: &str, protocols: &[&[u8]]) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A server that answers every request with `answer`.
async fn server(authority: &Authority, name: &str, answer: &'static str) -> String {
    let acceptor = acceptor(authority, name, &[]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    format!("https://localhost:{port}/")
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn the_authority_of_the_bundle_is_trusted_and_no_other() {
    let (ours, theirs) = (authority(), authority());
    let url = server(&ours, "localhost", ANSWER).await;
    let of_another_name = server(&ours, "other.example.com", ANSWER).await;
    let (bundle, other) = (ours.pem(), theirs.pem());
    let outbound = Outbound::new(false);
    for (why, url, bundle, good) in [
        ("its own", &url, Some(&bundle), true),
        ("none but the compiled in", &url, None, false),
        ("another", &url, Some(&other), false),
        ("both", &url, Some(&(other.clone() + &bundle)), true),
        (
            "a certificate of another name",
            &of_another_name,
            Some(&bundle),
            false,
        ),
    ] {
        let reply = outbound.get(url, bundle.map(String::as_str), 100).await;
        match reply {
            Ok(reply) => assert!(good && reply.body == b"ok", "{why}"),
            Err(error) => assert_eq!((good, error), (false, OutboundError::NoAnswer), "{why}"),
        }
    }
}

#[tokio::test]
async fn no_more_is_read_than_was_asked_for() {
    let ours = authority();
    let bundle = ours.pem();
    let outbound = Outbound::new(false);
    for (why, answer, most, expected) in [
        ("as much as may be", ANSWER, 2, Ok(())),
        ("announced", ANSWER, 1, Err(OutboundError::TooLarge)),
        (
            "not announced",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n2\r\nok\r\n0\r\n\r\n",
            3,
            Err(OutboundError::TooLarge),
        ),
        (
            "cut off",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
            9,
            Err(OutboundError::NoAnswer),
        ),
        ("no HTTP", "hello", 9, Err(OutboundError::NoAnswer)),
    ] {
        let url = server(&ours, "localhost", answer).await;
        let reply = outbound.get(&url, Some(&bundle), most).await;
        assert_eq!(reply.map(drop), expected, "{why}");
    }
}

#[tokio::test]
async fn http_2_is_spoken_where_the_server_does() {
    let ours = authority();
    let acceptor = acceptor(&ours, "localhost", &[b"h2", b"http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        let service = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, Infallible>(Response::new(format!("{:?}", request.version())))
        });
        let server = auto::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    });
    let reply = Outbound::new(false)
        .get(&url, Some(&ours.pem()), 100)
        .await
        .unwrap();
    assert_eq!(reply.body, b"HTTP/2.0");
}
