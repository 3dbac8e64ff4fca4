//! What only some stories need of the proxy: the API server behind it, and the rarer faults.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use mcp_auth_e2e::{
    control_plane,
    proxy::{Call, Fault},
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::fixtures::{SOON, apply_all, ready, server};

/// Everything that an operator does at the API server goes through: reads, watches that tell at once, and writes under
/// its own rights.
pub(super) async fn in_front_of_the_api_server(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "api-proxy").await?;
    let proxy = env.api_server_proxy()?;
    let mut options = env.operator_options();
    options.api_server = Some(proxy.url());
    let operator = env.start_operator_with(&options).await?;
    apply_all(&env, &[env.authorization_server("main"), server(&env, "notes")]).await?;
    ready(&env, ("McpServer", env.namespace(), "notes"), SOON).await?;
    ensure!(
        proxy.calls().iter().any(Call::is_watch),
        "nothing was watched through the proxy"
    );
    let writes = proxy.writes();
    let of_status = |call: &Call| call.path().ends_with("/mcpservers/notes/status");
    ensure!(
        writes
            .iter()
            .any(|call| of_status(call) && call.status == Some(StatusCode::OK)),
        "{writes:?}"
    );
    // Nobody else's rights: what the token may not do is refused through the proxy too.
    let kubeconfig = env
        .cluster()
        .service_account_kubeconfig_at(
            &proxy.url(),
            env.operator_namespace(),
            "nobody",
            Duration::from_mins(10),
        )
        .await?;
    let nobody = control_plane::client(&kubeconfig).await?;
    let refused = Api::<ConfigMap>::namespaced(nobody, env.namespace())
        .get("keycloak-ca")
        .await;
    ensure!(
        matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403),
        "{refused:?}"
    );
    operator.stop().await
}

/// A call is carried out twice, later, or without an answer; a fault can be for one call of many.
pub(super) async fn repeats_holds_and_keeps(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "repeating").await?;
    let (proxy, realm) = (env.proxy(), env.realm());
    let http = world
        .authority()
        .http_client()?
        .pool_max_idle_per_host(0)
        .build()?;
    let client = mcp_auth_e2e::oauth::OAuthClient::confidential(
        realm.operator_client_id(),
        realm.operator_client_secret().clone(),
    );
    let granted = env.issuer().await?.client_credentials(&client, None).await?;
    let token = granted.granted()?.access_token;
    let clients = format!("{}/admin/realms/{}/clients", proxy.url(), realm.name());
    let create = async |id: &str| {
        let request = http.post(&clients).bearer_auth(token.expose_secret());
        let answer = request.json(&json!({ "clientId": id })).send().await;
        answer.map(|answer| answer.status())
    };
    let is_create = |call: &Call| call.method == Method::POST;

    let hits = proxy.inject(Fault::duplicate().on(is_create).at(2));
    ensure!(create("one").await? == StatusCode::CREATED && hits.count() == 0);
    ensure!(
        create("two").await? == StatusCode::CONFLICT,
        "it was carried out once"
    );
    ensure!(hits.count() == 1 && create("three").await? == StatusCode::CREATED);

    let hits = proxy.inject(Fault::hold().on(is_create));
    let (held, ()) = tokio::join!(create("four"), async {
        hits.first().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        if let Ok(None) = realm.find_client("four").await {
            let _ = proxy.heal();
        }
    });
    ensure!(held? == StatusCode::CREATED, "a call that was held arrives later");

    let hits = proxy.inject(Fault::keep_reply().on(is_create));
    let (kept, found) = tokio::join!(create("five"), async {
        hits.first().await;
        let found = wait_for("what was carried out", SOON, async || {
            let found = realm.find_client("five").await?;
            Ok(found.map_or_else(|| Seen::NotYet("nothing".to_owned()), Seen::Done))
        });
        let found = found.await;
        let _ = proxy.heal();
        found
    });
    found?;
    ensure!(
        kept.is_err_and(|error| !error.is_timeout()),
        "an answer was given"
    );
    let last = proxy.calls().pop();
    ensure!(last.is_some_and(|call| call.arrived && call.status.is_none()));
    realm.delete().await
}
