//! A tenant with a caller of its Management API.

use http::{HeaderMap, Method};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::{
    auth0::{Auth0, Rate, Setup},
    oauth::{Issuer, LoginRequest, OAuthClient},
    pki::Authority,
};

pub(super) const MCP: &str = "https://mcp.example.com/";
pub(super) const CALLBACK: &str = "https://app.example.com/callback";

pub(super) struct Bench {
    pub(super) auth0: Auth0,
    pub(super) authority: Authority,
    pub(super) http: reqwest::Client,
    token: String,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Reply {
    /// The body of an answer with this status.
    #[track_caller]
    pub(super) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// A refusal with this status, in which this text is found.
    #[track_caller]
    pub(super) fn no(self, status: u16, text: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(self.body.to_string().contains(text), "{} lacks {text}", self.body);
        self.body
    }
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(super) async fn with(setup: Setup) -> Self {
        crate::use_aws_lc();
        let authority = Authority::new().unwrap();
        let auth0 = Auth0::start(&authority, setup).await.unwrap();
        // Tests call faster than any plan allows; those about limits set their own.
        let rate = Rate {
            burst: 1_000_000,
            per_second: 1_000_000.0,
        };
        auth0.limit("", rate);
        let http = authority.http_client().unwrap().build().unwrap();
        let mut bench = Self {
            auth0,
            authority,
            http,
            token: String::new(),
        };
        bench.sign_in().await;
        bench
    }

    /// A new token for the Management API, with what the operator may do now.
    pub(super) async fn sign_in(&mut self) {
        let operator = self.auth0.operator();
        let reply = self
            .token(&[
                ("grant_type", "client_credentials"),
                ("client_id", &operator.client_id),
                ("client_secret", operator.client_secret.expose_secret()),
                ("audience", &self.auth0.management_audience()),
            ])
            .await;
        self.token = reply.ok(200)["access_token"].as_str().unwrap().to_owned();
    }

    /// From now on the caller has these scopes only.
    pub(super) async fn only(&mut self, scopes: &[&str]) {
        self.auth0.give_operator(scopes);
        self.sign_in().await;
    }

    pub(super) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let url = format!("{}/api/v2/{path}", self.auth0.url());
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        read(request).await
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(super) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, None).await
    }

    /// A request for a token.
    pub(super) async fn token(&self, form: &[(&str, &str)]) -> Reply {
        let url = format!("{}/oauth/token", self.auth0.url());
        read(self.http.post(url).form(form)).await
    }

    /// An API with these scopes and whatever else; what was answered.
    pub(super) async fn api(&self, identifier: &str, scopes: &[&str], more: Value) -> Value {
        let scopes: Vec<Value> = scopes.iter().map(|scope| json!({"value": scope})).collect();
        let mut body = json!({"identifier": identifier, "name": "An API", "scopes": scopes});
        put(&mut body, more);
        self.post("resource-servers", body).await.ok(201)
    }

    /// A client of our own for machines; its id and secret.
    pub(super) async fn machine(&self) -> (String, String) {
        let body = json!({
            "name": "machine", "app_type": "non_interactive", "oidc_conformant": true,
            "grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_post",
        });
        credentials(&self.post("clients", body).await.ok(201))
    }

    /// A public strict third-party client with a callback; its id.
    pub(super) async fn stranger(&self, more: Value) -> String {
        let mut body = json!({
            "name": "stranger", "app_type": "native", "is_first_party": false,
            "third_party_security_mode": "strict", "callbacks": [CALLBACK],
            "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "none",
            "redirection_policy": "allow_always",
        });
        put(&mut body, more);
        credentials(&self.post("clients", body).await.ok(201)).0
    }

    /// A grant; what was answered.
    pub(super) async fn grant(
        &self,
        client: &str,
        audience: &str,
        subject_type: &str,
        scope: &[&str],
    ) -> Value {
        let body =
            json!({"client_id": client, "audience": audience, "subject_type": subject_type, "scope": scope});
        self.post("client-grants", body).await.ok(201)
    }

    /// What MCP needs of a tenant: `resource` counts, and answers of logins say who they are from.
    pub(super) async fn for_mcp(&self) {
        let settings = json!({
            "resource_parameter_profile": "compatibility",
            "authorization_response_iss_parameter_supported": true,
        });
        self.patch("tenants/settings", settings).await.ok(200);
    }

    /// The tenant as clients know it.
    pub(super) async fn issuer(&self) -> Issuer {
        Issuer::discover(&self.auth0.issuer(), &self.authority)
            .await
            .unwrap()
    }

    /// A user alice, whose password is `password`; the id.
    pub(super) fn alice(&self) -> String {
        self.auth0.add_user("alice", &password())
    }

    /// The query of `/authorize` answered without a browser: status, where it leads to, and the page.
    pub(super) async fn authorize(&self, query: &[(&str, &str)]) -> (u16, String, String) {
        let url = format!("{}/authorize", self.auth0.url());
        let reply = self.http.get(url).query(query).send().await.unwrap();
        let to = reply.headers().get("location");
        let to = to.map(|to| to.to_str().unwrap().to_owned());
        let status = reply.status().as_u16();
        (status, to.unwrap_or_default(), reply.text().await.unwrap())
    }
}

pub(super) fn password() -> SecretString {
    SecretString::from("password")
}

/// A login of alice at the MCP server.
pub(super) fn login(scope: &str) -> LoginRequest {
    LoginRequest {
        redirect_uri: CALLBACK.to_owned(),
        scope: scope.to_owned(),
        resource: Some(MCP.to_owned()),
        username: "alice".to_owned(),
        password: password(),
    }
}

/// Signs alice in at a public client, and gets the tokens.
pub(super) async fn tokens(issuer: &Issuer, client: &str, scope: &str) -> crate::oauth::Tokens {
    let client = OAuthClient::public(client);
    let code = issuer.sign_in(&client, &login(scope)).await.unwrap();
    let answer = issuer.redeem(&client, &code.granted().unwrap()).await.unwrap();
    answer.granted().unwrap()
}

pub(super) async fn read(request: reqwest::RequestBuilder) -> Reply {
    let reply = request.send().await.unwrap();
    let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
    let text = reply.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Reply {
        status,
        headers,
        body,
    }
}

/// Id and secret of a client that was answered.
pub(super) fn credentials(client: &Value) -> (String, String) {
    let field = |name: &str| client[name].as_str().unwrap().to_owned();
    (field("client_id"), field("client_secret"))
}

pub(super) fn put(body: &mut Value, more: Value) {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
}

/// An identifier as a segment of a path.
pub(super) fn encoded(identifier: &str) -> String {
    identifier.replace('%', "%25").replace('/', "%2F")
}
