//! Sets: every element whose adding was acknowledged is there until it is removed, and nothing else is.
//!
//! Elements are unique, so each has one life: it is added once and removed at most once. A read that was invoked after the adding
//! had returned must show it; a read that was invoked after the removal had returned must not. What a read has shown, later
//! reads must show as well, whatever became of the adding. This believes nothing that the store says of revisions.

use std::collections::{BTreeMap, BTreeSet};

use super::opinions::Opinion;
use super::{Record, Violation};
use crate::history::{Exchange, ExchangeEnd, Request, Response, exchanges};

/// Name of the checker.
pub const NAME: &str = "set";

/// Marks the keys of sets whose elements are a key each, and of those that are one key.
const EACH: &str = "set/each/";
const ONE: &str = "set/one/";

/// Violations reported before the checker stops telling.
const VIOLATIONS_MAX: usize = 20;

const NS_PER_US: u64 = 1000;

/// What became of one element.
#[derive(Default)]
struct Life {
    added: Option<Step>,
    removed: Option<Step>,
    /// When a read that shows it had returned, and which.
    sighted: Option<(u64, u64)>,
}

/// Adding or removing.
struct Step {
    index: u64,
    invoked_at: u64,
    end: StepEnd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StepEnd {
    Done(u64),
    Failed,
    Unknown,
}

/// One read of one set.
struct Sight {
    index: u64,
    invoked_at: u64,
    returned_at: u64,
    elements: Vec<String>,
}

/// One set.
#[derive(Default)]
struct Set {
    lives: BTreeMap<String, Life>,
    reads: Vec<Sight>,
}

/// Says what it thinks of the sets of a run.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let exchanges = exchanges(&record.events)?;
    let sets = collect(&exchanges);
    let reads: usize = sets.values().map(|set| set.reads.len()).sum();
    if reads == 0 {
        return Ok(None);
    }
    let mut violations = Vec::new();
    let (mut acknowledged, mut stale_ns) = (0, 0);
    for (name, mut set) in sets {
        stale_ns = stale_ns.max(judge(&name, &mut set, &mut violations));
        let is_acknowledged = |life: &&Life| matches!(life.added, Some(Step { end: StepEnd::Done(_), .. }));
        acknowledged += set.lives.values().filter(is_acknowledged).count();
    }
    violations.truncate(VIOLATIONS_MAX);
    let visible_us_max = usize::try_from(stale_ns / NS_PER_US).unwrap_or(usize::MAX);
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!(
            "{acknowledged} elements acknowledged, {reads} reads; visible at the latest {visible_us_max} µs after the answer"
        ),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from([
            ("elements", acknowledged),
            ("reads", reads),
            ("visible_us_max", visible_us_max),
        ]),
    }))
}

fn collect(exchanges: &[Exchange]) -> BTreeMap<String, Set> {
    let mut sets: BTreeMap<String, Set> = BTreeMap::new();
    for exchange in exchanges {
        match &exchange.request {
            Request::Put(put) => {
                if let Some((set, element)) = member(&put.key) {
                    let life = sets.entry(set).or_default().lives.entry(element).or_default();
                    life.added = Some(step(exchange));
                }
            }
            Request::Delete(delete) => {
                if let Some((set, element)) = member(&delete.key) {
                    let life = sets.entry(set).or_default().lives.entry(element).or_default();
                    life.removed = Some(step(exchange));
                }
            }
            Request::Txn(_) => {
                for put in exchange.request.puts().into_iter().filter(|put| put.key.contains(ONE)) {
                    let Some(element) = put.value.split_whitespace().last() else { continue };
                    let set = sets.entry(put.key.clone()).or_default();
                    set.lives.entry(element.to_owned()).or_default().added = Some(step(exchange));
                }
            }
            Request::Range(range) => {
                let is_each = range.key.contains(EACH) && range.end.is_some();
                if (is_each || range.key.contains(ONE))
                    && let Some(sight) = sight(exchange)
                {
                    sets.entry(range.key.clone()).or_default().reads.push(sight);
                }
            }
        }
    }
    sets
}

/// The set and the element that a key of its own names.
fn member(key: &str) -> Option<(String, String)> {
    let (folder, element) = key.rsplit_once('/').filter(|_| key.contains(EACH))?;
    Some((format!("{folder}/"), element.to_owned()))
}

