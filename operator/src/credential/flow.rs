//! The steps of a credential that write: journal, workload Secret, proof. What to do is decided in the parent module.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Api, api::ObjectMeta};

use super::{
    Choice, Facts, Reason, begin, finish,
    homes::{Drawer, Homes, Place},
    journal,
    journal::Journal,
    retire, secret,
};
use crate::{
    cluster::{self, Ownership, ownership},
    context::Context,
    controllers::halt::Halt,
    error::Error,
    policy::names,
    provider::{Credential, CredentialKind, Mark, Proof, Provider, key},
    recall::Known,
};

/// A credential that the journal holds, and so may be put in force.
#[derive(Clone, Debug)]
pub struct Held {
    /// The journal as it is now.
    pub journal: Journal,
    /// The credential.
    pub secret: Credential,
    /// Why it was made, if it was made in this pass.
    pub made: Option<Reason>,
    /// How long the turn of the next one is away, if it was due in this pass.
    pub deferred: Option<Duration>,
}

/// The journals of this installation.
pub fn journals(ctx: &Context) -> Api<Secret> {
    ctx.cluster.api(&ctx.config.namespace)
}

/// The journal of an object: from memory, while the cache shows that it is as it was read or written last. What the
/// cache does not show yet costs a conflict at most, because a journal is written only over what was known of it.
pub async fn read(ctx: &Context, mark: &Mark) -> Result<Option<Journal>, Error> {
    let name = journal::name(&mark.kind, &mark.namespace, &mark.name);
    let (own, memory) = (&ctx.config.namespace, &ctx.memory.journals);
    match memory.known(&ctx.feeds.journals, own, &name) {
        Known::Absent => return Ok(None),
        Known::Held(journal) => return Ok(Some(journal)),
        Known::Unknown => {}
    }
    let found = journal::read(&journals(ctx), &name).await?;
    remember(ctx, &name, found.as_ref());
    Ok(found)
}

pub(super) fn remember(ctx: &Context, name: &str, journal: Option<&Journal>) {
    let (own, memory) = (&ctx.config.namespace, &ctx.memory.journals);
    let Some(journal) = journal else {
        memory.forget(own, name);
        return;
    };
    let place = ObjectMeta {
        namespace: Some(own.clone()),
        name: Some(name.to_owned()),
        resource_version: journal.version.clone(),
        ..ObjectMeta::default()
    };
    memory.note(&place, journal.clone());
}

/// What the journal says of a client as it is registered at `place`. One that speaks of another place says nothing of this
/// one: what is in there is never shown here.
pub async fn read_at(ctx: &Context, mark: &Mark, place: &Place) -> Result<Option<Journal>, Error> {
    match super::moving::read(ctx, mark).await? {
        Some(homes) if homes.are_at(place) => read(ctx, mark).await,
        _ => Ok(None),
    }
}

/// Deletes the journal of an object, if there is one.
pub async fn forget(ctx: &Context, mark: &Mark) -> Result<(), Error> {
    let name = journal::name(&mark.kind, &mark.namespace, &mark.name);
    if let Some(found) = journal::read::<Drawer>(&journals(ctx), &name).await? {
        ctx.cluster.fence()?;
        ctx.memory.journals.doubt(&ctx.config.namespace, &name);
        journal::delete(&journals(ctx), &name, &found).await?;
    }
    ctx.memory.books.forget(&ctx.config.namespace, &name);
    ctx.memory.missed.forget(&name);
    remember(ctx, &name, None);
    Ok(())
}

/// Journals the choice of a credential, before anything is written elsewhere, and of a client where that is.
pub async fn hold(
    ctx: &Context,
    mark: &Mark,
    facts: Facts<'_>,
    choice: Choice,
    here: Option<&Place>,
) -> Result<Held, Error> {
    let made = match choice {
        Choice::Make(_) => Some(make(facts.kind).await?),
        Choice::Keep(_) | Choice::Finish(_) | Choice::Adopt(_) => None,
    };
    let journal = match begin(facts, &choice, made.clone()) {
        Some(mut begun) => {
            begun.homes.here = begun.homes.here.or_else(|| here.cloned());
            write(ctx, mark, &begun).await?
        }
        None => facts.journal.cloned().unwrap_or_default(),
    };
    let (kept, reason) = match choice {
        Choice::Keep(secret) | Choice::Finish(secret) | Choice::Adopt(secret) => (secret, None),
        Choice::Make(reason) => (made.ok_or(Error::KeyNotMade)?, Some(reason)),
    };
    Ok(Held {
        journal,
        secret: kept,
        made: reason,
        deferred: None,
    })
}

