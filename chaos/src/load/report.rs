//! The report: medians with their spread, ratios, and what each operation costs the servers. All text is made here, nothing is
//! added by hand.

use std::time::Duration;

use super::contestant::{Contestant, Role};
use super::machine::Machine;
use super::places::MEMBERS;
use super::sample::{Operation, Sample, float};
use super::store::{Plan, Round};
use super::whole_cluster::{IDLE, WholeCluster};

/// Everything measured in one run.
pub(super) struct Report {
    machine: Machine,
    store: Option<StorePart>,
    cluster: Option<WholeCluster>,
}

/// The store beside its peers.
pub(super) struct StorePart {
    pub plan: Plan,
    pub contestants: Vec<Contestant>,
    pub rounds: Vec<Round>,
}

/// Median, smallest and largest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

/// One table over all sides: a figure of each sample and how it is written.
struct Figure {
    heading: &'static str,
    of: fn(&Sample) -> Option<f64>,
    write: fn(Spread) -> String,
}

const FIGURES: &[Figure] = &[
    Figure {
        heading: "Median latency, ms",
        of: |sample| Some(sample.p50_ms),
        write: |spread| format!("{:.2} ({:.2}–{:.2})", spread.median, spread.lowest, spread.highest),
    },
    Figure {
        heading: "99th percentile of latency, ms",
        of: |sample| Some(sample.p99_ms),
        write: |spread| format!("{:.1} ({:.1}–{:.1})", spread.median, spread.lowest, spread.highest),
    },
    Figure {
        heading: "Processor time of all servers per operation, µs",
        of: |sample| Some(sample.cpu_us_per_operation),
        write: |spread| format!("{:.0} ({:.0}–{:.0})", spread.median, spread.lowest, spread.highest),
    },
    Figure {
        heading: "Syncs (`fsync`, `fdatasync`) of all servers per operation",
        of: |sample| sample.syncs_per_operation,
        write: |spread| format!("{:.3} ({:.3}–{:.3})", spread.median, spread.lowest, spread.highest),
    },
    Figure {
        heading: "Bytes written to the disk per operation",
        of: |sample| Some(sample.bytes_written_per_operation),
        write: |spread| format!("{:.0} ({:.0}–{:.0})", spread.median, spread.lowest, spread.highest),
    },
];

impl Report {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, store: None, cluster: None }
    }

    pub(super) fn add_store(&mut self, part: StorePart) {
        self.store = Some(part);
    }

    pub(super) fn add_cluster(&mut self, part: WholeCluster) {
        self.cluster = Some(part);
    }

    /// Returns the whole text.
    ///
    /// # Errors
    /// When the kernel does not say how the machine is.
    pub(super) fn markdown(&self) -> anyhow::Result<String> {
        let mut lines = vec!["# Benchmarks".to_owned(), String::new()];
        lines.push(
            "Written by `cargo xtask bench`, which measures everything below in one run. Figures are medians, with the lowest \
             and the highest round behind them."
                .to_owned(),
        );
        lines.extend([String::new(), format!("Machine: {}", self.machine.described()?), String::new()]);
        if let Some(store) = &self.store {
            lines.extend(store.lines());
        }
        if let Some(cluster) = &self.cluster {
            lines.extend(whole_cluster(cluster));
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.push(String::new());
        Ok(lines.join("\n"))
    }
}

impl StorePart {
    fn lines(&self) -> Vec<String> {
        let Plan { rounds, length, .. } = &self.plan;
        let mut lines = vec![
            "## The store beside etcd".to_owned(),
            String::new(),
            format!(
                "{MEMBERS} members on loopback, plain connections, every acknowledged write synced to disk on a majority. \
                 48-byte keys over a million-key space, 256-byte values, {rounds} rounds of {} s for each line and side. Every \
                 round gives each side fresh members on fresh data, and every second round goes through the sides backwards. \
                 Clients wait for each answer; the first asks the leader, the others go round the members, at most 16 \
                 connections to each. Servers and clients share the machine. Gets are linearizable. The empty service has \
                 the same API and libraries as Keelson's store, answers at once and keeps nothing: what it reaches is the \
                 limit that clients and network set.",
                length.as_secs()
            ),
            String::new(),
        ];
        let peers = self.contestants.iter().filter(|side| side.role == Role::Peer).count();
        let said = match peers {
            0 => "No etcd was there to compare with.",
            1 => "No newer etcd could be had from packages here.",
            2.. => {
                "The last etcd is the newest that could be had from packages here; releases from source are newer still."
            }
        };
        lines.extend([said.to_owned(), String::new()]);
        lines.extend(self.rates());
        for figure in FIGURES {
            lines.extend(self.table(figure));
        }
        lines.extend(self.memory());
        lines
    }

