//! Settings of the tenant as a whole.

use std::sync::Arc;

use anyhow::ensure;
use mcp_auth_e2e::{
    runner::Story,
    wait::{Seen, wait_for},
    world::World,
};
use serde_json::{Value, json};

use super::scene::Scene;
use crate::fixtures::{SOON, ready};

const PROFILE: &str = "resource_parameter_profile";
const ISS: &str = "authorization_response_iss_parameter_supported";

pub(super) fn stories() -> Vec<Story> {
    vec![Story::new("auth0::operator_sets_the_tenant", sets_the_tenant)]
}

/// Nothing unless it is asked for; then two settings and no other, with what they were in the status; never set back.
async fn sets_the_tenant(world: Arc<World>) -> anyhow::Result<()> {
    let scene = Scene::bare(&world, "auth0-settings").await?;
    let (env, dashboard) = (&scene.env, scene.auth0.dashboard());
    let settings = || dashboard.everything()["settings"].clone();
    let untouched = settings();
    let mut options = env.operator_options();
    "3s".clone_into(&mut options.resync_interval);
    let operator = env.start_operator_with(&options).await?;
    let named = ("AuthorizationServer", env.namespace(), "main");
    let mut main = scene.authorization_server("main");
    env.apply(&main).await?;
    ready(env, named, SOON).await?;
    ensure!(settings() == untouched, "{}", settings());

    main["spec"]["auth0"]["manageTenantSettings"] = json!(true);
    env.apply(&main).await?;
    let right = async || {
        wait_for("the settings", SOON, async || {
            let now = settings();
            Ok(if now[PROFILE] == "compatibility" && now[ISS] == true {
                Seen::Done(())
            } else {
                Seen::NotYet(now.to_string())
            })
        })
        .await
    };
    right().await?;
    ready(env, named, SOON).await?;
    let mut expected = untouched.clone();
    expected[PROFILE] = json!("compatibility");
    expected[ISS] = json!(true);
    ensure!(settings() == expected, "{}", settings());
    let noted = json!([
        { "name": ISS, "previous": untouched[ISS].to_string() },
        { "name": PROFILE, "previous": untouched[PROFILE].to_string() },
    ]);
    let status = async || {
        let object = env.get("AuthorizationServer", env.namespace(), "main").await?;
        anyhow::Ok(object.unwrap_or_default()["status"].clone())
    };
    ensure!(status().await?["tenantSettings"] == noted, "{}", status().await?);

    // What others change of them is set right, and what was there first stays noted.
    dashboard
        .patch("tenants/settings", json!({ ISS: Value::Null }))
        .await?;
    right().await?;
    ensure!(status().await?["tenantSettings"] == noted, "{}", status().await?);

    let arguments = ["delete", "authorizationserver", "main", "-n", env.namespace()];
    env.kubectl().must(&arguments).await?;
    ensure!(settings() == expected, "they were set back: {}", settings());
    operator.stop().await
}