fn step(exchange: &Exchange) -> Step {
    let end = match &exchange.end {
        ExchangeEnd::Ok { response: Response::Txn { succeeded: false, .. }, .. } => StepEnd::Failed,
        ExchangeEnd::Ok { returned_at, .. } => StepEnd::Done(*returned_at),
        ExchangeEnd::Fail { .. } => StepEnd::Failed,
        ExchangeEnd::Unknown => StepEnd::Unknown,
    };
    Step { index: exchange.index, invoked_at: exchange.invoked_at, end }
}

fn sight(exchange: &Exchange) -> Option<Sight> {
    let ExchangeEnd::Ok { response: Response::Range { rows, .. }, returned_at, .. } = &exchange.end else {
        return None;
    };
    let elements = rows.iter().flat_map(|row| match member(&row.key) {
        Some((_, element)) => vec![element],
        None => row.state.value.split_whitespace().map(str::to_owned).collect(),
    });
    Some(Sight {
        index: exchange.index,
        invoked_at: exchange.invoked_at,
        returned_at: *returned_at,
        elements: elements.collect(),
    })
}

/// Judges what each read shows, then what each does not: only then is it known who was seen when, for reads overlap. Returns the
/// longest time behind an answer after which a read still missed the element.
fn judge(name: &str, set: &mut Set, violations: &mut Vec<Violation>) -> u64 {
    let Set { lives, reads } = set;
    for read in reads.iter() {
        shows(name, lives, read, violations);
    }
    reads.iter().map(|read| misses(name, lives, read, violations)).max().unwrap_or(0)
}

fn shows(name: &str, lives: &mut BTreeMap<String, Life>, read: &Sight, violations: &mut Vec<Violation>) {
    let mut broken = |rule, sentence, operations| violations.push(Violation { rule, sentence, operations });
    let reading = read.index;
    let mut shown = BTreeSet::new();
    for element in &read.elements {
        if !shown.insert(element.as_str()) {
            let sentence = format!("read #{reading} shows {element} twice in {name}");
            broken("element twice", sentence, vec![reading]);
        }
        let known = lives.get_mut(element).and_then(|life| {
            let added = life.added.as_ref().map(|added| (added.index, added.end))?;
            Some((life, added))
        });
        let Some((life, (adding, end))) = known else {
            let sentence = format!("read #{reading} shows {element} in {name}, which nobody added");
            broken("element from nowhere", sentence, vec![reading]);
            continue;
        };
        if end == StepEnd::Failed {
            let sentence =
                format!("read #{reading} shows {element} in {name}, but #{adding}, which added it, failed");
            broken("failed element is there", sentence, vec![adding, reading]);
        }
        if let Some(Step { index: removing, end: StepEnd::Done(removed_at), .. }) = &life.removed
            && *removed_at < read.invoked_at
        {
            let late_us = (read.invoked_at - removed_at) / 1000;
            let sentence = format!(
                "read #{reading} shows {element} in {name}, {late_us} µs after #{removing} had removed it"
            );
            broken("back from the dead", sentence, vec![*removing, reading]);
        }
        let sighting = (read.returned_at, reading);
        life.sighted = Some(life.sighted.map_or(sighting, |earlier| earlier.min(sighting)));
    }
}

fn misses(name: &str, lives: &BTreeMap<String, Life>, read: &Sight, violations: &mut Vec<Violation>) -> u64 {
    let mut stale_ns = 0;
    let shown: BTreeSet<&str> = read.elements.iter().map(String::as_str).collect();
    for (element, life) in lives.iter().filter(|(element, _)| !shown.contains(element.as_str())) {
        let acknowledged = life.added.as_ref().and_then(|added| match added.end {
            StepEnd::Done(at) => Some((at, added.index)),
            StepEnd::Failed | StepEnd::Unknown => None,
        });
        let Some((known_at, known_by)) = acknowledged.into_iter().chain(life.sighted).min() else { continue };
        // A failed removal did nothing; any other may have been in time.
        let may_be_removed = life
            .removed
            .as_ref()
            .is_some_and(|removed| removed.end != StepEnd::Failed && removed.invoked_at < read.returned_at);
        if known_at < read.invoked_at && !may_be_removed {
            stale_ns = stale_ns.max(read.invoked_at - known_at);
            let sentence = format!(
                "read #{} does not show {element} in {name}, {} µs after #{known_by} had returned",
                read.index,
                (read.invoked_at - known_at) / 1000
            );
            violations.push(Violation {
                rule: "lost element",
                sentence,
                operations: vec![known_by, read.index],
            });
        }
    }
    stale_ns
}

#[cfg(test)]
mod tests;
