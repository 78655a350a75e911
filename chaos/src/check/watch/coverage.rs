//! What a watch shows as a whole: ordered, unique, atomic, reliable, resumable, bookmarkable.

use std::collections::BTreeMap;

use super::{Shown, Violation, event_name, name, start, violation, wants};
use crate::check::versions::Versions;
use crate::check::witness::LogEntry;
use crate::history::Watch;

pub(super) fn check(
    watch: &Watch,
    shown: &[Shown<'_>],
    versions: &Versions<'_>,
    violations: &mut Vec<Violation>,
) {
    ordered(watch, shown, violations);
    let first_shown = unique(watch, shown, violations);
    atomic(watch, shown, violations);
    early(watch, shown, violations);
    let missing = missing(watch, shown, versions, &first_shown, violations);
    bookmarkable(watch, &first_shown, &missing, violations);
}

/// Which response showed a change first.
type FirstShown<'a> = BTreeMap<(i64, &'a str), Shown<'a>>;

fn ordered(watch: &Watch, shown: &[Shown<'_>], violations: &mut Vec<Violation>) {
    for (earlier, later) in shown.iter().zip(shown.iter().skip(1)) {
        if later.event.revision < earlier.event.revision {
            let sentence =
                format!("{} shows {} behind {}", name(watch), event_name(later), event_name(earlier));
            let records = [earlier.noticed.index, later.noticed.index];
            violations.push(violation("ordered", sentence, watch, &records));
        }
    }
}

fn unique<'a>(watch: &Watch, shown: &[Shown<'a>], violations: &mut Vec<Violation>) -> FirstShown<'a> {
    let mut first = FirstShown::new();
    for event in shown {
        let key = (event.event.revision, event.event.key.as_str());
        let Some(earlier) = first.get(&key) else {
            first.insert(key, *event);
            continue;
        };
        let sentence = format!(
            "{} shows {} again, which #{} had shown",
            name(watch),
            event_name(event),
            earlier.noticed.index
        );
        let records = [earlier.noticed.index, event.noticed.index];
        violations.push(violation("unique", sentence, watch, &records));
    }
    first
}

fn atomic(watch: &Watch, shown: &[Shown<'_>], violations: &mut Vec<Violation>) {
    for (earlier, later) in shown.iter().zip(shown.iter().skip(1)) {
        let is_split = earlier.event.revision == later.event.revision
            && earlier.noticed.index != later.noticed.index
            && earlier.event.key != later.event.key;
        if is_split && !(watch.spec.fragment && earlier.noticed.notice.is_fragment) {
            let sentence = format!(
                "{} shows {} and {} apart, though they are one revision",
                name(watch),
                event_name(earlier),
                event_name(later)
            );
            let records = [earlier.noticed.index, later.noticed.index];
            violations.push(violation("atomic", sentence, watch, &records));
        }
    }
}

fn early(watch: &Watch, shown: &[Shown<'_>], violations: &mut Vec<Violation>) {
    let Some(start) = start(watch) else { return };
    if let Some(event) = shown.iter().find(|event| event.event.revision < start) {
        let sentence =
            format!("{} shows {}, before its first revision {start}", name(watch), event_name(event));
        violations.push(violation("resumable", sentence, watch, &[event.noticed.index]));
    }
}

/// Finds changes that the watch should have shown before the last one that it did; returns all that it should have.
fn missing<'a>(
    watch: &Watch,
    shown: &[Shown<'_>],
    versions: &Versions<'a>,
    first_shown: &FirstShown<'_>,
    violations: &mut Vec<Violation>,
) -> Vec<&'a LogEntry> {
    let Some(start) = start(watch) else { return Vec::new() };
    let last_progress = watch.notices.iter().filter(|noticed| noticed.notice.is_progress);
    let last_progress = last_progress.map(|noticed| noticed.revision).max().unwrap_or(0);
    let last_shown = shown.iter().map(|shown| shown.event.revision).max().unwrap_or(0);
    // The rest of a last revision that comes in parts may be under way.
    let is_partial = watch.notices.last().is_some_and(|noticed| noticed.notice.is_fragment);
    let last_whole = if is_partial { last_shown - 1 } else { last_shown };
    let last = last_whole.max(last_progress);
    if last < start {
        return Vec::new();
    }
    let due = versions.revisions().range(start..=last).flat_map(|(_, entries)| entries).copied();
    let due: Vec<&LogEntry> = due.filter(|entry| wants(&watch.spec, entry)).collect();
    let is_shown = |entry: &LogEntry| first_shown.contains_key(&(entry.revision, entry.key.as_str()));
    let lost = due.iter().filter(|entry| entry.revision <= last_whole && !is_shown(entry));
    let first = shown.first();
    for entry in lost.take(1) {
        let (rule, behind) = match first {
            Some(first) if entry.revision < first.event.revision => {
                ("resumable", format!("its first event is {}", event_name(first)))
            }
            Some(_) | None => {
                let next = shown.iter().find(|shown| shown.event.revision >= entry.revision);
                ("reliable", next.map_or_else(String::new, |next| format!("but {}", event_name(next))))
            }
        };
        let what = if entry.state.is_some() { "put" } else { "delete" };
        let sentence = format!(
            "{} does not show the {what} of {} at {}, {behind}",
            name(watch),
            entry.key,
            entry.revision
        );
        let records: Vec<u64> = first.iter().map(|first| first.noticed.index).collect();
        violations.push(violation(rule, sentence, watch, &records));
    }
    due
}

/// Progress at a revision comes behind everything up to it.
fn bookmarkable(
    watch: &Watch,
    first_shown: &FirstShown<'_>,
    due: &[&LogEntry],
    violations: &mut Vec<Violation>,
) {
    // What was shown last, of all that is due up to each revision.
    let mut latest: BTreeMap<i64, (u64, &LogEntry)> = BTreeMap::new();
    let mut so_far: Option<(u64, &LogEntry)> = None;
    for entry in due {
        let shown = first_shown.get(&(entry.revision, entry.key.as_str()));
        let index = shown.map_or(u64::MAX, |shown| shown.noticed.index);
        if so_far.is_none_or(|(last, _)| index > last) {
            so_far = Some((index, entry));
        }
        latest.extend(so_far.map(|latest| (entry.revision, latest)));
    }
    for progress in watch.notices.iter().filter(|noticed| noticed.notice.is_progress) {
        let Some((_, (index, entry))) = latest.range(..=progress.revision).next_back() else { continue };
        if *index > progress.index {
            let when = match *index {
                u64::MAX => "is never shown".to_owned(),
                index => format!("comes later (#{index})"),
            };
            let sentence = format!(
                "{} says progress up to {} (#{}), but {} at {} {when}",
                name(watch),
                progress.revision,
                progress.index,
                entry.key,
                entry.revision
            );
            let records: Vec<u64> =
                [progress.index, *index].into_iter().filter(|index| *index != u64::MAX).collect();
            violations.push(violation("bookmarkable", sentence, watch, &records));
            return;
        }
    }
}
