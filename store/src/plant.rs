//! Planted bugs, compiled into `keelson-plant` only: they show that the checkers can fail.
//!
//! A planted binary behaves well until `KEELSON_PLANT` names a bug. Each bug is one branch beside the code that it breaks.

use std::sync::OnceLock;

/// One planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A linearizable read is served from this member's own state, without asking the leader or a quorum.
    StaleRead,
}

/// Whether this bug is switched on.
pub(crate) fn is_planted(plant: Plant) -> bool {
    // Chosen once per process, so that a run never mixes both behaviours.
    static CHOSEN: OnceLock<Option<Plant>> = OnceLock::new();
    *CHOSEN.get_or_init(|| parse(std::env::var("KEELSON_PLANT").ok().as_deref())) == Some(plant)
}

fn parse(name: Option<&str>) -> Option<Plant> {
    match name {
        Some("stale-read") => Some(Plant::StaleRead),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_chosen_by_its_name() {
        assert_eq!(parse(Some("stale-read")), Some(Plant::StaleRead));
        assert_eq!(parse(Some("nonsense")), None);
        assert_eq!(parse(None), None);
    }
}
