//! The section on even load: rates with ratios, and what each operation costs the servers.

use super::{Plan, StorePart};
use crate::load::contestant::{Contestant, Role};
use crate::load::figure::{Against, Better, Kind, Reading, Spread, absent, titled};
use crate::load::places::MEMBERS;
use crate::load::sample::{Operation, Sample, float, scenarios};

/// One table over all sides: a figure of each sample.
struct Column {
    heading: &'static str,
    of: fn(&Sample) -> Option<f64>,
    decimals: usize,
}

const COLUMNS: &[Column] = &[
    Column { heading: "Median latency, ms", of: |sample| Some(sample.p50_ms), decimals: 2 },
    Column { heading: "99th percentile of latency, ms", of: |sample| Some(sample.p99_ms), decimals: 1 },
    Column {
        heading: "Processor time of all servers per operation, µs",
        of: |sample| Some(sample.cpu_us_per_operation),
        decimals: 0,
    },
    Column {
        heading: "Syncs (`fsync`, `fdatasync`) of all servers per operation",
        of: |sample| sample.syncs_per_operation,
        decimals: 3,
    },
    Column {
        heading: "Bytes written to the disk per operation",
        of: |sample| Some(sample.bytes_written_per_operation),
        decimals: 0,
    },
];

/// A figure of one measurement that something is aimed at.
struct Goal {
    operation: Operation,
    clients: u32,
    of: fn(&Sample) -> Option<f64>,
    kind: Kind,
}

const fn rate(operation: Operation, clients: u32, name: &'static str, aim: f64) -> Goal {
    let kind = Kind { name, decimals: 0, better: Better::More, against: Against::Peers, aim: Some(aim) };
    Goal { operation, clients, of: |sample| Some(sample.per_second), kind }
}

const fn share(operation: Operation, clients: u32, name: &'static str, aim: f64) -> Goal {
    let kind = Kind { name, decimals: 0, better: Better::More, against: Against::Limit, aim: Some(aim) };
    Goal { operation, clients, of: |sample| Some(sample.per_second), kind }
}

const fn cost(
    clients: u32,
    of: fn(&Sample) -> Option<f64>,
    name: &'static str,
    decimals: usize,
    aim: f64,
) -> Goal {
    let kind = Kind { name, decimals, better: Better::Less, against: Against::Peers, aim: Some(aim) };
    Goal { operation: Operation::Put, clients, of, kind }
}

static GOALS: [Goal; 17] = [
    rate(Operation::Put, 64, "puts/s, 64 clients", 2.5),
    rate(Operation::Put, 256, "puts/s, 256 clients", 2.5),
    rate(Operation::Put, 1000, "puts/s, 1000 clients", 2.5),
    share(Operation::Put, 64, "puts/s, 64 clients, beside the limit", 0.5),
    share(Operation::Put, 256, "puts/s, 256 clients, beside the limit", 0.5),
    share(Operation::Put, 1000, "puts/s, 1000 clients, beside the limit", 0.5),
    cost(256, |sample| Some(sample.cpu_us_per_operation), "processor time per put, 256 clients, µs", 0, 0.33),
    cost(
        256,
        |sample| Some(sample.bytes_written_per_operation),
        "bytes written per put, 256 clients",
        0,
        0.33,
    ),
    cost(256, |sample| sample.syncs_per_operation, "syncs per put, 256 clients", 3, 0.33),
    cost(1, |sample| Some(sample.p50_ms), "put latency, 1 client, median, ms", 2, 0.5),
    cost(1, |sample| Some(sample.p99_ms), "put latency, 1 client, p99, ms", 2, 0.5),
    rate(Operation::Update, 64, "updates/s of 1 kB objects, 64 clients", 3.0),
    rate(Operation::Update, 256, "updates/s of 1 kB objects, 256 clients", 3.0),
    rate(Operation::Get, 256, "linearizable gets/s, 256 clients", 1.5),
    share(Operation::Get, 256, "linearizable gets/s, 256 clients, beside the limit", 0.75),
    rate(Operation::SerializableGet, 256, "serializable gets/s, 256 clients", 1.5),
    share(Operation::SerializableGet, 256, "serializable gets/s, 256 clients, beside the limit", 0.75),
];

impl StorePart {
    /// Returns the section.
    pub(super) fn lines(&self, contestants: &[Contestant]) -> Vec<String> {
        Tables { part: self, contestants }.lines()
    }

    /// Returns every figure that something is aimed at.
    pub(super) fn readings(&self) -> Vec<Reading> {
        let mut readings = Vec::new();
        for goal in &GOALS {
            for round in &self.rounds {
                let meant =
                    |sample: &&Sample| sample.operation == goal.operation && sample.clients == goal.clients;
                let values = round.samples.iter().filter(meant).filter_map(goal.of);
                readings.extend(values.map(|value| Reading {
                    side: round.contestant,
                    kind: &goal.kind,
                    value,
                }));
            }
        }
        readings
    }
}

/// The part with the names of its sides.
struct Tables<'a> {
    part: &'a StorePart,
    contestants: &'a [Contestant],
}

