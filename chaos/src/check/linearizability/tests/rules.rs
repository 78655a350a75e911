//! The smallest example of each rule of the search.

use std::collections::BTreeMap;

use crate::check::linearizability::{
    Expected, Limits, Outcome, Register, RegisterAnswer, RegisterCall, Set, SetAnswer, SetCall, Text,
    TextAnswer, TextCall, Timed, Unknown, check, search,
};

/// A call that was invoked at one time, and what came back at another.
type Returned = Option<(u64, RegisterAnswer)>;

fn register(operations: Vec<(u64, RegisterCall, Returned)>) -> Vec<Timed<Register>> {
    operations
        .into_iter()
        .map(|(at, call, returned)| Timed { index: at, invoked_at: at, call, returned })
        .collect()
}

fn write(at: u64, value: &str, until: u64) -> (u64, RegisterCall, Returned) {
    (at, RegisterCall::Write(value.to_owned()), Some((until, RegisterAnswer::Written)))
}

fn lost_write(at: u64, value: &str) -> (u64, RegisterCall, Returned) {
    (at, RegisterCall::Write(value.to_owned()), None)
}

fn read(at: u64, value: Option<&str>, until: u64) -> (u64, RegisterCall, Returned) {
    (at, RegisterCall::Read, Some((until, RegisterAnswer::Read(value.map(str::to_owned)))))
}

fn cas(
    at: u64,
    (from, to): (&str, &str),
    answer: RegisterAnswer,
    until: u64,
) -> (u64, RegisterCall, Returned) {
    let expected = Expected::Is(Some(from.to_owned()));
    (at, RegisterCall::Cas { expected, value: to.to_owned() }, Some((until, answer)))
}

fn passes(operations: Vec<(u64, RegisterCall, Returned)>) -> bool {
    matches!(search(&register(operations), Limits::default()), Outcome::Linearizable(_))
}

#[test]
fn nothing_is_linearizable() {
    assert!(passes(Vec::new()));
}

#[test]
fn a_read_sees_the_last_write() {
    assert!(passes(vec![write(0, "a", 1), read(2, Some("a"), 3)]));
    assert!(!passes(vec![write(0, "a", 1), read(2, None, 3)]));
    assert!(!passes(vec![write(0, "a", 1), write(2, "b", 3), read(4, Some("a"), 5)]));
}

#[test]
fn a_read_beside_a_write_sees_either_state_but_two_reads_agree_on_the_order() {
    assert!(passes(vec![write(0, "a", 10), read(1, None, 2), read(3, Some("a"), 4)]));
    assert!(!passes(vec![write(0, "a", 10), read(1, Some("a"), 2), read(3, None, 4)]));
}

#[test]
fn what_returns_when_another_is_invoked_counts_as_concurrent() {
    assert!(passes(vec![write(0, "a", 5), read(5, None, 6)]));
}

#[test]
fn a_write_of_unknown_fate_happens_late_or_never_but_not_before_it_was_asked_for() {
    assert!(passes(vec![lost_write(0, "a"), read(10, None, 11)]));
    assert!(passes(vec![lost_write(0, "a"), read(10, None, 11), read(12, Some("a"), 13)]));
    assert!(!passes(vec![read(0, Some("a"), 1), lost_write(2, "a")]));
    assert!(!passes(vec![lost_write(0, "a"), read(10, Some("a"), 11), read(12, None, 13)]));
}

#[test]
fn a_compare_and_swap_tells_of_the_state() {
    let refused = RegisterAnswer::Refused;
    assert!(passes(vec![
        write(0, "a", 1),
        cas(2, ("a", "b"), RegisterAnswer::Swapped, 3),
        read(4, Some("b"), 5)
    ]));
    assert!(!passes(vec![write(0, "a", 1), cas(2, ("c", "b"), RegisterAnswer::Swapped, 3)]));
    assert!(!passes(vec![write(0, "a", 1), cas(2, ("a", "b"), refused.clone(), 3)]));
    assert!(passes(vec![write(0, "a", 1), cas(2, ("c", "b"), refused, 3), read(4, Some("a"), 5)]));
    let seen = |value: &str| RegisterAnswer::RefusedBy(Some(value.to_owned()));
    assert!(passes(vec![write(0, "a", 1), cas(2, ("c", "b"), seen("a"), 3)]));
    assert!(!passes(vec![write(0, "a", 1), cas(2, ("c", "b"), seen("d"), 3)]));
}

#[test]
fn an_answer_to_another_question_fails() {
    assert!(!passes(vec![(0, RegisterCall::Read, Some((1, RegisterAnswer::Written)))]));
}

#[test]
fn the_culprit_is_the_first_return_that_nothing_explains() {
    let history = register(vec![
        write(0, "a", 1),
        read(2, Some("a"), 3),
        write(4, "b", 20),
        read(5, Some("a"), 6),
        read(7, Some("c"), 8),
        read(9, Some("d"), 10),
    ]);
    let Outcome::NotLinearizable(culprit) = search(&history, Limits::default()) else { panic!("it passes") };
    assert_eq!((culprit.blocked, culprit.order.as_slice()), (4, [0, 1, 3, 2].as_slice()));
    assert_eq!((culprit.state.as_str(), culprit.under_way.as_slice()), ("b", [].as_slice()));
}

