//! Latency of every operation with quantiles, and the rate of answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use super::axis::{Axis, LEFT, RIGHT, drawing, number};
use super::phases::quantile;
use crate::history::EventKind;
use crate::report::recorded::{Operation, Recorded};

const HEIGHT: f64 = 210.0;
/// Pieces into which a run is cut for lines: fine enough to see an election, coarse enough for quantiles.
const PIECES: u64 = 120;
/// The shortest piece, in nanoseconds.
const PIECE_MIN: u64 = 250_000_000;
/// Lines of quantiles, in thousandths, and what they are called.
const QUANTILES: [(usize, &str); 2] = [(500, "median"), (990, "p99")];
/// Latencies drawn: from 0.1 ms to 10 s, beyond it at the edge.
const SECONDS_LEAST_LOG: f64 = -4.0;
const SECONDS_MOST_LOG: f64 = 1.0;
const DECADES: [(f64, &str); 6] =
    [(-4.0, "0.1 ms"), (-3.0, "1 ms"), (-2.0, "10 ms"), (-1.0, "100 ms"), (0.0, "1 s"), (1.0, "10 s")];

/// Length of a piece of the run.
fn piece(axis: Axis) -> u64 {
    ((axis.to - axis.from) / PIECES).max(PIECE_MIN)
}

/// A point for every operation, by outcome, and lines for quantiles of what was answered.
pub(super) fn latency(run: &Recorded) -> String {
    let axis = Axis::of(run);
    let mut content = String::new();
    for (log, name) in DECADES {
        let y = height_of(log);
        let _ = writeln!(
            content,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            LEFT - 6.0,
            y + 3.5
        );
    }
    // Points at one place are one point: what is seldom is never thinned out.
    // The many lie below the few.
    for (outcome, kind) in [("ok", EventKind::Ok), ("fail", EventKind::Fail), ("info", EventKind::Info)] {
        let of_kind = run.operations.iter().filter(|operation| operation.end == kind);
        let places: BTreeSet<String> = of_kind
            .map(|operation| {
                format!("M{:.0} {:.0}h0", axis.x(operation.invoked_at), height(operation.latency()))
            })
            .collect();
        let places: Vec<String> = places.into_iter().collect();
        let _ = writeln!(content, "<path class=\"points {outcome}\" d=\"{}\"/>", places.concat());
    }
    for (thousandths, name) in QUANTILES {
        let _ = writeln!(
            content,
            "<path class=\"line q{thousandths}\" d=\"{}\"><title>{name}</title></path>",
            quantile_line(run, axis, thousandths)
        );
    }
    let key = "<p class=\"keys\"><b>Latency</b> <span class=\"key ok\">ok</span><span class=\"key info\">info</span>\
               <span class=\"key fail\">fail</span><span class=\"key q500\">median of ok</span>\
               <span class=\"key q990\">p99 of ok</span></p>\n";
    format!("{key}{}", drawing(run, axis, HEIGHT, "latency", &content))
}

fn height(nanoseconds: u64) -> f64 {
    height_of(Duration::from_nanos(nanoseconds.max(1)).as_secs_f64().log10())
}

fn height_of(log: f64) -> f64 {
    let share = (log - SECONDS_LEAST_LOG) / (SECONDS_MOST_LOG - SECONDS_LEAST_LOG);
    HEIGHT - share.clamp(0.0, 1.0) * (HEIGHT - 8.0)
}

fn quantile_line(run: &Recorded, axis: Axis, thousandths: usize) -> String {
    let piece = piece(axis);
    let mut latencies: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for operation in run.operations.iter().filter(|operation| operation.end == EventKind::Ok) {
        latencies.entry(operation.invoked_at / piece).or_default().push(operation.latency());
    }
    let mut path = String::new();
    let mut previous = None;
    for (number, mut latencies) in latencies {
        latencies.sort_unstable();
        let Some(latency) = quantile(&latencies, thousandths) else { continue };
        // A piece without answers breaks the line.
        let verb = if previous == number.checked_sub(1) && previous.is_some() { 'L' } else { 'M' };
        let middle = number * piece + piece / 2;
        let _ = write!(path, "{verb}{:.1} {:.1}", axis.x(middle.min(axis.to)), height(latency));
        previous = Some(number);
    }
    path
}

/// Answers per second of two runs in one drawing; faults are shaded as in the first.
pub(crate) fn rates(first: &Recorded, second: &Recorded) -> String {
    let axis = Axis { from: 0, to: first.end().max(second.end()).max(1) };
    let lines = [("a", first), ("b", second)].map(|(class, run)| (class, answers(run, EventKind::Ok, axis)));
    drawing(first, axis, HEIGHT, "answers per second", &rate_lines(&lines, axis, HEIGHT))
}

/// Answers in each second, by outcome.
pub(super) fn rate(run: &Recorded) -> String {
    let axis = Axis::of(run);
    let lines = [("ok", EventKind::Ok), ("info", EventKind::Info), ("fail", EventKind::Fail)]
        .map(|(class, kind)| (class, answers(run, kind, axis)));
    let key = "<p class=\"keys\"><b>Rate</b> completions per second: <span class=\"key ok\">ok</span>\
               <span class=\"key info\">info</span><span class=\"key fail\">fail</span></p>\n";
    let height = HEIGHT / 2.0;
    format!("{key}{}", drawing(run, axis, height, "rate", &rate_lines(&lines, axis, height)))
}

fn answers(run: &Recorded, kind: EventKind, axis: Axis) -> Vec<f64> {
    let piece = piece(axis);
    let seconds = Duration::from_nanos(piece).as_secs_f64();
    let counts = counts(&run.operations, kind, piece, axis.to);
    counts.into_iter().map(|count| number(count) / seconds).collect()
}

fn rate_lines(lines: &[(&str, Vec<f64>)], axis: Axis, height: f64) -> String {
    let piece = piece(axis);
    let most = lines.iter().flat_map(|(_, rates)| rates.iter().copied()).fold(1.0, f64::max);
    let mut content = format!(
        "<text x=\"{0}\" y=\"8\" text-anchor=\"end\">{most:.0}/s</text><text x=\"{0}\" y=\"{height}\" text-anchor=\"end\">0</text>\n",
        LEFT - 6.0
    );
    for (class, rates) in lines.iter().filter(|(_, rates)| rates.iter().any(|rate| *rate > 0.0)) {
        let mut path = String::new();
        for (place, rate) in (0_u64..).zip(rates) {
            let verb = if place == 0 { 'M' } else { 'L' };
            let middle = (place * piece + piece / 2).min(axis.to);
            let y = height - rate / most * (height - 6.0);
            let _ = write!(path, "{verb}{:.1} {y:.1}", axis.x(middle));
        }
        let _ = writeln!(content, "<path class=\"line {class}\" d=\"{path}\"/>");
    }
    content
}

fn counts(operations: &[Operation], kind: EventKind, piece: u64, end: u64) -> Vec<usize> {
    let mut counts = vec![0; usize::try_from(end / piece).unwrap_or(0) + 1];
    for operation in operations.iter().filter(|operation| operation.end == kind) {
        let place = usize::try_from(operation.ended_at / piece).unwrap_or(usize::MAX);
        if let Some(count) = counts.get_mut(place) {
            *count += 1;
        }
    }
    counts
}
