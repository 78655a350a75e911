//! What `--nemesis` takes: kinds, combinations of them such as `kill+partition`, and bundles.

use clap::ValueEnum;

use super::Turn;
use crate::history::FaultKind as Kind;
use crate::workload::{Entry, Tier};

const PROCESS: [&str; 5] = ["kill", "pause", "slow-cpu", "partition", "restart"];
const DISK: [&str; 7] =
    ["power-loss", "power-loss-all", "stalled-disk", "slow-disk", "full-disk", "failing-sync", "bit-flips"];
const NETWORK: [&str; 8] =
    ["partition", "refuse", "clients", "cable", "slow-link", "loss", "duplicate", "delay"];
const CLOCK: [&str; 1] = ["clock"];
const AGENT: [&str; 3] = ["kill-agent", "kill-runtime", "partition-agent"];
const MEMBER: [&str; 4] = ["replace", "install", "transfer", "restart"];
/// What only comes with `all`: everything at once, and two things at a time.
const MORE: [&str; 3] = ["kill-all", "kill+partition", "pause+loss"];

/// Names of bundles, each with what it holds.
const BUNDLES: [(&str, &[&[&str]]); 8] = [
    ("none", &[]),
    ("std", &[&PROCESS]),
    ("disk", &[&DISK]),
    ("net", &[&NETWORK]),
    ("clock", &[&CLOCK]),
    ("member", &[&MEMBER]),
    ("agent", &[&AGENT]),
    ("all", &[&PROCESS, &NETWORK, &DISK, &CLOCK, &MEMBER, &AGENT, &MORE]),
];

/// Returns the turns that these names stand for, each once. The bundle `clock` has one kind.
///
/// # Errors
/// A sentence that says which name is none, and what there is.
pub fn turns(names: &[String]) -> Result<Vec<Turn>, String> {
    drawn(names, |_| true)
}

/// Returns the turns for a workload: what a bundle holds and does not fit its members and nodes is left out.
///
/// # Errors
/// As [`turns`], and for a kind that was asked for and does not fit.
pub fn turns_of(names: &[String], workload: &Entry) -> Result<Vec<Turn>, String> {
    let turns = drawn(names, |kind| kind.fits(workload))?;
    if turns.is_empty() && names.iter().any(|name| name != "none") {
        return Err(format!("--nemesis {}: nothing of it can be aimed at these members", names.join(",")));
    }
    match turns.iter().flat_map(|turn| turn.kinds()).find(|kind| !kind.fits(workload)) {
        None => Ok(turns),
        Some(kind) => Err(match workload.tier {
            Tier::Store => format!("--nemesis {kind} needs agents: it goes with the workloads k-…"),
            Tier::Kubernetes if *kind == Kind::KillRuntime => {
                format!("--nemesis {kind} needs real containers: it goes with the workload k-node")
            }
            Tier::Kubernetes => format!("--nemesis {kind} does not work on whole servers"),
        }),
    }
}

fn drawn(names: &[String], fits: impl Fn(Kind) -> bool) -> Result<Vec<Turn>, String> {
    let mut turns: Vec<Turn> = Vec::new();
    for name in names {
        let bundle = BUNDLES.iter().find(|(bundle, _)| bundle == name);
        let held: Vec<&str> = match bundle {
            Some((_, parts)) => parts.iter().flat_map(|part| part.iter().copied()).collect(),
            None => vec![name],
        };
        for name in held {
            let kinds: Vec<Kind> = name.split('+').map(kind).collect::<Result<_, _>>()?;
            let turn = Turn::of(&kinds);
            let is_left_out = bundle.is_some() && !kinds.iter().all(|kind| fits(*kind));
            if !is_left_out && !turns.contains(&turn) {
                turns.push(turn);
            }
        }
    }
    Ok(turns)
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::from_str(name, false).map_err(|_| {
        let kinds: Vec<&str> = Kind::value_variants().iter().map(|kind| kind.name()).collect();
        let bundles: Vec<&str> = BUNDLES.iter().map(|(name, _)| *name).collect();
        format!(
            "--nemesis {name}: there are {}; combinations such as kill+partition; and the bundles {}",
            kinds.join(", "),
            bundles.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::named;

    fn of(names: &[&str]) -> Result<Vec<Turn>, String> {
        turns(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn kinds_and_combinations_are_turns() {
        assert_eq!(of(&["kill", "partition"]).unwrap(), [Kind::Kill.into(), Kind::Partition.into()]);
        assert_eq!(of(&["kill+partition"]).unwrap(), [Turn::of(&[Kind::Kill, Kind::Partition])]);
        assert_eq!(of(&["clock"]).unwrap(), [Kind::Clock.into()]);
        assert!(of(&["none"]).unwrap().is_empty());
    }

    #[test]
    fn a_bundle_stands_for_its_kinds_and_nothing_comes_twice() {
        assert_eq!(of(&["std"]).unwrap().len(), 5);
        assert_eq!(of(&["std", "kill", "member"]).unwrap().len(), 8);
    }

    #[test]
    fn all_holds_every_kind() {
        let all = of(&["all"]).unwrap();
        for kind in Kind::value_variants() {
            assert!(all.iter().any(|turn| turn.kinds().contains(kind)), "{kind}");
        }
        for (name, _) in BUNDLES {
            assert!(of(&[name]).unwrap().iter().all(|turn| all.contains(turn)), "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_of_bundles_and_refused_by_name() {
        let of = |name: &str, workload| turns_of(&[name.to_owned()], named(workload).unwrap());
        assert_eq!(of("all", "register").unwrap().len() + 2, of("all", "k-occ").unwrap().len() + 4);
        assert_eq!(of("all", "k-occ").unwrap().len() + 1, of("all", "k-node").unwrap().len());
        assert_eq!(of("agent", "k-occ").unwrap(), [Kind::KillAgent.into(), Kind::PartitionAgent.into()]);
        assert_eq!(of("agent", "k-node").unwrap().len(), 3);
        assert!(of("none", "k-occ").unwrap().is_empty());
        assert!(of("clock", "k-occ").unwrap_err().contains("nothing of it"));
        assert!(of("kill-agent", "register").unwrap_err().contains("needs agents"));
        assert!(of("kill+clock", "k-occ").unwrap_err().contains("whole servers"));
        assert!(of("kill-runtime", "k-occ").unwrap_err().contains("real containers"));
    }

    #[test]
    fn what_is_no_fault_is_said() {
        assert!(of(&["kill+"]).is_err());
        assert!(of(&["earthquake"]).unwrap_err().starts_with("--nemesis earthquake: there are kill, "));
    }
}
