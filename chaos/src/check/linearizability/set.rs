//! A set that only grows: add an element, read all.

use std::collections::BTreeSet;

use super::model::Model;

/// A set that begins empty.
pub enum Set {}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetCall {
    Add(String),
    Read,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetAnswer {
    Added,
    Read(BTreeSet<String>),
}

impl Model for Set {
    type State = BTreeSet<String>;
    type Call = SetCall;
    type Answer = SetAnswer;

    fn initial() -> Self::State {
        BTreeSet::new()
    }

    fn step(state: &Self::State, call: &SetCall, answer: Option<&SetAnswer>) -> Option<Self::State> {
        match (call, answer) {
            (SetCall::Add(element), None | Some(SetAnswer::Added)) => {
                let mut grown = state.clone();
                grown.insert(element.clone());
                Some(grown)
            }
            (SetCall::Read, None) => Some(state.clone()),
            (SetCall::Read, Some(SetAnswer::Read(seen))) => (seen == state).then(|| state.clone()),
            // An answer to another question.
            (SetCall::Add(_) | SetCall::Read, Some(_)) => None,
        }
    }

    fn starts_anew(_: &SetCall) -> Option<Self::State> {
        None
    }

    fn shown(answer: &SetAnswer) -> Option<&Self::State> {
        match answer {
            SetAnswer::Read(seen) => Some(seen),
            SetAnswer::Added => None,
        }
    }

    fn may_grow_into(state: &Self::State, later: &Self::State) -> bool {
        state.is_subset(later)
    }

    fn heap_bytes(state: &Self::State) -> usize {
        state.iter().map(|element| size_of::<String>() + element.len()).sum()
    }

    fn describe(call: &SetCall, answer: Option<&SetAnswer>) -> String {
        match (call, answer) {
            (SetCall::Add(element), Some(_)) => format!("add {element}"),
            (SetCall::Add(element), None) => format!("add {element}, fate unknown"),
            (SetCall::Read, Some(SetAnswer::Read(seen))) => format!("read {}", Self::describe_state(seen)),
            (SetCall::Read, None | Some(SetAnswer::Added)) => "read".to_owned(),
        }
    }

    fn describe_state(state: &Self::State) -> String {
        let elements: Vec<&str> = state.iter().map(String::as_str).collect();
        format!("{{{}}}", elements.join(" "))
    }
}
