//! What is made once, and never tried again by itself.

use super::*;

/// Whether there may be something that was to be made, and how often that was tried.
#[tokio::test]
async fn what_is_made_once_says_whether_it_may_have_been_made() {
    for (answer, may_exist) in [
        (status(500), true),
        (status(502), true),
        (status(504), true),
        (status(503), false),
        (status(429), false),
    ] {
        let code = answer.clone();
        let server = server(vec![answer]).await;
        let failed = client(LONG)
            .create(&request(&server.uri(), Effect::Create))
            .await
            .err();
        assert_eq!(failed.map(|failed| failed.may_exist), Some(may_exist), "{code:?}");
        assert_eq!(requests(&server).await, 1, "{code:?}");
    }
    let slow = server(vec![status(201).set_delay(Duration::from_secs(3))]).await;
    let failed = client(Duration::from_millis(100))
        .create(&request(&slow.uri(), Effect::Create))
        .await;
    assert!(failed.err().unwrap().may_exist, "it may have arrived");
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let failed = client(LONG)
        .create(&request(&format!("http://{closed}/"), Effect::Create))
        .await;
    assert!(!failed.err().unwrap().may_exist, "nothing was sent");
    let elsewhere = client(LONG)
        .create(&request("http://169.254.169.254/", Effect::Create))
        .await;
    assert!(!elsewhere.err().unwrap().may_exist, "nothing was sent");
}
