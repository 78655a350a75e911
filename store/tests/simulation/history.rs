//! What clients did and saw, in the order in which it happened.

use std::sync::{Arc, Mutex};

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Put { key: u8, value: u64 },
    Get { key: u8 },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// A put at this revision.
    Put { revision: i64 },
    /// A read at `revision` that saw `value`, written at `modified` (0 and 0 for no key).
    Get { revision: i64, modified: i64, value: u64 },
    /// It surely did not happen.
    Failed,
    /// It may have happened.
    Unknown,
}

/// One operation. Times are numbers in one sequence for all clients.
#[derive(Clone, Debug, Hash)]
pub struct Operation {
    pub client: u64,
    pub action: Action,
    pub invoked: u64,
    pub completed: Option<u64>,
    pub end: End,
}

/// All operations of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    next: u64,
}

/// Clients share one history.
pub type Shared = Arc<Mutex<History>>;

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub ok: usize,
    pub unknown: usize,
    pub failed: usize,
}

impl History {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Records the beginning; an operation that never ends stays unknown.
    pub fn invoke(&mut self, client: u64, action: Action) -> usize {
        let invoked = self.tick();
        self.operations.push(Operation { client, action, invoked, completed: None, end: End::Unknown });
        self.operations.len() - 1
    }

    pub fn complete(&mut self, operation: usize, end: End) {
        let completed = self.tick();
        let operation = &mut self.operations[operation];
        operation.completed = Some(completed);
        operation.end = end;
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for operation in &self.operations {
            match operation.end {
                End::Put { .. } | End::Get { .. } => counts.ok += 1,
                End::Unknown => counts.unknown += 1,
                End::Failed => counts.failed += 1,
            }
        }
        counts
    }
}
