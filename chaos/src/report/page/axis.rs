//! The time axis that all drawings of a page share, and the frame of a drawing.

use std::fmt::Write;
use std::time::Duration;

use crate::report::recorded::{Fault, Recorded};

/// Drawings are this wide, in their own units; the page scales them.
pub(super) const WIDTH: f64 = 1000.0;
/// Room for names and numbers on the left, and for a breath on the right.
pub(super) const LEFT: f64 = 84.0;
pub(super) const RIGHT: f64 = 990.0;

/// Distances between marks, in seconds.
const STEPS: [u64; 12] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
/// Marks on an axis at most.
const MARKS_MAX: u64 = 13;

/// From the first to the last moment of a run, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub from: u64,
    pub to: u64,
}

impl Axis {
    pub(super) fn of(run: &Recorded) -> Self {
        Self { from: 0, to: run.end().max(1) }
    }

    fn span(self) -> Duration {
        Duration::from_nanos(self.to.saturating_sub(self.from).max(1))
    }

    /// 0 for the first moment, 1 for the last.
    pub(super) fn share(self, time: u64) -> f64 {
        Duration::from_nanos(time.saturating_sub(self.from)).as_secs_f64() / self.span().as_secs_f64()
    }

    /// Where a moment lies in a drawing.
    pub(super) fn x(self, time: u64) -> f64 {
        LEFT + self.share(time).min(1.0) * (RIGHT - LEFT)
    }

    /// Moments to mark, in nanoseconds.
    pub(super) fn marks(self) -> Vec<u64> {
        self.marks_every(self.step())
    }

    /// Seconds from one mark to the next.
    pub(super) fn step(self) -> u64 {
        let seconds = self.span().as_secs();
        STEPS.into_iter().find(|step| seconds / step <= MARKS_MAX).unwrap_or(7200)
    }

    /// Moments to mark, in nanoseconds, with this many seconds between.
    pub(super) fn marks_every(self, step: u64) -> Vec<u64> {
        let first = self.from.div_ceil(1_000_000_000).div_ceil(step) * step;
        let last = self.to / 1_000_000_000;
        (first..=last)
            .step_by(usize::try_from(step).unwrap_or(1))
            .map(|second| second * 1_000_000_000)
            .collect()
    }
}

/// Says a moment that is marked.
pub(super) fn moment(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    if seconds >= 60 && seconds.is_multiple_of(60) {
        format!("{} min", seconds / 60)
    } else {
        format!("{seconds} s")
    }
}

/// A count as a number to draw with.
pub(super) fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

/// Colours tell kinds of faults apart, in the order in which they came; there are as many as in the style sheet.
pub(super) fn colour(run: &Recorded, kind: &str) -> usize {
    run.kinds().iter().position(|other| other == kind).unwrap_or(0) % 8
}

/// A drawing of the given height with marks of time, shaded faults and what is drawn on them.
pub(super) fn drawing(run: &Recorded, axis: Axis, height: f64, name: &str, content: &str) -> String {
    let mut svg = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{name}\">\n",
        height + 16.0
    );
    for fault in &run.faults {
        let _ = writeln!(svg, "{}", shade(run, axis, fault, height));
    }
    for mark in axis.marks() {
        let x = axis.x(mark);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} 0V{height}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            height + 12.0,
            moment(mark)
        );
    }
    svg.push_str(content);
    svg.push_str("</svg>\n");
    svg
}

fn shade(run: &Recorded, axis: Axis, fault: &Fault, height: f64) -> String {
    let (from, to) = (axis.x(fault.began), axis.x(fault.ended));
    format!(
        "<rect class=\"shade kind-{}\" x=\"{from:.1}\" width=\"{:.1}\" height=\"{height}\"/>",
        colour(run, &fault.kind),
        (to - from).max(1.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_marks_at_round_seconds() {
        let axis = Axis { from: 0, to: 65_000_000_000 };
        let seconds: Vec<u64> = axis.marks().iter().map(|mark| mark / 1_000_000_000).collect();
        assert_eq!(seconds, (0..=13).map(|place| place * 5).collect::<Vec<_>>());
        assert!((axis.share(32_500_000_000) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn marks_lie_on_the_axis() {
        let axis = Axis { from: 1_500_000_000, to: 4_200_000_000 };
        assert_eq!(axis.marks(), [2_000_000_000, 3_000_000_000, 4_000_000_000]);
        assert_eq!(
            [59, 60, 61, 300].map(|second| moment(second * 1_000_000_000)),
            ["59 s", "1 min", "61 s", "5 min"]
        );
    }
}
