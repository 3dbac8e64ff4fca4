//! Clients by their metadata documents at a server where the operator registers none.

use serde_json::{Value, json};

use super::{CLIENT, at_work};

fn by_document(more: &Value) -> Value {
    let mut client = super::client(&json!({}));
    let spec = client["spec"].as_object_mut().unwrap();
    spec.remove("managed");
    spec.insert(
        "metadataDocument".into(),
        json!({"url": "https://app.example.com/client.json"}),
    );
    spec.extend(more.as_object().unwrap().clone());
    client
}

#[tokio::test]
async fn it_is_refused_with_what_to_do_instead_and_goes_without_a_trace() {
    let stage = at_work().await;
    stage.cluster.put(by_document(&json!({})));
    stage.is_said("Accepted=False MetadataDocumentUnsupported").await;
    let client = stage.cluster.get(CLIENT).unwrap();
    let said = client["status"]["conditions"].to_string();
    assert!(said.contains("clientRegistration.metadataDocuments"), "{said}");
    assert!(client["status"]["clientId"].is_null(), "{}", client["status"]);
    assert!(client["metadata"]["finalizers"].is_null(), "{client}");
    assert!(stage.server.clients().is_empty());
}
