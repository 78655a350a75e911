//! The report: what is aimed at, then every part's tables. All text is made here, nothing is added by hand.

mod growth;
mod plot;
mod store;
mod whole_cluster;

use super::contestant::{Contestant, Role};
use super::figure::{self, Reading};
use super::growth::Look;
use super::machine::Machine;
use super::store::{Plan, Round};
use super::whole_cluster::WholeCluster;

/// Everything measured in one run.
pub(super) struct Report {
    machine: Machine,
    contestants: Vec<Contestant>,
    store: Option<StorePart>,
    tables: Vec<Table>,
    looks: Vec<Look>,
    cluster: Option<WholeCluster>,
}

/// The store beside its peers under even load.
pub(super) struct StorePart {
    pub plan: Plan,
    pub rounds: Vec<Round>,
}

/// A part whose figures are one number for each side.
pub(super) struct Table {
    pub title: &'static str,
    /// How it was measured.
    pub text: &'static str,
    pub readings: Vec<Reading>,
}

/// The plot of growth, beside the report.
pub(super) const PLOT: &str = "benchmarks-growth.svg";

impl Report {
    pub(super) fn new(machine: Machine, contestants: Vec<Contestant>) -> Self {
        Self { machine, contestants, store: None, tables: Vec::new(), looks: Vec::new(), cluster: None }
    }

    pub(super) fn contestants(&self) -> &[Contestant] {
        &self.contestants
    }

    pub(super) fn add_store(&mut self, part: StorePart) {
        self.store = Some(part);
    }

    pub(super) fn add_table(&mut self, table: Table) {
        self.tables.push(table);
    }

    pub(super) fn add_growth(&mut self, looks: Vec<Look>) {
        self.looks = looks;
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
             and the highest round behind them where there are several."
                .to_owned(),
        );
        lines.extend([String::new(), format!("Machine: {}", self.machine.described()?), String::new()]);
        lines.extend(self.peers());
        lines.extend(self.aims());
        if let Some(store) = &self.store {
            lines.extend(store.lines(&self.contestants));
        }
        for table in &self.tables {
            lines.extend([
                format!("## {}", table.title),
                String::new(),
                table.text.to_owned(),
                String::new(),
            ]);
            lines.extend(figure::table("Figures", &self.contestants, &table.readings));
        }
        if !self.looks.is_empty() {
            lines.extend(growth::lines(&self.looks));
        }
        if let Some(cluster) = &self.cluster {
            lines.extend(whole_cluster::lines(cluster));
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.push(String::new());
        Ok(lines.join("\n"))
    }

    /// Returns the plot of growth, where growth was measured.
    pub(super) fn plot(&self) -> Option<String> {
        growth::plot(&self.looks)
    }

    fn peers(&self) -> Vec<String> {
        let peers = self.contestants.iter().filter(|side| side.role == Role::Peer).count();
        let said = match peers {
            0 => "No etcd was there to compare with.",
            1 => "No newer etcd could be had from packages here.",
            2.. => {
                "The last etcd is the newest that could be had from packages here; releases from source are newer still."
            }
        };
        vec![said.to_owned(), String::new()]
    }

    fn aims(&self) -> Vec<String> {
        let mut readings = self.store.as_ref().map(StorePart::readings).unwrap_or_default();
        readings.extend(self.tables.iter().flat_map(|table| &table.readings).copied());
        if readings.iter().all(|reading| reading.kind.aim.is_none()) {
            return Vec::new();
        }
        figure::aims(&self.contestants, &readings)
    }
}
