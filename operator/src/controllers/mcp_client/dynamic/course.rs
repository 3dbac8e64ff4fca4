//! Walking from one step to the next.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::{
    Site,
    chain::{self, Facts, Said, Seen, Step, Want},
    desired, keeping, status,
};
use crate::{
    controllers::{
        halt::Halt,
        home,
        mcp_client::{
            desired::Granted, migration, registration::Registration, rotation::Rotation, status::Progress,
        },
        pass::Next,
        settle::READ_BACK,
    },
    credential::{
        self,
        book::{Book, Entry},
        homes::{Parked, Place},
    },
    policy::names,
    provider::{ClientSpec, Mark, ProviderError, registration::Asked},
};

/// How many steps a pass makes at most: more than any way from one state to another has.
const STEPS: u32 = 24;

/// What the client is to be.
pub(super) struct Wanted<'a> {
    pub(super) spec: &'a ClientSpec,
    pub(super) asked: &'a Asked,
    pub(super) access: &'a Granted,
    pub(super) rotation: &'a Rotation,
}

/// A walk.
pub(super) struct Course<'a> {
    pub(super) site: Site<'a>,
    mark: Mark,
    /// Where it is.
    place: Place,
    /// The client left it.
    is_left: bool,
    pub(super) book: Book,
    pub(super) seen: Seen,
    pub(super) is_handed_over: bool,
    /// How long the turn of a rotation is away that is due.
    pub(super) deferred: Option<Duration>,
}

impl<'a> Course<'a> {
    /// Begins with what is in the journal.
    pub(super) async fn open(site: Site<'a>) -> Result<Self, Halt> {
        let mark = home::mark(site.client, &site.ctx.installation);
        let place = migration::place(site.client, site.server, site.connection);
        let mut book = keeping::read(site.ctx, &mark, &place).await?;
        book.homes.here.get_or_insert_with(|| place.clone());
        Ok(Self {
            book,
            site,
            mark,
            place,
            is_left: false,
            seen: Seen::Nothing,
            is_handed_over: false,
            deferred: None,
        })
    }

    /// Begins with what the journal says of a place that the client left.
    pub(super) fn open_parked(site: Site<'a>, parked: &Parked) -> Result<Self, Halt> {
        let book = if parked.page.is_empty() {
            Book::default()
        } else {
            parked.page.read().map_err(kube::Error::SerdeError)?
        };
        Ok(Self {
            book,
            site,
            mark: home::mark(site.client, &site.ctx.installation),
            place: parked.place.clone(),
            is_left: true,
            seen: Seen::Nothing,
            is_handed_over: false,
            deferred: None,
        })
    }

    /// Whether what is wanted takes something away from the client: its credential, or a scope.
    pub(super) fn loses(&self, spec: &ClientSpec, rotation: &Rotation) -> bool {
        let Some(newest) = self.book.newest() else {
            return false;
        };
        let revokes = rotation.revokes(Some(&self.book.view()), self.site.ctx.now());
        revokes
            || newest
                .scopes
                .iter()
                .any(|scope| !spec.scopes.contains(scope) && scope != "offline_access")
    }

    /// Walks until nothing is left to do. `None`: nothing is to be left.
    pub(super) async fn follow(
        &mut self,
        wanted: Option<&Wanted<'_>>,
        progress: &mut Progress,
    ) -> Result<Next, Halt> {
        if wanted.is_some() {
            self.look().await?;
        }
        for _ in 0..STEPS {
            let step = self.step(wanted);
            self.report(wanted, progress);
            match (step, wanted) {
                (Step::Note(book, said), _) => {
                    self.note(*book, said.as_ref()).await?;
                    self.seen = Seen::Nothing;
                }
                (Step::Remove(entry), _) => self.remove(&entry).await?,
                (Step::Register(reason), Some(wanted)) => {
                    if let Some(next) = self.register(reason, wanted).await? {
                        return Ok(next);
                    }
                }
                (Step::Update { is_drift }, Some(wanted)) => self.update(wanted, is_drift).await?,
                (Step::HandOver, Some(wanted)) => self.hand_over(wanted, progress).await?,
                (Step::Wait(at), _) => return self.wait(at, progress),
                (Step::Rest, Some(wanted)) => return Ok(self.again(wanted.rotation)),
                (_, None) => return Ok(Next::Resync),
            }
        }
        Err(ProviderError::Malformed {
            operation: READ_BACK,
            why: "the authorization server does not keep what it was told",
        }
        .into())
    }

