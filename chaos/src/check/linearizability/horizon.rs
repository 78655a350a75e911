//! What answers to come allow: a state that no longer leads to the next whole state shown is given up at once.
//!
//! Without this, appends under way are tried in every order until an answer contradicts them: with fifty clients that is beyond
//! any limit. Sound, because an operation that returned must still be placed, and only what was invoked before its return can
//! come before it.

use super::model::{Model, Timed};
use super::operation_set::OperationSet;

/// An operation whose answer shows the whole state.
struct Observer<'a, S> {
    operation: usize,
    returned_at: u64,
    shown: &'a S,
}

/// Observers by time, and the operations behind which all begins anew.
pub(super) struct Horizon<'a, M: Model> {
    observers: Vec<Observer<'a, M::State>>,
    beginnings: Vec<Beginning<M::State>>,
}

/// An operation that forgets what was before, and the state behind it.
struct Beginning<S> {
    operation: usize,
    invoked_at: u64,
    state: S,
}

impl<'a, M: Model> Horizon<'a, M> {
    pub(super) fn new(operations: &'a [Timed<M>]) -> Self {
        let observers = operations.iter().enumerate().filter_map(|(number, operation)| {
            let (returned_at, answer) = operation.returned.as_ref()?;
            Some(Observer { operation: number, returned_at: *returned_at, shown: M::shown(answer)? })
        });
        let mut observers: Vec<_> = observers.collect();
        observers.sort_by_key(|observer| observer.returned_at);
        let beginnings = operations.iter().enumerate().filter_map(|(number, operation)| {
            let state = M::starts_anew(&operation.call)?;
            Some(Beginning { operation: number, invoked_at: operation.invoked_at, state })
        });
        Self { observers, beginnings: beginnings.collect() }
    }

    /// Whether a state may still lead to what the next observer shows.
    pub(super) fn allows(&self, taken: &OperationSet, state: &M::State) -> bool {
        let Some(next) = self.observers.iter().find(|observer| !taken.contains(observer.operation)) else {
            return true;
        };
        let mut beginnings = self.beginnings.iter().filter(|beginning| {
            beginning.invoked_at <= next.returned_at && !taken.contains(beginning.operation)
        });
        M::may_grow_into(state, next.shown)
            || beginnings.any(|beginning| M::may_grow_into(&beginning.state, next.shown))
    }
}
