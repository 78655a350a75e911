//! A register: read, write, compare-and-swap of one value.

use super::model::Model;

/// A register that begins empty. Without `Cas` calls it is a plain read-write register.
pub enum Register {}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterCall {
    Read,
    Write(String),
    Cas { expected: Expected, value: String },
}

/// What a compare-and-swap asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This value, or none.
    Is(Option<String>),
    /// A state that no answer shows: it may have been any.
    Unseen,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterAnswer {
    Read(Option<String>),
    Written,
    Swapped,
    /// The compare did not hold.
    Refused,
    /// The compare did not hold, and the answer shows what was there.
    RefusedBy(Option<String>),
}

impl Expected {
    fn may_be(&self, state: Option<&String>) -> bool {
        match self {
            Self::Is(value) => value.as_ref() == state,
            Self::Unseen => true,
        }
    }

    fn may_not_be(&self, state: Option<&String>) -> bool {
        match self {
            Self::Is(value) => value.as_ref() != state,
            Self::Unseen => true,
        }
    }
}

impl Model for Register {
    type State = Option<String>;
    type Call = RegisterCall;
    type Answer = RegisterAnswer;

    fn initial() -> Self::State {
        None
    }

    fn step(
        state: &Self::State,
        call: &RegisterCall,
        answer: Option<&RegisterAnswer>,
    ) -> Option<Self::State> {
        let now = state.as_ref();
        match (call, answer) {
            (RegisterCall::Read, None) => Some(state.clone()),
            (RegisterCall::Read, Some(RegisterAnswer::Read(seen))) => (seen == state).then(|| state.clone()),
            (RegisterCall::Write(value), None | Some(RegisterAnswer::Written)) => Some(Some(value.clone())),
            (RegisterCall::Cas { expected, value }, None) => {
                Some(if expected.may_be(now) { Some(value.clone()) } else { state.clone() })
            }
            (RegisterCall::Cas { expected, value }, Some(RegisterAnswer::Swapped)) => {
                expected.may_be(now).then(|| Some(value.clone()))
            }
            (RegisterCall::Cas { expected, .. }, Some(RegisterAnswer::Refused)) => {
                expected.may_not_be(now).then(|| state.clone())
            }
            (RegisterCall::Cas { expected, .. }, Some(RegisterAnswer::RefusedBy(seen))) => {
                (seen == state && expected.may_not_be(now)).then(|| state.clone())
            }
            // An answer to another question.
            (RegisterCall::Read | RegisterCall::Write(_) | RegisterCall::Cas { .. }, Some(_)) => None,
        }
    }

    fn starts_anew(_: &RegisterCall) -> Option<Self::State> {
        None
    }

    fn shown(_: &RegisterAnswer) -> Option<&Self::State> {
        None
    }

    fn may_grow_into(_: &Self::State, _: &Self::State) -> bool {
        true
    }

    fn heap_bytes(state: &Self::State) -> usize {
        state.as_ref().map_or(0, String::len)
    }

    fn describe(call: &RegisterCall, answer: Option<&RegisterAnswer>) -> String {
        let asked = match call {
            RegisterCall::Read => "read".to_owned(),
            RegisterCall::Write(value) => format!("write {value}"),
            RegisterCall::Cas { expected: Expected::Is(expected), value } => {
                format!("cas from {} to {value}", shown(expected.as_ref()))
            }
            RegisterCall::Cas { expected: Expected::Unseen, value } => {
                format!("cas from a state that nobody saw to {value}")
            }
        };
        match answer {
            None => format!("{asked}, fate unknown"),
            Some(RegisterAnswer::Read(seen)) => format!("{asked} {}", shown(seen.as_ref())),
            Some(RegisterAnswer::Written | RegisterAnswer::Swapped) => asked,
            Some(RegisterAnswer::Refused) => format!("{asked}, refused"),
            Some(RegisterAnswer::RefusedBy(seen)) => format!("{asked}, refused by {}", shown(seen.as_ref())),
        }
    }

    fn describe_state(state: &Self::State) -> String {
        shown(state.as_ref()).to_owned()
    }
}

fn shown(value: Option<&String>) -> &str {
    value.map_or("nothing", String::as_str)
}