    /// Removes what is over, and does nothing else.
    pub(super) async fn tidy(&mut self) -> Result<(), Halt> {
        for _ in 0..STEPS {
            let now = self.site.ctx.now();
            let Some(over) = self.book.old.iter().find(|old| old.until <= now).cloned() else {
                break;
            };
            self.remove(&over.entry).await?;
        }
        Ok(())
    }

    fn step(&self, wanted: Option<&Wanted<'_>>) -> Step {
        let now = self.site.ctx.now();
        let newest = self.book.newest();
        let is_taken =
            newest.is_some_and(|newest| self.site.is_taken(&newest.client_id, self.book.fresh.is_some()));
        let wishes = wanted.map_or_else(
            || credential::Facts::unrotated(None, None, now),
            |wanted| wanted.rotation.facts(None, now),
        );
        chain::next(&Facts {
            book: &self.book,
            want: wanted.map(|wanted| Want {
                asked: wanted.asked,
                issuer: &self.site.server.spec.issuer,
            }),
            seen: &self.seen,
            is_taken,
            is_handed_over: self.is_handed_over,
            wishes,
        })
    }

    fn report(&self, wanted: Option<&Wanted<'_>>, progress: &mut Progress) {
        let Some(wanted) = wanted else { return };
        let now = self.site.ctx.now();
        // What it was called elsewhere, it was never called here.
        let before = self.site.client.status.as_ref().filter(|status| {
            let home = status.registered_at.as_ref();
            home.is_none_or(|home| home.issuer == self.place.issuer && status.registration.is_some())
        });
        progress.registration(status::registration(&self.book, before, now));
        if self.book.newest().is_some_and(|newest| newest.secret.is_some()) {
            progress.rotation(wanted.rotation, &self.book.view(), self.site.ctx.now());
        }
    }

    pub(super) fn software_id(&self) -> String {
        names::client_id(&self.mark.installation, &self.mark.namespace, &self.mark.name)
    }

    pub(super) async fn write(&mut self, book: Book) -> Result<(), Halt> {
        if book == self.book {
            return Ok(());
        }
        if self.is_left {
            migration::note(self.site.client, &self.place, &book, self.site.ctx).await?;
            self.book = book;
        } else {
            self.book = keeping::write(self.site.ctx, &self.mark, &self.book, &book).await?;
        }
        Ok(())
    }

    /// The same, and tells people. That comes first: once it is in the journal nothing would remind a process that died in
    /// between.
    pub(super) async fn note(&mut self, book: Book, said: Option<&Said>) -> Result<(), Halt> {
        if let Some(said) = said {
            self.site.tell(said, &self.software_id()).await;
        }
        self.write(book).await?;
        if let Some(Said::Unreachable { why, .. }) = said {
            self.site.ctx.metrics.registration_unreachable(why.as_str());
        }
        Ok(())
    }

    /// Says once more what is left, when nobody will be able to ask the client any more.
    pub(super) async fn farewell(&self) {
        if let Some(note) = status::farewell(&self.book, &self.software_id()) {
            self.site.tell_of(status::UNREACHABLE, note).await;
        }
    }

    /// Changes the newest registration in the journal.
    pub(super) async fn change(&mut self, change: impl FnOnce(&mut Entry)) -> Result<(), Halt> {
        let mut book = self.book.clone();
        if let Some(newest) = book.newest_mut() {
            change(newest);
        }
        self.write(book).await
    }

