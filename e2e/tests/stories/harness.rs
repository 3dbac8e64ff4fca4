//! The harness itself does what the other stories take for granted.

mod processes;
mod proxies;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use mcp_auth_e2e::{
    oauth::{Exchange, LoginRequest, OAuthClient},
    proxy::{Call, Fault},
    runner::Story,
    secrets,
    story::StoryEnv,
    world::World,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

pub(crate) use self::processes::{is_short_lived_parent, short_lived_parent};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new(
            "harness::the_api_server_is_a_real_one",
            the_api_server_is_a_real_one,
        ),
        Story::new(
            "harness::users_sign_in_at_a_real_keycloak",
            users_sign_in_at_a_real_keycloak,
        ),
        Story::new(
            "harness::the_proxy_records_and_breaks_calls",
            the_proxy_records_and_breaks_calls,
        ),
        Story::new(
            "harness::the_proxy_stands_in_front_of_the_api_server",
            proxies::in_front_of_the_api_server,
        ),
        Story::new(
            "harness::the_proxy_repeats_holds_and_keeps",
            proxies::repeats_holds_and_keeps,
        ),
        Story::new(
            "harness::what_was_started_ends_with_its_parent",
            processes::what_was_started_ends_with_its_parent,
        ),
        Story::new(
            "harness::guards_stop_what_they_guard",
            processes::guards_stop_what_they_guard,
        ),
    ]
}

/// Namespaces, RBAC, impersonation, tokens of service accounts and garbage collection work as in any cluster.
async fn the_api_server_is_a_real_one(world: Arc<World>) -> anyhow::Result<()> {
    let cluster = world.control_plane();
    let kubectl = cluster.kubectl();
    kubectl.must(&["create", "namespace", "real"]).await?;
    let version = kubectl.must(&["version", "--output", "yaml"]).await?;
    ensure!(
        version.contains("gitVersion: v1."),
        "the API server does not know its version:\n{version}"
    );

    let developer = cluster.kubectl_with(&cluster.user_kubeconfig("developer", &["team"])?);
    let refused = developer
        .run(&["create", "configmap", "a", "--namespace", "real"])
        .await?;
    ensure!(
        !refused.success && refused.stderr.contains(r#"User "developer" cannot create"#),
        "{}",
        refused.stderr
    );
    kubectl
        .must(&[
            "create",
            "rolebinding",
            "team",
            "--clusterrole=edit",
            "--group=team",
            "--namespace=real",
        ])
        .await?;
    developer
        .must(&["create", "configmap", "a", "--namespace", "real"])
        .await?;

    let kubeconfig = cluster
        .service_account_kubeconfig("real", "robot", Duration::from_mins(10))
        .await?;
    let robot = cluster
        .kubectl_with(&kubeconfig)
        .must(&["auth", "whoami"])
        .await?;
    ensure!(robot.contains("system:serviceaccount:real:robot"), "{robot}");

    let owner = kubectl
        .must(&[
            "get",
            "configmap",
            "a",
            "--namespace=real",
            "--output=jsonpath={.metadata.uid}",
        ])
        .await?;
    let owned = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "b", "namespace": "real",
            "ownerReferences": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": owner }],
        },
    });
    kubectl.apply(&owned.to_string()).await?;
    kubectl
        .must(&["delete", "configmap", "a", "--namespace=real"])
        .await?;
    kubectl
        .must(&[
            "wait",
            "--for=delete",
            "configmap/b",
            "--namespace=real",
            "--timeout=30s",
        ])
        .await?;

    kubectl
        .must(&["delete", "namespace", "real", "--timeout=60s"])
        .await?;
    ensure!(
        Api::<Namespace>::all(cluster.client())
            .get_opt("real")
            .await?
            .is_none(),
        "the namespace is still there"
    );
    Ok(())
}

