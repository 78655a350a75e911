//! Valid watches pass; each rule has a history that breaks just this one.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Compactions, Known, judge, wants};
use crate::check::versions::Versions;
use crate::check::witness::LogEntry;
use crate::history::{KeyState, Notice, Noticed, Watch, WatchEvent, WatchSpec};

/// A log of revisions 2 to `last`: one to three changes each, of five keys.
pub(super) fn log(seed: u64, last: i64) -> Vec<LogEntry> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut log: Vec<LogEntry> = Vec::new();
    for revision in 2..=last {
        let first = random.random_range(0..3_u8);
        for number in first..=first + random.random_range(0..=2_u8) {
            let key = format!("k{number}");
            let before =
                log.iter().rev().find(|entry| entry.key == key).and_then(|entry| entry.state.clone());
            let is_delete = before.is_some() && random.random_bool(0.3);
            let state = (!is_delete).then(|| KeyState {
                value: format!("v{revision}"),
                version: before.as_ref().map_or(0, |before| before.version) + 1,
                create_revision: before.as_ref().map_or(revision, |before| before.create_revision),
                mod_revision: revision,
                lease: 0,
            });
            log.push(LogEntry { revision, key, state });
        }
    }
    log
}

/// What a good store shows: one response for a revision, or for two, with progress in between.
pub(super) fn valid(spec: &WatchSpec, log: &[LogEntry]) -> Watch {
    let versions = Versions::new(log);
    let mut notices: Vec<Noticed> = Vec::new();
    for (revision, entries) in versions.revisions().range(spec.from..) {
        let events: Vec<WatchEvent> = entries
            .iter()
            .filter(|entry| wants(spec, entry))
            .map(|entry| WatchEvent {
                revision: *revision,
                key: entry.key.clone(),
                state: entry.state.clone(),
                prev: versions.at(&entry.key, revision - 1).filter(|_| spec.prev_kv).cloned(),
            })
            .collect();
        let index = u64::try_from(notices.len()).unwrap() + 10;
        let is_progress = events.is_empty() || revision % 5 == 0;
        if !events.is_empty() {
            let notice = Notice { events, ..Notice::default() };
            notices.push(Noticed { index: 2 * index, time: 0, revision: *revision, notice });
        }
        if is_progress {
            let notice = Notice { is_progress: true, ..Notice::default() };
            notices.push(Noticed { index: 2 * index + 1, time: 0, revision: *revision, notice });
        }
    }
    let node = "n1".to_owned();
    Watch { index: 0, node, spec: spec.clone(), created: Some(1), notices, stalled: None }
}

pub(super) fn spec() -> WatchSpec {
    WatchSpec {
        key: "k1".to_owned(),
        end: Some("k4".to_owned()),
        from: 5,
        prev_kv: true,
        ..WatchSpec::default()
    }
}

pub(super) fn rules(watch: &Watch, log: &[LogEntry]) -> Vec<&'static str> {
    rules_where_compacted(watch, log, Vec::new())
}

/// The same where compactions were asked for, each at an index of the history.
pub(super) fn rules_where_compacted(
    watch: &Watch,
    log: &[LogEntry],
    compactions: Vec<(u64, i64)>,
) -> Vec<&'static str> {
    let mut violations = Vec::new();
    let (versions, compactions) = (Versions::new(log), Compactions::new(compactions));
    judge(watch, &Known { versions: &versions, compactions }, &mut violations);
    violations.into_iter().map(|violation| violation.rule).collect()
}

/// The places of all events: response and position in it.
pub(super) fn places(watch: &Watch) -> Vec<(usize, usize)> {
    let notices = watch.notices.iter().enumerate();
    notices.flat_map(|(at, noticed)| (0..noticed.notice.events.len()).map(move |event| (at, event))).collect()
}

/// Breaks the valid watch in one way; the rules that this breaks.
fn broken(change: impl FnOnce(&mut Watch)) -> Vec<&'static str> {
    let log = log(1, 40);
    let mut watch = valid(&spec(), &log);
    assert!(rules(&watch, &log).is_empty());
    change(&mut watch);
    rules(&watch, &log)
}

/// The first response that has this many events, behind the first and before the last.
fn with_events(watch: &Watch, count: usize) -> usize {
    let inner = 2..watch.notices.len() - 4;
    inner.clone().find(|at| watch.notices[*at].notice.events.len() == count).unwrap()
}

#[test]
fn valid_watches_of_every_kind_pass() {
    let log = log(3, 60);
    for from in [1, 2, 30, 60, 90] {
        for (no_put, no_delete, prev_kv) in
            [(false, false, false), (true, false, true), (false, true, true), (false, false, true)]
        {
            let spec = WatchSpec { from, no_put, no_delete, prev_kv, ..spec() };
            assert!(rules(&valid(&spec, &log), &log).is_empty(), "{spec:?}");
            let single = WatchSpec { end: None, ..spec };
            assert!(rules(&valid(&single, &log), &log).is_empty(), "{single:?}");
        }
    }
}

#[test]
fn ordered() {
    let found = broken(|watch| {
        let at = with_events(watch, 2);
        let next = (at + 1..).find(|next| !watch.notices[*next].notice.events.is_empty()).unwrap();
        let moved = watch.notices[next].notice.events.clone();
        let earlier = std::mem::replace(&mut watch.notices[at].notice.events, moved);
        watch.notices[next].notice.events = earlier;
    });
    assert!(found.contains(&"ordered"), "{found:?}");
}

