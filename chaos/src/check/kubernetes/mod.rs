//! Checkers of the `k8s` tier: what clients of the API saw, held against the store's log, which shows every version of every object.
//!
//! One file for each workload. Rules that need no log come first in each: they hold whatever the store says of itself.

pub mod objects;

pub mod leader;
pub mod list_watch;
pub mod node;
pub mod occ;
pub mod orphans;
pub mod replicas;
pub mod scheduling;

#[cfg(test)]
mod example;

use super::opinions::Opinion;
use super::{Record, Violation, witness};
use crate::history::{ApiCall, api_exchanges, settled};

/// Violations reported before a checker stops telling.
const VIOLATIONS_MAX: usize = 20;

/// Whether clients were to create something in a namespace: a record of another workload has nothing to judge there.
fn creates_in(namespace: &str, record: &Record) -> Result<bool, String> {
    let is_created =
        |call: &ApiCall| matches!(call, ApiCall::Create(written) if written.namespace == namespace);
    Ok(api_exchanges(&record.events)?.iter().any(|exchange| is_created(&exchange.call)))
}

/// What a checker has found so far.
#[derive(Default)]
struct Findings {
    violations: Vec<Violation>,
    unknown: Vec<String>,
}

impl Findings {
    fn broken(&mut self, rule: &'static str, operations: &[u64], sentence: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { rule, sentence, operations: operations.to_vec() });
        }
    }

    /// Waits for controllers that came to nothing.
    fn waits(&mut self, record: &Record) {
        for wait in settled(&record.events) {
            if let Some(failure) = wait.failure {
                let sentence = format!("#{} waited for {} in vain: {failure}", wait.index, wait.what);
                self.broken("no convergence", &[wait.index], sentence);
            }
        }
    }

    /// Without the whole log nothing is concluded from what it shows.
    fn log(&mut self, record: &Record) {
        if record.logs.is_empty() {
            self.unknown.push("no member showed its log".to_owned());
        }
        self.unknown.extend(witness::forgotten(record, &record.versions()));
    }

    /// Demands that something was done often enough to be judged.
    fn demand(&mut self, what: &str, done: usize, least: usize) {
        if done < least {
            self.unknown.push(format!("{done} {what}, at least {least} are needed"));
        }
    }

    fn opinion(self, checker: &'static str, scope: String, counts: &[(&'static str, usize)]) -> Opinion {
        let Self { violations, unknown } = self;
        Opinion { checker, scope, violations, unknown, counts: counts.iter().copied().collect() }
    }
}
