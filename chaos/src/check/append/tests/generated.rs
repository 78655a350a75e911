//! Serial executions pass, and mutations of them get the verdict of every order. A final read of all lists makes the graph whole.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::brute_force::is_serializable;
use crate::check::append::check;
use crate::history::{End, Step, Transaction};

const CASES: u32 = 20_000;
/// Five transactions and the final read have few enough orders.
const TRANSACTIONS_MAX: usize = 5;
/// Behind the return of every transaction.
const FINAL_AT: u64 = 1000;
const KEYS: [&str; 3] = ["x", "y", "z"];

/// A transaction to be: what it does to which key, how long it lasts around its effect, and its fate.
#[derive(Clone, Debug)]
struct Planned {
    steps: Vec<(bool, usize)>,
    before: u64,
    behind: u64,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Committed,
    Aborted,
    UnknownDone,
    UnknownNotDone,
}

fn planned() -> impl Strategy<Value = Planned> {
    let steps = proptest::collection::vec((any::<bool>(), 0..KEYS.len()), 1..=3);
    let fate = prop_oneof![
        8 => Just(Fate::Committed),
        1 => Just(Fate::Aborted),
        1 => Just(Fate::UnknownDone),
        1 => Just(Fate::UnknownNotDone),
    ];
    (steps, 0..20_u64, 0..20_u64, fate).prop_map(|(steps, before, behind, fate)| Planned {
        steps,
        before,
        behind,
        fate,
    })
}

/// Runs transactions one after the other, and reads every list at the end.
fn execute(planned: &[Planned]) -> Vec<Transaction> {
    let mut lists: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    let (mut history, mut elements) = (Vec::new(), 0..);
    for (index, Planned { steps, before, behind, fate }) in (0..).zip(planned) {
        let mut after = lists.clone();
        let mut done = Vec::new();
        for &(is_append, key) in steps {
            let (key, list) = (KEYS[key].to_owned(), after.entry(KEYS[key]).or_default());
            if is_append {
                let element = elements.next().unwrap();
                list.push(element);
                done.push(Step::Append { key, element });
            } else {
                let shown = (*fate == Fate::Committed).then(|| list.clone());
                done.push(Step::Read { key, list: shown });
            }
        }
        if matches!(fate, Fate::Committed | Fate::UnknownDone) {
            lists = after;
        }
        let effect_at = 100 + 10 * index;
        let end = match fate {
            Fate::Committed => End::Committed { returned_at: effect_at + behind },
            Fate::Aborted => End::Aborted,
            Fate::UnknownDone | Fate::UnknownNotDone => End::Unknown,
        };
        history.push(Transaction { index, invoked_at: effect_at - before, steps: done, end });
    }
    let read = |key: &str| Step::Read {
        key: key.to_owned(),
        list: Some(lists.get(key).cloned().unwrap_or_default()),
    };
    let steps = KEYS.into_iter().map(read).collect();
    let end = End::Committed { returned_at: FINAL_AT + 1 };
    history.push(Transaction { index: FINAL_AT, invoked_at: FINAL_AT, steps, end });
    history
}

