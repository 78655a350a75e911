//! Counters against every order there is: the checker finds what no order explains, and nothing else.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::mutations::{counted, read_of, rules};
use crate::check::exchanged::{End, not_swapped, swapped};
use crate::history::Exchange;

const HISTORIES: u64 = 20_000;

#[derive(Clone, Copy, Debug)]
struct Small {
    invoked_at: u64,
    /// `None`: the fate is not known.
    returned_at: Option<u64>,
    deed: Deed,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Read { shown: u64 },
    Increment { to: u64 },
}

/// Random requests, about what may be: each counts up from a number around the one before.
fn draw(random: &mut StdRng) -> Vec<Small> {
    let mut count = 0_u64;
    let requests = 0..random.random_range(2..=6_u64);
    let drawn = requests.map(|number| {
        let invoked_at = (3 * number + 4).saturating_sub(random.random_range(0..5));
        let returned_at = Some(invoked_at + random.random_range(1..=8)).filter(|_| random.random_bool(0.7));
        let is_off = random.random_bool(0.15);
        if random.random_bool(0.4) {
            let shown = if is_off { random.random_range(0..4) } else { count };
            // A read without an answer says nothing.
            return Small { invoked_at, returned_at: returned_at.or(Some(30)), deed: Deed::Read { shown } };
        }
        let to = if is_off { random.random_range(1..4) } else { count + 1 };
        if returned_at.is_some() || random.random_bool(0.5) {
            count = count.max(to);
        }
        Small { invoked_at, returned_at, deed: Deed::Increment { to } }
    });
    drawn.collect()
}

fn exchanges(history: &[Small]) -> Vec<Exchange> {
    let exchange = |(index, small): (u64, &Small)| {
        let span = (small.invoked_at, small.returned_at.unwrap_or(0));
        match small.deed {
            Deed::Read { shown } => read_of(index, span, shown),
            Deed::Increment { to } => {
                counted(index, span, to, if small.returned_at.is_some() { swapped(1) } else { End::Unknown })
            }
        }
    };
    let refused = counted(99, (0, 1), 1, not_swapped());
    (0..).zip(history).map(exchange).chain([refused]).collect()
}

/// Whether some order of all that returned and some of the rest explains every answer. At one moment anything may come first.
fn is_possible(count: u64, left: &[Small]) -> bool {
    let Some(first_return) = left.iter().filter_map(|small| small.returned_at).min() else { return true };
    (0..left.len()).any(|chosen| {
        let mut rest = left.to_vec();
        let next = rest.remove(chosen);
        let behind = match next.deed {
            Deed::Read { shown } => (shown == count).then_some(count),
            Deed::Increment { to } => (to == count + 1).then_some(to),
        };
        next.invoked_at <= first_return && behind.is_some_and(|behind| is_possible(behind, &rest))
    })
}

#[test]
fn random_counters_get_the_verdict_of_every_order() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..HISTORIES {
        let history = draw(&mut StdRng::seed_from_u64(seed));
        let (found, is_good) = (rules(&exchanges(&history)), is_possible(0, &history));
        assert_eq!(found.is_empty(), is_good, "seed {seed}: {found:?} of {history:?}");
        *(if is_good { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > HISTORIES / 10 && bad > HISTORIES / 10, "{good} good, {bad} bad");
}