/// Journals where a client is that has no credential.
pub async fn hold_none(
    ctx: &Context,
    mark: &Mark,
    journal: Option<&Journal>,
    here: &Place,
) -> Result<(), Error> {
    let before = journal.cloned().unwrap_or_default();
    let wanted = Journal {
        homes: Homes {
            here: Some(here.clone()),
            ..before.homes.clone()
        },
        version: before.version.clone(),
        ..Journal::default()
    };
    if wanted != before {
        write(ctx, mark, &wanted).await?;
    }
    Ok(())
}

/// Journals that the registration of a metadata document begins: until its client carries the mark, nothing else says that
/// it is ours.
pub async fn begin_document(ctx: &Context, mark: &Mark, begun: String) -> Result<(), Error> {
    let before = read(ctx, mark).await?.unwrap_or_default();
    let wanted = Journal {
        begun: Some(begun),
        ..before
    };
    write(ctx, mark, &wanted).await.map(drop)
}

/// A new credential. A key takes long enough to keep others waiting, so it is made aside.
async fn make(kind: CredentialKind) -> Result<Credential, Error> {
    match kind {
        CredentialKind::Secret => Ok(super::make()),
        CredentialKind::PrivateKey => {
            let made = tokio::task::spawn_blocking(key::make).await;
            made.ok().flatten().ok_or(Error::KeyNotMade)
        }
    }
}

async fn write(ctx: &Context, mark: &Mark, journal: &Journal) -> Result<Journal, Error> {
    ctx.cluster.fence()?;
    let name = journal::name(&mark.kind, &mark.namespace, &mark.name);
    let object = format!("{}/{}/{}", mark.kind, mark.namespace, mark.name);
    // Whether it was written is not known when there is no answer, nor what is there when there was a conflict.
    ctx.memory.journals.doubt(&ctx.config.namespace, &name);
    let written = journal::write(&journals(ctx), &name, &object, journal).await?;
    remember(ctx, &name, Some(&written));
    Ok(written)
}

/// The Secret that a workload reads, as it is to be.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The object that it belongs to.
    pub owner: &'a OwnerReference,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its data. Holds secrets: never printed.
    pub data: BTreeMap<String, String>,
}

/// What publishing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Fingerprint of the data.
    pub hash: String,
    /// The Secret had this very content before and had lost it.
    pub repaired: bool,
}

