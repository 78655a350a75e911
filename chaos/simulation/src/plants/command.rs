//! The command `plants`: tries them, and tells what came of each.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use chaos::cli::PlantsArgs;
use chaos::run::say;

use super::catalog::plants as all;
use super::trial::{Fate, Trials, Tried, repeat};
use super::{Plant, SWITCH, Tier};
use crate::command::{FAIL, INVALID, PASS, USAGE, width};

/// Tries the plants that are asked for; returns the exit code.
///
/// # Errors
/// None; the command line wants one.
pub fn plants(args: &PlantsArgs) -> anyhow::Result<u8> {
    if std::env::var_os(SWITCH).is_some() {
        say(&format!("keelson chaos plants: {SWITCH} is set, and each run switches on its own"));
        return Ok(USAGE);
    }
    let chosen = match chosen(args) {
        Ok(chosen) => chosen,
        Err(error) => {
            say(&format!("keelson chaos plants: {error}"));
            return Ok(USAGE);
        }
    };
    if args.list {
        chosen.iter().for_each(list);
        return Ok(PASS);
    }
    let began = Instant::now();
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from("chaos-runs").join("plants"));
    let trials = Trials::new(output, began + args.budget, args.keelson.clone());
    let mut totals = Totals::default();
    // Real processes want the machine for themselves, and come last.
    let (simulated, real): (Vec<Plant>, Vec<Plant>) =
        chosen.into_iter().partition(|plant| plant.tier.is_simulated());
    for (plants, width) in [(simulated, width(args.jobs)), (real, 1)] {
        each(&plants, width, &trials, |plant, tried| {
            tell(plant, &tried, &trials);
            totals.add(&tried);
        });
    }
    say(&totals.line(began.elapsed()));
    Ok(totals.code())
}

fn chosen(args: &PlantsArgs) -> Result<Vec<Plant>, String> {
    let all = all();
    let names: Vec<&str> = all.iter().map(|plant| plant.name).collect();
    known("--only", &args.only, &names)?;
    known("--tier", &args.tier, &Tier::NAMES)?;
    if let Some(keelson) = args.keelson.as_ref().filter(|keelson| !keelson.is_file()) {
        return Err(format!("--keelson {}: there is no such program", keelson.display()));
    }
    let is_among = |asked: &[String], name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let is_chosen =
        |plant: &Plant| is_among(&args.only, plant.name) && is_among(&args.tier, plant.tier.name());
    Ok(all.into_iter().filter(is_chosen).collect())
}

fn known(flag: &str, asked: &[String], names: &[&str]) -> Result<(), String> {
    match asked.iter().find(|asked| !names.contains(&asked.as_str())) {
        Some(unknown) => Err(format!("{flag} {unknown}: choose from {}", names.join(", "))),
        None => Ok(()),
    }
}

fn list(plant: &Plant) {
    let Plant { name, origin, tier, expected } = plant;
    let (tier, workload) = (tier.name(), tier.workload());
    say(&format!("{name:<32} {tier:<4} {workload:<11} {}", expected.words()));
    say(&format!("    {origin}"));
}

/// Tries plants beside one another and hands over what came of each.
fn each(plants: &[Plant], width: usize, trials: &Trials, mut take: impl FnMut(&Plant, Tried)) {
    let next = AtomicUsize::new(0);
    let (sender, ends) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..width {
            let sender = sender.clone();
            let next = &next;
            scope.spawn(move || {
                while let Some(plant) = plants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Whoever takes them waits until all senders are gone.
                    let _ = sender.send((plant, trials.plant(plant)));
                }
            });
        }
        drop(sender);
        for (plant, tried) in ends {
            take(plant, tried);
        }
    });
}

fn tell(plant: &Plant, tried: &Tried, trials: &Trials) {
    let (name, tier, workload) = (plant.name, plant.tier.name(), plant.tier.workload());
    let (operations, seconds) = (tried.operations, tried.lasted.as_secs_f64());
    let begin = format!("{name:<32} {tier:<4} {workload:<11}");
    match &tried.fate {
        Fate::Caught { by, seed } => {
            let by = by.join(", ");
            say(&format!(
                "{begin} caught by {by:<28} {operations:>6} operations {seconds:>5.1} s, seed {seed}"
            ));
        }
        Fate::Survived(instead) => {
            let wanted = plant.expected.words();
            say(&format!("{begin} SURVIVED, wanted {wanted}; {operations} operations {seconds:.1} s"));
            instead.iter().for_each(|what| say(&format!("    {what}")));
            say(&format!("    repeat it with: {}", repeat(plant, &trials.output)));
        }
        Fate::LeftOut => say(&format!("{begin} LEFT OUT: the budget is spent")),
        Fate::Skipped(why) => say(&format!("{begin} skipped: {why}")),
    }
}

