//! What a checker says of a run.

use std::fmt;

use serde::Serialize;

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was promised held.
    Pass,
    /// A promise was broken; the first violations, worst first.
    Fail(Vec<Violation>),
    /// The run proves nothing: too few operations, or a fault that left no witness.
    Invalid(Vec<String>),
}

/// One broken promise, with the operations that show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The rule, in a few words.
    pub rule: &'static str,
    /// One sentence that names the operations.
    pub sentence: String,
    /// Indexes of the invocations involved.
    pub operations: Vec<u64>,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.rule, self.sentence)
    }
}
