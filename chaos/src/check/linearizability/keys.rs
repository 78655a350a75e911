//! Many objects: each key is searched apart, and what is found becomes violations.

use std::collections::BTreeMap;

use super::model::{Model, Timed};
use super::search::{Culprit, Limits, Outcome, Unknown, search};
use crate::check::Violation;

/// Operations that a sentence names at most.
const NAMED_MAX: usize = 8;

/// What was searched, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub keys: usize,
    pub operations: usize,
    pub violations: Vec<Violation>,
    /// Keys whose search met a limit, one sentence each: nothing is known of them.
    pub unknown: Vec<String>,
}

/// Searches each key.
#[must_use]
pub fn check<M: Model>(keys: &BTreeMap<String, Vec<Timed<M>>>, limits: Limits) -> Report {
    let mut report = Report { keys: keys.len(), ..Report::default() };
    for (key, operations) in keys {
        report.operations += operations.len();
        match search(operations, limits) {
            Outcome::Linearizable(_) => {}
            Outcome::NotLinearizable(culprit) => report.violations.push(violation(key, operations, &culprit)),
            Outcome::Unknown(Unknown::Steps(steps)) => {
                report.unknown.push(format!("{key}: no answer within {steps} steps of the search"));
            }
            Outcome::Unknown(Unknown::Bytes(bytes)) => {
                report.unknown.push(format!("{key}: no answer within {} MiB of memory", bytes >> 20));
            }
        }
    }
    report
}

fn violation<M: Model>(key: &str, operations: &[Timed<M>], culprit: &Culprit) -> Violation {
    let operation = |number: &usize| operations.get(*number);
    let name = |number: &usize| operation(number).map_or_else(String::new, Timed::name);
    let Culprit { order, state, blocked, under_way } = culprit;
    let last: Vec<String> = order.iter().skip(order.len().saturating_sub(NAMED_MAX)).map(name).collect();
    let behind = match order.len() {
        0 => "at the beginning".to_owned(),
        placed if placed > last.len() => {
            format!("behind {placed} operations in the order … {}", last.join(", "))
        }
        _ => format!("behind {}", last.join(", ")),
    };
    let others: Vec<String> = under_way.iter().take(NAMED_MAX).map(name).collect();
    let others = match under_way.len() {
        0 => "nothing else is under way".to_owned(),
        count if count > others.len() => {
            format!("under way are {} and {} more", others.join(", "), count - others.len())
        }
        _ => format!("under way are {}", others.join(", ")),
    };
    let involved = std::iter::once(blocked).chain(order.last()).chain(under_way.iter().take(NAMED_MAX));
    Violation {
        rule: "not linearizable",
        sentence: format!(
            "{key}: {} has no place: {behind} the state is {state}, {others}, and no other order gets further",
            name(blocked)
        ),
        operations: involved.filter_map(operation).map(|operation| operation.index).collect(),
    }
}
