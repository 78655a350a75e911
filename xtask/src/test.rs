//! `cargo xtask test`: every check and test, as stages with a budget. CI runs exactly this.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::leftovers::Snapshot;
use crate::process::{self, cargo};
use crate::{mutants, peers, setup, tidy, up};

#[derive(clap::Args)]
pub struct Args {
    /// Runs only the stages of this name; `quick` is format, clippy, tidy and unit.
    #[arg(long)]
    only: Option<String>,
}

/// One stage: a name, how long it may take on a machine whose caches are warm, and when it runs.
struct Stage {
    name: &'static str,
    budget: Duration,
    when: When,
    run: fn() -> Result<Tally>,
}

/// When a stage runs that is not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// With `quick`, too.
    Quick,
    Always,
    /// Never: its build is a whole one of its own.
    Named,
}

/// Tests counted by a stage. A test that found nothing to run on says so in a line of its own and is no pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

const STAGES: &[Stage] = &[
    Stage { name: "format", budget: Duration::from_secs(10), when: When::Quick, run: format },
    Stage { name: "clippy", budget: Duration::from_secs(240), when: When::Quick, run: clippy },
    Stage { name: "tidy", budget: Duration::from_secs(10), when: When::Quick, run: tidy },
    Stage { name: "deny", budget: Duration::from_secs(20), when: When::Always, run: deny },
    Stage { name: "docs", budget: Duration::from_secs(180), when: When::Always, run: docs },
    Stage { name: "build", budget: Duration::from_secs(600), when: When::Always, run: build },
    Stage { name: "unit", budget: Duration::from_secs(600), when: When::Quick, run: unit },
    Stage { name: "crate", budget: Duration::from_secs(900), when: When::Always, run: crate_tests },
    Stage { name: "plants", budget: Duration::from_secs(420), when: When::Always, run: plants },
    Stage { name: "end-to-end", budget: Duration::from_secs(900), when: When::Always, run: end_to_end },
    Stage {
        name: "control-plane-plants",
        budget: Duration::from_secs(1800),
        when: When::Named,
        run: control_plane_plants,
    },
];

pub fn run(args: &Args) -> Result<()> {
    setup::prepare()?;
    let chosen: Vec<&Stage> = STAGES.iter().filter(|stage| is_chosen(stage, args.only.as_deref())).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        bail!("no stage of that name; there are: quick {}", names.join(" "));
    }
    let before = Snapshot::take();
    let mut total = Tally::default();
    let mut table = Vec::new();
    for stage in chosen {
        eprintln!("\n== {}", stage.name);
        let start = Instant::now();
        let tally = (stage.run)().unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", stage.name);
            Tally::one_failure()
        });
        total = total.plus(tally);
        table.push((stage, tally, start.elapsed()));
    }
    let leftovers = Snapshot::take().new_since(&before);
    for item in &leftovers {
        eprintln!("left behind: {item}");
    }
    total = total.plus(if leftovers.is_empty() { Tally::one_pass() } else { Tally::one_failure() });
    print_table(&table);
    summary(total);
    if total.failed > 0 { std::process::exit(1) } else { Ok(()) }
}

impl Tally {
    const fn one_pass() -> Self {
        Self { passed: 1, failed: 0, skipped: 0 }
    }

