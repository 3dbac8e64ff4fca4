//! The calls that change something, and what is journaled of them.

use super::{
    chain::{Left, Said, Seen},
    course::{Course, Wanted},
};
use crate::{
    controllers::{halt::Halt, pass::Next},
    credential::{Reason, book::Entry},
    provider::{
        ProviderError,
        registration::{Asked, Information},
    },
};

impl Course<'_> {
    /// Removes an old registration, or counts what cannot be removed.
    pub(super) async fn remove(&mut self, entry: &Entry) -> Result<(), Halt> {
        let removed = match entry.managed() {
            None => Err(Left::NotRemovable),
            Some(managed) => match self.site.registrar.remove(&managed).await {
                Ok(()) => Ok(()),
                Err(ProviderError::Gone { .. }) => Err(Left::TokenLost),
                Err(ProviderError::Rejected { .. }) => Err(Left::NotRemovable),
                Err(error) => return Err(error.into()),
            },
        };
        let left = match removed {
            Ok(()) => None,
            Err(why) => self.may_exist(entry).await?.then_some(why),
        };
        let said = left.map(|why| Said::Unreachable {
            number: entry.begun.number,
            why,
        });
        self.note(self.book.without(entry, said.is_some()), said.as_ref())
            .await
    }

    /// Registers: intent, call, answer. Gives when to look again where it is not its turn yet.
    pub(super) async fn register(
        &mut self,
        reason: Reason,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Next>, Halt> {
        let ctx = self.site.ctx;
        if reason == Reason::Due {
            let (realm, now) = (self.site.registrar.realm(), ctx.clock.instant());
            if let Err(wait) = ctx.pace.take(realm, ctx.config.rotation_spacing, now) {
                self.deferred = Some(wait);
                return Ok(Some(self.again(wanted.rotation)));
            }
        }
        let facts = wanted.rotation.facts(None, ctx.now());
        self.write(
            self.book
                .begun(reason, facts.request, facts.revocation, ctx.now()),
        )
        .await?;
        let Some(intent) = self.book.intent.clone() else {
            return Ok(None);
        };
        let asked = numbered(wanted.asked, intent.number);
        match self.site.registrar.register(&asked).await {
            Ok(answer) => {
                let number = intent.number;
                let issuer = &self.site.server.spec.issuer;
                let entry = Entry::new(intent, issuer, &asked, &answer);
                self.write(self.book.answered(entry)).await?;
                self.seen = Seen::Nothing;
                ctx.metrics.rotated(reason.as_str());
                tracing::info!(number, reason = reason.as_str(), "registered");
                self.confirm(&asked).await?;
                Ok(None)
            }
            Err(failed) if !failed.may_exist => {
                self.write(self.book.not_begun()).await?;
                Err(failed.error.into())
            }
            Err(failed) => {
                let (why, left) = match failed.error {
                    ProviderError::Malformed { why, .. } => (Some(why), Left::AnswerRefused),
                    _ => (None, Left::ReplyLost),
                };
                let number = intent.number;
                let said = Said::Unreachable { number, why: left };
                self.note(self.book.left_behind(number, ctx.now(), why), Some(&said))
                    .await?;
                // What cannot be used is told by the wait for the next attempt.
                if why.is_some() {
                    Ok(None)
                } else {
                    Err(failed.error.into())
                }
            }
        }
    }

    /// What the server says when it is asked counts, not what it said when it was told.
    async fn confirm(&mut self, asked: &Asked) -> Result<(), Halt> {
        let Some(managed) = self.book.newest().and_then(Entry::managed) else {
            return Ok(());
        };
        let read = self.site.registrar.read(&managed).await;
        self.took(asked, read).await
    }

    async fn took(&mut self, asked: &Asked, read: Result<Information, ProviderError>) -> Result<(), Halt> {
        match read {
            Ok(answer) => {
                self.change(|newest| newest.wrote(asked, &answer)).await?;
                self.seen = Seen::Nothing;
                Ok(())
            }
            Err(ProviderError::Gone { .. }) => {
                let newest = self.book.newest().cloned();
                let may_exist = match &newest {
                    Some(newest) => self.may_exist(newest).await?,
                    None => false,
                };
                self.seen = Seen::Gone { may_exist };
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the newest registration, and reads it back.
    pub(super) async fn update(&mut self, wanted: &Wanted<'_>, is_drift: bool) -> Result<(), Halt> {
        let Some(newest) = self.book.newest().cloned() else {
            return Ok(());
        };
        let Some(managed) = newest.managed() else {
            return Ok(());
        };
        let asked = numbered(wanted.asked, newest.begun.number);
        let secret = newest.secret.as_ref();
        match self.site.registrar.update(&managed, secret, &asked).await {
            // It lets nobody change anything: then it is registered anew.
            Err(ProviderError::Rejected {
                status: 403 | 405 | 501,
                ..
            }) => self.change(|newest| newest.fixed = true).await,
            answered => {
                let is_told = is_drift && answered.is_ok();
                self.took(&asked, answered).await?;
                if matches!(self.seen, Seen::Nothing) {
                    self.confirm(&asked).await?;
                }
                if is_told {
                    self.site.tell_drift().await;
                }
                Ok(())
            }
        }
    }
}

fn numbered(asked: &Asked, number: u32) -> Asked {
    Asked {
        software_version: number.to_string(),
        ..asked.clone()
    }
}
