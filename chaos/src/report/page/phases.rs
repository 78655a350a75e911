//! Before, during and after faults, and how long each fault took the store away.

use std::fmt::Write;
use std::time::Duration;

use super::axis::number;
use super::html::{duration, escape, thousands};
use crate::history::EventKind;
use crate::report::recorded::{Fault, Operation, Recorded};

pub(super) const TEXT: &str = "Operations belong to the moment in which they were asked. Unavailable: from the fault to the first answer to \
                               something asked after it; silence: the longest time without any answer that began while it lasted.";

/// A longer table is shown when it is asked for.
const OPEN_MAX: usize = 40;

/// What was measured in one phase of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figures {
    pub phase: String,
    /// Nanoseconds.
    pub lasted: u64,
    pub ok: usize,
    pub info: usize,
    pub fail: usize,
    /// Answers per second.
    pub rate: f64,
    /// Of what was answered, sorted, in nanoseconds.
    latencies: Vec<u64>,
}

impl Figures {
    /// Says a quantile of the latencies.
    pub(crate) fn latency(&self, thousandths: usize) -> String {
        quantile(&self.latencies, thousandths).map_or_else(|| "–".to_owned(), duration)
    }
}

/// Returns the value that the given thousandths do not exceed; the input is sorted.
pub(crate) fn quantile(sorted: &[u64], thousandths: usize) -> Option<u64> {
    sorted.get(sorted.len().checked_sub(1)? * thousandths / 1000).copied()
}

/// How long a fault took the store away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unavailability {
    /// From its beginning to the first answer to an operation that was asked since; `None` when none came.
    pub first_success: Option<u64>,
    /// The longest time without any answer that began while it lasted.
    pub silence: u64,
}

/// When a run was answered, prepared for many questions.
pub(crate) struct Answers {
    /// When answered operations were asked, in order.
    invoked: Vec<u64>,
    /// For each of them, the first answer to it or to one that was asked later.
    first_after: Vec<u64>,
    /// Moments of answers, in order.
    moments: Vec<u64>,
}

impl Answers {
    pub(crate) fn of(run: &Recorded) -> Self {
        let answered = run.operations.iter().filter(|operation| operation.end == EventKind::Ok);
        let mut spans: Vec<(u64, u64)> =
            answered.map(|operation| (operation.invoked_at, operation.ended_at)).collect();
        spans.sort_unstable();
        let mut moments: Vec<u64> = spans.iter().map(|(_, ended)| *ended).collect();
        let mut first = u64::MAX;
        let mut first_after = Vec::new();
        for (_, ended) in spans.iter().rev() {
            first = first.min(*ended);
            first_after.push(first);
        }
        first_after.reverse();
        moments.sort_unstable();
        Self { invoked: spans.into_iter().map(|(invoked, _)| invoked).collect(), first_after, moments }
    }

    /// Measures one fault.
    pub(crate) fn unavailability(&self, fault: &Fault) -> Unavailability {
        let place = self.invoked.partition_point(|invoked| *invoked < fault.began);
        let first_success = self.first_after.get(place).map(|first| first - fault.began);
        // A silence that begins while the fault lasts may end after it.
        let place = self.moments.partition_point(|moment| *moment < fault.began);
        let mut previous = fault.began;
        let mut silence = 0;
        for moment in self.moments.iter().skip(place) {
            if previous > fault.ended {
                break;
            }
            silence = silence.max(moment - previous);
            previous = *moment;
        }
        Unavailability { first_success, silence }
    }
}

/// The table of phases.
pub(super) fn table(run: &Recorded) -> String {
    let mut rows = String::new();
    for figures in phases(run) {
        let _ = writeln!(
            rows,
            "<tr><th>{}</th><td>{}</td><td>{:.1}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&figures.phase),
            duration(figures.lasted),
            figures.rate,
            thousands(figures.ok),
            thousands(figures.info),
            thousands(figures.fail),
            figures.latency(500),
            figures.latency(950),
            figures.latency(990),
            figures.latency(1000),
        );
    }
    format!(
        "<div class=\"wide\"><table class=\"numbers\">\n<tr><th>when</th><th>time</th><th>ok/s</th><th>ok</th><th>info</th><th>fail</th>\
         <th>median</th><th>p95</th><th>p99</th><th>longest</th></tr>\n{rows}</table></div>\n"
    )
}

/// Measures a whole run.
pub(crate) fn whole(run: &Recorded) -> Figures {
    measure(run, "whole run", &[(0, run.end().saturating_add(1))])
}

