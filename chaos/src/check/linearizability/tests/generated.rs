//! Random small histories, and mutations of valid ones: the search says what trying every order says.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::brute_force::{explains, is_linearizable};
use crate::check::linearizability::{
    Expected, Limits, Model, Outcome, Register, RegisterAnswer, RegisterCall, Set, SetAnswer, SetCall, Text,
    TextAnswer, TextCall, Timed, search,
};

/// Histories of each model.
const CASES: u32 = 20_000;
/// Six operations have 720 orders; with unknown fates there are more.
const OPERATIONS_MAX: usize = 6;

/// When an operation runs, and whether its fate is known.
#[derive(Clone, Debug)]
struct Span {
    invoked_at: u64,
    lasts: u64,
    is_known: bool,
}

fn span() -> impl Strategy<Value = Span> {
    (0..16_u64, 0..8_u64, proptest::bool::weighted(0.8)).prop_map(|(invoked_at, lasts, is_known)| Span {
        invoked_at,
        lasts,
        is_known,
    })
}

fn timed<M: Model>(index: u64, span: Span, call: M::Call, answer: M::Answer) -> Timed<M> {
    let Span { invoked_at, lasts, is_known } = span;
    Timed { index, invoked_at, call, returned: is_known.then(|| (invoked_at + lasts, answer)) }
}

/// A few values, so that operations meet.
fn value() -> impl Strategy<Value = String> {
    "[ab]"
}

fn register() -> impl Strategy<Value = (RegisterCall, RegisterAnswer)> {
    let expected = prop_oneof![
        4 => proptest::option::of(value()).prop_map(Expected::Is),
        1 => Just(Expected::Unseen),
    ];
    let refusal = prop_oneof![
        Just(RegisterAnswer::Swapped),
        Just(RegisterAnswer::Refused),
        proptest::option::of(value()).prop_map(RegisterAnswer::RefusedBy),
    ];
    prop_oneof![
        2 => proptest::option::of(value()).prop_map(|seen| (RegisterCall::Read, RegisterAnswer::Read(seen))),
        2 => value().prop_map(|value| (RegisterCall::Write(value), RegisterAnswer::Written)),
        2 => (expected, value(), refusal)
            .prop_map(|(expected, value, answer)| (RegisterCall::Cas { expected, value }, answer)),
    ]
}

fn set() -> impl Strategy<Value = (SetCall, SetAnswer)> {
    prop_oneof![
        value().prop_map(|element| (SetCall::Add(element), SetAnswer::Added)),
        proptest::collection::btree_set(value(), 0..3)
            .prop_map(|seen: BTreeSet<String>| (SetCall::Read, SetAnswer::Read(seen))),
    ]
}

fn text() -> impl Strategy<Value = (TextCall, TextAnswer)> {
    prop_oneof![
        "[ab]{0,2}".prop_map(|seen| (TextCall::Get, TextAnswer::Got(seen))),
        value().prop_map(|text| (TextCall::Put(text), TextAnswer::Done)),
        value().prop_map(|more| (TextCall::Append(more), TextAnswer::Done)),
    ]
}

/// How many histories were linearizable and how many were not.
#[derive(Debug, Default)]
struct Tally {
    good: Cell<u32>,
    bad: Cell<u32>,
}

impl Tally {
    fn count(&self, good: bool) {
        let cell = if good { &self.good } else { &self.bad };
        cell.set(cell.get() + 1);
    }

    /// A generator that makes only one kind tests nothing.
    fn assert_both(&self) {
        assert!(self.good.get() > CASES / 20 && self.bad.get() > CASES / 20, "{self:?}");
    }
}

/// The search and every order agree; what the search shows as evidence is evidence.
fn agree<M: Model>(history: &[Timed<M>]) -> Result<bool, TestCaseError> {
    let returned = |number: usize| history[number].returned.as_ref().map(|(at, _)| (*at, number));
    match search(history, Limits::default()) {
        Outcome::Linearizable(order) => {
            let all = |number| returned(number).is_some();
            prop_assert!(is_linearizable(history, all), "the search passes what no order explains");
            prop_assert!(explains(history, &order, all), "{order:?} explains nothing");
            Ok(true)
        }
        Outcome::NotLinearizable(culprit) => {
            // All that returned before the culprit has a place; all that returned until then, with it, has none. Where answers
            // show what came before, the search gives up on what they rule out, and so at an earlier return.
            let looks_ahead =
                history.iter().filter_map(Timed::answer).any(|answer| M::shown(answer).is_some());
            let blocked = returned(culprit.blocked);
            let before = |number| returned(number).is_some_and(|at| Some(at) < blocked);
            let until = |number| returned(number).is_some_and(|at| looks_ahead || Some(at) <= blocked);
            prop_assert!(is_linearizable(history, before), "the culprit comes too late");
            prop_assert!(
                !is_linearizable(history, until),
                "the culprit comes too early, or the history is good"
            );
            prop_assert!(explains(history, &culprit.order, before), "{:?} explains nothing", culprit.order);
            Ok(false)
        }
        Outcome::Unknown(_) => Err(TestCaseError::fail("no answer")),
    }
}

