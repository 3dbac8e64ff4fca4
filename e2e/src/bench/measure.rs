//! What a process uses, as Linux counts it.

use std::{fs, time::Duration};

use anyhow::Context;

/// Processor time of a process since it began, in user and kernel mode.
pub fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(')').context("an odd /proc/PID/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks =
        |index: usize| -> anyhow::Result<u64> { Ok(fields.get(index).context("too short")?.parse()?) };
    // utime and stime: fields 14 and 15 of all, the first here is the third.
    let ticks = ticks(11)? + ticks(12)?;
    // 100 ticks a second on every Linux that there is (USER_HZ).
    Ok(Duration::from_millis(ticks * 10))
}

/// Resident memory of a process now, in bytes.
pub fn resident_memory(pid: u32) -> anyhow::Result<u64> {
    memory(pid, "VmRSS:")
}

/// The most resident memory that a process ever had, in bytes.
pub fn peak_memory(pid: u32) -> anyhow::Result<u64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, field: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line
        .with_context(|| format!("no {field}"))?
        .trim()
        .trim_end_matches(" kB");
    Ok(kibibytes.trim().parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let pid = std::process::id();
        let now = resident_memory(pid).unwrap();
        assert!(now > 1 << 20);
        assert!(peak_memory(pid).unwrap() >= now);
        let began = processor_time(pid).unwrap();
        let mut sum = 0_u64;
        while processor_time(pid).unwrap() < began + Duration::from_millis(20) {
            sum = (0..1_000_000).fold(sum, |sum, n| sum ^ std::hint::black_box(n));
        }
        std::hint::black_box(sum);
    }
}
