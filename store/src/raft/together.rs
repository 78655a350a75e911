//! Whether log and database are of one piece. Pure.

use super::state_machine::Found;
use crate::wal::{Inspected, LogState};

/// What one of log and database holds that the other lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("the database holds data but the log holds no vote; the log directory was lost or replaced")]
    Vote,
    #[error("there is a database but no log; the log directory was lost")]
    Log,
    #[error("the log holds records but there is no database; the database directory was lost or replaced")]
    Database,
    #[error("the log begins behind entry {purged}, but the database ends at {applied:?}; data was lost")]
    Entries { purged: u64, applied: Option<u64> },
}

/// Log and database must be of one piece (safety rule 4). The log is made first, so a database without one has lost it.
pub(crate) fn check_together(found: &Found, log: &Inspected) -> Result<(), Mismatch> {
    let LogState { vote, purged, last, committed: _ } = log.sum();
    let applied = found.applied().map(|id| id.index());
    if applied.is_some() && vote.is_none() {
        return Err(Mismatch::Vote);
    }
    if !found.is_new() && log.is_new() {
        return Err(Mismatch::Log);
    }
    if found.is_new() && (vote.is_some() || last.is_some()) {
        return Err(Mismatch::Database);
    }
    match purged.map(|purged| purged.index) {
        Some(purged) if applied < Some(purged) => Err(Mismatch::Entries { purged, applied }),
        Some(_) | None => Ok(()),
    }
}
