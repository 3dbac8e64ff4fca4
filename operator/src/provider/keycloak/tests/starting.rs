//! What it costs to find thousands of objects unchanged, in a process that remembers nothing.

use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, Respond, ResponseTemplate,
    matchers::{method, path},
};

use super::server::{CLIENTS, HOUR, SCOPES, keycloak, sign_in};
use crate::provider::{Presence, Provider as _};

const OURS: usize = 2000;
const RESOURCES: usize = 200;

/// A realm with thousands of clients, in pages where pages are asked for.
struct Realm(Vec<Value>);

impl Realm {
    fn new() -> Self {
        let client = |id: String| json!({"id": format!("id-{id}"), "clientId": id});
        let ours = (0..OURS).map(|number| client(format!("prod.team.c{number}")));
        let resources = (0..RESOURCES).map(|number| client(resource(number)));
        Self(ours.chain(resources).collect())
    }
}

impl Respond for Realm {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let query = |name: &str| {
            let mut pairs = request.url.query_pairs();
            pairs
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let (wanted, searched) = (query("clientId").unwrap_or_default(), query("search").is_some());
        let number = |name, usual| query(name).map_or(usual, |text| text.parse().unwrap());
        let found = self.0.iter().filter(|client| {
            let id = client["clientId"].as_str().unwrap();
            if searched {
                id.contains(&wanted)
            } else {
                id == wanted
            }
        });
        let page: Vec<_> = found.skip(number("first", 0)).take(number("max", OURS)).collect();
        ResponseTemplate::new(200).set_body_json(page)
    }
}

fn resource(number: usize) -> String {
    format!("https://s{number}.example.com/mcp")
}

#[tokio::test]
async fn a_start_reads_lists_and_each_resource_at_most_once_and_writes_nothing() {
    let server = MockServer::start().await;
    sign_in(&server, 300).await;
    let get = |at: &str| Mock::given(method("GET")).and(path(at));
    get(CLIENTS).respond_with(Realm::new()).mount(&server).await;
    let scopes = json!([{"id": "1", "name": "basic"}]);
    get(SCOPES)
        .respond_with(ResponseTemplate::new(200).set_body_json(scopes))
        .mount(&server)
        .await;
    let keycloak = &keycloak(&server);
    let clients = (0..OURS).map(|number| async move {
        let id = format!("prod.team.c{number}");
        let (client, _) =
            tokio::try_join!(keycloak.observe_client(&id, HOUR), keycloak.observe_scopes(HOUR)).unwrap();
        assert!(matches!(client.presence, Presence::Held(_)), "{id}");
    });
    let resources = (0..RESOURCES).map(|number| async move {
        let found = keycloak.observe_resource(&resource(number), HOUR).await.unwrap();
        assert!(matches!(found.presence, Presence::Held(_)), "{number}");
    });
    // As many passes at a time as there can be, all of which find nothing remembered.
    tokio::join!(
        futures::future::join_all(clients),
        futures::future::join_all(resources)
    );
    let received = server.received_requests().await.unwrap();
    let lists = |request: &&Request| request.url.query_pairs().any(|(key, _)| key == "search");
    let (pages, others): (Vec<_>, Vec<_>) = received
        .iter()
        .filter(|request| request.url.path() == CLIENTS)
        .partition(lists);
    // The last page is empty.
    assert_eq!(pages.len(), OURS / 100 + 1);
    assert_eq!(others.len(), RESOURCES);
    let rest = received.len() - pages.len() - others.len();
    assert!(rest <= 3, "the list of scopes, a token, a document: {rest}");
    let writes = received
        .iter()
        .filter(|request| request.method != "GET" && request.url.path() != "/realms/r/token");
    assert_eq!(writes.count(), 0);
}