    /// Operations per second, with ratios and errors.
    fn rates(&self) -> Vec<String> {
        let mut headings = vec!["operation".to_owned(), "clients".to_owned()];
        headings.extend(self.contestants.iter().map(|side| side.name.clone()));
        headings.extend(self.others().map(|(_, side)| match side.role {
            Role::Limit => "share of the limit".to_owned(),
            Role::Ours | Role::Peer => format!("Keelson / {}", side.name),
        }));
        headings.push("errors".to_owned());
        let rows = self.scenarios().map(|(operation, clients)| {
            let rate = |side| self.spread(side, operation, clients, |sample| Some(sample.per_second));
            let mut row = vec![operation.name().to_owned(), clients.to_string()];
            row.extend((0..self.contestants.len()).map(|side| {
                let write = |spread: Spread| {
                    format!("{:.0} ({:.0}–{:.0})", spread.median, spread.lowest, spread.highest)
                };
                rate(side).map_or_else(absent, write)
            }));
            row.extend(self.others().map(|(side, _)| match (rate(0), rate(side)) {
                (Some(ours), Some(other)) => format!("**{:.2}**", ours.median / other.median),
                (None, _) | (_, None) => absent(),
            }));
            row.push(self.errors(operation, clients));
            row
        });
        titled("Operations per second", &headings, rows.collect())
    }

    fn table(&self, figure: &Figure) -> Vec<String> {
        let mut headings = vec!["operation".to_owned(), "clients".to_owned()];
        headings.extend(self.contestants.iter().map(|side| side.name.clone()));
        let rows = self.scenarios().map(|(operation, clients)| {
            let mut row = vec![operation.name().to_owned(), clients.to_string()];
            row.extend((0..self.contestants.len()).map(|side| {
                self.spread(side, operation, clients, figure.of).map_or_else(absent, figure.write)
            }));
            row
        });
        titled(figure.heading, &headings, rows.collect())
    }

    /// What all members occupy at the end of a round.
    fn memory(&self) -> Vec<String> {
        let headings: Vec<String> = self.contestants.iter().map(|side| side.name.clone()).collect();
        let row = (0..self.contestants.len()).map(|side| {
            let rounds = self.rounds.iter().filter(|round| round.contestant == side);
            let memory = spread(rounds.map(|round| megabytes(round.memory_bytes)).collect());
            let write =
                |spread: Spread| format!("{:.0} ({:.0}–{:.0})", spread.median, spread.lowest, spread.highest);
            memory.map_or_else(absent, write)
        });
        titled("Memory of all members after the load (PSS), MB", &headings, vec![row.collect()])
    }

    fn others(&self) -> impl Iterator<Item = (usize, &Contestant)> {
        self.contestants.iter().enumerate().filter(|(_, side)| side.role != Role::Ours)
    }

    fn scenarios(&self) -> impl Iterator<Item = (Operation, u32)> {
        [Operation::Put, Operation::Get]
            .into_iter()
            .flat_map(|operation| self.plan.clients.iter().map(move |clients| (operation, *clients)))
    }

    fn samples(&self, side: usize, operation: Operation, clients: u32) -> impl Iterator<Item = &Sample> {
        let rounds = self.rounds.iter().filter(move |round| round.contestant == side);
        let samples = rounds.flat_map(|round| &round.samples);
        samples.filter(move |sample| sample.operation == operation && sample.clients == clients)
    }

    fn spread(
        &self,
        side: usize,
        operation: Operation,
        clients: u32,
        of: fn(&Sample) -> Option<f64>,
    ) -> Option<Spread> {
        spread(self.samples(side, operation, clients).map(of).collect::<Option<_>>()?)
    }

    fn errors(&self, operation: Operation, clients: u32) -> String {
        let of = |side| self.samples(side, operation, clients).map(|sample| sample.errors).sum::<u64>();
        let errors: Vec<String> = (0..self.contestants.len()).map(|side| of(side).to_string()).collect();
        errors.join(" / ")
    }
}

