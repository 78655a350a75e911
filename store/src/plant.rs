//! Planted bugs, compiled into `keelson-plant` only: they show that the checkers can fail.
//!
//! A planted binary behaves well until `KEELSON_PLANT` names a bug. One stands here, as a branch beside the code that it breaks; all
//! others are sown into a copy of the sources (`cargo xtask mutants`, `docs/decisions/0019`).

use std::sync::OnceLock;

/// One planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A linearizable read is served from this member's own state, without asking the leader or a quorum.
    StaleRead,
}

/// Whether this bug is switched on.
pub(crate) fn is_planted(plant: Plant) -> bool {
    match plant {
        Plant::StaleRead => is_sown("stale-read"),
    }
}

/// Whether a bug that was sown into this copy of the sources is switched on.
pub fn is_sown(name: &str) -> bool {
    // Chosen once per process, so that a run never mixes both behaviours.
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("KEELSON_PLANT").ok()).as_deref() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bug_is_switched_on_unless_it_is_named() {
        let named = std::env::var("KEELSON_PLANT").ok();
        assert_eq!(is_planted(Plant::StaleRead), named.as_deref() == Some("stale-read"));
        assert!(!is_sown("no bug"));
    }
}