/// A client made by hand gets tokens by each grant that stories use, and they verify against the published keys.
async fn users_sign_in_at_a_real_keycloak(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "signing-in").await?;
    let (realm, issuer) = (env.realm(), env.issuer().await?);
    let secret = secrets::random();
    let scope = realm.admin().create("/client-scopes", &orders_scope()).await?;
    let api = realm
        .admin()
        .create(
            "/clients",
            &confidential("https://orders.example.com/", false, &secret),
        )
        .await?;
    let app = realm
        .admin()
        .create("/clients", &confidential("app", true, &secret))
        .await?;
    for client in [&api, &app] {
        realm
            .admin()
            .put(
                &format!("/clients/{client}/optional-client-scopes/{scope}"),
                &json!({}),
            )
            .await?;
    }
    let password = secrets::random();
    let ada = realm.create_user("ada", password.expose_secret()).await?;

    let client = OAuthClient::confidential("app", secret.clone());
    let own = issuer
        .client_credentials(&client.clone().with_basic(), Some("orders:read"))
        .await?
        .granted()?;
    ensure!(issuer.verify(&own.access_token).await?.audiences() == ["https://orders.example.com/"]);
    let refusal = issuer
        .client_credentials(&client, Some("orders:write"))
        .await?
        .refused()?;
    ensure!(refusal.error == "invalid_scope", "{refusal}");

    let resource = Some("https://orders.example.com/".to_owned());
    let mut login = LoginRequest {
        redirect_uri: "http://127.0.0.1:7777/callback".to_owned(),
        scope: "openid orders:read".to_owned(),
        resource: resource.clone(),
        username: "ada".to_owned(),
        password: SecretString::from("wrong"),
    };
    let error = issuer
        .sign_in(&client, &login)
        .await
        .err()
        .context("signed in with a wrong password")?;
    ensure!(
        error.to_string().contains("Invalid username or password"),
        "{error:#}"
    );
    login.password = password;
    let code = issuer.sign_in(&client, &login).await?.granted()?;
    let asked = code.consent.clone().context("nobody asked for consent")?;
    ensure!(asked.iter().any(|line| line.contains("Read orders")), "{asked:?}");

    let tokens = issuer.redeem(&client, &code).await?.granted()?;
    let token = issuer.verify(&tokens.access_token).await?;
    ensure!(
        token.text("sub") == ada && token.scopes().contains("orders:read"),
        "{}",
        token.claims
    );
    ensure!(token.lifetime()? == 300, "{}", token.claims);
    let refresh_token = tokens.refresh_token.context("no refresh token")?;
    let again = issuer
        .refresh(&client, &refresh_token, resource.as_deref())
        .await?
        .granted()?;

    let orders = OAuthClient::confidential("https://orders.example.com/", secret).with_basic();
    let exchange = Exchange {
        subject_token: &again.access_token,
        scope: Some("orders:read"),
        audience: None,
    };
    let exchanged = issuer.exchange(&orders, &exchange).await?.granted()?;
    let exchanged = issuer.verify(&exchanged.access_token).await?;
    ensure!(exchanged.text("azp") == "https://orders.example.com/" && exchanged.text("sub") == ada);
    // Last, because it ends the session that the code led to (RFC 6749 section 4.1.2).
    let refusal = issuer.redeem(&client, &code).await?.refused()?;
    ensure!(
        refusal.error == "invalid_grant",
        "a code that was used twice: {refusal}"
    );
    realm.delete().await
}

