//! `cargo xtask mutants`: breaks the store on purpose, one named bug at a time, and shows which test finds it.
//!
//! `list` names the bugs, `sow` compiles them all into a copy of the repository. The copy builds `keelson-plant` too, with the same bugs,
//! for `chaos plants` and for trials by hand: `KEELSON_PLANT=<name>`. The bugs of API server and controllers are in the whole program alone
//! (`--binary`).

mod list;
mod sow;

mod dependencies;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::dependencies::Dependencies;
use self::list::{Mutant, mutants};
use self::sow::{Purpose, is_beside_the_store};
use crate::process::{self, output, root};

#[derive(clap::Args)]
pub struct Args {
    /// Only mutants whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Builds `keelson-plant` with all of them, which is store and chaos, and runs nothing.
    #[arg(long)]
    plants: bool,
    /// Builds the whole program with all of them and runs nothing.
    #[arg(long, conflicts_with = "plants")]
    binary: bool,
}

/// Programs of the model test that each mutant has to survive: enough for all of them, and a second when it survives.
const MODEL_PROGRAMS: &str = "5000";
/// A mutant that makes its test run longer than this has made it hang.
const PATIENCE: Duration = Duration::from_secs(120);
/// Test programs that `killed_by` may name.
const TARGETS: [&str; 4] = ["lib", "crash", "server", "seeds"];

pub fn run(args: &Args) -> Result<()> {
    let mutants = mutants();
    if args.plants {
        eprintln!("{}", plant_program()?.display());
        return Ok(());
    }
    if args.binary {
        eprintln!("{}", whole_program()?.display());
        return Ok(());
    }
    let copy = sow::sow(&mutants, Purpose::Store)?;
    let programs = build(&copy)?;
    let chosen: Vec<&Mutant> = mutants
        .iter()
        .filter(|mutant| args.only.as_ref().is_none_or(|only| mutant.name.contains(only.as_str())))
        .collect();
    let mut survivors = tests_that_fail_anyway(&programs, &chosen)?;
    for mutant in &chosen {
        for test in mutant.killed_by {
            let start = Instant::now();
            let verdict = trial(&programs, test, Some(mutant.name))?;
            report(mutant, test, verdict, start.elapsed());
            if verdict == Verdict::Passed {
                survivors.push(format!("{} ({test})", mutant.name));
            }
        }
    }
    if !survivors.is_empty() {
        bail!("not killed: {}", survivors.join(", "));
    }
    eprintln!("{} mutants, all killed", chosen.len());
    Ok(())
}

/// Builds `keelson-plant` with the mutants of store and chaos and returns where it is.
pub fn plant_program() -> Result<PathBuf> {
    program("keelson-plant", Purpose::Store)
}

/// Builds the whole `keelson` with all mutants and returns where it is.
pub fn whole_program() -> Result<PathBuf> {
    program("keelson", Purpose::Whole)
}

fn program(name: &str, purpose: Purpose) -> Result<PathBuf> {
    let copy = sow::sow(&mutants(), purpose)?;
    // The test is a small one, and an empty one beside the store. Naming one makes cargo resolve the features that tests need, so that
    // nothing that the mutants' tests have built is built again.
    process::run(cargo(&copy, "build").args(["--bin", name, "--test", "bad_input"]))?;
    Ok(built(name))
}

/// What is wrong with the mutants, for `tidy`: a text that is not where it should be, one that nothing kills, a plant without one, a
/// dependency at another version.
pub fn check() -> Vec<String> {
    let mutants = mutants();
    let mut findings = match Dependencies::find() {
        Ok(found) => sow::misfits(&mutants, |file| std::fs::read_to_string(found.origin(file))),
        Err(error) => vec![format!("{error:#}")],
    };
    match plants() {
        Ok(plants) => findings.extend(strays(&mutants, &plants)),
        Err(error) => findings.push(format!("{PLANTS}: {error:#}")),
    }
    findings
}

/// Where chaos says which of the mutants it finds, and how.
const PLANTS: &str = "chaos/simulation/src/plants/catalog";

/// Names of the plants of chaos.
fn plants() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(root().join(PLANTS))? {
        let text = std::fs::read_to_string(entry?.path())?;
        let named = text.lines().filter_map(|line| line.trim().strip_prefix("name: \"")?.strip_suffix("\","));
        names.extend(named.map(str::to_owned));
    }
    Ok(names)
}

/// Mutants that neither a test nor a plant kills, those whose test would not hold them, and plants that are no mutants.
fn strays(mutants: &[Mutant], plants: &BTreeSet<String>) -> Vec<String> {
    let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name).collect();
    let is_untested = |mutant: &&Mutant| !mutant.killed_by.is_empty() && is_beside_the_store(mutant.file);
    let untested = mutants
        .iter()
        .filter(is_untested)
        .map(|mutant| format!("no test program is built with mutant `{}`", mutant.name));
    let is_spared = |mutant: &&Mutant| mutant.killed_by.is_empty() && !plants.contains(mutant.name);
    let spared =
        mutants.iter().filter(is_spared).map(|mutant| format!("nothing kills mutant `{}`", mutant.name));
    let unknown = plants.iter().filter(|plant| !names.contains(plant.as_str()));
    spared
        .chain(untested)
        .chain(unknown.map(|plant| format!("{PLANTS}: there is no mutant `{plant}`")))
        .collect()
}

fn folder() -> PathBuf {
    process::target().join("sown/build")
}

fn built(program: &str) -> PathBuf {
    folder().join("release").join(program)
}

