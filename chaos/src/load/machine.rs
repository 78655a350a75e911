//! What the figures were taken on, and how quiet it was.

use std::path::Path;
use std::time::Duration;

use super::sample::float;
use crate::cluster::run_command;

/// How long the machine is watched before anything is started.
const WATCHED: Duration = Duration::from_secs(3);
/// Above this share of busy processor time others work too, and the figures are worth little.
const QUIET_BUSY_MAX: f64 = 0.1;

/// Processor time of the whole machine since it was started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
    /// Taken by other virtual machines on the same host.
    stolen: u64,
}

/// The machine before the first measurement.
pub(super) struct Machine {
    hardware: String,
    load: String,
    busy: f64,
    at_start: Ticks,
}

impl Machine {
    /// Watches the machine for some seconds.
    ///
    /// # Errors
    /// When the kernel does not say how it is.
    pub(super) async fn look(data: &Path) -> anyhow::Result<Self> {
        let before = ticks()?;
        tokio::time::sleep(WATCHED).await;
        let at_start = ticks()?;
        let cores = std::thread::available_parallelism()?;
        let listing = run_command("df", &["--output=fstype", &data.to_string_lossy()], "")?;
        let file_system = listing.lines().last().unwrap_or("?").trim().to_owned();
        let load = std::fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            hardware: format!("{cores} cores ({}), data on {file_system}", processor()),
            load: load.split(' ').next().unwrap_or("?").to_owned(),
            busy: busy(before, at_start),
            at_start,
        })
    }

    /// Returns the line that is shown before anything is started.
    pub(super) fn before(&self) -> String {
        let verdict = if self.is_quiet() { "quiet" } else { "NOT QUIET, the figures will be worth little" };
        format!(
            "machine: {}; load {}, processors {:.0} % busy before the first run: {verdict}",
            self.hardware,
            self.load,
            100.0 * self.busy
        )
    }

    fn is_quiet(&self) -> bool {
        self.busy <= QUIET_BUSY_MAX
    }

    /// Returns what the report says about the machine.
    ///
    /// # Errors
    /// When the kernel does not say how it is.
    pub(super) fn described(&self) -> anyhow::Result<String> {
        let now = ticks()?;
        let stolen = share(now.stolen - self.at_start.stolen, now.all - self.at_start.all);
        let quiet = if self.is_quiet() {
            "The machine was quiet."
        } else {
            "**The machine was not quiet: others worked on it. Believe the ratios and the costs, if anything.**"
        };
        Ok(format!(
            "{}. Before the first run: load {}, processors {:.0} % busy. {quiet} During the runs other machines on \
             the same host took {:.1} % of the processor time.",
            self.hardware,
            self.load,
            100.0 * self.busy,
            100.0 * stolen
        ))
    }
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown processor").to_owned()
}

fn ticks() -> anyhow::Result<Ticks> {
    let text = std::fs::read_to_string("/proc/stat")?;
    parse(&text).ok_or_else(|| anyhow::anyhow!("/proc/stat does not begin with processor times"))
}

/// The first line: user, nice, system, idle, waiting, interrupts, soft interrupts, stolen, and guests (in user already).
fn parse(stat: &str) -> Option<Ticks> {
    let times = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = times.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [_, _, _, idle, waiting, _, _, stolen] = times[..] else { return None };
    Some(Ticks { all: times.iter().sum(), idle: idle + waiting, stolen })
}

fn busy(before: Ticks, after: Ticks) -> f64 {
    1.0 - share(after.idle - before.idle, after.all - before.all)
}

fn share(part: u64, all: u64) -> f64 {
    float(part) / float(all).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_not_counted_twice() {
        let stat = "cpu  10 1 9 70 5 1 2 2 50 60\ncpu0 1 2 3\n";
        assert_eq!(parse(stat), Some(Ticks { all: 100, idle: 75, stolen: 2 }));
    }

    #[test]
    fn waiting_for_the_disk_is_not_busy() {
        let before = Ticks { all: 100, idle: 50, stolen: 0 };
        let after = Ticks { all: 300, idle: 200, stolen: 0 };
        assert!((busy(before, after) - 0.25).abs() < 1e-9);
    }
}
