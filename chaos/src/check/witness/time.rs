//! Step 4: revisions respect real time. Sweeps by time with the highest revision returned so far.

use super::{Placed, Violation, name};
use crate::history::{Exchange, ExchangeEnd};

/// Checks that whoever was invoked later has a revision that is not lower, and higher if it wrote.
pub(super) fn check(placed: &[Placed<'_>], violations: &mut Vec<Violation>) {
    let strict: Vec<Placed<'_>> =
        placed.iter().copied().filter(|(exchange, _)| !exchange.request.is_serializable()).collect();
    let mut returns: Vec<(u64, i64, &Exchange)> = Vec::new();
    for (exchange, revision) in &strict {
        if let ExchangeEnd::Ok { returned_at, .. } = exchange.end {
            returns.push((returned_at, *revision, exchange));
        }
    }
    returns.sort_by_key(|(returned_at, ..)| *returned_at);
    let mut invocations = strict;
    invocations.sort_by_key(|(exchange, _)| exchange.invoked_at);
    let mut returned = returns.into_iter().peekable();
    let mut newest: Option<(i64, u64, &Exchange)> = None;
    for (exchange, revision) in invocations {
        while let Some((returned_at, seen, earlier)) = returned.next_if(|(at, ..)| *at < exchange.invoked_at)
        {
            if newest.is_none_or(|(highest, ..)| seen > highest) {
                newest = Some((seen, returned_at, earlier));
            }
        }
        let Some((highest, returned_at, earlier)) = newest else { continue };
        let is_stale = if exchange.may_write() { revision <= highest } else { revision < highest };
        if is_stale {
            violations.push(stale(exchange, revision, earlier, highest, exchange.invoked_at - returned_at));
        }
    }
}

fn stale(exchange: &Exchange, revision: i64, earlier: &Exchange, highest: i64, gap_ns: u64) -> Violation {
    let gap_us = gap_ns / 1000;
    Violation {
        rule: if exchange.may_write() { "write goes back in time" } else { "stale read" },
        sentence: format!(
            "{} shows revision {revision}, but was invoked {gap_us} µs after {} had returned with revision {highest}",
            name(exchange),
            name(earlier)
        ),
        operations: vec![earlier.index, exchange.index],
    }
}