/// Measures the time before, during each kind of, between and after faults.
pub(crate) fn phases(run: &Recorded) -> Vec<Figures> {
    let first = run.faults.iter().map(|fault| fault.began).min().unwrap_or_else(|| run.end());
    let last = run.faults.iter().map(|fault| fault.ended).max().unwrap_or_else(|| run.end());
    let mut phases = vec![("before".to_owned(), vec![(0, first)])];
    for kind in run.kinds() {
        let of_kind = run.faults.iter().filter(|fault| fault.kind == kind);
        phases.push((format!("during {kind}"), of_kind.map(|fault| (fault.began, fault.ended)).collect()));
    }
    phases.push(("between".to_owned(), between(run, first, last)));
    phases.push(("after".to_owned(), vec![(last, run.end().saturating_add(1))]));
    phases.retain(|(_, spans)| spans.iter().any(|(from, to)| from < to));
    phases.iter().map(|(name, spans)| measure(run, name, spans)).collect()
}

fn measure(run: &Recorded, phase: &str, spans: &[(u64, u64)]) -> Figures {
    // Operations are in the order in which they were asked; spans of one kind do not overlap.
    let place = |time: u64| run.operations.partition_point(|operation| operation.invoked_at < time);
    let inside = spans.iter().filter_map(|(from, to)| run.operations.get(place(*from)..place(*to)));
    let operations: Vec<&Operation> = inside.flatten().collect();
    let count = |kind| operations.iter().filter(|operation| operation.end == kind).count();
    let (ok, fail) = (count(EventKind::Ok), count(EventKind::Fail));
    let of_ok = operations.iter().filter(|operation| operation.end == EventKind::Ok);
    let mut latencies: Vec<u64> = of_ok.map(|operation| operation.latency()).collect();
    latencies.sort_unstable();
    let lasted: u64 = spans.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
    let rate = number(ok) / Duration::from_nanos(lasted.max(1)).as_secs_f64();
    Figures { phase: phase.to_owned(), lasted, ok, info: operations.len() - ok - fail, fail, rate, latencies }
}

/// Time from the first to the last fault in which none lasts.
fn between(run: &Recorded, first: u64, last: u64) -> Vec<(u64, u64)> {
    let mut faults: Vec<(u64, u64)> = run.faults.iter().map(|fault| (fault.began, fault.ended)).collect();
    faults.sort_unstable();
    let mut spans = Vec::new();
    let mut reached = first;
    for (began, ended) in faults {
        if began > reached {
            spans.push((reached, began));
        }
        reached = reached.max(ended);
    }
    if reached < last {
        spans.push((reached, last));
    }
    spans
}

/// The table of faults.
pub(super) fn faults(run: &Recorded) -> String {
    if run.faults.is_empty() {
        return String::new();
    }
    let answers = Answers::of(run);
    let mut rows = String::new();
    for fault in &run.faults {
        let Unavailability { first_success, silence } = answers.unavailability(fault);
        let _ = writeln!(
            rows,
            "<tr><th>#{} {}</th><td>{}{}</td><td>{:.2} s</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            fault.index,
            escape(&fault.kind),
            escape(&fault.node),
            if fault.is_on_leader { " ★" } else { "" },
            Duration::from_nanos(fault.began).as_secs_f64(),
            duration(fault.ended - fault.began),
            first_success.map_or_else(|| "no answer".to_owned(), duration),
            duration(silence),
            fault.witness.as_deref().map_or_else(|| "none".to_owned(), escape),
        );
    }
    format!(
        "<details{}><summary>Every fault ({})</summary><div class=\"wide\"><table class=\"numbers\">\n<tr><th>fault</th><th>member</th>\
         <th>at</th><th>lasted</th><th>unavailable</th><th>silence</th><th>witness</th></tr>\n{rows}</table></div></details>\n",
        if run.faults.len() > OPEN_MAX { "" } else { " open" },
        run.faults.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted: Vec<u64> = (1..=100).collect();
        assert_eq!([500, 990, 1000].map(|part| quantile(&sorted, part)), [Some(50), Some(99), Some(100)]);
        assert_eq!(quantile(&[], 500), None);
    }

    #[test]
    fn every_operation_is_before_during_between_or_after() {
        let run = example::run();
        let names: Vec<_> = phases(&run)
            .into_iter()
            .map(|figures| (figures.phase, figures.ok + figures.info + figures.fail))
            .collect();
        let wanted = [("before", 1), ("during flood", 2), ("during kill", 0), ("between", 1), ("after", 1)];
        assert_eq!(names, wanted.map(|(name, count)| (name.to_owned(), count)));
    }

    #[test]
    fn a_fault_takes_the_store_away_until_something_asked_since_is_answered() {
        let run = example::run();
        let answers = Answers::of(&run);
        let measured = answers.unavailability(&run.faults[0]);
        assert_eq!(measured.first_success, Some(946_000_000));
        assert_eq!(measured.silence, 946_000_000);
        // Nothing is answered while the kill lasts; the next answer comes after it.
        let measured = answers.unavailability(&run.faults[1]);
        assert_eq!((measured.first_success, measured.silence), (Some(300_000_000), 300_000_000));
    }
}
