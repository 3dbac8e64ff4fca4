//! The operator and a bare client, which makes the same calls, in turns.

use std::{ops::Range, time::Duration};

use super::{
    PATIENCE,
    bare::Bare,
    crowd::{AT_ONCE, Crowd, Kind, Turned},
    record::{Recording, Side, Tally},
    scene::Scene,
    usage::{self, Usage, Used},
};
use crate::{bench::table::mebibytes, operator::Operator, progress};

/// In so many parts the objects are made, by the one and by the other: the server gets faster as it warms up, and slower
/// as it fills.
const TURNS: u32 = 4;
/// As shipped: so many objects of a kind at a time. The bare client works on as many.
const CONCURRENCY: u32 = 8;

/// Over the lines of [`Compared::lines`].
pub(super) const HEAD: &str = "
| objects | by | done in | objects/s | calls to Keycloak each | calls to the API server each | Ready after (p50) | p99 | CPU each | memory after | at most |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

/// Who makes what.
pub(super) struct Trial<'a> {
    pub(super) scene: &'a Scene,
    pub(super) crowd: &'a Crowd<'a>,
    pub(super) operator: &'a Operator,
}

/// What came of it.
pub(super) struct Compared {
    what: String,
    objects: u32,
    turned: Turned,
    used: Used,
    /// The operator's calls.
    pub(super) tally: Tally,
    bare: Duration,
    bare_tally: Tally,
    /// How many calls of the bare client were answered otherwise than the operator's.
    differs: u32,
}

impl Trial<'_> {
    /// Has the operator make the first of a kind.
    pub(super) async fn warm_up(&self, kind: &Kind, count: u32) -> anyhow::Result<()> {
        let what = format!("warming up with {count} objects of {}", kind.name);
        progress::during(&what, self.crowd.grow(kind, 0..count, AT_ONCE, PATIENCE)).await?;
        usage::quiet(self.operator).await
    }

    /// Has the operator make so many more of a kind, and the bare client as many.
    pub(super) async fn compare(&self, kind: &Kind, first: u32, count: u32) -> anyhow::Result<Compared> {
        let mut compared = Compared {
            what: format!("{count} {}", kind.name),
            objects: count,
            turned: Turned::default(),
            used: Used::default(),
            tally: Tally::default(),
            bare: Duration::ZERO,
            bare_tally: Tally::default(),
            differs: 0,
        };
        for turn in 0..TURNS {
            let [begin, end] = [turn, turn + 1].map(|turn| first + count * turn / TURNS);
            let recording = self.grow(kind, begin..end, &mut compared).await?;
            self.repeat(kind, &recording, &mut compared).await?;
        }
        Ok(compared)
    }

    async fn grow(
        &self,
        kind: &Kind,
        numbers: Range<u32>,
        compared: &mut Compared,
    ) -> anyhow::Result<Recording> {
        self.scene.take();
        let usage = Usage::begin(self.operator)?;
        let what = format!(
            "{} {} to {} by the operator",
            kind.name, numbers.start, numbers.end
        );
        let growing = self.crowd.grow(kind, numbers, AT_ONCE, PATIENCE);
        let turned = progress::during(&what, growing).await?;
        usage::quiet(self.operator).await?;
        let (used, calls) = (usage.end()?, self.scene.take());
        compared.turned.add(turned);
        compared.used.add(used);
        compared.tally.add(&calls);
        Ok(Recording::of(kind.prefix, calls))
    }

    async fn repeat(
        &self,
        kind: &Kind,
        recording: &Recording,
        compared: &mut Compared,
    ) -> anyhow::Result<()> {
        let bare = Bare::new(self.scene, kind, recording).await?;
        self.scene.take();
        let what = format!("{} more by the bare client", recording.objects.len());
        let repeated = progress::during(&what, bare.repeat(CONCURRENCY)).await?;
        compared.bare += repeated.took;
        compared.differs += repeated.differs;
        let tally = &mut compared.bare_tally;
        tally.add(self.scene.take().iter().filter(|sent| !sent.is_of_time()));
        Ok(())
    }
}

impl Compared {
    /// A line for each, and how they compare.
    pub(super) fn lines(&self) -> Vec<String> {
        let each = |count: u32| f64::from(count) / f64::from(self.objects);
        let shared = |by: &str, took: Duration, tally: &Tally| {
            format!(
                "| {} | {by} | {:.1} s | {:.1} | {:.2} | {:.2} |",
                self.what,
                took.as_secs_f64(),
                f64::from(self.objects) / took.as_secs_f64(),
                each(tally.on(Side::AuthorizationServer)),
                each(tally.on(Side::ApiServer)),
            )
        };
        let (turned, used) = (&self.turned, &self.used);
        vec![
            format!(
                "{} {:.2} s | {:.2} s | {:.1} ms | {} | {} |",
                shared("operator", turned.took, &self.tally),
                turned.quantile(0.5).as_secs_f64(),
                turned.quantile(0.99).as_secs_f64(),
                used.processor.as_secs_f64() * 1e3 / f64::from(self.objects),
                mebibytes(used.memory),
                mebibytes(used.peak),
            ),
            format!("{} | | | | |", shared("bare client", self.bare, &self.bare_tally)),
            format!(
                "| | | **{:.0} %** | | | | | | | | ({} calls were answered otherwise) |",
                100.0 * self.bare.as_secs_f64() / turned.took.as_secs_f64(),
                self.differs
            ),
        ]
    }
}
