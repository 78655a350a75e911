//! The definition, word by word: some order of all that returned and some of the rest explains every answer.

use crate::check::linearizability::{Model, Timed};

/// Whether some order places every operation that must be placed, by trying every order.
pub(super) fn is_linearizable<M: Model>(operations: &[Timed<M>], must: impl Fn(usize) -> bool) -> bool {
    let left: Vec<usize> = (0..operations.len()).collect();
    extends(operations, &M::initial(), &left, &must)
}

fn extends<M: Model>(
    operations: &[Timed<M>],
    state: &M::State,
    left: &[usize],
    must: &impl Fn(usize) -> bool,
) -> bool {
    if !left.iter().any(|&number| must(number)) {
        return true;
    }
    let returned_at = |number: &usize| operations[*number].returned.as_ref().map(|(at, _)| *at);
    let first_return = left.iter().filter_map(returned_at).min();
    left.iter().any(|&chosen| {
        // Nothing may come before what had returned before it was invoked.
        let operation = &operations[chosen];
        if first_return.is_some_and(|returned_at| returned_at < operation.invoked_at) {
            return false;
        }
        let rest: Vec<usize> = left.iter().copied().filter(|&number| number != chosen).collect();
        M::step(state, &operation.call, operation.answer())
            .is_some_and(|next| extends(operations, &next, &rest, must))
    })
}

/// Whether an order explains every answer, respects real time, and names everything that must be placed.
pub(super) fn explains<M: Model>(
    operations: &[Timed<M>],
    order: &[usize],
    must: impl Fn(usize) -> bool,
) -> bool {
    let mut state = M::initial();
    let mut latest_invocation = 0;
    for &number in order {
        let operation = &operations[number];
        if operation.returned.as_ref().is_some_and(|(returned_at, _)| *returned_at < latest_invocation) {
            return false;
        }
        latest_invocation = latest_invocation.max(operation.invoked_at);
        match M::step(&state, &operation.call, operation.answer()) {
            Some(next) => state = next,
            None => return false,
        }
    }
    let mut named = order.to_vec();
    named.sort_unstable();
    named.dedup();
    named.len() == order.len() && (0..operations.len()).all(|number| !must(number) || order.contains(&number))
}