#[test]
fn unique() {
    let found = broken(|watch| {
        let at = with_events(watch, 1);
        let event = watch.notices[at].notice.events[0].clone();
        watch.notices[at].notice.events.push(event);
    });
    assert_eq!(found, ["unique"]);
}

#[test]
fn atomic() {
    let split = |watch: &mut Watch, is_fragment: bool| {
        let at = with_events(watch, 2);
        let rest = watch.notices[at].notice.events.split_off(1);
        watch.notices[at].notice.is_fragment = is_fragment;
        let mut second = watch.notices[at].clone();
        second.index += 1;
        second.notice = Notice { events: rest, ..Notice::default() };
        watch.notices.insert(at + 1, second);
    };
    assert_eq!(broken(|watch| split(watch, false)), ["atomic"]);
    assert_eq!(broken(|watch| split(watch, true)), ["atomic"]);
    let allowed = broken(|watch| {
        watch.spec.fragment = true;
        split(watch, true);
    });
    assert!(allowed.is_empty(), "{allowed:?}");
}

#[test]
fn reliable() {
    let found = broken(|watch| {
        let at = with_events(watch, 2);
        watch.notices[at].notice.events.pop();
    });
    assert!(found.contains(&"reliable"), "{found:?}");
    let found = broken(|watch| {
        let at = with_events(watch, 2);
        watch.notices[at].notice.events[0].state = watch.notices[at].notice.events[0]
            .state
            .clone()
            .map(|state| KeyState { value: "x".into(), ..state });
    });
    assert!(found.contains(&"reliable") || found.contains(&"is-create"), "{found:?}");
}

#[test]
fn resumable() {
    let found = broken(|watch| {
        let first = watch.notices.iter().position(|noticed| !noticed.notice.events.is_empty()).unwrap();
        watch.notices.retain(|noticed| !noticed.notice.is_progress);
        watch.notices.remove(first);
    });
    assert_eq!(found, ["resumable"]);
    let found = broken(|watch| watch.spec.from = 9);
    assert_eq!(found, ["resumable"]);
}

#[test]
fn bookmarkable() {
    let found = broken(|watch| {
        let progress = watch.notices.iter().position(|noticed| noticed.notice.is_progress).unwrap();
        watch.notices[progress].revision += 2;
    });
    assert_eq!(found, ["bookmarkable"]);
}

#[test]
fn progress_beyond_an_event_that_never_comes_is_found() {
    let found = broken(|watch| {
        let last = watch.notices.iter().rposition(|noticed| !noticed.notice.events.is_empty()).unwrap();
        let revision = watch.notices[last].revision;
        watch.notices.truncate(last);
        let notice = Notice { is_progress: true, ..Notice::default() };
        watch.notices.push(Noticed { index: 9999, time: 0, revision, notice });
    });
    assert_eq!(found, ["bookmarkable"]);
}

#[test]
fn filter() {
    for change in [|spec: &mut WatchSpec| spec.no_put = true, |spec: &mut WatchSpec| spec.end = None] {
        let found = broken(|watch| change(&mut watch.spec));
        assert!(found.contains(&"filter") && found.iter().all(|rule| *rule == "filter"), "{found:?}");
    }
}

#[test]
fn prev_kv() {
    let found = broken(|watch| {
        let at = places(watch)
            .into_iter()
            .find(|(at, event)| watch.notices[*at].notice.events[*event].prev.is_some());
        let (at, event) = at.unwrap();
        watch.notices[at].notice.events[event].prev = None;
    });
    assert_eq!(found, ["prev-kv"]);
    let found = broken(|watch| watch.spec.prev_kv = false);
    assert!(found.contains(&"prev-kv") && found.iter().all(|rule| *rule == "prev-kv"), "{found:?}");
}

#[test]
fn what_was_there_before_a_compacted_change_need_not_be_told() {
    let log = log(1, 40);
    let mut watch = valid(&spec(), &log);
    let had = |(at, event): &(usize, usize)| watch.notices[*at].notice.events[*event].prev.is_some();
    let (at, event) = places(&watch).into_iter().find(had).unwrap();
    let (index, revision) = (watch.notices[at].index, watch.notices[at].notice.events[event].revision);
    let told = watch.notices[at].notice.events[event].prev.take();
    assert!(rules_where_compacted(&watch, &log, vec![(index - 1, revision)]).is_empty());
    // Not one that is asked for later, and not one below.
    assert_eq!(rules_where_compacted(&watch, &log, vec![(index + 1, revision)]), ["prev-kv"]);
    assert_eq!(rules_where_compacted(&watch, &log, vec![(index - 1, revision - 1)]), ["prev-kv"]);
    // If it is told, it is right.
    watch.notices[at].notice.events[event].prev = told.map(|told| KeyState { version: 77, ..told });
    assert_eq!(rules_where_compacted(&watch, &log, vec![(index - 1, revision)]), ["prev-kv"]);
}

#[test]
fn is_create() {
    let found = broken(|watch| {
        let state = watch.notices.iter_mut().flat_map(|noticed| &mut noticed.notice.events);
        let mut states = state.filter_map(|event| event.state.as_mut());
        let state = states.find(|state| state.version > 1).unwrap();
        state.create_revision = state.mod_revision;
    });
    assert_eq!(found, ["is-create"]);
}

#[test]
fn a_watch_that_stalls_is_found() {
    assert_eq!(broken(|watch| watch.stalled = Some("nothing came".to_owned())), ["watch stalled"]);
}
