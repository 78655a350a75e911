//! What this machine can inject, tried out rather than guessed.

use std::collections::BTreeMap;

use clap::ValueEnum;

use crate::nemesis::{Kind, Mechanism, Turn, missing_for_containers};
use crate::run::{Options, say};
use crate::workload::{Nodes, WORKLOADS};

/// Tells about each fault, and about workloads that need more than faults do; returns the exit code: 0 when all can be injected, else 2.
pub(super) fn run() -> u8 {
    let mut tried: Vec<(Mechanism, Result<String, String>)> = Vec::new();
    let mut can_all = true;
    for kind in Kind::value_variants() {
        let mechanism = kind.mechanism();
        let known = tried.iter().find(|(known, _)| *known == mechanism).map(|(_, result)| result.clone());
        let result = known.unwrap_or_else(|| {
            let result = mechanism.try_out();
            tried.push((mechanism, result.clone()));
            result
        });
        can_all &= result.is_ok();
        say(&line(kind.name(), &result));
    }
    let containers = missing_for_containers().map_or(Ok("real containers".to_owned()), Err);
    can_all &= containers.is_ok();
    for workload in WORKLOADS.iter().filter(|workload| workload.nodes == Nodes::Real) {
        say(&line(workload.name, &containers));
    }
    if can_all { 0 } else { 2 }
}

fn line(name: &str, result: &Result<String, String>) -> String {
    match result {
        Ok(witness) => format!("{name:<15} yes: {witness}"),
        Err(missing) => format!("{name:<15} no: {missing}"),
    }
}

/// Tries what a run needs; says in one line what of it this machine cannot do.
pub(super) fn refusal(options: &Options) -> Option<String> {
    let containers = match options.workload.nodes {
        Nodes::Hollow => None,
        Nodes::Real => missing_for_containers(),
    };
    match containers {
        Some(missing) => Some(refused(options.workload.name, &missing)),
        None => refusal_of(&options.nemesis),
    }
}

fn refused(name: &str, missing: &str) -> String {
    format!("this machine cannot do {name}: {missing}; `keelson chaos doctor` says what it can")
}

fn refusal_of(turns: &[Turn]) -> Option<String> {
    let mut mechanisms: BTreeMap<&str, Mechanism> =
        turns.iter().flat_map(|turn| turn.kinds()).map(|kind| (kind.name(), kind.mechanism())).collect();
    // Without faults it is still a network with processes.
    mechanisms.entry("chaos").or_insert(Mechanism::Process);
    let mut tried = Vec::new();
    mechanisms.into_iter().find_map(|(name, mechanism)| {
        if tried.contains(&mechanism) {
            return None;
        }
        tried.push(mechanism);
        let missing = mechanism.try_out().err()?;
        Some(refused(name, &missing))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_one_line_with_what_was_seen_or_is_missing() {
        assert_eq!(line("kill", &Ok("ended".into())), "kill            yes: ended");
        assert_eq!(line("slow-disk", &Err("no dd".into())), "slow-disk       no: no dd");
    }
}
