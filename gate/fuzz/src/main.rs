//! `make fuzz`.

use std::{io::Write, process::ExitCode, time::Duration};

use clap::Parser;
use mcp_auth_gate_fuzz::{differential, readers, subject};

/// Looks for bodies, targets of requests and URIs of resources that a gate lets through and that two readers understand
/// differently.
#[derive(Parser)]
struct Arguments {
    /// How long to look, in seconds; a third of it for each of them.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Where to begin: the same seed gives the same ones. A random one when absent.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    let seed = arguments.seed.unwrap_or_else(|| rand::random::<u64>() >> 1);
    writeln!(out, "looking for {} s, from seed {seed} on", arguments.seconds)?;
    let time = Duration::from_secs(arguments.seconds) / u32::try_from(subject::ALL.len())?;
    for subject in &subject::ALL {
        let (mut readers, missing) = readers::start(subject)?;
        for name in missing {
            writeln!(out, "{name} is not installed: its reader is left out")?;
        }
        let (progress, found) = differential::run(subject, &mut readers, seed, time)?;
        let (name, made, compared) = (subject.name, progress.made, progress.compared);
        writeln!(
            out,
            "{made} {name}, of which {compared} were let through and compared"
        )?;
        if let Some(disagreement) = found {
            write!(out, "{disagreement}")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
