//! The journal of a client that moves: what is read and written of it whatever authorization server it is about.

use kube::api::ObjectMeta;

use super::{
    book::Book,
    flow::{self, journals},
    homes::{Drawer, Homes},
    journal,
    journal::Journal,
};
use crate::{context::Context, error::Error, provider::Mark, recall::Known};

fn name(mark: &Mark) -> String {
    journal::name(&mark.kind, &mark.namespace, &mark.name)
}

/// Where a client is registered: from memory, as its journal. `None`: it has no journal.
pub async fn read(ctx: &Context, mark: &Mark) -> Result<Option<Homes>, Error> {
    let (own, memory, name) = (&ctx.config.namespace, &ctx.memory, name(mark));
    match memory.journals.known(&ctx.feeds.journals, own, &name) {
        Known::Held(journal) => return Ok(Some(journal.homes)),
        known => match (known, memory.books.known(&ctx.feeds.journals, own, &name)) {
            (_, Known::Held(book)) => return Ok(Some(book.homes)),
            (Known::Absent, Known::Absent) => return Ok(None),
            _ => {}
        },
    }
    Ok(open(ctx, mark).await?.map(|drawer| drawer.homes))
}

/// The journal as it is now.
pub async fn open(ctx: &Context, mark: &Mark) -> Result<Option<Drawer>, Error> {
    let name = name(mark);
    let found: Option<Drawer> = journal::read(&journals(ctx), &name).await?;
    remember(ctx, &name, found.as_ref());
    Ok(found)
}

/// Writes it over the version that was read.
pub async fn write(ctx: &Context, mark: &Mark, drawer: &Drawer) -> Result<Drawer, Error> {
    ctx.cluster.fence()?;
    let name = name(mark);
    let object = format!("{}/{}/{}", mark.kind, mark.namespace, mark.name);
    ctx.memory.journals.doubt(&ctx.config.namespace, &name);
    ctx.memory.books.doubt(&ctx.config.namespace, &name);
    let written = journal::write(&journals(ctx), &name, &object, drawer).await?;
    remember(ctx, &name, Some(&written));
    Ok(written)
}

/// Remembers it as what it is. What cannot be read is not: whoever needs it finds that out.
fn remember(ctx: &Context, name: &str, drawer: Option<&Drawer>) {
    let Some(drawer) = drawer else {
        ctx.memory.books.forget(&ctx.config.namespace, name);
        flow::remember(ctx, name, None);
        return;
    };
    if let Ok(journal) = drawer.read::<Journal>() {
        flow::remember(ctx, name, Some(&journal));
    } else if let Ok(book) = drawer.read::<Book>() {
        let place = ObjectMeta {
            namespace: Some(ctx.config.namespace.clone()),
            name: Some(name.to_owned()),
            resource_version: drawer.version.clone(),
            ..ObjectMeta::default()
        };
        ctx.memory.books.note(&place, book);
    }
}
