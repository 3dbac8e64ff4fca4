mod check;
mod request;

use std::collections::HashMap;

use envoy_types::pb::envoy::{
    config::core::v3::HeaderMap as PbHeaders,
    service::auth::v3::{
        AttributeContext, attribute_context, authorization_client::AuthorizationClient,
        check_response::HttpResponse as Answered,
    },
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::*;
use crate::testing::{AuthorizationServer, CALL, Signer, claims};

/// The face, asked by a real client.
struct Stage {
    server: AuthorizationServer,
    signer: Signer,
    arbiter: Arbiter,
    client: AuthorizationClient<Channel>,
    task: JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stage {
    async fn new(changes: &Value) -> Self {
        let signer = Signer::new("one");
        let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
        let arbiter = crate::testing::arbiter(&server, changes);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let face = ExtAuthz::new(arbiter.clone());
        let task = tokio::spawn(async move { face.serve(listener, std::future::pending()).await.unwrap() });
        let client = AuthorizationClient::connect(format!("http://{address}"))
            .await
            .unwrap();
        Self {
            server,
            signer,
            arbiter,
            client,
            task,
        }
    }

    fn token(&self, changes: &Value) -> String {
        self.signer.sign(&claims(&self.server, changes))
    }

    /// A POST of [`CALL`] with this token, as Envoy describes it.
    fn post(&self) -> HttpRequest {
        post(&self.token(&json!({})))
    }

    async fn check(&self, http: HttpRequest) -> Result<CheckResponse, Status> {
        let request = CheckRequest {
            attributes: Some(AttributeContext {
                request: Some(attribute_context::Request {
                    http: Some(http),
                    ..attribute_context::Request::default()
                }),
                ..AttributeContext::default()
            }),
        };
        let answered = self.client.clone().check(request).await?;
        Ok(answered.into_inner())
    }
}

fn post(token: &str) -> HttpRequest {
    let headers = [
        (":method", "POST"),
        (":path", "/mcp"),
        ("authorization", &format!("Bearer {token}")),
        ("content-type", "application/json"),
        ("x-envoy-auth-partial-body", "false"),
    ];
    HttpRequest {
        method: "POST".to_owned(),
        path: "/mcp".to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        size: i64::try_from(CALL.len()).unwrap(),
        raw_body: CALL.to_vec(),
        ..HttpRequest::default()
    }
}

/// Status, headers and body of a refusal; what goes with the request when it is allowed.
enum Outcome {
    Allowed {
        set: HashMap<String, String>,
        remove: Vec<String>,
    },
    Denied {
        status: i32,
        headers: HashMap<String, String>,
        body: String,
    },
}

fn outcome(response: CheckResponse) -> Outcome {
    let map = |headers: Vec<HeaderValueOption>| {
        let pair = |option: HeaderValueOption| {
            assert_eq!(
                option.append_action,
                i32::from(HeaderAppendAction::OverwriteIfExistsOrAdd)
            );
            let header = option.header.unwrap();
            (header.key, header.value)
        };
        headers.into_iter().map(pair).collect()
    };
    let code = response.status.unwrap().code;
    match response.http_response.unwrap() {
        Answered::OkResponse(ok) => {
            assert_eq!(code, 0);
            let mut remove = ok.headers_to_remove;
            remove.sort();
            Outcome::Allowed {
                set: map(ok.headers),
                remove,
            }
        }
        Answered::DeniedResponse(denied) => {
            assert_eq!(code, i32::from(Code::PermissionDenied));
            Outcome::Denied {
                status: denied.status.unwrap().code,
                headers: map(denied.headers),
                body: denied.body,
            }
        }
        Answered::ErrorResponse(_) => panic!("the gate answers with decisions"),
    }
}

impl Outcome {
    fn status(&self) -> i32 {
        match self {
            Self::Allowed { .. } => 0,
            Self::Denied { status, .. } => *status,
        }
    }
}
