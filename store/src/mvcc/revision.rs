//! Revision and lease numbers as newtypes, so that they are never mixed.

use std::fmt;

/// A store revision. An empty store stands at 1; every transaction that changes at least one key adds exactly 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision of an empty store.
    pub const FIRST: Self = Self(1);

    /// The compact revision of a store that was never compacted.
    pub const NEVER_COMPACTED: Self = Self(-1);

    /// Returns the revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A lease id; `LeaseId::NONE` (0) means "no lease".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// No lease.
    pub const NONE: Self = Self(0);
}
