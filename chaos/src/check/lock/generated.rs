//! Locks and lists against everything that may have happened: the checker finds what nothing explains, and nothing else.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::mutations::{History, list, shows, update};
use crate::check::exchanged::{End, read, swapped, take};
use crate::history::{LeaseAnswer, LeaseEnd};

const HISTORIES: u64 = 5000;
const S: u64 = 1_000_000_000;
/// Seconds: nothing happens later.
const TIME: u64 = 16;

/// One try to take the lock, in seconds.
#[derive(Clone, Copy, Debug)]
struct Hold {
    granted_at: u64,
    ttl: u64,
    invoked_at: u64,
    /// `None`: the fate is not known.
    returned_at: Option<u64>,
    /// When its end was asked for, and whether that was refused.
    revoked: Option<(u64, bool)>,
}

fn draw_holds(random: &mut StdRng) -> Vec<Hold> {
    let holds = (0..random.random_range(2..=4_u8)).map(|_| {
        let granted_at = random.random_range(0..8);
        let invoked_at = granted_at + random.random_range(0..3);
        let returned_at = random.random_bool(0.8).then(|| invoked_at + random.random_range(0..3));
        let revoked = random
            .random_bool(0.5)
            .then(|| (invoked_at + random.random_range(0..3), random.random_bool(0.3)));
        Hold { granted_at, ttl: random.random_range(1..5), invoked_at, returned_at, revoked }
    });
    holds.collect()
}

fn held_history(holds: &[Hold]) -> History {
    let mut history = History::default();
    for (lease, hold) in (1..).zip(holds) {
        history.grant(lease, i64::try_from(hold.ttl).unwrap(), hold.granted_at * S);
        let span = (hold.invoked_at * S, hold.returned_at.unwrap_or(0) * S);
        let end = if hold.returned_at.is_some() { swapped(1) } else { End::Unknown };
        history.ask(span, take("lock/fenced", &lease.to_string(), lease), end);
        if let Some((at, is_refused)) = hold.revoked {
            let done = LeaseEnd::Ok {
                answer: LeaseAnswer { id: lease, ttl: 0 },
                revision: 2,
                returned_at: at * S + 1,
            };
            let end = match (is_refused, lease % 2) {
                (true, _) => LeaseEnd::Fail,
                (false, 0) => LeaseEnd::Unknown,
                (false, _) => done,
            };
            history.revoke(lease, at * S, end);
        }
    }
    history
}

/// Whether all that are known to have held the lock, and any others, could do it one behind the other: every order and time is
/// tried. A lease may end at its time or when somebody ends it by hand, and any time later.
fn is_possible(free_from: u64, left: &[Hold]) -> bool {
    left.iter().all(|hold| hold.returned_at.is_none())
        || (0..left.len()).any(|chosen| {
            let mut rest = left.to_vec();
            let hold = rest.remove(chosen);
            let times = hold.invoked_at.max(free_from)..=hold.returned_at.unwrap_or(TIME);
            let by_hand = hold.revoked.filter(|(_, is_refused)| !is_refused).map(|(at, _)| at);
            let ends = (hold.granted_at + hold.ttl).min(by_hand.unwrap_or(u64::MAX));
            times.into_iter().any(|taken_at| is_possible(taken_at.max(ends), &rest))
        })
}

#[test]
fn random_holds_get_the_verdict_of_every_order() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..HISTORIES {
        let holds = draw_holds(&mut StdRng::seed_from_u64(seed));
        let (found, is_good) = (held_history(&holds).rules(), is_possible(0, &holds));
        assert_eq!(found.is_empty(), is_good, "seed {seed}: {found:?} of {holds:?}");
        *(if is_good { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > HISTORIES / 10 && bad > HISTORIES / 10, "{good} good, {bad} bad");
}

/// A read of the list, or an update of it: what it shows or writes.
#[derive(Clone, Debug)]
struct Step {
    invoked_at: u64,
    returned_at: Option<u64>,
    elements: Vec<String>,
    is_update: bool,
}

fn draw_steps(random: &mut StdRng) -> Vec<Step> {
    let mut elements = Vec::<String>::new();
    let count = random.random_range(2..=5_u64);
    let steps = (0..count).map(|number| {
        let invoked_at = (3 * number + 4).saturating_sub(random.random_range(0..5));
        let returned_at = Some(invoked_at + random.random_range(1..=8));
        let mut shown = elements.clone();
        let off = random.random_range(0..12_u8);
        let at = random.random_range(0..shown.len().max(1));
        match off {
            0 => shown.truncate(at),
            1 if at > 0 => shown.swap(at - 1, at),
            2 => drop(shown.pop()),
            _ => {}
        }
        if random.random_bool(0.4) {
            return Step { invoked_at, returned_at, elements: shown, is_update: false };
        }
        shown.push(number.to_string());
        let returned_at = returned_at.filter(|_| random.random_bool(0.7));
        if returned_at.is_some() || random.random_bool(0.5) {
            elements.clone_from(&shown);
        }
        Step { invoked_at, returned_at, elements: shown, is_update: true }
    });
    steps.collect()
}

fn list_history(steps: &[Step]) -> History {
    let mut history = History::default();
    for step in steps {
        let span = (step.invoked_at, step.returned_at.unwrap_or(0));
        match (step.is_update, step.returned_at) {
            (false, _) => history.ask(span, read(&list()), shows(&step.elements)),
            (true, Some(_)) => history.ask(span, update(&step.elements), swapped(1)),
            (true, None) => history.ask(span, update(&step.elements), End::Unknown),
        }
    }
    history
}

/// Whether some order of all that returned and some of the rest explains every answer; an update is done only while nothing has
/// changed since its client read the list.
fn is_grown(elements: &[String], left: &[Step]) -> bool {
    let Some(first_return) = left.iter().filter_map(|step| step.returned_at).min() else { return true };
    (0..left.len()).any(|chosen| {
        let mut rest = left.to_vec();
        let next = rest.remove(chosen);
        let is_explained = match next.elements.split_last() {
            Some((_, before)) if next.is_update => before == elements,
            Some(_) | None => next.elements == elements,
        };
        is_explained && next.invoked_at <= first_return && is_grown(&next.elements, &rest)
    })
}

#[test]
fn random_lists_get_the_verdict_of_every_order() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..HISTORIES {
        let steps = draw_steps(&mut StdRng::seed_from_u64(seed));
        let (found, is_good) = (list_history(&steps).rules(), is_grown(&[], &steps));
        assert_eq!(found.is_empty(), is_good, "seed {seed}: {found:?} of {steps:?}");
        *(if is_good { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > HISTORIES / 10 && bad > HISTORIES / 10, "{good} good, {bad} bad");
}