#[test]
fn a_sentence_names_key_state_and_operations() {
    let never_fits = cas(13, ("z", "d"), RegisterAnswer::Swapped, 20);
    let history =
        register(vec![write(10, "a", 11), lost_write(12, "b"), never_fits, read(14, Some("c"), 15)]);
    let report = check(&BTreeMap::from([("x".to_owned(), history)]), Limits::default());
    let [violation] = report.violations.as_slice() else { panic!("{:?}", report.violations) };
    assert_eq!(
        violation.to_string(),
        "not linearizable: x: #14 (read c) has no place: behind #10 (write a), #12 (write b, fate unknown) \
         the state is b, under way are #13 (cas from z to d), and no other order gets further"
    );
    assert_eq!(violation.operations, [14, 12, 13]);
    assert_eq!((report.keys, report.operations), (1, 4));
}

#[test]
fn one_bad_key_does_not_hide_behind_a_good_one() {
    let good = register(vec![write(0, "a", 1), read(2, Some("a"), 3)]);
    let bad = register(vec![write(0, "a", 1), read(2, None, 3)]);
    let keys = BTreeMap::from([("good".to_owned(), good), ("bad".to_owned(), bad)]);
    let report = check(&keys, Limits::default());
    assert_eq!((report.keys, report.violations.len()), (2, 1));
    assert!(report.violations[0].sentence.starts_with("bad: "));
}

#[test]
fn beyond_its_limits_a_search_does_not_know() {
    // Twenty lost writes before a value that nobody wrote: every subset in every order.
    let mut operations: Vec<_> = (0..20).map(|number| lost_write(number, &format!("v{number}"))).collect();
    operations.push(read(100, Some("never written"), 101));
    let history = register(operations);
    let few_steps = Limits { steps: 1000, ..Limits::default() };
    assert_eq!(search(&history, few_steps), Outcome::Unknown(Unknown::Steps(1000)));
    let few_bytes = Limits { bytes: 1 << 20, ..Limits::default() };
    assert_eq!(search(&history, few_bytes), Outcome::Unknown(Unknown::Bytes(1 << 20)));
    let keys = BTreeMap::from([("x".to_owned(), history)]);
    let report = check(&keys, few_steps);
    assert!(report.violations.is_empty());
    assert_eq!(report.unknown, ["x: no answer within 1000 steps of the search"]);
}

#[test]
fn a_set_shows_what_was_added() {
    let add = |at, element: &str, until: Option<u64>| Timed::<Set> {
        index: at,
        invoked_at: at,
        call: SetCall::Add(element.to_owned()),
        returned: until.map(|until| (until, SetAnswer::Added)),
    };
    let read = |at, elements: &[&str], until| Timed::<Set> {
        index: at,
        invoked_at: at,
        call: SetCall::Read,
        returned: Some((
            until,
            SetAnswer::Read(elements.iter().map(|&element| element.to_owned()).collect()),
        )),
    };
    let passes =
        |history: &[Timed<Set>]| matches!(search(history, Limits::default()), Outcome::Linearizable(_));
    assert!(passes(&[add(0, "a", Some(1)), add(2, "b", None), read(4, &["a"], 5), read(6, &["a", "b"], 7)]));
    assert!(!passes(&[add(0, "a", Some(1)), add(2, "b", Some(3)), read(4, &["a"], 5)]));
    assert!(!passes(&[add(0, "a", Some(1)), read(4, &["a", "z"], 5)]));
    assert!(!passes(&[add(0, "a", None), read(4, &["a"], 5), read(6, &[], 7)]));
}

#[test]
fn a_text_shows_each_append_once_and_in_one_order() {
    let call = |at, call: TextCall, answer: TextAnswer, until| Timed::<Text> {
        index: at,
        invoked_at: at,
        call,
        returned: Some((until, answer)),
    };
    let append = |at, more: &str, until| call(at, TextCall::Append(more.to_owned()), TextAnswer::Done, until);
    let put = |at, text: &str, until| call(at, TextCall::Put(text.to_owned()), TextAnswer::Done, until);
    let get = |at, seen: &str, until| call(at, TextCall::Get, TextAnswer::Got(seen.to_owned()), until);
    let passes =
        |history: &[Timed<Text>]| matches!(search(history, Limits::default()), Outcome::Linearizable(_));
    assert!(passes(&[append(0, "a", 5), append(1, "b", 4), get(6, "ba", 7)]));
    assert!(!passes(&[append(0, "a", 5), append(1, "b", 4), get(6, "ba", 7), get(8, "ab", 9)]));
    assert!(!passes(&[append(0, "a", 1), append(2, "b", 3), get(6, "ba", 7)]));
    assert!(!passes(&[append(0, "a", 1), get(6, "aa", 7)]));
    assert!(passes(&[append(0, "a", 1), put(2, "c", 3), append(4, "d", 5), get(6, "cd", 7)]));
}
