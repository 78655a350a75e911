//! Counters of a store that does everything right pass; whatever is changed in one is found.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{collect, judge, number};
use crate::check::exchanged::{End, exchange, not_swapped, put, read, rows, swapped, txn};
use crate::check::mutation::{self, Mutation, place};
use crate::history::{Exchange, ExchangeEnd, Response};

const COUNTER: &str = "counter/0";
/// Behind the return of every other request.
const LAST_AT: u64 = 10_000;

pub(super) fn counted(index: u64, span: (u64, u64), to: u64, end: End) -> Exchange {
    exchange(index, span, txn(Vec::new(), vec![put(COUNTER, &format!("{to} {index}"))]), end)
}

pub(super) fn increment(index: u64, span: (u64, u64), to: u64, is_known: bool) -> Exchange {
    counted(index, span, to, if is_known { swapped(1) } else { End::Unknown })
}

pub(super) fn read_of(index: u64, span: (u64, u64), shown: u64) -> Exchange {
    exchange(index, span, read(COUNTER), rows([(COUNTER, format!("{shown} x").as_str())]))
}

pub(super) fn rules(exchanges: &[Exchange]) -> Vec<&'static str> {
    let mut violations = Vec::new();
    for (key, counter) in collect(exchanges) {
        judge(key, &counter, &mut violations);
    }
    violations.into_iter().map(|violation| violation.rule).collect()
}

/// Requests that overlap; what is of unknown fate happened or did not.
fn valid(random: &mut StdRng) -> Vec<Exchange> {
    let (mut count, mut history) = (0, Vec::new());
    for index in 0..30_u64 {
        let effect_at = 20 + 4 * index;
        let span = (effect_at - random.random_range(0..12), effect_at + random.random_range(0..12));
        history.push(match random.random_range(0..10_u8) {
            0..=3 => read_of(index, span, count),
            4 => counted(index, span, count.max(1), not_swapped()),
            5 => increment(index, span, count + 1, false),
            kind => {
                count += 1;
                increment(index, span, count, kind > 6)
            }
        });
    }
    history.push(read_of(99, (LAST_AT, LAST_AT + 1), count));
    history
}

fn counted_to(exchange: &Exchange) -> Option<u64> {
    exchange.request.puts().first().map(|put| number(&put.value))
}

fn is_acknowledged(exchange: &Exchange) -> bool {
    matches!(&exchange.end, ExchangeEnd::Ok { response, .. } if response.wrote())
}

/// Increments that may have led to a number.
fn attempts(history: &[Exchange], to: u64) -> usize {
    history.iter().filter(|exchange| exchange.may_write() && counted_to(exchange) == Some(to)).count()
}

/// What the last read shows.
fn last(history: &[Exchange]) -> u64 {
    let ExchangeEnd::Ok { response: Response::Range { rows, .. }, .. } = &history[history.len() - 1].end
    else {
        panic!("not a read")
    };
    number(&rows[0].state.value)
}

fn read_again(history: &mut Vec<Exchange>, shown: u64) {
    let at = 2 * LAST_AT;
    history.push(read_of(at, (at, at + 1), shown));
}

/// Draws an acknowledged increment to a number to which no other may have led.
fn any_only_one(history: &[Exchange], random: &mut StdRng) -> Option<usize> {
    place(history, random, |exchange| {
        is_acknowledged(exchange) && counted_to(exchange).is_some_and(|to| attempts(history, to) == 1)
    })
}

const MUTATIONS: &[Mutation<Vec<Exchange>>] = &[
    Mutation {
        name: "a read shows one less",
        found_by: &["lost increment"],
        change: |history, _| {
            let less = last(history).checked_sub(1)?;
            read_again(history, less);
            Some(())
        },
    },
    Mutation {
        name: "a read shows one more",
        found_by: &["increment counted twice"],
        change: |history, _| {
            let more = last(history) + 1;
            (attempts(history, more) == 0).then(|| read_again(history, more))
        },
    },
    Mutation {
        name: "an increment counts from what was there before",
        found_by: &["lost update"],
        change: |history, random| {
            let at = place(history, random, |exchange| {
                let before = counted_to(exchange).and_then(|to| to.checked_sub(1));
                let is_acknowledged_to =
                    |other: &Exchange| is_acknowledged(other) && counted_to(other) == before;
                is_acknowledged(exchange) && history.iter().any(is_acknowledged_to)
            })?;
            let to = counted_to(&history[at])? - 1;
            let ExchangeEnd::Ok { returned_at, .. } = history[at].end else { return None };
            history[at] = increment(history[at].index, (history[at].invoked_at, returned_at), to, true);
            Some(())
        },
    },
    Mutation {
        name: "an increment is told as refused",
        found_by: &["increment counted twice"],
        change: |history, random| {
            let at = any_only_one(history, random)?;
            let span = (history[at].invoked_at, LAST_AT);
            history[at] = counted(history[at].index, span, counted_to(&history[at])?, not_swapped());
            Some(())
        },
    },
    Mutation {
        name: "an increment is missing",
        found_by: &["increment counted twice"],
        change: |history, random| {
            let at = any_only_one(history, random)?;
            history.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "an increment comes after it was seen",
        found_by: &["increment counted twice"],
        change: |history, random| {
            let at = any_only_one(history, random)?;
            let span = (2 * LAST_AT, 2 * LAST_AT + 1);
            history[at] = increment(history[at].index, span, counted_to(&history[at])?, true);
            Some(())
        },
    },
    Mutation {
        name: "an increment happens once more",
        found_by: &["lost update"],
        change: |history, random| {
            let at = place(history, random, is_acknowledged)?;
            let span = (2 * LAST_AT, 2 * LAST_AT + 1);
            let again = increment(100, span, counted_to(&history[at])?, true);
            history.push(again);
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_a_valid_counter_passes() {
    mutation::check(valid, |history: &Vec<Exchange>| rules(history), MUTATIONS);
}
