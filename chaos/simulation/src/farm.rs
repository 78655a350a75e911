//! Plans carried out beside one another, each in a process of its own: a dependency keeps random state per thread, which a second
//! run would inherit, and a panic of the store ends one run only.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::machine::lock;
use crate::plan::Plan;
use crate::run::Summary;

/// A run that takes longer hangs: the slowest ones take a tenth of it.
const PATIENCE: Duration = Duration::from_secs(300);
/// Bytes of a panic that are shown.
const PANIC_BYTES_MAX: usize = 2_000;

/// Named as the one who found a panic or a hang.
pub(crate) const PROCESS: &str = "process";

/// One plan to carry out.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// What carries it out; `None`: this program.
    pub(crate) program: Option<PathBuf>,
    pub(crate) plan: Plan,
    /// A folder of its own, made by the run.
    pub(crate) folder: PathBuf,
    /// Set for its process.
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// Carries out all jobs, `width` at a time, and hands over each end as it comes, with the job's place. `take` returns whether to go on.
///
/// # Errors
/// When a process cannot be started or a folder cannot be written.
pub(crate) fn run(
    jobs: &[Job],
    width: usize,
    mut take: impl FnMut(usize, Summary) -> bool,
) -> anyhow::Result<()> {
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, ends) = mpsc::channel();
    let first_error = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..width.max(1) {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                while !stopped.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(place) else { return };
                    match carry_out(job) {
                        Ok(summary) => {
                            // Nobody listens any more when all is over.
                            let _ = sender.send((place, summary));
                        }
                        Err(error) => {
                            lock(&first_error).get_or_insert(error);
                            return;
                        }
                    }
                }
            });
        }
        drop(sender);
        for (place, summary) in ends {
            if !take(place, summary) {
                stopped.store(true, Ordering::Relaxed);
            }
        }
    });
    lock(&first_error).take().map_or(Ok(()), Err)
}

/// Carries out one job.
///
/// # Errors
/// As [`run`].
pub(crate) fn carry_out(job: &Job) -> anyhow::Result<Summary> {
    std::fs::create_dir_all(&job.folder)
        .with_context(|| format!("cannot create {}", job.folder.display()))?;
    let plan = job.folder.join("plan.json");
    std::fs::write(&plan, format!("{:#}\n", serde_json::to_value(&job.plan)?))?;
    let out = job.folder.join("stdout.log");
    let errors = job.folder.join("stderr.log");
    let program = job.program.clone().map_or_else(std::env::current_exe, Ok)?;
    let mut child = Command::new(program)
        .args(words_to_sim(std::env::args_os()))
        .args(["sim", "--here", "--plan"])
        .arg(&plan)
        .arg("--output")
        .arg(&job.folder)
        .envs(job.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&errors)?)
        .spawn()
        .context("cannot start a process for the run")?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let said = std::fs::read_to_string(&out)?;
    match said.lines().last().and_then(|line| serde_json::from_str(line).ok()) {
        Some(summary) => {
            std::fs::remove_file(out)?;
            std::fs::remove_file(errors)?;
            Ok(summary)
        }
        None => ended(job, status, &errors, began.elapsed()),
    }
}

/// A run that ended without a verdict: what the store panicked about is a finding, a broken harness is none.
fn ended(job: &Job, status: Option<ExitStatus>, errors: &Path, real: Duration) -> anyhow::Result<Summary> {
    let text = String::from_utf8_lossy(&std::fs::read(errors)?).into_owned();
    let finding = match status {
        None => format!("hang: the run does not end within {} s", PATIENCE.as_secs()),
        Some(_) if text.contains("panicked at") => {
            let panic = text.split("panicked at").nth(1).unwrap_or_default();
            let shown: String = panic.chars().take(PANIC_BYTES_MAX).collect();
            format!("panic: at{}", shown.replace('\n', " "))
        }
        Some(status) => anyhow::bail!("the run of seed {} ended with {status}: {text}", job.plan.seed),
    };
    Ok(Summary {
        seed: job.plan.seed,
        voters: job.plan.voters,
        verdict: "fail".to_owned(),
        found_by: vec![PROCESS.to_owned()],
        findings: vec![finding],
        real_ms: u64::try_from(real.as_millis()).unwrap_or(u64::MAX),
        ..Summary::default()
    })
}

/// The words between the program and the command: `chaos` of `keelson chaos sim`, none in a test.
fn words_to_sim(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let words: Vec<OsString> = arguments.skip(1).collect();
    let is_command = |word: &OsString| ["sim", "shrink", "plants"].iter().any(|command| word == command);
    let count = words.iter().position(is_command).unwrap_or(0);
    words.into_iter().take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_started_as_the_program_itself_was() {
        let words = |line: &str| {
            let words = line.split(' ').map(OsString::from);
            words_to_sim(words).into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(words("keelson chaos sim --seed 1"), ["chaos"]);
        assert_eq!(words("keelson-plant chaos plants --list"), ["chaos"]);
        assert_eq!(words("dev shrink --seed 1"), Vec::<String>::new());
        assert_eq!(words("simulation-0123 --exact fixed"), Vec::<String>::new());
    }
}
