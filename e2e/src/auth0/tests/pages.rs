use serde_json::{Value, json};

use super::support::Bench;

/// Which list knows which way of paging, as the reference has it for each endpoint.
#[tokio::test]
async fn each_list_pages_as_documented() {
    let bench = Bench::new().await;
    let connection = bench.auth0.connection().to_owned();
    let of_connection = format!("connections/{connection}/clients");
    let table = [
        ("clients", true, true),
        ("client-grants", true, true),
        ("connections", true, true),
        ("resource-servers", false, true),
        ("roles", false, true),
        ("token-exchange-profiles", true, false),
        (&of_connection, true, false),
    ];
    for (path, checkpoint, offset) in table {
        let expected = |known: bool| if known { 200 } else { 400 };
        bench
            .get(&format!("{path}?take=2"))
            .await
            .ok(expected(checkpoint));
        bench
            .get(&format!("{path}?per_page=2&page=0"))
            .await
            .ok(expected(offset));
        bench
            .get(&format!("{path}?no_such=1"))
            .await
            .no(400, "Additional properties not allowed: no_such");
    }
}

/// "Get Clients": checkpoint pagination; the first call has no `from`, the last answer no `next`.
#[tokio::test]
async fn a_checkpoint_leads_to_every_client_once() {
    let bench = Bench::new().await;
    for number in 0..7 {
        let body = json!({"name": format!("client {number}")});
        bench.post("clients", body).await.ok(201);
    }
    let (mut names, mut path) = (Vec::new(), "clients?take=3&fields=name".to_owned());
    loop {
        let page = bench.get(&path).await.ok(200);
        let clients = page["clients"].as_array().unwrap();
        assert!((1..=3).contains(&clients.len()));
        names.extend(clients.iter().map(|client| client["name"].clone()));
        // What is made meanwhile comes at the end.
        if names.len() == 3 {
            bench.post("clients", json!({"name": "late"})).await.ok(201);
        }
        let Some(next) = page.get("next").and_then(Value::as_str) else {
            break;
        };
        path = format!("clients?take=3&fields=name&from={next}");
    }
    assert_eq!(names.len(), 9, "{names:?}");
    assert_eq!(names.last(), Some(&json!("late")));
    bench
        .get("clients?from=nonsense")
        .await
        .no(400, "from is no checkpoint");
    bench.get("clients?take=101").await.no(400, "take");
    bench.get("clients?take=1&page=0").await.no(400, "together");
}

/// Offset pagination: 50 unless told otherwise, 100 at most, and totals in an envelope when asked for.
#[tokio::test]
async fn a_caller_that_does_not_page_sees_fifty() {
    let bench = Bench::new().await;
    for number in 0..60 {
        bench
            .api(&format!("https://api{number}.example.com/"), &[], json!({}))
            .await;
    }
    let first = bench.get("resource-servers").await.ok(200);
    assert_eq!(first.as_array().unwrap().len(), 50);
    let second = bench.get("resource-servers?page=1").await.ok(200);
    assert_eq!(second.as_array().unwrap().len(), 11);
    let all = bench
        .get("resource-servers?per_page=100&include_totals=true")
        .await
        .ok(200);
    assert_eq!((&all["total"], &all["start"]), (&json!(61), &json!(0)));
    assert_eq!(all["resource_servers"].as_array().unwrap().len(), 61);
    bench
        .get("resource-servers?per_page=101")
        .await
        .no(400, "per_page");
}

/// "Get Connections": pages reach to the first thousand only.
#[tokio::test]
async fn connections_are_paged_to_a_thousand() {
    let bench = Bench::new().await;
    bench.get("connections?per_page=100&page=9").await.ok(200);
    bench
        .get("connections?per_page=100&page=10")
        .await
        .no(400, "1000");
}

/// `fields` and `include_fields`.
#[tokio::test]
async fn fields_are_left_out_on_demand() {
    let bench = Bench::new().await;
    let (id, _) = bench.machine().await;
    let some = bench
        .get(&format!("clients/{id}?fields=client_id,name"))
        .await
        .ok(200);
    assert_eq!(some, json!({"client_id": id, "name": "machine"}));
    let path = format!("clients/{id}?fields=client_id,name&include_fields=false");
    let rest = bench.get(&path).await.ok(200);
    assert!(rest.get("name").is_none() && rest.get("grant_types").is_some());
}

/// Choice: parameters that an endpoint does not know are refused.
#[tokio::test]
async fn unknown_parameters_are_refused() {
    let bench = Bench::new().await;
    let (id, _) = bench.machine().await;
    let path = format!("clients/{id}?page=0");
    bench
        .get(&path)
        .await
        .no(400, "Additional properties not allowed: page");
    bench
        .get("tenants/settings?take=1")
        .await
        .no(400, "Additional properties not allowed: take");
    bench
        .patch(&path, json!({"name": "x"}))
        .await
        .no(400, "invalid_query_string");
    bench
        .post("clients?fields=name", json!({"name": "x"}))
        .await
        .no(400, "invalid_query_string");
    bench.delete(&path).await.no(400, "invalid_query_string");
    bench.get("tenants/settings?fields=flags").await.ok(200);
}
