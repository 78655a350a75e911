//! A text that is put, appended to and read whole: one key of a key-value store with append.

use super::model::Model;

/// A text that begins empty.
pub enum Text {}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextCall {
    Get,
    Put(String),
    Append(String),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextAnswer {
    Got(String),
    Done,
}

impl Model for Text {
    type State = String;
    type Call = TextCall;
    type Answer = TextAnswer;

    fn initial() -> Self::State {
        String::new()
    }

    fn step(state: &Self::State, call: &TextCall, answer: Option<&TextAnswer>) -> Option<Self::State> {
        match (call, answer) {
            (TextCall::Get, None) => Some(state.clone()),
            (TextCall::Get, Some(TextAnswer::Got(seen))) => (seen == state).then(|| state.clone()),
            (TextCall::Put(text), None | Some(TextAnswer::Done)) => Some(text.clone()),
            (TextCall::Append(more), None | Some(TextAnswer::Done)) => Some(format!("{state}{more}")),
            // An answer to another question.
            (TextCall::Get | TextCall::Put(_) | TextCall::Append(_), Some(_)) => None,
        }
    }

    fn starts_anew(call: &TextCall) -> Option<Self::State> {
        match call {
            TextCall::Get | TextCall::Append(_) => None,
            TextCall::Put(text) => Some(text.clone()),
        }
    }

    fn shown(answer: &TextAnswer) -> Option<&Self::State> {
        match answer {
            TextAnswer::Got(seen) => Some(seen),
            TextAnswer::Done => None,
        }
    }

    fn may_grow_into(state: &Self::State, later: &Self::State) -> bool {
        later.starts_with(state.as_str())
    }

    fn heap_bytes(state: &Self::State) -> usize {
        state.len()
    }

    fn describe(call: &TextCall, answer: Option<&TextAnswer>) -> String {
        let asked = match call {
            TextCall::Get => "get".to_owned(),
            TextCall::Put(text) => format!("put {text:?}"),
            TextCall::Append(more) => format!("append {more:?}"),
        };
        match answer {
            None => format!("{asked}, fate unknown"),
            Some(TextAnswer::Got(seen)) => format!("{asked} {seen:?}"),
            Some(TextAnswer::Done) => asked,
        }
    }

    fn describe_state(state: &Self::State) -> String {
        format!("{state:?}")
    }
}
