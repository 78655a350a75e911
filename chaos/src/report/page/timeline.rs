//! The timeline: every operation as a bar in the lane of its process, faults above.
//!
//! A long run is drawn around its first violation. The bars are one drawing that stretches as the reader zooms; names and marks are text beside
//! it, which does not.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use super::axis::{Axis, colour};
use super::html::{escape, escape_json, shorten, thousands};
use crate::history::EventKind;
use crate::report::recorded::{Operation, Recorded};

/// Operations drawn at most: a browser shows as many without effort (Jepsen's number, too).
const OPERATIONS_MAX: usize = 10_000;
/// Letters of arguments and answers in what a bar tells.
const LETTERS_MAX: usize = 160;
/// Height of a lane and of a bar in it, in pixels.
const LANE: usize = 14;
const BAR: usize = 11;
/// Pixels for a second, to begin with.
const PIXELS_PER_SECOND: u64 = 160;
const PIXELS_MIN: u64 = 1000;
/// A longer timeline has no marks of single seconds.
const SECONDS_MARKED_MAX: u64 = 300;

/// What is drawn of a run.
pub(super) struct Timeline<'a> {
    operations: &'a [Operation],
    axis: Axis,
    lanes: Vec<Lane<'a>>,
}

/// Operations of processes that follow each other.
struct Lane<'a> {
    name: String,
    operations: Vec<&'a Operation>,
    free_from: u64,
}

impl<'a> Timeline<'a> {
    pub(super) fn of(run: &'a Recorded) -> Self {
        let operations = window(run);
        let from = operations.first().map_or(0, |operation| operation.invoked_at);
        let to = operations.iter().map(|operation| operation.ended_at).max().unwrap_or(1);
        Self { operations, axis: Axis { from, to: to.max(from + 1) }, lanes: lanes(operations) }
    }

    /// Whether an operation is drawn.
    pub(super) fn shows(&self, index: u64) -> bool {
        self.operations.binary_search_by_key(&index, |operation| operation.index).is_ok()
    }

    pub(super) fn html(&self, run: &Recorded) -> String {
        let (drawn, all) = (self.operations.len(), run.operations.len());
        let hint = if drawn == all {
            "Point at a bar to read it; click to keep it.".to_owned()
        } else {
            format!(
                "{} of {} operations, around {}. Point at a bar to read it; click to keep it.",
                thousands(drawn),
                thousands(all),
                if run.culprits().is_empty() { "the first fault" } else { "the first violation" }
            )
        };
        let seconds = (self.axis.to - self.axis.from) / 1_000_000_000 + 1;
        let width = (seconds * PIXELS_PER_SECOND).max(PIXELS_MIN);
        format!(
            "<section id=\"timeline\">\n<h2>Timeline</h2>\n<p class=\"hint\">{hint}</p>\n<p class=\"tools\">\
             <button type=\"button\" data-zoom=\"2\">closer</button><button type=\"button\" data-zoom=\"0.5\">further</button>\
             <button type=\"button\" data-zoom=\"0\">whole</button> <span class=\"key ok\">ok</span>\
             <span class=\"key info\">info: may have happened</span><span class=\"key fail\">fail: did not happen</span>\
             <span class=\"key culprit\">named by a violation</span></p>\n<div class=\"scroll\"><div class=\"lanes\">\n{}</div>\
             <div class=\"canvas\" style=\"width:{width}px\" data-from=\"{}\" data-to=\"{}\">\n{}{}{}</div></div>\n\
             <p id=\"told\" class=\"told\" aria-live=\"polite\"></p>\n{}</section>\n",
            self.names(run),
            self.axis.from,
            self.axis.to,
            self.marks(),
            self.faults(run),
            self.bars(run),
            self.told(),
        )
    }

