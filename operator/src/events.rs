//! Kubernetes Events: what happened, for people.
//!
//! kube's own recorder takes an Event for a repetition of an earlier one that differs from it in nothing but the note,
//! and would leave what was wrong first standing there. Here only the very same Event is counted up.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event as ClusterEvent, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
    runtime::events::{Event, EventType, Reporter},
};
use serde_json::json;

use crate::{clock::SharedClock, cluster::Cluster, error::Error, policy::names};

/// What comes this much later is a new Event, as it is for the Events of Kubernetes itself.
const SERIES: SignedDuration = SignedDuration::from_mins(6);

/// Publishes Events, and counts those that repeat.
pub struct Recorder {
    cluster: Cluster,
    reporter: Reporter,
    clock: SharedClock,
    told: Mutex<HashMap<String, Told>>,
    /// How many of them there may be before those that are old are forgotten.
    room: AtomicUsize,
}

/// Below this, there is always room.
const ROOM: usize = 256;

/// An Event that was published: what it is called, how often it was told, and when last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    name: String,
    count: i32,
    last: Timestamp,
}

impl Recorder {
    /// Publishes as `reporter`.
    pub fn new(cluster: Cluster, reporter: Reporter, clock: SharedClock) -> Self {
        Self {
            cluster,
            reporter,
            clock,
            told: Mutex::default(),
            room: AtomicUsize::new(ROOM),
        }
    }

    /// Publishes an Event about an object, in its namespace.
    ///
    /// # Errors
    /// When the API server does not take it, or this replica does not lead.
    pub async fn publish(&self, event: &Event, about: &ObjectReference) -> Result<(), Error> {
        self.cluster.fence()?;
        let now = self.clock.now();
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let events: Api<ClusterEvent> = self.cluster.api(namespace);
        let key = key(event, about);
        let told = match self.recall(&key, now) {
            Some(before) => self.repeat(&events, before, now).await?,
            None => None,
        };
        let told = match told {
            Some(told) => told,
            None => self.create(&events, event, about, now).await?,
        };
        self.lock().insert(key, told);
        Ok(())
    }

    /// The same Event, if it was told lately. Forgets those that were not, as often as their number has doubled.
    fn recall(&self, key: &str, now: Timestamp) -> Option<Told> {
        let mut told = self.lock();
        let is_late = |told: &Told| told.last + SERIES > now;
        if told.len() >= self.room.load(Ordering::Relaxed) {
            told.retain(|_, told| is_late(told));
            self.room.store(ROOM.max(told.len() * 2), Ordering::Relaxed);
        }
        told.get(key).filter(|told| is_late(told)).cloned()
    }

    /// Counts it up. None: it is gone meanwhile.
    async fn repeat(
        &self,
        events: &Api<ClusterEvent>,
        before: Told,
        now: Timestamp,
    ) -> Result<Option<Told>, kube::Error> {
        let count = before.count.saturating_add(1);
        let series = EventSeries {
            count,
            last_observed_time: MicroTime(now),
        };
        let patch = Patch::Merge(json!({ "series": series }));
        match events.patch(&before.name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(Some(Told {
                count,
                last: now,
                ..before
            })),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(
        &self,
        events: &Api<ClusterEvent>,
        event: &Event,
        about: &ObjectReference,
        now: Timestamp,
    ) -> Result<Told, kube::Error> {
        let reporter = &self.reporter;
        let object = about.name.as_deref().unwrap_or(&reporter.controller);
        let name = format!("{object}.{:x}", now.as_nanosecond());
        let type_ = match event.type_ {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        let event = ClusterEvent {
            metadata: ObjectMeta {
                namespace: about.namespace.clone(),
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            type_: Some(type_.to_owned()),
            reason: Some(event.reason.clone()),
            note: event.note.clone(),
            action: Some(event.action.clone()),
            regarding: Some(about.clone()),
            related: event.secondary.clone(),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(reporter.controller.clone()),
            reporting_instance: Some(reporter.instance.as_ref().unwrap_or(&reporter.controller).clone()),
            ..ClusterEvent::default()
        };
        events.create(&PostParams::default(), &event).await?;
        Ok(Told {
            name,
            count: 1,
            last: now,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Equal for Events that say the same about the same object, in whatever version it was then.
fn key(event: &Event, about: &ObjectReference) -> String {
    let Event {
        type_,
        reason,
        note,
        action,
        secondary,
    } = event;
    let object = |reference: &ObjectReference| ObjectReference {
        resource_version: None,
        ..reference.clone()
    };
    let (about, secondary) = (object(about), secondary.as_ref().map(object));
    let text = format!("{type_:?} {reason:?} {note:?} {action:?} {about:?} {secondary:?}");
    names::hash(text.as_bytes(), 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock as _, ManualClock},
        lease::Leadership,
    };

    fn event(note: &str) -> Event {
        Event {
            type_: EventType::Warning,
            reason: "BadAnnotation".to_owned(),
            note: Some(note.to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        }
    }

    fn about(uid: &str, version: &str) -> ObjectReference {
        ObjectReference {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectReference::default()
        }
    }

    #[test]
    fn only_the_very_same_event_about_the_same_object_repeats() {
        let first = key(&event("set a"), &about("1", "1"));
        assert_eq!(first, key(&event("set a"), &about("1", "2")));
        assert_ne!(first, key(&event("set b"), &about("1", "1")), "another note");
        assert_ne!(first, key(&event("set a"), &about("2", "1")), "another object");
    }

    fn reporter() -> Reporter {
        Reporter {
            controller: "test".to_owned(),
            instance: None,
        }
    }

    #[tokio::test]
    async fn who_does_not_lead_tells_nothing() {
        let clock = ManualClock::at("2026-01-01T00:00:00Z");
        let stage = crate::testing::stage(&[]).await;
        let follower = Cluster::new(stage.cluster.client(), Leadership::lost());
        let recorder = Recorder::new(follower, reporter(), clock.clone());
        let (event, about) = (event("set a"), about("1", "1"));
        let told = recorder.publish(&event, &about).await;
        assert!(matches!(told, Err(Error::NotLeading)), "{told:?}");
        assert_eq!(recorder.recall(&key(&event, &about), clock.now()), None);
    }

    #[tokio::test]
    async fn what_was_told_long_ago_is_forgotten() {
        let clock = ManualClock::at("2026-01-01T00:00:00Z");
        let stage = crate::testing::stage(&[]).await;
        let recorder = Recorder::new(stage.ctx.cluster.clone(), reporter(), clock.clone());
        let (event, about) = (event("set a"), about("1", "1"));
        recorder.publish(&event, &about).await.unwrap();
        recorder.publish(&event, &about).await.unwrap();
        let key = key(&event, &about);
        let told = recorder.recall(&key, clock.now()).unwrap();
        assert_eq!(told.count, 2);
        assert_eq!(recorder.recall(&key, clock.now() + SERIES), None);
        assert_eq!(recorder.lock().len(), 1, "there is room");
        for number in 1..ROOM {
            let note = format!("set {number}");
            recorder.publish(&self::event(&note), &about).await.unwrap();
        }
        assert_eq!(recorder.lock().len(), ROOM);
        recorder.recall(&key, clock.now() + SERIES);
        assert_eq!(recorder.lock().len(), 0);
    }
}
