//! Sets: every element whose adding was acknowledged is there until it is removed, and nothing else is.
//!
//! Elements are unique, so each has one life: it is added once and removed at most once. Whoever shows an element proves that it
//! had been added: an answer to the adding, a read, a removal that found it. Who is asked later finds it there, or it had been
//! removed in between; then whoever is asked still later does not find it. This holds whatever became of the adding and of
//! the removal, and believes nothing that the store says of revisions. For each element alone it is all that can be known.

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
    /// By when it had been added for certain.
    there: Option<Proof>,
    /// By when it had been removed for certain.
    gone: Option<Proof>,
}

/// When an answer had returned that proves something, and the index of its request.
type Proof = (u64, u64);

/// Adding or removing.
struct Step {
    index: u64,
    invoked_at: u64,
    end: StepEnd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StepEnd {
    Done(u64),
    /// A removal that found nothing.
    Idle(u64),
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
        ExchangeEnd::Ok { response: Response::Delete { deleted: 0, .. }, returned_at, .. } => {
            StepEnd::Idle(*returned_at)
        }
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

/// Judges what each answer shows, then what each does not, and at last what it should not show any more: only then is it known
/// who was there when, for requests overlap. Returns the longest time behind an answer after which a read still missed the
/// element.
fn judge(name: &str, set: &mut Set, violations: &mut Vec<Violation>) -> u64 {
    let Set { lives, reads } = set;
    for (element, life) in lives.iter_mut() {
        steps_show(name, element, life, violations);
    }
    for read in reads.iter() {
        shows(name, lives, read, violations);
    }
    for (element, life) in lives.iter() {
        removal_misses(name, element, life, violations);
    }
    let stale_ns = reads.iter().map(|read| misses(name, lives, read, violations)).max().unwrap_or(0);
    for read in reads.iter() {
        comes_back(name, lives, read, violations);
    }
    stale_ns
}

impl Life {
    fn is_there_by(&mut self, proof: Proof) {
        self.there = Some(self.there.map_or(proof, |earlier| earlier.min(proof)));
    }

    fn is_gone_by(&mut self, proof: Proof) {
        self.gone = Some(self.gone.map_or(proof, |earlier| earlier.min(proof)));
    }

    /// What is wrong with an answer that shows the element and had returned by then; the adding, if there was one.
    fn impossible(&self, returned_at: u64) -> Option<(&'static str, Option<u64>)> {
        match &self.added {
            Some(Step { index, end: StepEnd::Failed, .. }) => Some(("failed element is there", Some(*index))),
            Some(Step { index, invoked_at, .. }) if returned_at < *invoked_at => {
                Some(("element from nowhere", Some(*index)))
            }
            Some(_) => None,
            None => Some(("element from nowhere", None)),
        }
    }
}

/// Takes in what the steps of a life prove: an adding that was acknowledged, a removal that found the element.
fn steps_show(name: &str, element: &str, life: &mut Life, violations: &mut Vec<Violation>) {
    if let Some(Step { index, end: StepEnd::Done(returned_at), .. }) = life.added {
        life.is_there_by((returned_at, index));
    }
    let Some(Step { index, end: StepEnd::Done(returned_at), .. }) = life.removed else { return };
    if let Some((rule, adding)) = life.impossible(returned_at) {
        let sentence = format!("#{index} removed {element} from {name}, which nobody had added");
        let operations = adding.into_iter().chain([index]).collect();
        violations.push(Violation { rule, sentence, operations });
    }
    life.is_there_by((returned_at, index));
    life.is_gone_by((returned_at, index));
}

/// A removal that found nothing came before the adding.
fn removal_misses(name: &str, element: &str, life: &Life, violations: &mut Vec<Violation>) {
    let (Some(Step { index, invoked_at, end: StepEnd::Idle(_) }), Some((known_at, known_by))) =
        (&life.removed, life.there)
    else {
        return;
    };
    if known_at < *invoked_at {
        let sentence = format!("#{index} did not find {element} in {name}, where it was by #{known_by}");
        violations.push(Violation { rule: "lost element", sentence, operations: vec![known_by, *index] });
    }
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
        let life = lives.get_mut(element);
        let impossible = match &life {
            Some(life) => life.impossible(read.returned_at),
            None => Some(("element from nowhere", None)),
        };
        if let Some((rule, adding)) = impossible {
            let because = match adding {
                Some(adding) => format!("but #{adding}, which adds it, failed or came later"),
                None => "which nobody added".to_owned(),
            };
            let sentence = format!("read #{reading} shows {element} in {name}, {because}");
            broken(rule, sentence, adding.into_iter().chain([reading]).collect());
        }
        if let Some(life) = life {
            life.is_there_by((read.returned_at, reading));
        }
    }
}

fn misses(
    name: &str,
    lives: &mut BTreeMap<String, Life>,
    read: &Sight,
    violations: &mut Vec<Violation>,
) -> u64 {
    let mut stale_ns = 0;
    let shown: BTreeSet<&str> = read.elements.iter().map(String::as_str).collect();
    for (element, life) in lives.iter_mut().filter(|(element, _)| !shown.contains(element.as_str())) {
        let Some((known_at, known_by)) = life.there.filter(|(known_at, _)| *known_at < read.invoked_at)
        else {
            continue;
        };
        // One that failed or found nothing removed nothing; any other may have been in time.
        let may_be_removed = life.removed.as_ref().is_some_and(|removed| match removed.end {
            StepEnd::Done(_) | StepEnd::Unknown => removed.invoked_at <= read.returned_at,
            StepEnd::Idle(_) | StepEnd::Failed => false,
        });
        if may_be_removed {
            life.is_gone_by((read.returned_at, read.index));
            continue;
        }
        stale_ns = stale_ns.max(read.invoked_at - known_at);
        let sentence = format!(
            "read #{} does not show {element} in {name}, {} µs after #{known_by} had returned",
            read.index,
            (read.invoked_at - known_at) / NS_PER_US
        );
        violations.push(Violation { rule: "lost element", sentence, operations: vec![known_by, read.index] });
    }
    stale_ns
}

/// What was removed stays away.
fn comes_back(name: &str, lives: &BTreeMap<String, Life>, read: &Sight, violations: &mut Vec<Violation>) {
    for element in &read.elements {
        let gone = lives.get(element).and_then(|life| life.gone);
        let Some((gone_at, by)) = gone.filter(|(gone_at, _)| *gone_at < read.invoked_at) else { continue };
        let late_us = (read.invoked_at - gone_at) / NS_PER_US;
        violations.push(Violation {
            rule: "back from the dead",
            sentence: format!(
                "read #{} shows {element} in {name}, {late_us} µs after #{by} had found that it was removed",
                read.index
            ),
            operations: vec![by, read.index],
        });
    }
}

#[cfg(test)]
mod generated;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