    /// Reads the newest registration, unless that is known from not long ago.
    async fn look(&mut self) -> Result<(), Halt> {
        let Some(newest) = self.book.newest().cloned() else {
            return Ok(());
        };
        let age = self.site.ctx.config.resync_interval / 2;
        if self.site.registrar.knows(&newest.client_id, age) {
            return Ok(());
        }
        let Some(managed) = newest.managed() else {
            // All that can be asked is whether it is still who it says it is.
            if newest.secret.is_some() && !self.may_exist(&newest).await? {
                self.seen = Seen::Gone { may_exist: false };
            }
            return Ok(());
        };
        match self.site.registrar.read(&managed).await {
            Ok(answer) => {
                self.change(|newest| newest.read(&answer)).await?;
                self.seen = Seen::Told(Box::new(answer.told));
                Ok(())
            }
            Err(ProviderError::Gone { .. }) => {
                let may_exist = self.may_exist(&newest).await?;
                self.seen = Seen::Gone { may_exist };
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a client exists that cannot be asked for: one with a secret shows it at the token endpoint.
    pub(super) async fn may_exist(&self, entry: &Entry) -> Result<bool, Halt> {
        match &entry.secret {
            Some(secret) => Ok(self
                .site
                .registrar
                .accepts(&entry.client_id, secret, entry.method())
                .await?),
            None => Ok(true),
        }
    }

    /// Proves the newest registration, gives it to the workload, and puts it in force.
    pub(super) async fn hand_over(
        &mut self,
        wanted: &Wanted<'_>,
        progress: &mut Progress,
    ) -> Result<(), Halt> {
        let (site, ctx) = (self.site, self.site.ctx);
        let Some(entry) = self.book.newest().cloned() else {
            return Ok(());
        };
        let spec = wanted.spec.known_as(&entry.client_id);
        progress.identified(&entry.client_id);
        progress.registered(&entry.client_id);
        progress.granted(wanted.access);
        let (proved, lacks) = self.prove(&entry, &spec, wanted).await?;
        if let Some(why) = &lacks {
            progress.not_given(status::not_given(why));
        }
        let registration = Registration {
            client: site.client,
            connection: site.connection,
            place: &self.place,
            want: &spec,
            access: wanted.access,
            rotation: wanted.rotation,
        };
        registration.publish(entry.secret.as_ref(), ctx, progress).await?;
        progress.proved(if entry.secret.is_some() {
            "The credential in the Secret was proved at the token endpoint"
        } else {
            "A public client has no credential"
        });
        let overlap = wanted.rotation.overlap();
        self.write(self.book.in_force(overlap, proved, ctx.now())).await?;
        self.is_handed_over = true;
        Ok(())
    }

    /// Shows what a credential gives, once per version of it and of what it is to give. Gives by what that is told from
    /// others, and what the credential does not give although it works.
    async fn prove(
        &self,
        entry: &Entry,
        spec: &ClientSpec,
        wanted: &Wanted<'_>,
    ) -> Result<(Option<String>, Option<String>), Halt> {
        let Some(secret) = &entry.secret else {
            return Ok((None, None));
        };
        let demands = desired::demands(spec, wanted.access);
        let text = format!("{} {demands:?}", entry.fingerprint());
        let fingerprint = names::hash(text.as_bytes(), 16);
        if self.book.proved.as_ref() == Some(&fingerprint) {
            return Ok((Some(fingerprint), None));
        }
        for demand in &demands {
            let proof = self
                .site
                .registrar
                .prove(&entry.client_id, secret, entry.method(), demand);
            match proof.await {
                Ok(()) => {}
                Err(ProviderError::Ungranted { why }) => return Ok((None, Some(why))),
                Err(error) => return Err(error.into()),
            }
        }
        Ok((Some(fingerprint), None))
    }

    /// It is too early for another attempt. A client that has a registration is none the worse for it.
    fn wait(&self, at: Timestamp, progress: &mut Progress) -> Result<Next, Halt> {
        let wait = at.duration_since(self.site.ctx.now());
        let wait = Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(100);
        if self.book.current.is_some() && self.is_handed_over {
            return Ok(Next::After(wait));
        }
        progress.look_again(wait);
        Err(status::waits(&self.book))
    }

    /// When to look again.
    pub(super) fn again(&self, rotation: &Rotation) -> Next {
        let now = self.site.ctx.now();
        let next = rotation.look_again(&self.book.view(), self.deferred, now);
        let current = self.book.current.as_ref();
        let renewal = current.and_then(|current| {
            let expires = current.secret_expires?;
            Some(credential::renewal(expires, Some(current.begun.since)))
        });
        let soonest = [renewal, self.book.next_end()].into_iter().flatten().min();
        let wait = soonest.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        match (next, wait.map(|wait| wait + Duration::from_millis(100))) {
            (Next::After(one), Some(other)) => Next::After(one.min(other)),
            (Next::Resync | Next::Await, Some(wait)) => Next::After(wait),
            (next, None) => next,
        }
    }
}
