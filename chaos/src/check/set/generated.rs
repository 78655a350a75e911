//! One element against every life that it could have had: the checker finds what has no such life, and nothing else.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::mutations::{add, read_all, remove, removed, rules, shows};
use crate::check::exchanged::{End, exchange, written};
use crate::history::Exchange;

const HISTORIES: u64 = 20_000;
/// Nothing returns later.
const TIME: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// Of a removal: there was nothing.
    Idle,
    Failed,
    Unknown,
}

type Span = (u64, u64);

/// Everything that is asked about one element.
#[derive(Debug)]
struct Small {
    adding: Option<(Span, Fate)>,
    removal: Option<(Span, Fate)>,
    /// Whether each shows the element.
    reads: Vec<(Span, bool)>,
}

fn draw(random: &mut StdRng) -> Small {
    let fates = [Fate::Done, Fate::Idle, Fate::Failed, Fate::Unknown];
    let span = |random: &mut StdRng| {
        let from = random.random_range(0..14_u64);
        (from, from + random.random_range(1..=6))
    };
    let adding = match random.random_range(0..8_u8) {
        0 => None,
        1 => Some((span(random), Fate::Failed)),
        2..=4 => Some((span(random), Fate::Unknown)),
        _ => Some((span(random), Fate::Done)),
    };
    let removal = random.random_bool(0.7).then(|| (span(random), fates[random.random_range(0..4)]));
    let reads = (0..random.random_range(1..=4_u8)).map(|_| (span(random), random.random_bool(0.5)));
    Small { adding, removal, reads: reads.collect() }
}

fn exchanges(small: &Small) -> Vec<Exchange> {
    let mut history = Vec::new();
    let mut push = |span, request, end| {
        let index = u64::try_from(history.len()).unwrap();
        history.push(exchange(index, span, request, end));
    };
    let end = |fate, done: End| match fate {
        Fate::Done => done,
        Fate::Idle => removed(0),
        Fate::Failed => End::Fail,
        Fate::Unknown => End::Unknown,
    };
    if let Some((span, fate)) = small.adding {
        push(span, add("a"), end(fate, written()));
    }
    if let Some((span, fate)) = small.removal {
        push(span, remove("a"), end(fate, removed(1)));
    }
    for (span, is_shown) in &small.reads {
        let elements: Vec<String> = is_shown.then(|| "a".to_owned()).into_iter().collect();
        push(*span, read_all(), shows(&elements));
    }
    history
}

/// When something may have taken effect, or that it never did.
fn moments(step: Option<(Span, Fate)>) -> Vec<Option<u64>> {
    match step {
        None | Some((_, Fate::Failed)) => vec![None],
        Some(((from, until), Fate::Done | Fate::Idle)) => (from..=until).map(Some).collect(),
        Some(((from, _), Fate::Unknown)) => std::iter::once(None).chain((from..=TIME).map(Some)).collect(),
    }
}

/// Whether some life of the element explains every answer: all are tried. Of what happens at one moment any may come first.
fn is_possible(small: &Small) -> bool {
    let removals = moments(small.removal);
    moments(small.adding).into_iter().any(|added| {
        removals.iter().any(|removed| {
            [false, true].into_iter().any(|takes_away| explains(small, added, *removed, takes_away))
        })
    })
}

fn explains(small: &Small, added: Option<u64>, removed: Option<u64>, takes_away: bool) -> bool {
    let is_ordered = match (added, removed) {
        (_, None) | (None, _) => !takes_away,
        (Some(added), Some(removed)) if takes_away => added <= removed,
        (Some(added), Some(removed)) => removed <= added,
    };
    let is_told = match small.removal {
        Some((_, Fate::Done)) => takes_away,
        Some((_, Fate::Idle)) => !takes_away,
        Some((_, Fate::Failed | Fate::Unknown)) | None => true,
    };
    let from = added.unwrap_or(u64::MAX);
    let until = removed.filter(|_| takes_away).unwrap_or(u64::MAX);
    let is_seen = |((invoked_at, returned_at), is_shown): &(Span, bool)| {
        if *is_shown {
            added.is_some() && from.max(*invoked_at) <= until.min(*returned_at)
        } else {
            *invoked_at <= from || until <= *returned_at
        }
    };
    is_ordered && is_told && small.reads.iter().all(is_seen)
}

#[test]
fn random_sets_get_the_verdict_of_every_life() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..HISTORIES {
        let small = draw(&mut StdRng::seed_from_u64(seed));
        let (found, is_good) = (rules(&exchanges(&small)), is_possible(&small));
        assert_eq!(found.is_empty(), is_good, "seed {seed}: {found:?} of {small:?}");
        *(if is_good { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > HISTORIES / 10 && bad > HISTORIES / 10, "{good} good, {bad} bad");
}
