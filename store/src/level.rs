//! Feature levels: what all members of a cluster understand (safety rule 9).
//!
//! A level stands for everything that its releases may write to log and state, and for what applying it means. The state holds the
//! level that was agreed on; it only grows, by a command that is proposed once every member supports more. Until then nothing is
//! written that the release before cannot read, so it can still be gone back to. Who proposes it is `member::level`.
//!
//! | level | what it allows |
//! |---|---|
//! | 1 | everything until levels were agreed on |
//! | 2 | the level itself and a downgrade that was announced, in records of format 2 |

use std::fmt;

/// A number that stands for what members may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u32);

impl Level {
    /// The level of a state that holds none.
    pub const FIRST: Self = Self(1);
    /// The level from which on the state holds it.
    pub(crate) const RECORDED: Self = Self(2);
    /// The highest one that this version knows.
    pub const HIGHEST: Self = Self::RECORDED;

    /// Reads a field in which versions that know of no levels say nothing.
    pub(crate) fn told(number: u32) -> Self {
        Self(number).max(Self::FIRST)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// The levels that a member can be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    pub lowest: Level,
    pub highest: Level,
}

/// Why a member cannot be at a level, and what a person does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedLevel {
    #[error(
        "the cluster has feature level {found} and this version supports up to {highest}: start the newer release that was running, or \
         one after it"
    )]
    TooHigh { found: Level, highest: Level },
    #[error(
        "the cluster has feature level {found} and --feature-level-max holds this member to {held}: start it without that flag"
    )]
    Held { found: Level, held: Level },
    #[error(
        "the cluster has feature level {found} and this version supports {lowest} and up: start the release before it, and this one \
         when all members run that and the level has been raised"
    )]
    TooLow { found: Level, lowest: Level },
}

impl Levels {
    /// All that this version supports.
    pub const SUPPORTED: Self = Self { lowest: Level::FIRST, highest: Level::HIGHEST };

    /// Returns the same without those above `highest`.
    #[must_use]
    pub fn up_to(highest: Level) -> Self {
        Self { highest, ..Self::SUPPORTED }
    }

    /// Whether a member can be at a level that it has found.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check(self, found: Level) -> Result<(), UnsupportedLevel> {
        let Self { lowest, highest } = self;
        if found > highest {
            let is_known = found <= Level::HIGHEST;
            return Err(match is_known {
                true => UnsupportedLevel::Held { found, held: highest },
                false => UnsupportedLevel::TooHigh { found, highest },
            });
        }
        if found < lowest {
            return Err(UnsupportedLevel::TooLow { found, lowest });
        }
        Ok(())
    }
}

/// Asks for a higher level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaiseLevel {
    pub level: Level,
    /// Who said to support it. Nothing is raised if others belong to the cluster when this is applied.
    pub members: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_not_supported_is_named_with_what_to_do() {
        let levels = Levels { lowest: Level(2), highest: Level(4) };
        let check = |found| levels.check(Level(found)).map_err(|refused| refused.to_string());
        assert_eq!([check(2), check(3), check(4)], [Ok(()), Ok(()), Ok(())]);
        let too_high = check(5).unwrap_err();
        assert!(too_high.contains("level 5") && too_high.contains("up to 4"), "{too_high}");
        assert!(too_high.contains("start the newer release"), "{too_high}");
        let too_low = check(1).unwrap_err();
        assert!(too_low.contains("level 1") && too_low.contains("supports 2 and up"), "{too_low}");
        assert!(too_low.contains("start the release before it"), "{too_low}");
        let held = Levels::up_to(Level::FIRST).check(Level::HIGHEST).unwrap_err().to_string();
        assert!(held.contains("--feature-level-max holds this member to 1"), "{held}");
    }
}
