//! Planted bugs and who must find them: `keelson-plant chaos plants`.
//!
//! The bugs themselves are mutants, sown into a copy of the sources (`xtask/src/mutants/list`). An entry of the catalog here says what a
//! run looks like that shows one, and which checker must see it. A plant survives when its runs pass, prove nothing, or fail for
//! another reason; and a trial counts only where the same plan passes without the plant. Nothing here decides what is right: the
//! checkers of every other run do. How to add one: `docs/chaos-plants.md`.

pub mod catalog;

pub mod recipe;

mod aims;
mod expected;
mod real;
mod trial;

mod command;

pub use command::plants;
pub use expected::Expected;
pub use recipe::{Real, Simulated, Tier};

/// Names the mutant that is switched on, in the environment of each process of a run.
const SWITCH: &str = "KEELSON_PLANT";

/// A bug, a run that shows it, and who must find it.
#[derive(Clone, Copy, Debug)]
pub struct Plant {
    /// Of the mutant.
    pub name: &'static str,
    /// Where somebody had this bug, or which rule it breaks.
    pub origin: &'static str,
    pub tier: Tier,
    pub expected: Expected,
}