    fn names(&self, run: &Recorded) -> String {
        let kinds = run.kinds();
        let faults = kinds.iter().map(|kind| format!("<div class=\"lane\">{}</div>\n", escape(kind)));
        let lanes =
            self.lanes.iter().map(|lane| format!("<div class=\"lane\">{}</div>\n", escape(&lane.name)));
        faults.chain(lanes).collect()
    }

    fn marks(&self) -> String {
        // Marks of single seconds are shown when there is room for them.
        let (seconds, step) = ((self.axis.to - self.axis.from) / 1_000_000_000, self.axis.step());
        let marks = self.axis.marks_every(if seconds <= SECONDS_MARKED_MAX { 1 } else { step });
        let marks = marks.into_iter().map(|mark| {
            format!(
                "<span class=\"mark{}\" style=\"left:{:.3}%\">{} s</span>\n",
                if (mark / 1_000_000_000).is_multiple_of(step) { "" } else { " fine" },
                self.axis.share(mark) * 100.0,
                mark / 1_000_000_000
            )
        });
        marks.collect()
    }

    fn faults(&self, run: &Recorded) -> String {
        let mut html = String::new();
        for kind in run.kinds() {
            html.push_str("<div class=\"lane\">");
            let inside = |from: u64, to: u64| to >= self.axis.from && from <= self.axis.to;
            let of_kind = run.faults.iter().filter(|fault| fault.kind == kind);
            for fault in of_kind.filter(|fault| inside(fault.began, fault.ended)) {
                let from = self.axis.share(fault.began) * 100.0;
                let to = self.axis.share(fault.ended.min(self.axis.to)) * 100.0;
                let _ = write!(
                    html,
                    "<span class=\"fault kind-{}{}\" style=\"left:{from:.3}%;width:{:.3}%\" title=\"{}\">{}</span>",
                    colour(run, &kind),
                    if fault.witness.is_some() { "" } else { " unwitnessed" },
                    (to - from).max(0.01),
                    escape(&format!(
                        "{} {} {}",
                        fault.node,
                        fault.plan,
                        fault.witness.as_deref().unwrap_or("no witness")
                    )),
                    escape(&fault.node),
                );
            }
            html.push_str("</div>\n");
        }
        html
    }

