//! The column of the table for Auth0, at the stand-in or, when a run is asked for it, at a live tenant.

use std::{env, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use futures::future::LocalBoxFuture;
use mcp_auth_e2e::{
    auth0::{Auth0, Rate, Remote, Setup},
    pki::Authority,
    runner::Story,
};
use serde_json::Value;

use super::{
    actions, conformance, credentials, operator,
    others::{is_untouched, occupy, remains},
    scene::{self, Scene},
    trouble,
};

/// Set by `make test-auth0`. The tenant alone does not ask for it: a run of all stories must not touch one.
const LIVE: &str = "AUTH0_LIVE";

/// A live tenant, where it is one.
type Live = Option<Arc<Remote>>;

/// The stories for the live tenant that the environment names, if it asks for that.
pub(crate) fn asked_for() -> Option<anyhow::Result<Vec<Story>>> {
    env::var_os(LIVE)?;
    mcp_auth_e2e::use_aws_lc();
    Some(Remote::from_env().map(|tenant| {
        let mut stories = column(Some(&Arc::new(tenant)));
        let names = operator::stories();
        let why = "it runs the whole operator, which has a cluster and users only at the stand-in";
        stories.extend(names.iter().map(|story| Story::not_here(story.name(), why)));
        stories
    }))
}

/// What is asked of the provider itself.
pub(super) fn column(live: Option<&Arc<Remote>>) -> Vec<Story> {
    let either = AT_EITHER.into_iter().map(|(name, story)| {
        let live = live.cloned();
        Story::alone(name, move |_| story(live))
    });
    either.chain(at_the_stand_in(live)).collect()
}

/// Goes through a story there, or at a stand-in of its own.
type Told = fn(Live) -> LocalBoxFuture<'static, anyhow::Result<()>>;

/// Nothing has to be injected for these.
const AT_EITHER: [(&str, Told); 8] = [
    ("auth0::provider_create", |live| {
        Box::pin(scene::at(live, conformance::create))
    }),
    ("auth0::provider_kinds", |live| {
        Box::pin(scene::at(live, conformance::kinds))
    }),
    ("auth0::provider_adopt", |live| {
        Box::pin(scene::at(live, conformance::adopt))
    }),
    ("auth0::provider_drift", |live| {
        Box::pin(scene::at(live, conformance::drift))
    }),
    ("auth0::provider_rotate", |live| {
        Box::pin(scene::at(live, credentials::rotate))
    }),
    ("auth0::provider_revoke", |live| {
        Box::pin(scene::at(live, conformance::revoke))
    }),
    ("auth0::provider_delete", |live| {
        Box::pin(scene::at(live, conformance::delete))
    }),
    ("auth0::provider_conflict", |live| {
        Box::pin(scene::at(live, conformance::conflict))
    }),
];

/// A live tenant cannot be told to do these, or others would suffer from it.
fn at_the_stand_in(live: Option<&Arc<Remote>>) -> Vec<Story> {
    let broken = "only on the way to the stand-in calls are broken";
    let told = "only the stand-in can be told to do so";
    let own = "it would change what the operator's own application may do";
    let settings = "it would change a setting of the whole tenant";
    let keys = "it takes an Enterprise plan";
    let paid = "it takes a paid plan";
    let many = "it makes more than most plans have room for";
    vec![
        stand_in(
            live,
            "auth0::provider_rotate_keys",
            keys,
            credentials::rotate_keys,
        ),
        stand_in(
            live,
            "auth0::provider_sign_in_with_a_key",
            own,
            credentials::sign_in_with_a_key,
        ),
        stand_in(
            live,
            "auth0::provider_self_registered",
            settings,
            conformance::self_registered,
        ),
        stand_in(live, "auth0::provider_permissions", own, conformance::permissions),
        stand_in(live, "auth0::provider_actions", paid, actions::actions),
        stand_in(live, "auth0::provider_full", told, conformance::full),
        stand_in(live, "auth0::provider_half_failed", broken, trouble::half_failed),
        stand_in(live, "auth0::provider_rate_limited", told, trouble::rate_limited),
        stand_in(
            live,
            "auth0::provider_unknown_fields",
            told,
            trouble::unknown_fields,
        ),
        stand_in(live, "auth0::provider_slow", broken, trouble::slow),
        stand_in(live, "auth0::provider_pages", many, trouble::pages),
    ]
}

fn stand_in<F>(
    live: Option<&Arc<Remote>>,
    name: &'static str,
    why: &'static str,
    story: impl FnOnce() -> F + Send + 'static,
) -> Story
where
    F: Future<Output = anyhow::Result<()>> + 'static,
{
    match live {
        None => Story::alone(name, move |_| story()),
        Some(_) => Story::not_here(name, why),
    }
}

/// As at a live tenant, through nothing but the network, before a tenant that is others' as well: all that is made is
/// removed again, also where a story fails half-way.
pub(super) async fn leaves_a_tenant_as_it_was() -> anyhow::Result<()> {
    mcp_auth_e2e::use_aws_lc();
    let authority = Authority::new()?;
    let auth0 = Auth0::start(&authority, Setup::default()).await?;
    occupy(&auth0).await?;
    let before = auth0.dashboard().everything();
    let tenant = Remote::new(authority, auth0.domain(), auth0.operator().clone())?;
    let live = Some(Arc::new(tenant));
    // Little more than on a Free plan.
    let (burst, per_second) = (4, 4.0);
    auth0.limit("", Rate { burst, per_second });
    let failed = scene::at(live.clone(), fails_half_way).await;
    ensure!(
        failed
            .as_ref()
            .is_err_and(|error| error.to_string() == "on purpose"),
        "{failed:?}"
    );
    is_as_it_was(&auth0, &before)?;
    let (burst, per_second) = (1000, 1000.0);
    auth0.limit("", Rate { burst, per_second });
    for (name, story) in AT_EITHER {
        story(live.clone()).await.context(name)?;
    }
    is_as_it_was(&auth0, &before)
}

async fn fails_half_way(scene: &mut Scene) -> anyhow::Result<()> {
    conformance::create(scene).await?;
    ensure!(scene.remains("clients").await?.len() == 2);
    bail!("on purpose")
}

fn is_as_it_was(auth0: &Auth0, before: &Value) -> anyhow::Result<()> {
    for kind in ["clients", "resource_servers", "client_grants"] {
        let left = remains(auth0, before, kind);
        ensure!(left.is_empty(), "{kind}: {left:?}");
    }
    is_untouched(auth0, before)
}