fn check_random<M: Model<Call: Debug, Answer: Debug>>(pair: impl Strategy<Value = (M::Call, M::Answer)>) {
    let tally = Tally::default();
    let histories = proptest::collection::vec((span(), pair), 1..=OPERATIONS_MAX);
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let run = runner.run(&histories, |operations| {
        let history: Vec<Timed<M>> = (0..)
            .zip(operations)
            .map(|(index, (span, (call, answer)))| timed(index, span, call, answer))
            .collect();
        tally.count(agree(&history)?);
        Ok(())
    });
    run.unwrap();
    tally.assert_both();
}

#[test]
fn random_registers_get_the_verdict_of_every_order() {
    check_random::<Register>(register());
}

#[test]
fn random_sets_get_the_verdict_of_every_order() {
    check_random::<Set>(set());
}

#[test]
fn random_texts_get_the_verdict_of_every_order() {
    check_random::<Text>(text());
}

/// What may happen to a valid history; the numbers choose operations.
#[derive(Clone, Copy, Debug)]
enum Mutation {
    /// Two answers change places.
    Swap(usize, usize),
    /// A write is missing.
    Drop(usize),
    /// An operation happens again, later.
    Duplicate(usize),
    /// An answer comes from another operation's place in time: a read shows what was there before.
    Stale(usize, usize),
    /// An operation runs at another's time.
    Moved(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let number = || 0..OPERATIONS_MAX;
    prop_oneof![
        (number(), number()).prop_map(|(left, right)| Mutation::Swap(left, right)),
        number().prop_map(Mutation::Drop),
        number().prop_map(Mutation::Duplicate),
        (number(), number()).prop_map(|(read, earlier)| Mutation::Stale(read, earlier)),
        (number(), number()).prop_map(|(moved, other)| Mutation::Moved(moved, other)),
    ]
}

/// A valid history: calls take effect one after the other, each within its span.
fn valid(calls: Vec<(RegisterCall, u64, u64)>) -> Vec<Timed<Register>> {
    let mut state = Register::initial();
    let mut history = Vec::new();
    for (index, (call, before, behind)) in (0..).zip(calls) {
        let effect_at = 10 + index * 4;
        let answer = match &call {
            RegisterCall::Read => RegisterAnswer::Read(state.clone()),
            RegisterCall::Write(_) => RegisterAnswer::Written,
            RegisterCall::Cas { expected, .. } if *expected == Expected::Is(state.clone()) => {
                RegisterAnswer::Swapped
            }
            RegisterCall::Cas { .. } => RegisterAnswer::RefusedBy(state.clone()),
        };
        state = Register::step(&state, &call, Some(&answer)).unwrap();
        history.push(Timed {
            index,
            invoked_at: effect_at - before,
            call,
            returned: Some((effect_at + behind, answer)),
        });
    }
    history
}

fn mutate(history: &mut Vec<Timed<Register>>, mutation: Mutation) {
    let count = history.len();
    match mutation {
        Mutation::Swap(left, right) => {
            let (left, right) = (left % count, right % count);
            let answer = |number: usize| history[number].returned.clone().unwrap().1;
            let (first, second) = (answer(left), answer(right));
            history[left].returned.as_mut().unwrap().1 = second;
            history[right].returned.as_mut().unwrap().1 = first;
        }
        Mutation::Drop(number) => {
            history.remove(number % count);
        }
        Mutation::Duplicate(number) => {
            let mut again = history[number % count].clone();
            let last =
                history.iter().filter_map(|operation| operation.returned.as_ref()).map(|(at, _)| *at).max();
            again.invoked_at = last.unwrap() - 1;
            again.returned.as_mut().unwrap().0 = last.unwrap() + 1;
            history.push(again);
        }
        Mutation::Stale(read, earlier) => {
            let shown = match &history[earlier % count].call {
                RegisterCall::Read => None,
                RegisterCall::Write(value) | RegisterCall::Cas { value, .. } => Some(value.clone()),
            };
            let read = &mut history[read % count];
            if read.call == RegisterCall::Read {
                read.returned.as_mut().unwrap().1 = RegisterAnswer::Read(shown);
            }
        }
        Mutation::Moved(moved, other) => {
            let (invoked_at, returned) =
                (history[other % count].invoked_at, history[other % count].returned.clone());
            let moved = &mut history[moved % count];
            moved.invoked_at = invoked_at;
            moved.returned.as_mut().unwrap().0 = returned.unwrap().0;
        }
    }
}

#[test]
fn valid_histories_pass_and_their_mutations_get_the_verdict_of_every_order() {
    let call = prop_oneof![
        2 => Just(RegisterCall::Read),
        2 => value().prop_map(RegisterCall::Write),
        1 => (proptest::option::of(value()), value())
            .prop_map(|(expected, value)| RegisterCall::Cas { expected: Expected::Is(expected), value }),
    ];
    let calls = proptest::collection::vec((call, 0..10_u64, 0..10_u64), 2..=OPERATIONS_MAX);
    let tally = Tally::default();
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let run = runner.run(&(calls, mutation()), |(calls, mutation)| {
        let mut history = valid(calls);
        prop_assert!(agree(&history)?, "a valid history fails");
        mutate(&mut history, mutation);
        tally.count(agree(&history)?);
        Ok(())
    });
    run.unwrap();
    tally.assert_both();
}
