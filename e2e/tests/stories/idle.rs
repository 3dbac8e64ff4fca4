//! Nothing to do means nothing done.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use anyhow::ensure;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Event, Secret},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use mcp_auth_e2e::{
    lengths,
    operator::Operator,
    runner::Story,
    story::StoryEnv,
    wait::{Seen, wait_for},
    world::World,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fixtures::{apply_all, machine, native, open_server, policy, web};

/// 100 objects: these, and one AuthorizationServer.
const OBJECTS: [(&str, u32); 4] = [
    ("AuthorizationServer", 1),
    ("McpServer", 20),
    ("McpClient", 75),
    ("TokenExchangePolicy", 4),
];

/// Between two looks at every object. Long enough for the looks themselves, on a busy machine.
const RESYNC: Duration = Duration::from_secs(8);

/// How often every object is looked at without a change.
fn resyncs() -> u32 {
    lengths::of(3, 20)
}

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "idle::resyncs_of_a_hundred_ready_objects_write_nothing",
        resyncs_write_nothing,
    )]
}

async fn resyncs_write_nothing(world: Arc<World>) -> anyhow::Result<()> {
    let env = StoryEnv::new(&world, "idle").await?;
    let mut options = env.operator_options();
    options.resync_interval = format!("{}s", RESYNC.as_secs());
    let operator = env.start_operator_with(&options).await?;
    apply_all(&env, &hundred(&env)).await?;
    for (kind, count) in OBJECTS {
        wait_until_ready(&env, kind, count).await?;
    }
    // What the last changes woke has its turn: from here on, only the clock wakes anything.
    wait_for_passes(&operator, 1).await?;

    let before = versions(&env).await?;
    env.proxy().clear();
    let passes = wait_for_passes(&operator, resyncs()).await?;
    let (calls, writes) = (u32::try_from(env.proxy().calls().len())?, env.proxy().writes());
    ensure!(writes.is_empty(), "{writes:#?}");
    let after = versions(&env).await?;
    let changed: Vec<_> = after
        .iter()
        .filter(|(object, version)| before.get(*object) != Some(*version))
        .collect();
    ensure!(
        changed.is_empty() && before.len() == after.len(),
        "written at the API server: {changed:#?}"
    );
    world.note(format!(
        "calls to Keycloak per unchanged object and resync: {:.2} (aim 1; {calls} calls, {passes:.0} passes, 0 writes)",
        f64::from(calls) / passes,
    ));
    ensure!(f64::from(calls) <= passes, "{calls} calls in {passes} passes");
    operator.stop().await
}

/// The AuthorizationServer, servers that exchange for each other here and there, and clients of each kind.
fn hundred(env: &StoryEnv) -> Vec<Value> {
    let server = |number: usize| format!("server-{number}");
    let mut objects = vec![env.authorization_server("main")];
    objects.extend((0..20).map(|number| open_server(env, &server(number))));
    objects.extend((0..75).map(|number| {
        let (name, one, other) = (
            format!("client-{number}"),
            server(number % 20),
            server((number + 7) % 20),
        );
        match number % 3 {
            0 => machine(env, &name, &[&one, &other]),
            1 => web(env, &name, &[&one]),
            _ => native(env, &name, &[&one, &other]),
        }
    }));
    objects.extend((0..4).map(|number| {
        let name = format!("policy-{number}");
        let mut policy = policy(env, &name, &server(number), &server(number + 10));
        if number % 2 == 0 {
            policy["spec"]["subjectClients"] = serde_json::json!([{ "name": "client-1" }]);
        }
        policy
    }));
    objects
}

fn api(env: &StoryEnv, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("mcpauth.dev", "v1alpha1", kind));
    Api::namespaced_with(env.client(), env.namespace(), &resource)
}

async fn wait_until_ready(env: &StoryEnv, kind: &str, count: u32) -> anyhow::Result<()> {
    wait_for(
        &format!("{count} Ready objects of {kind}"),
        Duration::from_mins(3),
        async || {
            let objects = api(env, kind).list(&ListParams::default()).await?;
            let is_ready = |object: &&DynamicObject| {
                let conditions = object.data["status"]["conditions"].as_array();
                conditions
                    .into_iter()
                    .flatten()
                    .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            };
            let ready = objects.iter().filter(is_ready).count();
            Ok(if ready == usize::try_from(count)? {
                Seen::Done(())
            } else {
                Seen::NotYet(format!("{ready} of them"))
            })
        },
    )
    .await
}

/// Waits until every kind had so many passes for each of its objects. Gives how many passes there were in all.
async fn wait_for_passes(operator: &Operator, times: u32) -> anyhow::Result<f64> {
    let before = passes(operator).await?;
    wait_for(&format!("{times} resyncs"), RESYNC * (times + 7), async || {
        let now = passes(operator).await?;
        let lacking = OBJECTS
            .iter()
            .find(|(kind, count)| now[kind] - before[kind] < f64::from(count * times));
        Ok(match lacking {
            Some((kind, count)) => Seen::NotYet(format!(
                "{} passes over {count} objects of {kind}",
                now[kind] - before[kind]
            )),
            None => Seen::Done(now.values().sum::<f64>() - before.values().sum::<f64>()),
        })
    })
    .await
}

async fn passes(operator: &Operator) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let mut passes = BTreeMap::new();
    for (kind, _) in OBJECTS {
        let count = operator
            .metric("mcp_auth_operator_reconciles_total", &[("kind", kind)])
            .await?;
        passes.insert(kind, count);
    }
    Ok(passes)
}

/// The resourceVersion of everything that the operator may write, its Lease excepted.
async fn versions(env: &StoryEnv) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let mut versions = BTreeMap::new();
    let all = ListParams::default();
    for (kind, count) in OBJECTS {
        let objects = api(env, kind).list(&all).await?;
        ensure!(
            objects.items.len() == usize::try_from(count)?,
            "{} of {kind}",
            objects.items.len()
        );
        let entries = objects
            .iter()
            .map(|object| (format!("{kind} {}", object.name_any()), object.resource_version()));
        versions.extend(entries);
    }
    for namespace in [env.namespace(), env.operator_namespace()] {
        versions.extend(versions_of::<Secret>(env, namespace).await?);
        versions.extend(versions_of::<ConfigMap>(env, namespace).await?);
        versions.extend(versions_of::<Event>(env, namespace).await?);
    }
    Ok(versions)
}

async fn versions_of<K>(env: &StoryEnv, namespace: &str) -> anyhow::Result<Vec<(String, Option<String>)>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let objects = Api::<K>::namespaced(env.client(), namespace)
        .list(&ListParams::default())
        .await?;
    let named = |object: &K| {
        let name = format!("{} {namespace}/{}", K::kind(&()), object.name_any());
        (name, object.resource_version())
    };
    Ok(objects.iter().map(named).collect())
}
