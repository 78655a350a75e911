//! List-append: transactions that read lists and append unique elements, judged by the cycles of what must have come first.
//!
//! A list read shows the order of all appends to it, so what depends on what is known and not guessed (Kingsbury and Alvaro, "Elle",
//! arXiv 2003.10554). Edges: ww (an append behind another), wr (a read of an append), rw (a read that an append overtook) and real
//! time. A history is strictly serializable only if the graph has no cycle; the anomaly is named after the edges of the cycle
//! (Adya's thesis, 1999): G0 ww only, G1c with wr, G-single with one rw, G2 with more; "-realtime" where real time is needed.
//!
//! What lists alone show comes first: aborted and intermediate reads, elements that come twice or from nowhere, two orders of one
//! list, lost updates. Every finding is a proof. The converse holds where a final read shows every list: then the graph is whole.

mod anomaly;
mod cycle;
mod graph;
mod lists;

use super::Violation;
use crate::history::{End, Transaction};

use graph::Graph;
use lists::Lists;

/// Violations reported before the checker stops telling.
const VIOLATIONS_MAX: usize = 20;

/// What was checked, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Transactions that committed.
    pub committed: usize,
    pub edges: usize,
    pub violations: Vec<Violation>,
    /// Why the graph could not be judged.
    pub unknown: Vec<String>,
}

/// Checks transactions.
///
/// # Errors
/// A sentence saying why this is no list-append history: an element was appended twice by the clients.
pub fn check(transactions: &[Transaction]) -> Result<Report, String> {
    let lists = Lists::new(transactions)?;
    let mut report = Report { violations: lists.anomalies(), ..Report::default() };
    report.committed =
        transactions.iter().filter(|transaction| matches!(transaction.end, End::Committed { .. })).count();
    match Graph::new(transactions, &lists) {
        Ok(graph) => {
            report.edges = graph.edges();
            report.violations.extend(cycle::find(transactions, &graph));
        }
        Err(graph::TooLarge { edges_max }) => {
            report.unknown.push(format!("the dependencies are more than {edges_max}"));
        }
    }
    report.violations.truncate(VIOLATIONS_MAX);
    Ok(report)
}

#[cfg(test)]
mod tests;
