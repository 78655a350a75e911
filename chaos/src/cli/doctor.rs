//! What this machine can inject, tried out rather than guessed.

use std::collections::BTreeMap;

use clap::ValueEnum;

use crate::nemesis::{Kind, Mechanism, Turn};
use crate::run::say;

/// Tells about each fault; returns the exit code: 0 when all can be injected, else 2.
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
        say(&line(*kind, &result));
    }
    if can_all { 0 } else { 2 }
}

fn line(kind: Kind, result: &Result<String, String>) -> String {
    match result {
        Ok(witness) => format!("{:<15} yes: {witness}", kind.name()),
        Err(missing) => format!("{:<15} no: {missing}", kind.name()),
    }
}

/// Tries every fault of a run; says in one line which this machine cannot inject.
pub(super) fn refusal(turns: &[Turn]) -> Option<String> {
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
        Some(format!("this machine cannot do {name}: {missing}; `keelson chaos doctor` says what it can"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_one_line_with_what_was_seen_or_is_missing() {
        assert_eq!(line(Kind::Kill, &Ok("ended".into())), "kill            yes: ended");
        assert_eq!(line(Kind::SlowDisk, &Err("no dd".into())), "slow-disk       no: no dd");
    }
}
