//! Our register workload as the search sees it: values only.
//!
//! A compare-and-swap names a revision. Values are unique, and the answers say which value has which revision, so the revision
//! becomes the value that it stands for. Beyond this nothing that the store says of revisions is believed.

use std::collections::BTreeMap;

use super::Violation;
use super::linearizability::{Expected, Register, RegisterAnswer, RegisterCall, Timed};
use crate::history::{Answer, Call, KeyState, Operation, Outcome};

/// The operations of each key.
pub type Keys = BTreeMap<String, Vec<Timed<Register>>>;

/// Returns the operations of each key that may have happened.
///
/// # Errors
/// Revisions of one key that answers give to two values: the search would not know what a compare-and-swap meant.
pub fn keys(operations: &[Operation]) -> Result<Keys, Vec<Violation>> {
    let values = values(operations)?;
    let mut keys = Keys::new();
    for operation in operations.iter().filter(|operation| operation.outcome != Outcome::Fail) {
        let call = match &operation.call {
            Call::Read => RegisterCall::Read,
            Call::Write { value } => RegisterCall::Write(value.clone()),
            Call::Cas { expected: 0, value } => {
                RegisterCall::Cas { expected: Expected::Is(None), value: value.clone() }
            }
            Call::Cas { expected, value } => {
                let seen = values.get(&(operation.key.as_str(), *expected));
                let expected = seen.map_or(Expected::Unseen, |seen| Expected::Is(Some((*seen).to_owned())));
                RegisterCall::Cas { expected, value: value.clone() }
            }
        };
        let returned = match &operation.outcome {
            Outcome::Ok { answer, returned_at, .. } => Some((*returned_at, answer_of(answer))),
            Outcome::Fail | Outcome::Unknown => None,
        };
        let timed = Timed { index: operation.index, invoked_at: operation.invoked_at, call, returned };
        keys.entry(operation.key.clone()).or_default().push(timed);
    }
    Ok(keys)
}

fn answer_of(answer: &Answer) -> RegisterAnswer {
    let value = |state: &Option<KeyState>| state.as_ref().map(|state| state.value.clone());
    match answer {
        Answer::Read(state) => RegisterAnswer::Read(value(state)),
        Answer::Written => RegisterAnswer::Written,
        Answer::Swapped => RegisterAnswer::Swapped,
        Answer::NotSwapped(state) => RegisterAnswer::RefusedBy(value(state)),
    }
}

/// The value that each revision of a key stands for, as answers tell.
fn values(operations: &[Operation]) -> Result<BTreeMap<(&str, i64), &str>, Vec<Violation>> {
    let mut values: BTreeMap<(&str, i64), (&str, u64)> = BTreeMap::new();
    let mut violations = Vec::new();
    for operation in operations {
        let Outcome::Ok { answer, revision, .. } = &operation.outcome else { continue };
        let told = match answer {
            Answer::Read(state) | Answer::NotSwapped(state) => {
                state.as_ref().map(|state| (state.mod_revision, state.value.as_str()))
            }
            Answer::Written | Answer::Swapped => operation.written_value().map(|value| (*revision, value)),
        };
        let Some((revision, value)) = told else { continue };
        let (known, by) = *values.entry((&operation.key, revision)).or_insert((value, operation.index));
        if known != value {
            violations.push(Violation {
                rule: "two values of one revision",
                sentence: format!(
                    "{} has {known} at revision {revision} by #{by}, and {value} by #{}",
                    operation.key, operation.index
                ),
                operations: vec![by, operation.index],
            });
        }
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    Ok(values.into_iter().map(|(place, (value, _))| (place, value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::linearizability::{Limits, check};
    use crate::history::Process;

    fn operation(index: u64, call: Call, answer: Answer, revision: i64) -> Operation {
        Operation {
            index,
            process: Process::Client(0),
            node: "n1".to_owned(),
            key: "k".to_owned(),
            call,
            invoked_at: index,
            outcome: Outcome::Ok { answer, revision, returned_at: index + 1 },
        }
    }

    fn state(value: &str, mod_revision: i64) -> Option<KeyState> {
        Some(KeyState { value: value.to_owned(), version: 1, create_revision: 2, mod_revision, lease: 0 })
    }

    fn write(index: u64, value: &str, revision: i64) -> Operation {
        operation(index, Call::Write { value: value.to_owned() }, Answer::Written, revision)
    }

    fn cas(index: u64, expected: i64, value: &str, answer: Answer, revision: i64) -> Operation {
        operation(index, Call::Cas { expected, value: value.to_owned() }, answer, revision)
    }

    fn names(operations: &[Operation]) -> Vec<String> {
        keys(operations).unwrap()["k"].iter().map(Timed::name).collect()
    }

    fn is_good(operations: &[Operation]) -> bool {
        check(&keys(operations).unwrap(), Limits::default()).violations.is_empty()
    }

    #[test]
    fn a_revision_becomes_the_value_it_stands_for() {
        let history = [
            cas(0, 0, "a", Answer::Swapped, 2),
            operation(2, Call::Read, Answer::Read(state("a", 2)), 2),
            cas(4, 2, "b", Answer::Swapped, 3),
            cas(6, 2, "c", Answer::NotSwapped(state("b", 3)), 3),
            cas(8, 77, "d", Answer::Swapped, 78),
        ];
        assert_eq!(
            names(&history),
            [
                "#0 (cas from nothing to a)",
                "#2 (read a)",
                "#4 (cas from a to b)",
                "#6 (cas from a to c, refused by b)",
                "#8 (cas from a state that nobody saw to d)"
            ]
        );
        assert!(is_good(&history));
    }

    #[test]
    fn a_stale_read_is_found_without_any_revision() {
        let mut history =
            [write(0, "a", 2), write(2, "b", 3), operation(4, Call::Read, Answer::Read(state("b", 3)), 3)];
        assert!(is_good(&history));
        history[2] = operation(4, Call::Read, Answer::Read(state("a", 2)), 3);
        assert!(!is_good(&history));
    }

    #[test]
    fn a_swap_against_its_condition_is_found() {
        let history = [write(0, "a", 2), write(2, "b", 3), cas(4, 2, "c", Answer::Swapped, 4)];
        assert!(!is_good(&history));
    }

    #[test]
    fn what_failed_did_not_happen_and_what_is_unknown_may_have() {
        let mut failed = write(2, "b", 3);
        failed.outcome = Outcome::Fail;
        let mut unknown = write(4, "c", 4);
        unknown.outcome = Outcome::Unknown;
        let read = |value| operation(6, Call::Read, Answer::Read(state(value, 9)), 9);
        assert!(is_good(&[failed.clone(), unknown.clone(), read("c")]));
        assert!(!is_good(&[failed, unknown, read("b")]));
    }

    #[test]
    fn two_values_of_one_revision_are_a_violation() {
        let history = [write(0, "a", 2), operation(2, Call::Read, Answer::Read(state("b", 2)), 2)];
        let violations = keys(&history).unwrap_err();
        assert_eq!(violations[0].rule, "two values of one revision");
        assert_eq!(violations[0].operations, [0, 2]);
    }
}