    const fn one_failure() -> Self {
        Self { passed: 0, failed: 1, skipped: 0 }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

fn is_chosen(stage: &Stage, only: Option<&str>) -> bool {
    match only {
        None => stage.when != When::Named,
        Some("quick") => stage.when == When::Quick,
        Some(name) => stage.name == name,
    }
}

#[expect(clippy::print_stdout, reason = "the table is the command's output")]
fn print_table(rows: &[(&Stage, Tally, Duration)]) {
    println!(
        "\n{:<20} {:>7} {:>7} {:>8} {:>9} {:>9}",
        "stage", "passed", "failed", "skipped", "seconds", "budget"
    );
    for (stage, tally, elapsed) in rows {
        let over = if *elapsed > stage.budget { "  over budget" } else { "" };
        let (name, budget) = (stage.name, stage.budget.as_secs());
        println!(
            "{name:<20} {:>7} {:>7} {:>8} {:>9} {budget:>9}{over}",
            tally.passed,
            tally.failed,
            tally.skipped,
            elapsed.as_secs()
        );
    }
}

#[expect(clippy::print_stdout, reason = "the closing line is read by CI")]
fn summary(total: Tally) {
    let skipped = if total.skipped == 0 { String::new() } else { format!(", {} skipped", total.skipped) };
    println!("\n{} passed, {} failed{skipped}", total.passed, total.failed);
}

fn format() -> Result<Tally> {
    process::run(cargo().args(["fmt", "--all", "--check"]))?;
    Ok(Tally::one_pass())
}

/// Lints that hold for what ships; a test may say `unwrap` anywhere, helpers of integration tests included.
const RELAXED_IN_TESTS: [&str; 5] = [
    "-Aclippy::as_conversions",
    "-Aclippy::indexing_slicing",
    "-Aclippy::print_stdout",
    "-Aclippy::too_many_lines",
    "-Aclippy::unwrap_used",
];

fn clippy() -> Result<Tally> {
    let lint = || {
        let mut command = cargo();
        command.args(["clippy", "--release", "--locked", "--workspace"]);
        command
    };
    process::run(lint().args(["--lib", "--bins", "--", "-Dwarnings"]))?;
    process::run(lint().args(["--all-targets", "--", "-Dwarnings"]).args(RELAXED_IN_TESTS))?;
    Ok(Tally { passed: 2, ..Tally::default() })
}

fn tidy() -> Result<Tally> {
    tidy::run()?;
    Ok(Tally::one_pass())
}

fn deny() -> Result<Tally> {
    let tool = setup::cargo_deny()?;
    process::run(Command::new(tool).current_dir(process::root()).args([
        "--offline",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))?;
    Ok(Tally::one_pass())
}

/// Module texts are guides for whoever reads the code, so they may link to private items.
const RUSTDOC_FLAGS: &str = "-D warnings -A rustdoc::private_intra_doc_links --cfg tokio_unstable";

fn docs() -> Result<Tally> {
    process::run(cargo().env("RUSTDOCFLAGS", RUSTDOC_FLAGS).args([
        "doc",
        "--release",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]))?;
    Ok(Tally::one_pass())
}

fn build() -> Result<Tally> {
    up::release_binary()?;
    Ok(Tally::one_pass())
}

fn unit() -> Result<Tally> {
    cargo_test(&["--workspace".to_owned(), "--lib".to_owned(), "--bins".to_owned()])
}

/// Integration tests of the crates. One selection of packages for all stages: another one would resolve other features and
/// build every dependency again.
fn crate_tests() -> Result<Tally> {
    let crates = [
        "proto",
        "transport",
        "store",
        "apiserver",
        "client",
        "controllers",
        "nodeagent",
        "chaos",
        "chaos/simulation",
        "chaos/simulation/kubernetes",
    ];
    let mut names = Vec::new();
    for name in crates {
        names.extend(test_targets(&process::root().join(name))?);
    }
    // Some of them start containers or whole clusters: one binary after the other, as cargo does, is enough.
    let mut command = cargo();
    command.env("KEELSON_ETCD", std::env::join_paths(peers::all()?)?);
    run_tests(command, &selection(&names))
}

fn end_to_end() -> Result<Tally> {
    let names = test_targets(&process::root())?;
    let mut args = selection(&names);
    // One at a time: these start whole clusters and measure what they promise.
    args.extend(["--".to_owned(), "--test-threads=1".to_owned(), "--nocapture".to_owned()]);
    cargo_test(&args)
}

/// Longest time for planted bugs; what does not fit is no pass.
const PLANTS_BUDGET: &str = "4m";

/// Planted bugs must be found, each by its checker.
fn plants() -> Result<Tally> {
    let mut command = Command::new(mutants::plant_program()?);
    command.args(["chaos", "plants", "--tier", "sim,real", "--budget", PLANTS_BUDGET]);
    try_plants(command)
}

/// Longest time for those of the control plane: each starts two clusters, and some are seen only by a minute's wait in vain.
const CONTROL_PLANE_PLANTS_BUDGET: &str = "20m";

/// Planted bugs of API server and controllers must be found, too.
fn control_plane_plants() -> Result<Tally> {
    let program = mutants::whole_program()?;
    let mut command = Command::new(&program);
    command.args([
        "chaos",
        "plants",
        "--tier",
        "k8s,k8s-sim",
        "--budget",
        CONTROL_PLANE_PLANTS_BUDGET,
        "--keelson",
    ]);
    command.arg(program);
    try_plants(command)
}

fn try_plants(mut command: Command) -> Result<Tally> {
    command.arg("--output").arg(process::target().join("plants"));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot try the plants")?;
    let stdout = child.stdout.take().context("the trials have no standard output")?;
    let tally = count_lines(stdout, closing_line_of_plants)?;
    let status = child.wait()?;
    if tally == Tally::default() || (!status.success() && tally.failed == 0) {
        bail!("the trials of plants ended with {status}");
    }
    Ok(tally)
}

/// Reads `plants: 40 caught, 0 survived, 0 left out, 1 skipped; …`.
fn closing_line_of_plants(line: &str) -> Tally {
    let Some(rest) = line.strip_prefix("plants: ") else { return Tally::default() };
    let count = |word: &str| number_before(rest, word);
    Tally {
        passed: count(" caught"),
        failed: count(" survived") + count(" left out"),
        skipped: count(" skipped"),
    }
}

fn selection(names: &[String]) -> Vec<String> {
    let mut args = vec!["--workspace".to_owned()];
    args.extend(names.iter().flat_map(|name| ["--test".to_owned(), name.clone()]));
    args
}

/// Names of a package's integration tests: files, and folders that hold a `main.rs`.
fn test_targets(package: &Path) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(package.join("tests")) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_test =
            path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists();
        if is_test && let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// How a test says that it found nothing to run on: on standard error, past the capture of what passing tests print.
const SKIPPED: &str = "skipped: ";

/// Runs `cargo test` and counts what its closing lines and its skipped tests say.
fn cargo_test(args: &[String]) -> Result<Tally> {
    run_tests(cargo(), args)
}

fn run_tests(mut command: Command, args: &[String]) -> Result<Tally> {
    command.args(["test", "--release", "--locked", "--no-fail-fast"]).args(args);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no standard output")?;
    let stderr = child.stderr.take().context("cargo test has no standard error")?;
    let tally = std::thread::scope(|scope| {
        let errors = scope.spawn(|| count_lines(stderr, skipped_line));
        let closing = count_lines(stdout, closing_line)?;
        let skipped = errors.join().map_err(|_panic| anyhow!("reading standard error panicked"))??.skipped;
        Ok::<_, anyhow::Error>(Tally { passed: closing.passed.saturating_sub(skipped), skipped, ..closing })
    })?;
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        bail!("cargo test ended with {status}");
    }
    if tally == Tally::default() {
        bail!("cargo test ran no test");
    }
    Ok(tally)
}

/// Passes on what a test run prints and adds up what its lines say.
fn count_lines(stream: impl Read, count: fn(&str) -> Tally) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    // A test may print what is not UTF-8.
    while lines.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        eprint!("{text}");
        tally = tally.plus(count(text.trim_end()));
        line.clear();
    }
    Ok(tally)
}

