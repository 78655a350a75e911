//! The report: medians with their spread, ratios, and what each operation costs the servers.

use std::path::Path;

use super::sample::{Operation, Sample};
use crate::cluster::{Program, run_command};

/// Whose members are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Ours,
    Peer,
}

/// All samples, and where they were taken.
pub(super) struct Report {
    machine: String,
    programs: Vec<String>,
    samples: Vec<(Side, Sample)>,
}

/// Median, smallest and largest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Report {
    pub(super) fn new(programs: &[(Side, Program)], data: &Path) -> anyhow::Result<Self> {
        let programs = programs.iter().map(|(side, program)| {
            let path = program.binary.to_string_lossy();
            let version = run_command(&path, &["--version"], "").unwrap_or_default();
            let name = program.binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{side:?}: {name}, {}", version.lines().next().unwrap_or("version unknown"))
        });
        let cores = std::thread::available_parallelism()?;
        let listing = run_command("df", &["--output=fstype", &data.to_string_lossy()], "")?;
        let file_system = listing.lines().last().unwrap_or("?");
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().unwrap_or("?");
        let machine =
            format!("{cores} cores, data on {}, load {load} before the first run", file_system.trim());
        Ok(Self { machine, programs: programs.collect(), samples: Vec::new() })
    }

    pub(super) fn add(&mut self, side: Side, sample: Sample) {
        self.samples.push((side, sample));
    }

    pub(super) fn markdown(&self, clients: &[u32], seconds: u64, rounds: u32) -> String {
        let mut lines = vec![
            "# Store beside etcd".to_owned(),
            String::new(),
            format!(
                "Three members on loopback, plain connections, every acknowledged write synced to disk on a majority. \
                 48-byte keys over a million-key space, 256-byte values, {rounds} rounds of {seconds} s, interleaved; \
                 fresh members in each round. Clients wait for each answer; the first asks the leader, the others go \
                 round the members, at most 16 connections to each. Servers and clients share the machine: {}. \
                 CPU and bytes are of all three members together; each pair is ours / peer.",
                self.machine
            ),
            String::new(),
        ];
        lines.extend(self.programs.iter().map(|program| format!("- {program}")));
        lines.push(String::new());
        lines.push(
            "| operation | clients | ours /s (lowest–highest) | peer /s (lowest–highest) | ratio | p99 ms ours / peer \
             | server CPU µs per op | disk bytes written per op | errors |"
                .to_owned(),
        );
        lines.push("|---|---|---|---|---|---|---|---|---|".to_owned());
        for operation in [Operation::Put, Operation::Get] {
            lines.extend(clients.iter().filter_map(|clients| self.row(operation, *clients)));
        }
        lines.join("\n") + "\n"
    }

    fn row(&self, operation: Operation, clients: u32) -> Option<String> {
        let of = |side: Side, field: fn(&Sample) -> f64| {
            let chosen = self.samples.iter().filter(|(whose, sample)| {
                *whose == side && sample.operation == operation && sample.clients == clients
            });
            spread(chosen.map(|(_, sample)| field(sample)).collect())
        };
        let both = |field| Some((of(Side::Ours, field)?.median, of(Side::Peer, field)?.median));
        let (ours, peer) = (of(Side::Ours, |s| s.per_second)?, of(Side::Peer, |s| s.per_second)?);
        let p99 = both(|sample| sample.p99_ms)?;
        let cpu = both(|sample| sample.cpu_us_per_operation)?;
        let bytes = both(|sample| sample.bytes_written_per_operation)?;
        let errors = |side| -> u64 {
            let chosen = self.samples.iter().filter(|(whose, sample)| {
                *whose == side && sample.operation == operation && sample.clients == clients
            });
            chosen.map(|(_, sample)| sample.errors).sum()
        };
        Some(format!(
            "| {} | {clients} | {:.0} ({:.0}–{:.0}) | {:.0} ({:.0}–{:.0}) | {:.2} | {:.1} / {:.1} | {:.0} / {:.0} \
             | {:.0} / {:.0} | {} / {} |",
            operation.name(),
            ours.median,
            ours.lowest,
            ours.highest,
            peer.median,
            peer.lowest,
            peer.highest,
            ours.median / peer.median,
            p99.0,
            p99.1,
            cpu.0,
            cpu.1,
            bytes.0,
            bytes.1,
            errors(Side::Ours),
            errors(Side::Peer),
        ))
    }
}

/// `None` for no numbers. The median of an even count is the mean of the middle two.
fn spread(mut numbers: Vec<f64>) -> Option<Spread> {
    numbers.sort_by(f64::total_cmp);
    let (lowest, highest) = (*numbers.first()?, *numbers.last()?);
    let upper = *numbers.get(numbers.len() / 2)?;
    let lower = *numbers.get((numbers.len() - 1) / 2)?;
    Some(Spread { median: f64::midpoint(lower, upper), lowest, highest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_between_the_middle_two() {
        let seen = spread(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(seen, Some(Spread { median: 2.5, lowest: 1.0, highest: 4.0 }));
        assert_eq!(spread(vec![7.0]).map(|spread| spread.median), Some(7.0));
        assert_eq!(spread(Vec::new()), None);
    }
}
