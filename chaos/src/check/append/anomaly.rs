//! Names of what can go wrong, and how transactions are shown.

use crate::check::Violation;
use crate::history::{Step, Transaction};

/// Elements of a list that are shown at most.
const SHOWN_MAX: usize = 8;

/// What a list-append history can show, under its published name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anomaly {
    UnwrittenElement,
    DuplicateElement,
    IncompatibleOrder,
    Internal,
    G1a,
    G1b,
    LostUpdate,
    G0,
    G1c,
    GSingle,
    G2,
    G0Realtime,
    G1cRealtime,
    GSingleRealtime,
    G2Realtime,
}

impl Anomaly {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UnwrittenElement => "unwritten element",
            Self::DuplicateElement => "duplicate element",
            Self::IncompatibleOrder => "incompatible order",
            Self::Internal => "internal",
            Self::G1a => "G1a (dirty read)",
            Self::G1b => "G1b (intermediate read)",
            Self::LostUpdate => "lost update",
            Self::G0 => "G0 (write cycle)",
            Self::G1c => "G1c (circular information flow)",
            Self::GSingle => "G-single (read skew)",
            Self::G2 => "G2 (write skew)",
            Self::G0Realtime => "G0-realtime",
            Self::G1cRealtime => "G1c-realtime",
            Self::GSingleRealtime => "G-single-realtime (stale read)",
            Self::G2Realtime => "G2-realtime",
        }
    }

    pub(super) fn violation(self, sentence: String, involved: &[&Transaction]) -> Violation {
        let operations = involved.iter().map(|transaction| transaction.index).collect();
        Violation { rule: self.name(), sentence, operations }
    }
}

/// Names a transaction so that a reader finds it in the history.
pub(super) fn name(transaction: &Transaction) -> String {
    let steps: Vec<String> = transaction.steps.iter().map(step).collect();
    format!("#{} [{}]", transaction.index, steps.join(", "))
}

fn step(step: &Step) -> String {
    match step {
        Step::Append { key, element } => format!("append {key} {element}"),
        Step::Read { key, list: Some(list) } => format!("r {key} {}", shown(list)),
        Step::Read { key, list: None } => format!("r {key} ?"),
    }
}

/// Shows a list, or the end of a long one.
pub(super) fn shown(list: &[i64]) -> String {
    let hidden = list.len().saturating_sub(SHOWN_MAX);
    let elements: Vec<String> = list.iter().skip(hidden).map(i64::to_string).collect();
    let dots = if hidden > 0 { "… " } else { "" };
    format!("[{dots}{}]", elements.join(" "))
}