impl Tables<'_> {
    fn lines(&self) -> Vec<String> {
        let Plan { rounds, length, .. } = &self.part.plan;
        let mut lines = vec![
            "## The store beside etcd".to_owned(),
            String::new(),
            format!(
                "{MEMBERS} members on loopback, plain connections, every acknowledged write synced to disk on a majority. \
                 48-byte keys over a million-key space, 256-byte values, {rounds} rounds of {} s for each line and side. Every \
                 round gives each side fresh members on fresh data, and every second round goes through the sides backwards. \
                 Clients wait for each answer; the first asks the leader, the others go round the members, at most 16 \
                 connections to each. Servers and clients share the machine. An update is a compare-and-swap of the client's own object of 1 kB, \
                 while each member serves one watch of all objects with their previous values. The empty service has \
                 the same API and libraries as Keelson's store, answers at once and keeps nothing: what it reaches is the \
                 limit that clients and network set.",
                length.as_secs()
            ),
            String::new(),
        ];
        lines.extend(self.rates());
        for column in COLUMNS {
            lines.extend(self.table(column));
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
        let rows = scenarios().map(|(operation, clients)| {
            let rate = |side| self.spread(side, operation, clients, |sample| Some(sample.per_second));
            let mut row = vec![operation.name().to_owned(), clients.to_string()];
            row.extend(
                (0..self.contestants.len())
                    .map(|side| rate(side).map_or_else(absent, |spread| spread.shown(0))),
            );
            row.extend(self.others().map(|(side, _)| match (rate(0), rate(side)) {
                (Some(ours), Some(other)) => format!("**{:.2}**", ours.median / other.median),
                (None, _) | (_, None) => absent(),
            }));
            row.push(self.errors(operation, clients));
            row
        });
        titled("Operations per second", &headings, rows.collect())
    }

    fn table(&self, column: &Column) -> Vec<String> {
        let mut headings = vec!["operation".to_owned(), "clients".to_owned()];
        headings.extend(self.contestants.iter().map(|side| side.name.clone()));
        let rows = scenarios().map(|(operation, clients)| {
            let mut row = vec![operation.name().to_owned(), clients.to_string()];
            row.extend((0..self.contestants.len()).map(|side| {
                self.spread(side, operation, clients, column.of)
                    .map_or_else(absent, |spread| spread.shown(column.decimals))
            }));
            row
        });
        titled(column.heading, &headings, rows.collect())
    }

    /// What all members occupy at the end of a round.
    fn memory(&self) -> Vec<String> {
        let headings: Vec<String> = self.contestants.iter().map(|side| side.name.clone()).collect();
        let row = (0..self.contestants.len()).map(|side| {
            let rounds = self.part.rounds.iter().filter(|round| round.contestant == side);
            let memory = Spread::of(rounds.map(|round| float(round.memory_bytes) / 1e6).collect());
            memory.map_or_else(absent, |spread| spread.shown(0))
        });
        titled("Memory of all members after the load (PSS), MB", &headings, vec![row.collect()])
    }

    fn others(&self) -> impl Iterator<Item = (usize, &Contestant)> {
        self.contestants.iter().enumerate().filter(|(_, side)| side.role != Role::Ours)
    }

    fn samples(&self, side: usize, operation: Operation, clients: u32) -> impl Iterator<Item = &Sample> {
        let rounds = self.part.rounds.iter().filter(move |round| round.contestant == side);
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
        Spread::of(self.samples(side, operation, clients).map(of).collect::<Option<_>>()?)
    }

    fn errors(&self, operation: Operation, clients: u32) -> String {
        let of = |side| self.samples(side, operation, clients).map(|sample| sample.errors).sum::<u64>();
        let errors: Vec<String> = (0..self.contestants.len()).map(|side| of(side).to_string()).collect();
        errors.join(" / ")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::Program;
    use crate::load::report::Round;

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
            plan: Plan { length: Duration::from_secs(1), rounds: 2, data: ".".into() },
            rounds: vec![round(0, 100.0, 0), round(1, 50.0, 2), round(2, 400.0, 0), round(0, 200.0, 1)],
        };
        let contestants =
            [side("Keelson", Role::Ours), side("etcd 1", Role::Peer), side("empty service", Role::Limit)];
        let tables = Tables { part: &part, contestants: &contestants };
        let rates = tables.rates();
        assert_eq!(
            rates[2],
            "| operation | clients | Keelson | etcd 1 | empty service | Keelson / etcd 1 | share of the limit | errors |"
        );
        assert_eq!(rates[4], "| put | 1 | 150 (100–200) | 50 | 400 | **3.00** | **0.38** | 1 / 2 / 0 |");
        // A side that was not measured is not shown as zero.
        assert!(rates[5].ends_with("| not measured | not measured | 0 / 0 / 0 |"), "{}", rates[5]);
        let syncs = tables.table(&COLUMNS[3]);
        assert_eq!(syncs[4], "| put | 1 | 3.000 | not measured | not measured |");
    }
}
