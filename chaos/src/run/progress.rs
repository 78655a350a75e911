//! What a person sees while a run is under way: on a terminal one line that is written anew, elsewhere a line every few seconds.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;

use super::say;
use crate::workload::Progress;

/// From one look to the next.
const ON_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(5);
/// Returns to the beginning of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// Shows how far a run is until it is dropped.
pub(super) struct Display {
    shown: Arc<Shown>,
    _looks: AbortOnDropHandle<()>,
}

struct Shown {
    progress: Arc<Progress>,
    /// What happens at the moment beside the clients' work.
    current: Mutex<String>,
    began: Instant,
    is_terminal: bool,
}

/// What clients have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    ok: u64,
    failed: u64,
    unknown: u64,
}

impl Display {
    /// Begins to show the clients' progress.
    pub(super) fn start(progress: Arc<Progress>) -> Self {
        let shown = Arc::new(Shown {
            progress,
            current: Mutex::new("no fault".to_owned()),
            began: Instant::now(),
            is_terminal: std::io::stdout().is_terminal(),
        });
        let looks = tokio::spawn(look(Arc::clone(&shown)));
        Self { shown, _looks: AbortOnDropHandle::new(looks) }
    }

    /// Says what happens from now on.
    pub(super) fn current(&self, what: &str) {
        let mut current = self.shown.current.lock().unwrap_or_else(PoisonError::into_inner);
        what.clone_into(&mut current);
    }

    /// Says a line that stays.
    pub(super) fn say(&self, what: &str) {
        self.shown.clear();
        let Counts { ok, failed, unknown } = self.shown.counts();
        let seconds = self.shown.began.elapsed().as_secs();
        say(&format!("{seconds:>4} s  {ok:>6} ok {failed:>5} failed {unknown:>4} unknown   {what}"));
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.shown.clear();
    }
}

impl Shown {
    fn counts(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Progress { ok, failed, unknown } = &*self.progress;
        Counts { ok: load(ok), failed: load(failed), unknown: load(unknown) }
    }

    fn clear(&self) {
        if self.is_terminal {
            write(CLEAR);
        }
    }
}

async fn look(shown: Arc<Shown>) {
    let period = if shown.is_terminal { ON_TERMINAL } else { ELSEWHERE };
    let mut ticks = tokio::time::interval(period);
    ticks.tick().await;
    let mut previous = shown.counts();
    loop {
        ticks.tick().await;
        let counts = shown.counts();
        let current = shown.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let line = line(shown.began.elapsed(), previous, counts, period, &current);
        if shown.is_terminal {
            write(&format!("{CLEAR}{line}"));
        } else {
            say(&line);
        }
        previous = counts;
    }
}

fn line(elapsed: Duration, previous: Counts, counts: Counts, period: Duration, current: &str) -> String {
    let Counts { ok, failed, unknown } = counts;
    let done = (ok + failed + unknown).saturating_sub(previous.ok + previous.failed + previous.unknown);
    let rate = u128::from(done) * 1000 / period.as_millis().max(1);
    format!(
        "{:>4} s  {ok:>6} ok {failed:>5} failed {unknown:>4} unknown   {rate:>4}/s   {current}",
        elapsed.as_secs()
    )
}

/// A closed pipe is no reason to end a run that injects faults.
fn write(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_operations_rate_and_fault() {
        let (previous, counts) =
            (Counts { ok: 10, failed: 1, unknown: 0 }, Counts { ok: 110, failed: 2, unknown: 3 });
        let line = line(Duration::from_secs(12), previous, counts, Duration::from_millis(500), "kill n1");
        assert_eq!(line, "  12 s     110 ok     2 failed    3 unknown    208/s   kill n1");
    }
}