/// What may happen to a list that was read, or to a transaction; numbers choose.
#[derive(Clone, Copy, Debug)]
enum Mutation {
    Swap(usize, usize),
    Drop(usize, usize),
    Duplicate(usize, usize),
    /// A read shows less than there was.
    Stale(usize, usize),
    /// A read shows an element of another list, or of another time.
    Foreign(usize, i64),
    /// What was read changes places between two reads.
    Exchange(usize, usize),
    /// A transaction runs at another's time.
    Moved(usize, usize),
    /// What happened is said to have failed.
    Fails(usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let number = || 0..64_usize;
    prop_oneof![
        (number(), number()).prop_map(|(read, place)| Mutation::Swap(read, place)),
        (number(), number()).prop_map(|(read, place)| Mutation::Drop(read, place)),
        (number(), number()).prop_map(|(read, place)| Mutation::Duplicate(read, place)),
        (number(), number()).prop_map(|(read, length)| Mutation::Stale(read, length)),
        (number(), 0..8_i64).prop_map(|(read, element)| Mutation::Foreign(read, element)),
        (number(), number()).prop_map(|(left, right)| Mutation::Exchange(left, right)),
        (number(), number()).prop_map(|(moved, other)| Mutation::Moved(moved, other)),
        number().prop_map(Mutation::Fails),
    ]
}

fn mutate(history: &mut [Transaction], mutation: Mutation) {
    let count = history.len() - 1;
    if let Mutation::Moved(moved, other) = mutation {
        let (invoked_at, end) = (history[other % count].invoked_at, history[other % count].end);
        let moved = &mut history[moved % count];
        if let (End::Committed { .. }, End::Committed { .. }) = (moved.end, end) {
            (moved.invoked_at, moved.end) = (invoked_at, end);
        }
        return;
    }
    if let Mutation::Fails(number) = mutation {
        let failed = &mut history[number % count];
        failed.end = End::Aborted;
        for step in &mut failed.steps {
            if let Step::Read { list, .. } = step {
                *list = None;
            }
        }
        return;
    }
    let mut reads: Vec<&mut Vec<i64>> = history
        .iter_mut()
        .flat_map(|transaction| &mut transaction.steps)
        .filter_map(|step| match step {
            Step::Read { list, .. } => list.as_mut(),
            Step::Append { .. } => None,
        })
        .collect();
    let count = reads.len();
    match mutation {
        Mutation::Exchange(left, right) => {
            let taken = std::mem::take(reads[left % count]);
            let other = std::mem::replace(reads[right % count], taken);
            if left % count != right % count {
                *reads[left % count] = other;
            }
        }
        Mutation::Swap(read, place) if reads[read % count].len() > 1 => {
            let list = &mut reads[read % count];
            let place = place % (list.len() - 1);
            list.swap(place, place + 1);
        }
        Mutation::Drop(read, place) if !reads[read % count].is_empty() => {
            let list = &mut reads[read % count];
            list.remove(place % list.len());
        }
        Mutation::Duplicate(read, place) if !reads[read % count].is_empty() => {
            let list = &mut reads[read % count];
            list.push(list[place % list.len()]);
        }
        Mutation::Stale(read, length) => {
            let list = &mut reads[read % count];
            list.truncate(length % (list.len() + 1));
        }
        Mutation::Foreign(read, element) => reads[read % count].push(element),
        Mutation::Swap(..) | Mutation::Drop(..) | Mutation::Duplicate(..) => {}
        Mutation::Moved(..) | Mutation::Fails(_) => unreachable!("done above"),
    }
}

#[test]
fn serial_executions_pass_and_their_mutations_get_the_verdict_of_every_order() {
    let (good, bad) = (Cell::new(0), Cell::new(0));
    let plans = proptest::collection::vec(planned(), 1..=TRANSACTIONS_MAX);
    let mutations = proptest::collection::vec(mutation(), 1..=2);
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let run = runner.run(&(plans, mutations), |(plans, mutations)| {
        let mut history = execute(&plans);
        let report = check(&history).unwrap();
        prop_assert!(report.violations.is_empty(), "a serial execution fails: {:?}", report.violations);
        for mutation in mutations {
            mutate(&mut history, mutation);
        }
        let report = check(&history).unwrap();
        let is_good = is_serializable(&history);
        prop_assert_eq!(report.violations.is_empty(), is_good, "{:?}", report.violations);
        let counter = if is_good { &good } else { &bad };
        counter.set(counter.get() + 1);
        Ok(())
    });
    run.unwrap();
    assert!(good.get() > CASES / 10 && bad.get() > CASES / 10, "{} good, {} bad", good.get(), bad.get());
}
