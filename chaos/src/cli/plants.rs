//! `keelson-plant chaos plants`: what can be asked of the planted bugs. They are handed in as the simulator is, and only by
//! `keelson-plant`: the program that ships holds none.

use std::path::PathBuf;
use std::time::Duration;

use super::{USAGE, duration};
use crate::run::say;

/// Which planted bugs to try.
#[derive(Clone, Debug, clap::Args)]
pub struct PlantsArgs {
    /// Only these: names, as --list shows them
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only those of these tiers: sim, real, k8s
    #[arg(long, value_delimiter = ',')]
    pub tier: Vec<String>,
    /// A whole program with the same bugs, which plants of the tier k8s need: cargo xtask mutants --binary builds it
    #[arg(long, value_name = "PATH")]
    pub keelson: Option<PathBuf>,
    /// Shows what there is, and tries nothing
    #[arg(long)]
    pub list: bool,
    /// Begins no further trial after this time; what is left out then is said, and is no pass
    #[arg(long, value_parser = duration, default_value = "5m")]
    pub budget: Duration,
    /// Folder for the runs of plants that survive [default: chaos-runs/plants]
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Trials at a time [default: one per core]
    #[arg(long)]
    pub jobs: Option<usize>,
}

/// Answers the command with a program's plants, if it has any.
pub(super) fn run(
    args: &PlantsArgs,
    plants: Option<fn(&PlantsArgs) -> anyhow::Result<u8>>,
) -> anyhow::Result<u8> {
    if let Some(plants) = plants {
        return plants(args);
    }
    say(
        "keelson chaos plants: this program holds no planted bugs; cargo xtask mutants --plants builds keelson-plant, which does",
    );
    Ok(USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_plants_says_so() {
        let args = PlantsArgs {
            only: Vec::new(),
            tier: Vec::new(),
            keelson: None,
            list: true,
            budget: Duration::from_secs(1),
            output: None,
            jobs: None,
        };
        assert_eq!(run(&args, None).unwrap(), USAGE);
        assert_eq!(run(&args, Some(|args| Ok(u8::from(args.list)))).unwrap(), 1);
    }
}
