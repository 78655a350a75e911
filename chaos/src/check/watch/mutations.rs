//! Watches of a store that does everything right pass; whatever is changed in one is found.

use rand::RngExt;
use rand::rngs::StdRng;

use super::tests::{log, places, rules, rules_where_compacted, spec, valid};
use crate::check::mutation::{self, Mutation, place};
use crate::check::witness::LogEntry;
use crate::history::{KeyState, Notice, Watch, WatchEvent, WatchSpec};

type History = (Watch, Vec<LogEntry>);

fn history(random: &mut StdRng) -> History {
    let log = log(random.random(), 30);
    let spec = WatchSpec { from: random.random_range(1..10), ..spec() };
    (valid(&spec, &log), log)
}

/// Draws an event that others follow, for which something holds.
fn event<'a>(
    watch: &'a mut Watch,
    random: &mut StdRng,
    holds: impl Fn(&WatchEvent) -> bool,
) -> Option<&'a mut WatchEvent> {
    let (at, event) = place_of(watch, random, holds)?;
    watch.notices[at].notice.events.get_mut(event)
}

fn place_of(
    watch: &Watch,
    random: &mut StdRng,
    holds: impl Fn(&WatchEvent) -> bool,
) -> Option<(usize, usize)> {
    let places = places(watch);
    let (_, inner) = places.split_last()?;
    let at = place(inner, random, |(at, event)| holds(&watch.notices[*at].notice.events[*event]))?;
    Some(inner[at])
}

fn other_state(revision: i64) -> KeyState {
    KeyState {
        value: "x".to_owned(),
        version: 1,
        create_revision: revision,
        mod_revision: revision,
        lease: 0,
    }
}

const EVENTS: &[Mutation<History>] = &[
    Mutation {
        name: "an event is missing",
        found_by: &["reliable", "resumable"],
        change: |(watch, _), random| {
            let (at, event) = place_of(watch, random, |_| true)?;
            watch.notices[at].notice.events.remove(event);
            Some(())
        },
    },
    Mutation {
        name: "an event is shown again",
        found_by: &["unique"],
        change: |(watch, _), random| {
            let (at, event) = place_of(watch, random, |_| true)?;
            let again = watch.notices[at].notice.events[event].clone();
            let later = random.random_range(at..watch.notices.len());
            watch.notices[later].notice.events.push(again);
            watch.notices[later].notice.is_progress = false;
            Some(())
        },
    },
    Mutation {
        name: "an event has another value",
        found_by: &["reliable"],
        change: |(watch, _), random| {
            let event = event(watch, random, |event| event.state.is_some())?;
            event.state.as_mut()?.value.push('x');
            Some(())
        },
    },
    Mutation {
        name: "an event is of the revision behind",
        found_by: &["reliable", "is-create"],
        change: |(watch, _), random| {
            event(watch, random, |_| true)?.revision += 1;
            Some(())
        },
    },
    Mutation {
        name: "an event is of another kind",
        found_by: &["reliable", "is-create"],
        change: |(watch, _), random| {
            let event = event(watch, random, |_| true)?;
            event.state = if event.state.is_some() { None } else { Some(other_state(event.revision)) };
            Some(())
        },
    },
    Mutation {
        name: "an event is of a key that nobody asked for",
        found_by: &["filter"],
        change: |(watch, _), random| {
            event(watch, random, |_| true)?.key = "k9".to_owned();
            Some(())
        },
    },
    Mutation {
        name: "an event is of a kind that nobody asked for",
        found_by: &["filter"],
        change: |(watch, _), random| {
            event(watch, random, |event| event.state.is_none())?;
            watch.spec.no_delete = true;
            Some(())
        },
    },
    Mutation {
        name: "an event lacks what was there before",
        found_by: &["prev-kv"],
        change: |(watch, _), random| {
            event(watch, random, |event| event.prev.is_some())?.prev = None;
            Some(())
        },
    },
    Mutation {
        name: "an event says that something was there before",
        found_by: &["prev-kv"],
        change: |(watch, _), random| {
            event(watch, random, |event| event.prev.is_none())?.prev = Some(other_state(1));
            Some(())
        },
    },
    Mutation {
        name: "an event says that it creates what was there",
        found_by: &["is-create"],
        change: |(watch, _), random| {
            let is_change = |event: &WatchEvent| event.state.as_ref().is_some_and(|state| state.version > 1);
            let state = event(watch, random, is_change)?.state.as_mut()?;
            state.create_revision = state.mod_revision;
            Some(())
        },
    },
];

