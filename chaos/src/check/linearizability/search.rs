//! The search itself, over one object.

use std::collections::HashSet;

use super::horizon::Horizon;
use super::model::{Model, Timed};
use super::operation_set::OperationSet;
use super::timeline::{Event, Timeline};

/// How much a search may do before its verdict is "unknown".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of the model: a bound on time that is the same on every machine.
    pub steps: u64,
    /// Bytes of all remembered pairs of operations and state.
    pub bytes: usize,
}

impl Default for Limits {
    /// About ten seconds and half a gigabyte for the worst key.
    fn default() -> Self {
        Self { steps: 20_000_000, bytes: 512 << 20 }
    }
}

/// What a search says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Numbers of operations in an order that explains every answer and respects real time.
    Linearizable(Vec<usize>),
    NotLinearizable(Culprit),
    Unknown(Unknown),
}

/// Why there is no order: the history is linearizable until just before `blocked` returned, and no further. (Of an object whose
/// answers show its whole state, no further with what later answers show.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Numbers of operations in an order that explains all that had returned before.
    pub order: Vec<usize>,
    /// The state behind that order.
    pub state: String,
    /// The operation that returned and has no place.
    pub blocked: usize,
    /// Others that were under way and are not in the order.
    pub under_way: Vec<usize>,
}

/// Which limit ended a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    Steps(u64),
    Bytes(usize),
}

/// Looks for an order of operations on one object that explains every answer and respects real time.
#[must_use]
pub fn search<M: Model>(operations: &[Timed<M>], limits: Limits) -> Outcome {
    Search::new(operations).run(limits)
}

/// An operation that was taken, and the state before it.
struct Taken<S> {
    operation: usize,
    before: S,
}

struct Search<'a, M: Model> {
    operations: &'a [Timed<M>],
    timeline: Timeline,
    horizon: Horizon<'a, M>,
    order: Vec<Taken<M::State>>,
    taken: OperationSet,
    state: M::State,
    /// Operations that returned and are not taken yet.
    waiting: usize,
    remembered: HashSet<(OperationSet, M::State)>,
    bytes: usize,
    steps: u64,
    /// The furthest return that could not be passed, with the culprit seen there.
    furthest: Option<(usize, Culprit)>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(operations: &'a [Timed<M>]) -> Self {
        Self {
            operations,
            timeline: Timeline::new(operations),
            horizon: Horizon::new(operations),
            order: Vec::new(),
            taken: OperationSet::new(operations.len()),
            state: M::initial(),
            waiting: operations.iter().filter(|operation| operation.returned.is_some()).count(),
            remembered: HashSet::new(),
            bytes: 0,
            steps: 0,
            furthest: None,
        }
    }

    fn run(mut self, limits: Limits) -> Outcome {
        let mut position = self.timeline.first();
        while self.waiting > 0 {
            if self.steps > limits.steps {
                return Outcome::Unknown(Unknown::Steps(limits.steps));
            }
            if self.bytes > limits.bytes {
                return Outcome::Unknown(Unknown::Bytes(limits.bytes));
            }
            position = match self.timeline.event(position) {
                Some(Event::Invocation(operation)) => {
                    if self.try_next(operation) {
                        self.timeline.first()
                    } else {
                        self.timeline.after(position)
                    }
                }
                Some(Event::Return(blocked)) => {
                    self.note(position, blocked);
                    let Some(last) = self.take_back() else { return self.not_linearizable() };
                    self.timeline.after(self.timeline.invoked(last))
                }
                // While an operation waits, its return stands in the list.
                None => return self.not_linearizable(),
            };
        }
        Outcome::Linearizable(self.taken_order())
    }

    /// Takes an operation as the next one, if the model allows it and the place is new.
    fn try_next(&mut self, number: usize) -> bool {
        let Some(operation) = self.operations.get(number) else { return false };
        self.steps += 1;
        let Some(next) = M::step(&self.state, &operation.call, operation.answer()) else { return false };
        // Nobody asks whether an operation without answer and without effect happened.
        if operation.returned.is_none() && next == self.state {
            return false;
        }
        self.taken.insert(number);
        if !self.horizon.allows(&self.taken, &next) || !self.remember(&next) {
            self.taken.remove(number);
            return false;
        }
        let before = std::mem::replace(&mut self.state, next);
        self.order.push(Taken { operation: number, before });
        self.timeline.take(number);
        self.waiting -= usize::from(operation.returned.is_some());
        true
    }

    fn remember(&mut self, next: &M::State) -> bool {
        let is_new = self.remembered.insert((self.taken.clone(), next.clone()));
        if is_new {
            // A table has room for twice what it holds, at worst.
            let inline = 2 * size_of::<(OperationSet, M::State)>();
            self.bytes += inline + self.taken.heap_bytes() + M::heap_bytes(next);
        }
        is_new
    }

    /// Takes the last operation back and returns it.
    fn take_back(&mut self) -> Option<usize> {
        let Taken { operation, before } = self.order.pop()?;
        self.state = before;
        self.taken.remove(operation);
        self.timeline.put_back(operation);
        let returned = self.operations.get(operation).is_some_and(|operation| operation.returned.is_some());
        self.waiting += usize::from(returned);
        Some(operation)
    }

    /// Keeps the furthest return that was met, and the longest order that led there.
    fn note(&mut self, position: usize, blocked: usize) {
        let is_further = self.furthest.as_ref().is_none_or(|(furthest, culprit)| {
            (position, self.order.len()) > (*furthest, culprit.order.len())
        });
        if !is_further {
            return;
        }
        let mut under_way = Vec::new();
        let mut at = self.timeline.first();
        while at < position {
            if let Some(Event::Invocation(operation)) = self.timeline.event(at)
                && operation != blocked
            {
                under_way.push(operation);
            }
            at = self.timeline.after(at);
        }
        let (order, state) = (self.taken_order(), M::describe_state(&self.state));
        self.furthest = Some((position, Culprit { order, state, blocked, under_way }));
    }

    fn taken_order(&self) -> Vec<usize> {
        self.order.iter().map(|taken| taken.operation).collect()
    }

    fn not_linearizable(self) -> Outcome {
        let nothing = Culprit { order: Vec::new(), state: String::new(), blocked: 0, under_way: Vec::new() };
        Outcome::NotLinearizable(self.furthest.map_or(nothing, |(_, culprit)| culprit))
    }
}
