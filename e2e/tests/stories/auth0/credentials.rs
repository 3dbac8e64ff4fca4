//! Secrets and keys, of clients and of the operator.

use anyhow::{Context as _, ensure};
use mcp_auth_operator::{
    clock::{Clock as _, SystemClock},
    provider::{
        Authentication, ClientSpec, Credential, Credentials, Previous, Provider as _, ProviderError, Read,
        SignIn, key,
    },
};
use secrecy::ExposeSecret as _;

use super::{
    conformance::secret,
    scene::{REMEMBERED, Scene},
};

/// A new secret of our choice is in force at once; two are never valid.
pub(super) async fn rotate(scene: &mut Scene) -> anyhow::Result<()> {
    scene.put_resource(&scene.orders(), REMEMBERED).await?;
    scene.put_client(&scene.agent(), REMEMBERED).await?;
    let new = Credential::new("another secret, which nobody guesses either");
    let observed = scene.client(&scene.agent()).await?;
    let plan = scene
        .tenant
        .plan_credentials(&scene.agent(), &observed, &Credentials::only(new.clone()));
    ensure!(plan.calls.len() == 1, "{plan:?}");
    scene.tenant.execute(&plan).await?;
    scene.prove(&scene.agent(), &new).await?;
    let old = scene.is_refused(&scene.agent(), &secret()).await;
    ensure!(matches!(old, Err(ProviderError::Unproved { .. })), "{old:?}");
    ensure!(
        scene
            .put_client_with(&scene.agent(), &Credentials::only(new), Read::Fresh)
            .await?
            == 0
    );
    scene.is_others_untouched().await
}

/// Keys overlap, are replaced when two are in force already, and give way to a secret.
pub(super) async fn rotate_keys() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    scene.put_resource(&scene.orders(), REMEMBERED).await?;
    let want = ClientSpec {
        authentication: Authentication::PrivateKeyJwt,
        ..scene.agent()
    };
    let make = || key::make().context("no key");
    let (one, two, three, four) = (make()?, make()?, make()?, make()?);
    let both = |current: &Credential, previous: &Credential| Credentials {
        current: current.clone(),
        previous: Some(Previous {
            credential: previous.clone(),
            until: SystemClock.now(),
        }),
    };
    for (credentials, works, does_not) in [
        (Credentials::only(one.clone()), vec![&one], vec![&two]),
        (both(&two, &one), vec![&one, &two], vec![]),
        (both(&three, &two), vec![&two, &three], vec![&one]),
        (Credentials::only(four.clone()), vec![&four], vec![&two, &three]),
        (both(&one, &two), vec![&one, &two], vec![&four]),
    ] {
        scene.put_client_with(&want, &credentials, Read::Fresh).await?;
        for key in works {
            scene.prove(&want, key).await?;
        }
        for key in does_not {
            let proved = scene.prove(&want, key).await;
            ensure!(
                matches!(proved, Err(ProviderError::Unproved { .. })),
                "{proved:?}"
            );
        }
        ensure!(scene.put_client_with(&want, &credentials, Read::Fresh).await? == 0);
    }
    // Revoked in one plan, as the reconciler does it.
    let observed = scene.client(&want).await?;
    let plan = scene
        .tenant
        .plan_credentials(&want, &observed, &Credentials::only(three.clone()));
    scene.tenant.execute(&plan).await?;
    scene.prove(&want, &three).await?;
    ensure!(scene.prove(&want, &one).await.is_err());
    scene.put_client(&scene.agent(), Read::Fresh).await?;
    scene.prove(&scene.agent(), &secret()).await?;
    ensure!(scene.prove(&scene.agent(), &three).await.is_err());
    scene
        .put_client_with(&want, &Credentials::only(one.clone()), Read::Fresh)
        .await?;
    scene.prove(&want, &one).await?;
    scene.is_others_untouched().await
}

/// The operator itself signs in with a key.
pub(super) async fn sign_in_with_a_key() -> anyhow::Result<()> {
    let mut scene = Scene::new().await?;
    let own = key::make().context("no key")?;
    let half = key::PrivateKey::of(&own).context("no key")?;
    scene
        .stand_in()?
        .authenticate_operator_with(&half.public_pem(), &half.id())?;
    scene.restart_with(SignIn::Key(own)).await?;
    ensure!(scene.tenant.check_access().await?.missing.is_empty());
    let secret = scene.desk.machine().client_secret.expose_secret().to_owned();
    scene
        .restart_with(SignIn::Secret(Credential::new(secret)))
        .await?;
    let refused = scene.tenant.check_access().await;
    ensure!(
        matches!(refused, Err(ProviderError::Unauthenticated { .. })),
        "{refused:?}"
    );
    Ok(())
}
