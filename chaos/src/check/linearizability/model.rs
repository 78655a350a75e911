//! What an object promises to a single client: the sequential specification that a search steps through.

use std::hash::Hash;

/// One object. A file beside this one for each.
pub trait Model {
    type State: Clone + Eq + Hash;
    type Call;
    type Answer;

    /// Returns the state before the first operation.
    fn initial() -> Self::State;

    /// Returns the state behind a call, or `None` when the answer is not the object's. An answer of `None` is not known; every
    /// state then has a successor.
    fn step(state: &Self::State, call: &Self::Call, answer: Option<&Self::Answer>) -> Option<Self::State>;

    /// Returns the state behind a call that forgets all that was there before. All other calls of an object whose answers
    /// [show](Self::shown) its state only add to it.
    fn starts_anew(call: &Self::Call) -> Option<Self::State>;

    /// Returns the whole state, if an answer shows it.
    fn shown(answer: &Self::Answer) -> Option<&Self::State>;

    /// Returns whether calls that only add may lead from one state to another.
    fn may_grow_into(state: &Self::State, later: &Self::State) -> bool;

    /// Returns about how many bytes a state takes on the heap, for the limit of a search.
    fn heap_bytes(state: &Self::State) -> usize;

    /// Names a call and its answer for a person.
    fn describe(call: &Self::Call, answer: Option<&Self::Answer>) -> String;

    /// Names a state for a person.
    fn describe_state(state: &Self::State) -> String;
}

/// One operation of one client, as a search sees it.
pub struct Timed<M: Model> {
    /// Index of the invocation in the history.
    pub index: u64,
    pub invoked_at: u64,
    pub call: M::Call,
    /// The answer and when it came. `None`: the fate is not known.
    pub returned: Option<(u64, M::Answer)>,
}

impl<M: Model> Timed<M> {
    /// Returns the answer, where there is one.
    #[must_use]
    pub fn answer(&self) -> Option<&M::Answer> {
        self.returned.as_ref().map(|(_, answer)| answer)
    }

    /// Names the operation so that a reader finds it in the history.
    #[must_use]
    pub fn name(&self) -> String {
        format!("#{} ({})", self.index, M::describe(&self.call, self.answer()))
    }
}

impl<M: Model<Call: Clone, Answer: Clone>> Clone for Timed<M> {
    fn clone(&self) -> Self {
        Self {
            index: self.index,
            invoked_at: self.invoked_at,
            call: self.call.clone(),
            returned: self.returned.clone(),
        }
    }
}

impl<M: Model<Call: std::fmt::Debug, Answer: std::fmt::Debug>> std::fmt::Debug for Timed<M> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Timed")
            .field("index", &self.index)
            .field("invoked_at", &self.invoked_at)
            .field("call", &self.call)
            .field("returned", &self.returned)
            .finish()
    }
}