fn cargo(copy: &Path, command: &str) -> Command {
    let mut cargo = process::cargo();
    // Not the folder of all other builds: cargo would take a crate of the copy for one of the repository, and the other way round.
    cargo.current_dir(copy).env("CARGO_TARGET_DIR", folder());
    cargo.args([command, "--release", "--locked", "--workspace", "--features", "simulation/plant"]);
    cargo
}

/// Builds the test programs and returns where each is.
fn build(copy: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo(copy, "test");
    command.args(["--no-run", "--message-format", "json-render-diagnostics", "--lib"]);
    command.args(TARGETS.iter().filter(|target| **target != "lib").flat_map(|target| ["--test", *target]));
    let messages = output(command.stderr(Stdio::inherit()))?;
    let programs: BTreeMap<String, PathBuf> = messages.lines().filter_map(program_of).collect();
    for target in TARGETS {
        programs.get(target).with_context(|| format!("cargo built no program of {target}"))?;
    }
    Ok(programs)
}

/// Reads target and program out of one of cargo's messages.
fn program_of(message: &str) -> Option<(String, PathBuf)> {
    let field = |name: &str| {
        let rest = message.split_once(&format!("\"{name}\":\""))?.1;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let program = PathBuf::from(field("executable")?);
    let name = match message.contains("\"kind\":[\"lib\"]") {
        true if field("name")? == "store" => "lib".to_owned(),
        true => return None,
        false => test_name(&program)?,
    };
    Some((name, program))
}

/// `seeds-0123456789abcdef` is a program of `seeds`.
fn test_name(program: &Path) -> Option<String> {
    let (name, _) = program.file_stem()?.to_str()?.rsplit_once('-')?;
    Some(name.to_owned())
}

/// Without any mutant every test passes, or its verdicts say nothing.
fn tests_that_fail_anyway(programs: &BTreeMap<String, PathBuf>, mutants: &[&Mutant]) -> Result<Vec<String>> {
    let tests: BTreeSet<&str> = mutants.iter().flat_map(|mutant| mutant.killed_by).copied().collect();
    let mut failing = Vec::new();
    for test in tests {
        if trial(programs, test, None)? != Verdict::Passed {
            failing.push(format!("{test} fails without a mutant"));
        }
    }
    Ok(failing)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    Hung,
}

fn trial(programs: &BTreeMap<String, PathBuf>, test: &str, mutant: Option<&str>) -> Result<Verdict> {
    let (target, name) = test.split_once(' ').with_context(|| format!("`{test}` names no target"))?;
    let program = programs.get(target).with_context(|| format!("`{test}` names an unknown target"))?;
    let mut command = Command::new(program);
    command.current_dir(root().join("store")).env("KEELSON_MODEL_PROGRAMS", MODEL_PROGRAMS);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.args(["--exact", name]);
    if let Some(mutant) = mutant {
        command.env("KEELSON_PLANT", mutant);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let stdout = child.stdout.take().context("a test has no standard output")?;
    let printed = std::thread::spawn(move || std::io::read_to_string(stdout).unwrap_or_default());
    let verdict = wait(&mut child)?;
    let printed = printed.join().unwrap_or_default();
    if verdict == Verdict::Passed && !printed.contains("1 passed") {
        bail!("there is no test `{test}`");
    }
    Ok(verdict)
}

fn wait(child: &mut Child) -> Result<Verdict> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { Verdict::Passed } else { Verdict::Failed });
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(Verdict::Hung);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[expect(clippy::print_stdout, reason = "the table is the command's output")]
fn report(mutant: &Mutant, test: &str, verdict: Verdict, elapsed: Duration) {
    let said = match verdict {
        Verdict::Passed => "SURVIVED",
        Verdict::Failed => "killed",
        Verdict::Hung => "killed, hangs",
    };
    println!("{:<32} {said:<14} {:>6.1} s  {}  ({test})", mutant.name, elapsed.as_secs_f64(), mutant.breaks);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_fits_the_sources_and_has_a_name_of_its_own() {
        assert_eq!(check(), Vec::<String>::new());
        let mutants = mutants();
        let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), mutants.len());
    }

    #[test]
    fn what_nothing_kills_is_found_and_a_plant_of_nothing_too() {
        let mutant = |name, killed_by| Mutant {
            name,
            file: "a.rs",
            original: "a",
            mutated: "b",
            breaks: "a",
            killed_by,
        };
        let mutants = [mutant("tested", &["lib test"]), mutant("planted", &[]), mutant("spared", &[])];
        let plants = ["planted", "weed"].map(str::to_owned).into();
        let found = strays(&mutants, &plants);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("spared") && found[1].contains("weed"));
        let beside = Mutant { file: "apiserver/src/a.rs", ..mutant("beside", &["lib test"]) };
        assert!(strays(&[beside], &BTreeSet::new())[0].contains("no test program"));
    }

    #[test]
    fn programs_are_found_in_what_cargo_says() {
        let of = |kind: &str, program: &str| {
            let target = format!("{{\"kind\":[\"{kind}\"],\"name\":\"store\"}}");
            program_of(&format!("{{\"target\":{target},\"executable\":{program}}}"))
        };
        assert_eq!(of("lib", "\"/t/store-0f\"").unwrap().0, "lib");
        assert_eq!(of("test", "\"/t/crash-0f\"").unwrap(), ("crash".to_owned(), "/t/crash-0f".into()));
        assert_eq!(of("lib", "null"), None);
    }
}
