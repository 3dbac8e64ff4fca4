//! The journal of registrations in the operator's namespace: read, and written over the version that was read. It is
//! forgotten like any other.

use kube::api::ObjectMeta;

use crate::{
    context::Context,
    credential::{book::Book, flow::journals, homes::Place, journal, moving},
    error::Error,
    provider::Mark,
    recall::Known,
};

fn name(mark: &Mark) -> String {
    journal::name(&mark.kind, &mark.namespace, &mark.name)
}

/// What is known of the registrations of a client, as with other journals.
/// A journal that speaks of another place says nothing of this one.
pub(super) async fn read(ctx: &Context, mark: &Mark, place: &Place) -> Result<Book, Error> {
    let homes = moving::read(ctx, mark).await?;
    if homes.is_some_and(|homes| !homes.are_at(place)) {
        return Ok(Book::default());
    }
    let (own, memory, name) = (&ctx.config.namespace, &ctx.memory.books, name(mark));
    match memory.known(&ctx.feeds.journals, own, &name) {
        Known::Absent => return Ok(Book::default()),
        Known::Held(book) => return Ok(book),
        Known::Unknown => {}
    }
    let found: Option<Book> = journal::read(&journals(ctx), &name).await?;
    remember(ctx, &name, found.as_ref());
    Ok(found.unwrap_or_default())
}

/// Writes it, before anything that follows from it.
pub(super) async fn write(ctx: &Context, mark: &Mark, book: &Book) -> Result<Book, Error> {
    ctx.cluster.fence()?;
    let name = name(mark);
    let object = format!("{}/{}/{}", mark.kind, mark.namespace, mark.name);
    // Whether it was written is not known when there is no answer, nor what is there when there was a conflict.
    ctx.memory.books.doubt(&ctx.config.namespace, &name);
    let written = journal::write(&journals(ctx), &name, &object, book).await?;
    remember(ctx, &name, Some(&written));
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
