//! `make fuzz`.

use std::{io::Write, process::ExitCode, time::Duration};

use clap::Parser;
use mcp_auth_gate_fuzz::{differential, meaning, readers};

/// Looks for bodies that a gate lets through and that two readers understand differently.
#[derive(Parser)]
struct Arguments {
    /// How long to look, in seconds.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Where to begin: the same seed gives the same bodies. A random one when absent.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    let seed = arguments.seed.unwrap_or_else(|| rand::random::<u64>() >> 1);
    let (mut readers, missing) = readers::start()?;
    for name in missing {
        writeln!(out, "{name} is not installed: its reader is left out")?;
    }
    writeln!(out, "looking for {} s, from seed {seed} on", arguments.seconds)?;
    let time = Duration::from_secs(arguments.seconds);
    let (progress, found) = differential::run(meaning::to_the_gate, &mut readers, seed, time)?;
    let (made, compared) = (progress.made, progress.compared);
    writeln!(
        out,
        "{made} bodies, of which {compared} were let through and compared"
    )?;
    if let Some(disagreement) = found {
        write!(out, "{disagreement}")?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