fn whole_cluster(measured: &WholeCluster) -> Vec<String> {
    let nodes = if measured.is_hollow {
        "Containers cannot run on this machine, so the node is hollow: it pretends to run pods."
    } else {
        "The node runs real containers; the images are on the disk."
    };
    let mut lines = vec![
        "## A whole cluster".to_owned(),
        String::new(),
        format!(
            "`keelson up` with one node on an empty directory. Times count from the command. Once it says Ready, \
             `examples/web.yaml` is applied with kubectl; the first of its pods that is Ready ends the measurement. {nodes}"
        ),
        String::new(),
    ];
    let seconds = |times: Vec<Duration>| {
        let spread = spread(times.iter().map(Duration::as_secs_f64).collect());
        let write =
            |spread: Spread| format!("{:.1} ({:.1}–{:.1})", spread.median, spread.lowest, spread.highest);
        spread.map_or_else(|| "no kubectl here".to_owned(), write)
    };
    let starts = &measured.starts;
    let headings = ["starts", "node Ready after, s", "first pod Ready after, s"].map(str::to_owned);
    let row = vec![
        starts.len().to_string(),
        seconds(starts.iter().map(|start| start.node_ready).collect()),
        seconds(starts.iter().filter_map(|start| start.pod_ready).collect()),
    ];
    lines.extend(titled("Start, one server", &headings, vec![row]));
    let headings = ["servers", "Keelson's processes", "Keelson, MB", "container runtime, MB", "both, MB"]
        .map(str::to_owned);
    let rows = measured.idle.iter().map(|idle| {
        vec![
            idle.servers.to_string(),
            idle.processes.to_string(),
            format!("{:.0}", megabytes(idle.keelson_bytes)),
            format!("{:.0}", megabytes(idle.runtime_bytes)),
            format!("{:.0}", megabytes(idle.keelson_bytes + idle.runtime_bytes)),
        ]
    });
    let heading = format!("Memory (PSS) of a cluster without pods, {} s after it was Ready", IDLE.as_secs());
    lines.extend(titled(&heading, &headings, rows.collect()));
    lines
}

fn titled(title: &str, headings: &[String], rows: Vec<Vec<String>>) -> Vec<String> {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let mut lines = vec![format!("### {title}"), String::new(), line(headings)];
    lines.push(format!("|{}", "---|".repeat(headings.len())));
    lines.extend(rows.iter().map(|row| line(row)));
    lines.push(String::new());
    lines
}

fn absent() -> String {
    "not measured".to_owned()
}

fn megabytes(bytes: u64) -> f64 {
    float(bytes) / 1e6
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
    use crate::cluster::Program;

    #[test]
    fn the_median_of_an_even_count_is_between_the_middle_two() {
        let seen = spread(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(seen, Some(Spread { median: 2.5, lowest: 1.0, highest: 4.0 }));
        assert_eq!(spread(vec![7.0]).map(|spread| spread.median), Some(7.0));
        assert_eq!(spread(Vec::new()), None);
    }

    fn round(contestant: usize, per_second: f64, errors: u64) -> Round {
        let sample = Sample {
            operation: Operation::Put,
            clients: 1,
            per_second,
            p50_ms: 1.0,
            p99_ms: 2.0,
            cpu_us_per_operation: 3.0,
            bytes_written_per_operation: 4.0,
            syncs_per_operation: (contestant == 0).then_some(3.0),
            errors,
        };
        Round { contestant, samples: vec![sample], memory_bytes: 5_000_000 }
    }

    #[test]
    fn every_side_has_its_column_and_every_other_side_its_ratio() {
        let side = |name: &str, role| {
            let program = Program::new(std::path::Path::new("/usr/bin/etcd"));
            Contestant { name: name.to_owned(), role, program }
        };
        let part = StorePart {
            plan: Plan { length: Duration::from_secs(1), rounds: 2, clients: vec![1], data: ".".into() },
            contestants: vec![
                side("Keelson", Role::Ours),
                side("etcd 1", Role::Peer),
                side("empty service", Role::Limit),
            ],
            rounds: vec![round(0, 100.0, 0), round(1, 50.0, 2), round(2, 400.0, 0), round(0, 200.0, 1)],
        };
        let rates = part.rates();
        assert_eq!(
            rates[2],
            "| operation | clients | Keelson | etcd 1 | empty service | Keelson / etcd 1 | share of the limit | errors |"
        );
        assert_eq!(
            rates[4],
            "| put | 1 | 150 (100–200) | 50 (50–50) | 400 (400–400) | **3.00** | **0.38** | 1 / 2 / 0 |"
        );
        // A side that was not measured is not shown as zero.
        assert!(rates[5].ends_with("| not measured | not measured | 0 / 0 / 0 |"), "{}", rates[5]);
        let syncs = part.table(&FIGURES[3]);
        assert_eq!(syncs[4], "| put | 1 | 3.000 (3.000–3.000) | not measured | not measured |");
    }
}
