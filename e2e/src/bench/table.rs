//! Figures as people read them.

/// The medians of a way at a number of connections.
#[derive(Clone, Copy)]
pub(super) struct Figures {
    pub(super) throughput: f64,
    pub(super) p50: u64,
    pub(super) p99: u64,
    /// Processor time for each call, in microseconds.
    pub(super) processor: f64,
}

/// Of each figure the median of the rounds.
pub(super) fn median(rounds: &[Figures]) -> Figures {
    fn of<T: PartialOrd + Copy>(rounds: &[Figures], figure: impl Fn(&Figures) -> T) -> T {
        let mut all: Vec<T> = rounds.iter().map(figure).collect();
        all.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
        all[all.len() / 2]
    }
    Figures {
        throughput: of(rounds, |figures| figures.throughput),
        p50: of(rounds, |figures| figures.p50),
        p99: of(rounds, |figures| figures.p99),
        processor: of(rounds, |figures| figures.processor),
    }
}

/// A line for each way: direct, the gate, Envoy.
pub(super) fn rows(connections: u32, figures: &[Figures; 3]) -> Vec<String> {
    let [direct, _, envoy] = figures;
    let names = ["direct", "gate", "Envoy"];
    let row = |(name, own): (&str, &Figures)| {
        let shared = format!(
            "| {connections} | {name} | {:.0} | {:.2} | {} | {}",
            own.throughput,
            own.throughput / direct.throughput,
            micros(own.p50),
            micros(own.p99)
        );
        if name == "direct" {
            return format!("{shared} | | | | |");
        }
        format!(
            "{shared} | {} | {} | {:.0} µs | {:.2} |",
            micros(own.p50.saturating_sub(direct.p50)),
            micros(own.p99.saturating_sub(direct.p99)),
            own.processor,
            own.processor / envoy.processor
        )
    };
    names.into_iter().zip(figures).map(row).collect()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn micros(micros: u64) -> String {
    format!("{:.2} ms", micros as f64 / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
