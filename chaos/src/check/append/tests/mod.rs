//! One history for each anomaly; and random ones against every order there is.

mod anomalies;
mod brute_force;
mod generated;

use crate::history::{End, Step, Transaction};

/// A transaction from words such as `a x 1, r y 1 2`, which runs from one time to another.
fn committed(invoked_at: u64, returned_at: u64, steps: &str) -> Transaction {
    Transaction {
        index: invoked_at,
        invoked_at,
        steps: steps.split(", ").map(step).collect(),
        end: End::Committed { returned_at },
    }
}

fn aborted(invoked_at: u64, steps: &str) -> Transaction {
    Transaction { end: End::Aborted, ..committed(invoked_at, 0, steps) }
}

fn lost(invoked_at: u64, steps: &str) -> Transaction {
    Transaction { end: End::Unknown, ..committed(invoked_at, 0, steps) }
}

fn step(words: &str) -> Step {
    let mut words = words.split(' ');
    let (function, key) = (words.next(), words.next().unwrap().to_owned());
    let numbers: Vec<i64> = words.map(|word| word.parse().unwrap()).collect();
    match function {
        Some("a") => Step::Append { key, element: numbers[0] },
        Some("r") => Step::Read { key, list: Some(numbers) },
        _ => unreachable!("a or r"),
    }
}