/// Reads `test result: ok. 12 passed; 0 failed; …`.
fn closing_line(line: &str) -> Tally {
    let Some(rest) = line.strip_prefix("test result: ") else { return Tally::default() };
    Tally { passed: number_before(rest, " passed"), failed: number_before(rest, " failed"), skipped: 0 }
}

/// Returns the number in front of a word, 0 where there is none.
fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().unwrap_or_default();
    before.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn skipped_line(line: &str) -> Tally {
    Tally { skipped: u64::from(line.starts_with(SKIPPED)), ..Tally::default() }
}

#[cfg(test)]
mod tests {
    use super::{
        STAGES, Tally, When, closing_line, closing_line_of_plants, count_lines, is_chosen, skipped_line,
    };

    #[test]
    fn what_has_a_build_of_its_own_runs_only_when_it_is_named() {
        let names = |only| -> Vec<&str> {
            STAGES.iter().filter(|stage| is_chosen(stage, only)).map(|stage| stage.name).collect()
        };
        assert!(names(None).contains(&"plants") && !names(None).contains(&"control-plane-plants"));
        assert_eq!(names(Some("control-plane-plants")), ["control-plane-plants"]);
        assert_eq!(
            names(Some("quick")).len(),
            STAGES.iter().filter(|stage| stage.when == When::Quick).count()
        );
    }

    #[test]
    fn closing_line_is_counted() {
        let tally =
            closing_line("test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(tally, Tally { passed: 12, failed: 3, skipped: 0 });
        assert_eq!(closing_line("12 passed").passed, 0);
    }

    #[test]
    fn a_plant_that_was_left_out_is_no_pass() {
        let line = "plants: 40 caught, 1 survived, 2 left out, 3 skipped; 1234 operations, 9 faults, 56 s";
        assert_eq!(closing_line_of_plants(line), Tally { passed: 40, failed: 3, skipped: 3 });
        assert_eq!(closing_line_of_plants("read-without-quorum: 40 caught"), Tally::default());
    }

    #[test]
    fn skipped_tests_are_counted() {
        let printed: &[u8] = b"skipped: it needs root\nnot skipped: \xff\nskipped: no etcdctl\n";
        assert_eq!(count_lines(printed, skipped_line).unwrap().skipped, 2);
    }
}