/// What all plants came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Totals {
    caught: usize,
    survived: usize,
    left_out: usize,
    skipped: usize,
    operations: usize,
    runs: usize,
}

impl Totals {
    fn add(&mut self, tried: &Tried) {
        match tried.fate {
            Fate::Caught { .. } => self.caught += 1,
            Fate::Survived(_) => self.survived += 1,
            Fate::LeftOut => self.left_out += 1,
            Fate::Skipped(_) => self.skipped += 1,
        }
        self.operations += tried.operations;
        self.runs += tried.runs;
    }

    /// The line that the test runner counts.
    fn line(&self, lasted: Duration) -> String {
        let Self { caught, survived, left_out, skipped, operations, runs } = self;
        format!(
            "plants: {caught} caught, {survived} survived, {left_out} left out, {skipped} skipped; {operations} operations in \
             {runs} runs, {:.0} s",
            lasted.as_secs_f64()
        )
    }

    fn code(&self) -> u8 {
        match (self.survived, self.left_out) {
            (0, 0) => PASS,
            (0, _) => INVALID,
            _ => FAIL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(only: &[&str], tier: &[&str]) -> Result<Vec<Plant>, String> {
        let texts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        chosen(&PlantsArgs {
            only: texts(only),
            tier: texts(tier),
            keelson: None,
            list: false,
            budget: Duration::ZERO,
            output: None,
            jobs: None,
        })
    }

    fn tried(fate: Fate) -> Tried {
        Tried { fate, operations: 10, runs: 1, lasted: Duration::ZERO }
    }

    fn code(fates: &[Fate]) -> u8 {
        let mut totals = Totals::default();
        fates.iter().for_each(|fate| totals.add(&tried(fate.clone())));
        totals.code()
    }

    #[test]
    fn one_that_survives_fails_and_one_that_is_left_out_is_no_pass() {
        let caught = Fate::Caught { by: vec!["set".to_owned()], seed: 1 };
        let survived = Fate::Survived(vec!["seed 1: pass".to_owned()]);
        assert_eq!(code(&[caught.clone(), Fate::Skipped("it needs root")]), PASS);
        assert_eq!(code(&[caught.clone(), Fate::LeftOut]), INVALID);
        assert_eq!(code(&[survived, Fate::LeftOut, caught]), FAIL);
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let error = asked(&["weed"], &[]).unwrap_err();
        assert!(error.starts_with("--only weed: choose from ") && error.contains(all()[0].name), "{error}");
        assert_eq!(
            asked(&[], &["unreal"]).unwrap_err(),
            "--tier unreal: choose from sim, real, k8s, k8s-sim"
        );
    }

    #[test]
    fn plants_are_chosen_by_name_and_tier() {
        assert_eq!(asked(&[], &[]).unwrap().len(), all().len());
        assert!(!asked(&[all()[0].name], &[]).unwrap().is_empty());
        let of_tiers = Tier::NAMES.map(|tier| asked(&[], &[tier]).unwrap().len());
        assert!(of_tiers.iter().all(|count| *count > 0), "{of_tiers:?}");
        assert_eq!(of_tiers.iter().sum::<usize>(), all().len());
    }

    #[test]
    fn whole_servers_need_a_program_of_their_own() {
        let trials = Trials::new(PathBuf::new(), Instant::now(), None);
        let plant = asked(&[], &["k8s"]).unwrap()[0];
        assert_eq!(trials.plant(&plant).fate, Fate::Skipped("it needs whole servers: --keelson"));
    }

    #[test]
    fn the_closing_line_counts_everything() {
        let mut totals = Totals::default();
        totals.add(&tried(Fate::LeftOut));
        totals.add(&tried(Fate::Survived(Vec::new())));
        let line = totals.line(Duration::from_secs(3));
        assert_eq!(line, "plants: 0 caught, 1 survived, 1 left out, 0 skipped; 20 operations in 2 runs, 3 s");
    }
}
