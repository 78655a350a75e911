//! The store against a naive model: random programs, every answer, event and state compared.
//!
//! The model keeps a full copy of the key space per revision, so its reads of the past need no cleverness. Each program also
//! cuts commands into batches, collects garbage, reopens the store, takes it from another member and changes the primary; none of that
//! may be visible. A failure names its seed and the steps that are needed for it; `KEELSON_MODEL_SEED=n` runs that program alone,
//! `KEELSON_MODEL_PROGRAMS=n` another number of them.

mod clocks;
pub(crate) mod program;
mod recovery;
mod reference;
mod run;
mod shrink;
mod watching;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use program::{Step, program};
use run::Run;

use super::Store;

/// As many as the project promises to run at each change; half a minute on two cores.
const PROGRAMS: u64 = 100_000;
/// Programs that a thread takes at a time.
const SHARE: u64 = 64;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("it is a number"))
}

#[test]
fn random_programs_behave_like_the_naive_model() {
    if let Some(seed) = number_from("KEELSON_MODEL_SEED") {
        return run_seed(seed);
    }
    let programs = number_from("KEELSON_MODEL_PROGRAMS").unwrap_or(PROGRAMS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(SHARE, Ordering::Relaxed);
                    if first >= programs {
                        break;
                    }
                    (first..programs.min(first + SHARE)).for_each(run_seed);
                }
            });
        }
    });
}

fn run_seed(seed: u64) {
    let steps = program(seed);
    let fails = |steps: &[Step]| catch_unwind(AssertUnwindSafe(|| Run::new().run(steps))).is_err();
    if fails(&steps) {
        let needed = shrink::shrink(steps, fails);
        let listed: Vec<String> = needed.iter().map(|step| format!("  {step:?}")).collect();
        println!("KEELSON_MODEL_SEED={seed} fails; these steps are enough:\n{}", listed.join("\n"));
        Run::new().run(&needed);
    }
}

/// A member may cut batches elsewhere, collect at other times, start again and come from another's snapshot.
#[test]
fn members_that_commit_collect_and_restart_at_different_times_agree_behind_every_command() {
    for seed in 0..300 {
        let mut together = Run::new();
        let mut apart = Run::new();
        let mut restarted = Run::new();
        for (number, step) in program(seed).into_iter().enumerate() {
            let Step::Apply(command) = step else { continue };
            for run in [&mut together, &mut apart, &mut restarted] {
                let _refused = run.apply(&command);
            }
            apart.commit();
            let _more = apart.store().collect(2).unwrap();
            apart.commit();
            match number % 4 {
                0 => restarted.reopen(),
                2 => restarted.install(&[]),
                _ => restarted.commit(),
            }
            let digest = |run: &mut Run| run.store().digest();
            assert_eq!(digest(&mut together), digest(&mut apart), "seed {seed}");
            assert_eq!(digest(&mut together), digest(&mut restarted), "seed {seed}");
            if number.is_multiple_of(5) {
                together.commit();
                let hash = |run: &Run| run.read(|store: &Store| store.hash_rows(None).unwrap().unwrap());
                assert_eq!(hash(&together), hash(&apart), "seed {seed}");
                assert_eq!(hash(&together), hash(&restarted), "seed {seed}");
            }
        }
    }
}
