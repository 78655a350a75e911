//! An in-memory API behind the real wire, for tests (to come).
