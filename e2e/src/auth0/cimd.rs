//! `/api/v2/clients/cimd/{preview,register}`: clients whose metadata is a document of their own (CIMD). Auth0 does not
//! fetch a document when somebody logs in: an administrator has to register each address.

mod document;

use http::StatusCode;
use serde_json::{Value, json};

use self::document::Document;
use super::{
    clients::{self, credentials::Credential},
    errors::Refusal,
    schema::{Field, Kind, check, need},
    server::Shared,
    tenant::{Call, Outcome, Tenant},
    wire::{Answer, Body, Object, object, text},
};

const FIELDS: &[Field] = &[Field("external_client_id", Kind::Text(1, 2048))];

/// What would come of it. A document that cannot be fetched is told in `errors`.
pub(super) async fn preview(shared: &Shared, call: &Call<'_>) -> Outcome {
    let address = address(call)?;
    let fetched = Document::fetch(&shared.web, &address).await;
    let mut answer = match fetched {
        Ok(document) => document.described(),
        Err(problem) => object(json!({
            "mapped_fields": {"external_client_id": address},
            "validation": {"valid": false, "violations": [], "warnings": []},
            "errors": [problem],
        })),
    };
    if let Some(client) = shared
        .tenant()
        .clients
        .find(|client| client.oauth_id() == address)
    {
        answer.insert("client_id".to_owned(), json!(client.id()));
    }
    Ok(Answer::ok(answer))
}

/// Makes the client, or brings it up to date: 201 or 200. That a bad document is answered with 400 is a choice.
pub(super) async fn register(shared: &Shared, call: &Call<'_>) -> Outcome {
    let address = address(call)?;
    let document = Document::fetch(&shared.web, &address).await;
    let document = document.map_err(|problem| Refusal::body(&problem))?;
    if !document.violations.is_empty() {
        return Err(Refusal::body(&document.violations.join("; ")));
    }
    let mut described = document.described();
    let mut tenant = shared.tenant();
    let known = tenant
        .clients
        .find(|client| client.oauth_id() == address)
        .map(|client| client.id().to_owned());
    let (status, id) = match known {
        Some(id) => {
            refresh(&mut tenant, &id, document);
            (StatusCode::OK, id)
        }
        None => (StatusCode::CREATED, create(&mut tenant, document)?),
    };
    described.insert("client_id".to_owned(), json!(id));
    Ok(Answer::new(status, Body::Json(Value::Object(described))))
}

fn create(tenant: &mut Tenant, document: Document) -> Result<String, Refusal> {
    let mut client = clients::registered(document.fields(), document.origin(), true);
    let keys = document.keys.into_iter();
    client.credentials = keys.map(|(kid, key)| Credential::published(&kid, key)).collect();
    use_published_keys(&mut client);
    clients::check_registered(tenant, &client)?;
    let id = client.id().to_owned();
    clients::add(tenant, client)?;
    Ok(id)
}

/// Everything that the document says is as it says again. A key with an id that is known already is passed over, even if
/// it is another one.
fn refresh(tenant: &mut Tenant, id: &str, document: Document) {
    let Some(client) = tenant.clients.find_mut(|client| client.id() == id) else {
        return;
    };
    client.external = document.origin();
    for (name, value) in document.fields() {
        client.fields.insert(name, value);
    }
    if !document.keys.is_empty() {
        client.fields.remove("token_endpoint_auth_method");
    }
    client
        .credentials
        .retain(|known| document.keys.iter().any(|(kid, _)| kid == known.kid()));
    for (kid, key) in document.keys {
        if !client.credentials.iter().any(|known| known.kid() == kid) {
            client.credentials.push(Credential::published(&kid, key));
        }
    }
    use_published_keys(client);
}

fn use_published_keys(client: &mut clients::Client) {
    let ids: Vec<String> = client.credentials.iter().map(|key| key.id().to_owned()).collect();
    if ids.is_empty() {
        client.fields.remove("client_authentication_methods");
    } else {
        client.use_keys(&ids);
    }
}

/// The address that the caller names, if it can be that of a document.
fn address(call: &Call<'_>) -> Result<String, Refusal> {
    let body: Object = call.request.object()?;
    check(&body, &[FIELDS])?;
    need(&body, &["external_client_id"])?;
    let address = text(&body, "external_client_id").to_owned();
    document::check_address(&address).map_err(Refusal::body)?;
    Ok(address)
}