/// Calls pass through the proxy and are written down; each fault does what its name says.
async fn the_proxy_records_and_breaks_calls(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "recording").await?;
    let (proxy, realm) = (env.proxy(), env.realm());
    let http = world
        .authority()
        .http_client()?
        .timeout(Duration::from_secs(3))
        // A connection that is kept would tell of its end instead of the port's.
        .pool_max_idle_per_host(0)
        .build()?;
    let metadata = format!(
        "{}/realms/{}/.well-known/openid-configuration",
        proxy.url(),
        realm.name()
    );
    let get = || async { http.get(&metadata).send().await };

    let seen: serde_json::Value = get().await?.json().await?;
    ensure!(
        seen["issuer"] == realm.issuer(),
        "the proxy changes the issuer: {}",
        seen["issuer"]
    );
    let client =
        OAuthClient::confidential(realm.operator_client_id(), realm.operator_client_secret().clone());
    let token = env
        .issuer()
        .await?
        .client_credentials(&client, None)
        .await?
        .granted()?
        .access_token;
    let clients = format!("{}/admin/realms/{}/clients", proxy.url(), realm.name());
    let create = |id: &'static str| {
        http.post(&clients)
            .bearer_auth(token.expose_secret())
            .json(&json!({ "clientId": id }))
            .send()
    };
    ensure!(create("one").await?.status() == StatusCode::CREATED);
    let writes = proxy.writes();
    ensure!(
        writes.len() == 1 && writes[0].status == Some(StatusCode::CREATED),
        "{writes:?}"
    );
    ensure!(writes[0].json::<serde_json::Value>()?["clientId"] == "one");

    let is_create = |call: &Call| call.method == Method::POST && call.path().ends_with("/clients");
    proxy.inject(Fault::lose_reply().on(is_create).times(1));
    ensure!(create("two").await.is_err(), "the reply was not lost");
    ensure!(
        realm.find_client("two").await?.is_some(),
        "the call was not carried out"
    );
    ensure!(create("two").await?.status() == StatusCode::CONFLICT);

    proxy.inject(Fault::status_retry_after(StatusCode::TOO_MANY_REQUESTS, 7).times(1));
    let throttled = get().await?;
    ensure!(throttled.status() == StatusCode::TOO_MANY_REQUESTS && throttled.headers()["retry-after"] == "7");
    proxy.inject(Fault::disconnect().times(1));
    ensure!(get().await.is_err_and(|error| !error.is_timeout()));
    proxy.inject(Fault::delay(Duration::from_millis(300)).times(1));
    let began = Instant::now();
    ensure!(get().await?.status().is_success() && began.elapsed() >= Duration::from_millis(300));
    let one = format!("{clients}?clientId=one");
    let amend =
        Fault::amend(|clients| clients[0]["more"] = json!(1)).on(|call| call.query("clientId").is_some());
    proxy.inject(amend.times(1));
    for more in [json!(1), serde_json::Value::Null] {
        let answer = http.get(&one).bearer_auth(token.expose_secret()).send().await?;
        let found: serde_json::Value = answer.json().await?;
        ensure!(
            found[0]["clientId"] == "one" && found[0]["more"] == more,
            "{found}"
        );
    }
    proxy.inject(Fault::hang());
    ensure!(get().await.is_err_and(|error| error.is_timeout()));
    proxy.heal()?;
    ensure!(get().await?.status().is_success());

    proxy.refuse_connections().await?;
    ensure!(
        get().await.is_err_and(|error| error.is_connect()),
        "connecting is possible"
    );
    proxy.heal()?;
    ensure!(get().await?.status().is_success());
    realm.delete().await
}

fn orders_scope() -> serde_json::Value {
    json!({
        "name": "orders:read",
        "protocol": "openid-connect",
        "attributes": {
            "include.in.token.scope": "true",
            "display.on.consent.screen": "true",
            "consent.screen.text": "Read orders",
        },
        "protocolMappers": [{
            "name": "aud", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
            "config": { "included.custom.audience": "https://orders.example.com/", "access.token.claim": "true" },
        }],
    })
}

fn confidential(id: &str, consent: bool, secret: &SecretString) -> serde_json::Value {
    json!({
        "clientId": id,
        "protocol": "openid-connect",
        "publicClient": false,
        "secret": secret.expose_secret(),
        "serviceAccountsEnabled": true,
        "standardFlowEnabled": true,
        "directAccessGrantsEnabled": false,
        "consentRequired": consent,
        "fullScopeAllowed": false,
        "redirectUris": ["http://127.0.0.1/callback"],
        "defaultClientScopes": ["basic"],
        "optionalClientScopes": [],
        "attributes": { "standard.token.exchange.enabled": "true" },
    })
}