/// Makes the Secret hold `wanted`. `last` is the fingerprint of what it held last, as the status tells, which may be
/// older than what this process wrote. A Secret that is not ours is never overwritten.
pub async fn publish(ctx: &Context, wanted: Wanted<'_>, last: Option<&str>) -> Result<Published, Halt> {
    let hash = secret::fingerprint(&wanted.data);
    let (memory, right) = (&ctx.memory.secrets, fingerprint_of_all(&wanted, &hash));
    let known = memory.known(&ctx.feeds.secrets, wanted.namespace, wanted.name);
    if known == Known::Held(right.clone()) {
        return Ok(Published {
            hash,
            repaired: false,
        });
    }
    let api: Api<Secret> = ctx.cluster.api(wanted.namespace);
    let existing = api.get_opt(wanted.name).await?;
    let mut over = existing
        .as_ref()
        .and_then(|found| found.metadata.resource_version.clone());
    match ownership(existing.as_ref().map(|found| &found.metadata), wanted.owner) {
        Ownership::Foreign => {
            return Err(Halt::refused(
                "SecretNotOwned",
                format!(
                    "Secret {} exists and does not belong to this {}: delete it, or choose another name",
                    wanted.name, wanted.owner.kind
                ),
            ));
        }
        // The garbage collector would take it with its dead owner.
        Ownership::Ours { alive: false } => {
            if let Some(found) = &existing {
                ctx.cluster.delete(found).await?;
            }
            over = None;
        }
        Ownership::Ours { alive: true } => {
            let found = existing.as_ref();
            // Where nobody knows what it was made of, it may still hold a key that is not wanted any more.
            let made = |found: &&Secret| {
                last == Some(hash.as_str()) || memory.at(&found.metadata).as_ref() == Some(&right)
            };
            let matches = |found: &&Secret| secret::matches(found, &wanted.data, &wanted.labels);
            if let Some(found) = found.filter(made).filter(matches) {
                memory.note(&found.metadata, right);
                return Ok(Published {
                    hash,
                    repaired: false,
                });
            }
        }
        Ownership::Absent => {}
    }
    let mut desired = cluster::secret(
        wanted.namespace,
        wanted.name,
        wanted.owner,
        wanted.labels,
        &wanted.data,
    );
    // What comes late must not put an older credential back over one that another replica wrote meanwhile.
    desired.metadata.resource_version = over;
    let applied = ctx.cluster.apply(&desired).await?;
    memory.note(&applied.metadata, right);
    Ok(Published {
        repaired: last == Some(hash.as_str()),
        hash,
    })
}

/// Of all that is wanted of a Secret: `hash` is that of its data.
fn fingerprint_of_all(wanted: &Wanted<'_>, hash: &str) -> String {
    let text = format!("{hash} {:?} {:?}", wanted.labels, wanted.owner);
    names::hash(text.as_bytes(), 16)
}

/// Deletes the Secret that a workload read, if it is ours: it is not needed any more, or has another name now.
pub async fn take_back(
    ctx: &Context,
    namespace: &str,
    name: &str,
    owner: &OwnerReference,
) -> Result<(), Error> {
    let api: Api<Secret> = ctx.cluster.api(namespace);
    match api.get_opt(name).await? {
        Some(found) if ownership(Some(&found.metadata), owner) != Ownership::Foreign => {
            ctx.cluster.delete(&found).await
        }
        _ => Ok(()),
    }
}

/// Shows that the credential works, once per version of it and of what it gives, and notes in the journal that it
/// is in force, and which old one ended. `again` asks for the proof even if it was given before.
pub async fn prove(
    ctx: &Context,
    mark: &Mark,
    provider: &dyn Provider,
    journal: Journal,
    proof: &Proof,
    again: bool,
    facts: &Facts<'_>,
) -> Result<Journal, Halt> {
    let fingerprint = fingerprint(proof);
    let proved = journal.proved.as_ref() == Some(&fingerprint) && journal.pending.is_none();
    if !proved || again {
        // A proof that fails although what it proves was just set up is not the user's to mend: it is tried again.
        provider.prove(proof, facts.now).await?;
    }
    let settled = finish(&journal, facts).or_else(|| retire(&journal, facts));
    let settled = settled.unwrap_or_else(|| journal.clone());
    let settled = Journal {
        proved: Some(fingerprint),
        ..settled
    };
    if settled == journal {
        Ok(journal)
    } else {
        Ok(write(ctx, mark, &settled).await?)
    }
}

fn fingerprint(proof: &Proof) -> String {
    let join =
        |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(" ");
    let parts = match proof {
        Proof::ClientCredentials {
            client_id,
            secret,
            scopes,
            audiences,
        } => [
            client_id.clone(),
            secret.expose().to_owned(),
            join(scopes),
            join(audiences),
        ],
        Proof::AuthorizationCode {
            client_id,
            secret,
            redirect_uri,
        } => [
            client_id.clone(),
            secret.expose().to_owned(),
            redirect_uri.clone(),
            "code".to_owned(),
        ],
        Proof::TokenExchange {
            client_id,
            secret,
            by_actions,
        } => [
            client_id.clone(),
            secret.expose().to_owned(),
            String::new(),
            if *by_actions { "actions" } else { "exchange" }.to_owned(),
        ],
    };
    names::hash(parts.join("\n").as_bytes(), 16)
}
