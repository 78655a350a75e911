//! Strips: faults by kind, and for each member the revision that it answered with and when it led.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::axis::{Axis, LEFT, RIGHT, colour, drawing};
use super::html::{escape, shorten};
use crate::report::recorded::Recorded;

const LANE: f64 = 20.0;
const MEMBER: f64 = 40.0;
/// Places across a strip: finer is not seen.
const PLACES: u64 = 600;
const DETAILS_LETTERS_MAX: usize = 400;

/// One lane for each kind of fault.
pub(super) fn faults(run: &Recorded) -> String {
    let axis = Axis::of(run);
    let mut content = String::new();
    let mut y = 0.0;
    for kind in run.kinds() {
        let _ = writeln!(
            content,
            "<text class=\"name\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 14.0,
            escape(&shorten(&kind, 14))
        );
        for fault in run.faults.iter().filter(|fault| fault.kind == kind) {
            let (from, to) = (axis.x(fault.began), axis.x(fault.ended));
            let node = fault.node.as_str();
            let told = format!(
                "#{} {kind} {node}{}: {} {}",
                fault.index,
                if fault.is_on_leader { " (the leader)" } else { "" },
                shorten(&fault.plan, DETAILS_LETTERS_MAX),
                shorten(fault.witness.as_deref().unwrap_or("no witness"), DETAILS_LETTERS_MAX)
            );
            let _ = writeln!(
                content,
                "<g class=\"fault kind-{}{}\"><title>{}</title><rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" \
                 rx=\"2\"/><text x=\"{:.1}\" y=\"{:.1}\">{}{}</text></g>",
                colour(run, &kind),
                if fault.witness.is_some() { "" } else { " unwitnessed" },
                escape(&told),
                y + 2.0,
                (to - from).max(2.0),
                LANE - 4.0,
                from + 3.0,
                y + 13.5,
                escape(node),
                if fault.is_on_leader { "★" } else { "" },
            );
        }
        y += LANE;
    }
    if run.faults.is_empty() {
        return "<p class=\"keys\"><b>Faults</b> none</p>\n".to_owned();
    }
    let key =
        "<p class=\"keys\"><b>Faults</b> the member that was hit, ★ when it led; hollow: no witness</p>\n";
    format!("{key}{}", drawing(run, axis, y, "faults", &content))
}

/// One strip for each member.
pub(super) fn members(run: &Recorded) -> String {
    let members = run.members();
    if members.is_empty() {
        return String::new();
    }
    let axis = Axis::of(run);
    let seen = revisions(run, axis);
    let newest = seen.values().flat_map(|places| places.values().copied()).max().unwrap_or(1).max(1);
    let mut content = String::new();
    let mut y = 0.0;
    let whole = merged(&seen);
    for member in &members {
        let _ = writeln!(
            content,
            "<text class=\"name\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <path class=\"grid\" d=\"M{LEFT} {:.1}H{RIGHT}\"/>",
            LEFT - 6.0,
            y + 24.0,
            escape(&shorten(member, 14)),
            y + MEMBER
        );
        for (from, to) in led(run, member, axis) {
            let _ = writeln!(
                content,
                "<rect class=\"leader\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\"><title>{} leads</title></rect>",
                y + 1.0,
                to - from,
                MEMBER - 2.0,
                escape(member)
            );
        }
        let _ = writeln!(content, "<path class=\"line all\" d=\"{}\"/>", line(&whole, newest, y));
        if let Some(places) = seen.get(member.as_str()) {
            let _ = writeln!(content, "<path class=\"line own\" d=\"{}\"/>", line(places, newest, y));
        }
        y += MEMBER;
    }
    let key = format!(
        "<p class=\"keys\"><b>Members</b> <span class=\"key own\">revision that it answered with, up to {newest}</span>\
         <span class=\"key all\">newest that any answered with</span><span class=\"key leader\">leads</span></p>\n"
    );
    format!("{key}{}", drawing(run, axis, y, "members", &content))
}

/// The newest revision of each member's answers, by place.
fn revisions(run: &Recorded, axis: Axis) -> BTreeMap<&str, BTreeMap<u64, i64>> {
    let width = ((axis.to - axis.from) / PLACES).max(1);
    let mut seen: BTreeMap<&str, BTreeMap<u64, i64>> = BTreeMap::new();
    for operation in run.operations.iter().chain(&run.notices) {
        let (Some(node), Some(revision)) = (operation.node.as_deref(), operation.revision) else { continue };
        let place = seen.entry(node).or_default().entry(operation.ended_at / width).or_insert(revision);
        *place = revision.max(*place);
    }
    seen
}

fn merged(seen: &BTreeMap<&str, BTreeMap<u64, i64>>) -> BTreeMap<u64, i64> {
    let mut merged: BTreeMap<u64, i64> = BTreeMap::new();
    for (place, revision) in seen.values().flatten() {
        let newest = merged.entry(*place).or_insert(*revision);
        *newest = (*newest).max(*revision);
    }
    let mut newest = 0;
    for revision in merged.values_mut() {
        newest = newest.max(*revision);
        *revision = newest;
    }
    merged
}

/// A line that breaks where no answer came for a while.
fn line(places: &BTreeMap<u64, i64>, newest: i64, top: f64) -> String {
    let mut path = String::new();
    let mut previous: Option<u64> = None;
    for (place, revision) in places {
        let x = LEFT + number(*place) / number(PLACES) * (RIGHT - LEFT);
        let share = number(u64::try_from(*revision).unwrap_or(0)) / number(newest.unsigned_abs());
        let y = top + MEMBER - 3.0 - share.min(1.0) * (MEMBER - 6.0);
        let is_next = previous.is_some_and(|previous| place - previous <= PLACES / 60);
        let _ = write!(path, "{}{:.1} {y:.1}", if is_next { 'L' } else { 'M' }, x.min(RIGHT));
        if !is_next {
            path.push_str("h1");
        }
        previous = Some(*place);
    }
    path
}

fn number(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

/// From where to where a member is known to have led: between two looks that agree.
fn led(run: &Recorded, member: &str, axis: Axis) -> Vec<(f64, f64)> {
    let mut spans = Vec::new();
    let looks = run.leaders.iter().zip(run.leaders.iter().skip(1));
    for (look, next) in looks {
        if look.leader.as_deref() == Some(member) && look.leader == next.leader {
            spans.push((axis.x(look.time), axis.x(next.time)));
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::recorded::Sighting;

    #[test]
    fn a_member_led_between_two_looks_that_agree() {
        let look = |time, leader: Option<&str>| Sighting { time, leader: leader.map(ToOwned::to_owned) };
        let leaders = vec![
            look(0, Some("n1")),
            look(50, Some("n1")),
            look(60, Some("n2")),
            look(70, None),
            look(80, None),
            look(100, Some("n2")),
        ];
        let run = Recorded { leaders, ..Recorded::default() };
        let axis = Axis { from: 0, to: 100 };
        assert_eq!(led(&run, "n1", axis), [(axis.x(0), axis.x(50))]);
        assert!(led(&run, "n2", axis).is_empty());
    }

    #[test]
    fn silence_breaks_a_line() {
        let places = BTreeMap::from([(0, 1), (1, 2), (300, 4)]);
        let path = line(&places, 4, 0.0);
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1));
    }
}