    fn bars(&self, run: &Recorded) -> String {
        let height = self.lanes.len() * LANE;
        let culprits = run.culprits();
        let mut svg = format!(
            "<svg class=\"bars\" viewBox=\"0 0 100000 {height}\" height=\"{height}\" preserveAspectRatio=\"none\">\n"
        );
        for (place, lane) in self.lanes.iter().enumerate() {
            let y = place * LANE + (LANE - BAR) / 2;
            for operation in &lane.operations {
                let from = self.axis.share(operation.invoked_at) * 1e5;
                let to = self.axis.share(operation.ended_at) * 1e5;
                let _ = writeln!(
                    svg,
                    "<rect id=\"o{}\" class=\"{}{}\" x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\"/>",
                    operation.index,
                    operation.outcome(),
                    if culprits.contains(&operation.index) { " culprit" } else { "" },
                    (to - from).max(0.1),
                );
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// What each bar tells, for the script: index, process, f, key, arguments, outcome, answer, error, member, revision, from, to.
    fn told(&self) -> String {
        let rows = self.operations.iter().map(|operation| {
            json!([
                operation.index,
                operation.process,
                operation.f,
                operation.key,
                shorten(&operation.asked, LETTERS_MAX),
                if operation.end == EventKind::Invoke { "no answer" } else { operation.outcome() },
                shorten(&operation.answered, LETTERS_MAX),
                operation.error.as_deref().map(|error| shorten(error, LETTERS_MAX)),
                operation.node,
                operation.revision,
                operation.invoked_at / 1000,
                operation.ended_at / 1000,
            ])
        });
        let rows: Vec<String> = rows.map(|row| escape_json(&row.to_string())).collect();
        format!("<script type=\"application/json\" id=\"operations\">[{}]</script>\n", rows.join(",\n"))
    }
}

/// All operations, or those around the first violation; without one, around the first fault.
fn window(run: &Recorded) -> &[Operation] {
    let all = &run.operations;
    let place = match run.culprits().first() {
        Some(index) => all.partition_point(|operation| operation.index < *index),
        None => {
            let fault = run.faults.first().map_or(0, |fault| fault.began);
            all.partition_point(|operation| operation.invoked_at < fault)
        }
    };
    let from = place.saturating_sub(OPERATIONS_MAX / 2).min(all.len().saturating_sub(OPERATIONS_MAX));
    all.get(from..(from + OPERATIONS_MAX).min(all.len())).unwrap_or_default()
}

/// A process that is retired leaves its lane to the next one at the same member.
fn lanes(operations: &[Operation]) -> Vec<Lane<'_>> {
    let mut by_process: BTreeMap<u32, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        by_process.entry(operation.process).or_default().push(operation);
    }
    let mut processes: Vec<_> = by_process.into_values().collect();
    processes.sort_by_key(|operations| operations.first().map(|operation| operation.invoked_at));
    let mut lanes: Vec<Lane<'_>> = Vec::new();
    for operations in processes {
        let from = operations.first().map_or(0, |operation| operation.invoked_at);
        let free_from = operations.iter().map(|operation| operation.ended_at).max().unwrap_or(0);
        let name = members(&operations);
        // The one with the same members if there is one, so that a lane tells of one client.
        let free = |lane: &Lane<'_>| lane.free_from <= from;
        let place = lanes.iter().position(|lane| free(lane) && lane.name == name);
        match place.and_then(|place| lanes.get_mut(place)) {
            Some(lane) => {
                lane.operations.extend(operations);
                lane.free_from = free_from;
            }
            None => lanes.push(Lane { name, operations, free_from }),
        }
    }
    lanes.sort_by(|left, right| left.name.cmp(&right.name));
    lanes
}

fn members(operations: &[&Operation]) -> String {
    let first = operations.first().and_then(|operation| operation.node.as_deref());
    let is_pinned = operations.iter().all(|operation| operation.node.as_deref() == first);
    // A process that retired after one operation looks pinned; a lane more does no harm.
    if is_pinned { first.unwrap_or("?").to_owned() } else { "several".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(count: u64) -> Recorded {
        let operations = (0..count).map(|index| Operation::example(index, 0, "n1")).collect();
        Recorded { operations, ..Recorded::default() }
    }

    #[test]
    fn a_long_run_is_drawn_around_its_first_violation() {
        let mut run = run_of(50_000);
        let broken = crate::report::recorded::Broken {
            rule: "lost".to_owned(),
            sentence: String::new(),
            operations: vec![30_000, 49_999],
        };
        run.conclusion.violations = vec![broken];
        let timeline = Timeline::of(&run);
        assert_eq!(timeline.operations.len(), OPERATIONS_MAX);
        assert!(timeline.shows(30_000) && timeline.shows(25_000) && !timeline.shows(49_999));
    }

    #[test]
    fn a_violation_at_the_end_still_fills_the_timeline() {
        let run = run_of(10_001);
        assert_eq!(Timeline::of(&run).operations.len(), OPERATIONS_MAX);
        assert_eq!(Timeline::of(&run_of(3)).operations.len(), 3);
        assert_eq!(Timeline::of(&run_of(0)).operations.len(), 0);
    }

    #[test]
    fn a_retired_process_leaves_its_lane_to_the_next() {
        let operations = [(0, 0, "n1"), (1, 7, "n1"), (2, 3, "n2")]
            .map(|(index, process, node)| Operation::example(index, process, node));
        let lanes = lanes(&operations);
        let names: Vec<_> = lanes.iter().map(|lane| (lane.name.as_str(), lane.operations.len())).collect();
        assert_eq!(names, [("n1", 2), ("n2", 1)]);
    }
}
