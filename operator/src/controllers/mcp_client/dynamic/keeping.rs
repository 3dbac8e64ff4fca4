//! The journal of registrations in the operator's namespace: read, and written over the version that was read. It is
//! forgotten like any other.

use kube::api::ObjectMeta;

use crate::{
    context::Context,
    credential::{
        book::{Book, Missed},
        flow::journals,
        homes::Place,
        journal, moving,
    },
    error::Error,
    provider::Mark,
    recall::Known,
};

fn name(mark: &Mark) -> String {
    journal::name(&mark.kind, &mark.namespace, &mark.name)
}

/// What is known of the registrations of a client, as with other journals; a journal that speaks of another place says
/// nothing of this one. What this process learnt and could not write down is written now.
pub(super) async fn read(ctx: &Context, mark: &Mark, place: &Place) -> Result<Book, Error> {
    let homes = moving::read(ctx, mark).await?;
    if homes.is_some_and(|homes| !homes.are_at(place)) {
        return Ok(Book::default());
    }
    let name = name(mark);
    let found = kept(ctx, &name).await?;
    let Some(missed) = ctx.memory.missed.of(&name) else {
        return Ok(found);
    };
    if let Some(book) = missed.beyond(&found) {
        // It stays known for as long as this fails.
        return put(ctx, mark, &book).await;
    }
    ctx.memory.missed.forget(&name);
    Ok(found)
}

async fn kept(ctx: &Context, name: &str) -> Result<Book, Error> {
    let (own, memory) = (&ctx.config.namespace, &ctx.memory.books);
    match memory.known(&ctx.feeds.journals, own, name) {
        Known::Absent => return Ok(Book::default()),
        Known::Held(book) => return Ok(book),
        Known::Unknown => {}
    }
    let found: Option<Book> = journal::read(&journals(ctx), name).await?;
    remember(ctx, name, found.as_ref());
    Ok(found.unwrap_or_default())
}

/// Writes it over what it said before, and before anything that follows from it. What fails is not forgotten.
pub(super) async fn write(ctx: &Context, mark: &Mark, before: &Book, book: &Book) -> Result<Book, Error> {
    let written = put(ctx, mark, book).await;
    if written.is_err() {
        ctx.memory.missed.note(&name(mark), Missed::new(before, book));
    }
    written
}

async fn put(ctx: &Context, mark: &Mark, book: &Book) -> Result<Book, Error> {
    ctx.cluster.fence()?;
    let name = name(mark);
    let object = format!("{}/{}/{}", mark.kind, mark.namespace, mark.name);
    // Whether it was written is not known when there is no answer, nor what is there when there was a conflict.
    ctx.memory.books.doubt(&ctx.config.namespace, &name);
    let written = journal::write(&journals(ctx), &name, &object, book).await?;
    remember(ctx, &name, Some(&written));
    ctx.memory.missed.forget(&name);
    Ok(written)
}

fn remember(ctx: &Context, name: &str, book: Option<&Book>) {
    let (own, memory) = (&ctx.config.namespace, &ctx.memory.books);
    let Some(book) = book else {
        memory.forget(own, name);
        return;
    };
    let place = ObjectMeta {
        namespace: Some(own.clone()),
        name: Some(name.to_owned()),
        resource_version: book.version.clone(),
        ..ObjectMeta::default()
    };
    memory.note(&place, book.clone());
}