const RESPONSES: &[Mutation<History>] = &[
    Mutation {
        name: "two responses change places",
        found_by: &["ordered"],
        change: |(watch, _), random| {
            let (at, _) = place_of(watch, random, |_| true)?;
            let mut later = at + 1..watch.notices.len();
            let next = later.find(|next| !watch.notices[*next].notice.events.is_empty())?;
            let (left, right) = (watch.notices[at].notice.clone(), watch.notices[next].notice.clone());
            (watch.notices[at].notice, watch.notices[next].notice) = (right, left);
            Some(())
        },
    },
    Mutation {
        name: "a revision comes in two responses",
        found_by: &["atomic"],
        change: |(watch, _), random| {
            let at = place(&watch.notices, random, |noticed| noticed.notice.events.len() > 1)?;
            let rest = watch.notices[at].notice.events.split_off(1);
            let mut second = watch.notices[at].clone();
            second.index += 1;
            second.notice = Notice { events: rest, ..Notice::default() };
            watch.notices.insert(at + 1, second);
            Some(())
        },
    },
    Mutation {
        name: "progress overtakes an event",
        found_by: &["bookmarkable"],
        change: |(watch, _), random| {
            let (at, event) = place_of(watch, random, |_| true)?;
            let revision = watch.notices[at].notice.events[event].revision;
            let before = watch.notices[..at].iter().rposition(|noticed| noticed.notice.is_progress)?;
            watch.notices[before].revision = revision;
            Some(())
        },
    },
    Mutation {
        name: "the first events are missing",
        found_by: &["resumable"],
        change: |(watch, _), _| {
            let first = watch.notices.iter().position(|noticed| !noticed.notice.events.is_empty())?;
            watch.notices.drain(..=first);
            Some(())
        },
    },
    Mutation {
        name: "events come from before the beginning",
        found_by: &["resumable"],
        change: |(watch, _), _| {
            let (at, event) = *places(watch).first()?;
            watch.spec.from = watch.notices[at].notice.events[event].revision + 1;
            Some(())
        },
    },
    Mutation {
        name: "it comes to a stand",
        found_by: &["watch stalled"],
        change: |(watch, _), _| {
            watch.stalled = Some("nothing came".to_owned());
            Some(())
        },
    },
];

/// With the compactions of a run: when each was acknowledged, as an index, and its revision.
type Compacted = (History, Vec<(u64, i64)>);

/// A watch while history is compacted behind it: it tells nothing of what was there before a change that is compacted.
fn of_the_forgotten(random: &mut StdRng) -> Compacted {
    let (mut watch, log) = history(random);
    let compactions: Vec<(u64, i64)> = (0..3)
        .filter_map(|_| {
            let at = random.random_range(0..watch.notices.len());
            let revision = watch.notices[at].notice.events.first()?.revision;
            Some((watch.notices[at].index.saturating_sub(random.random_range(1..9)), revision))
        })
        .collect();
    for noticed in &mut watch.notices {
        let before = compactions.iter().filter(|(index, _)| *index < noticed.index);
        let compacted = before.map(|(_, revision)| *revision).max().unwrap_or(0);
        for event in noticed.notice.events.iter_mut().filter(|event| event.revision <= compacted) {
            event.prev = None;
        }
    }
    ((watch, log), compactions)
}

const FORGOTTEN: &[Mutation<Compacted>] = &[
    Mutation {
        name: "a delete at the compact revision is missing",
        found_by: &["reliable", "resumable"],
        change: |((watch, _), compactions), random| {
            let (at, event) = place_of(watch, random, |event| {
                event.state.is_none() && compactions.iter().any(|(_, revision)| *revision == event.revision)
            })?;
            watch.notices[at].notice.events.remove(event);
            Some(())
        },
    },
    Mutation {
        name: "what was there before a change that nobody has compacted is not told",
        found_by: &["prev-kv"],
        change: |((watch, _), compactions), random| {
            let compacted = compactions.iter().map(|(_, revision)| *revision).max().unwrap_or(0);
            let is_kept = |event: &WatchEvent| event.prev.is_some() && event.revision > compacted;
            event(watch, random, is_kept)?.prev = None;
            Some(())
        },
    },
    Mutation {
        name: "what is told of the compacted past is wrong",
        found_by: &["prev-kv"],
        change: |((watch, _), compactions), random| {
            let compacted = compactions.iter().map(|(_, revision)| *revision).max().unwrap_or(0);
            let is_gone = |event: &WatchEvent| event.prev.is_none() && event.revision <= compacted;
            event(watch, random, is_gone)?.prev = Some(other_state(1));
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_a_watch_of_the_forgotten_passes() {
    let rules =
        |((watch, log), compactions): &Compacted| rules_where_compacted(watch, log, compactions.clone());
    mutation::check(of_the_forgotten, rules, FORGOTTEN);
}

#[test]
fn no_mutation_of_a_valid_watch_passes() {
    let rules = |(watch, log): &History| rules(watch, log);
    mutation::check(history, rules, EVENTS);
    mutation::check(history, rules, RESPONSES);
}
