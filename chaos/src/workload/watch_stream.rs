//! A stream of watches: opened on one member, read until it ends, and recorded response by response.
//!
//! Each watch has a process of its own in the history. A stream that is open when the run ends must show what had happened until then.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;
use tonic::Status;

use super::Client;
use crate::etcd::{WatchStream, Watched};
use crate::history::{EventKind, Function, WatchSpec};

/// Between two questions for progress.
const PROGRESS_PERIOD: Duration = Duration::from_millis(300);
/// Longest that a watch on a healed cluster may be behind.
const BEHIND_MAX: Duration = Duration::from_secs(10);
/// The first process number of watches: no client comes so far, and the last clients are behind.
const PROCESSES: u32 = 2_000_000_000;

/// What all streams of a run share.
#[derive(Default)]
pub(super) struct Streams {
    /// The highest revision that anybody was answered.
    newest: AtomicI64,
    watches: AtomicU32,
}

/// How a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// How long it stays open.
    pub(super) lasts: Duration,
    pub(super) lull: Option<Lull>,
}

impl Reading {
    /// Draws whether there is a lull in it, with this probability, and when.
    pub(super) fn drawn(lasts: Duration, lulls: f64, random: &mut StdRng) -> Self {
        let lull = random.random_bool(lulls).then(|| {
            let after = lasts.mul_f64(random.random_range(0.0..0.5));
            // It is over before the stream is, so that what has waited is shown.
            Lull { after, lasts: (lasts - after).mul_f64(random.random_range(0.0..0.7)) }
        });
        Self { lasts, lull }
    }
}

/// A time in which nobody reads a stream, so that what it has to show waits at the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lull {
    /// From the stream's beginning.
    pub(super) after: Duration,
    pub(super) lasts: Duration,
}

/// A watch that is open, or was.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) spec: WatchSpec,
    process: u32,
    /// All up to this revision was shown.
    pub(super) reached: i64,
    /// The store has ended it.
    is_canceled: bool,
}

impl Streams {
    pub(super) fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// Notes the revision of an answer.
    pub(super) fn note(&self, revision: i64) {
        self.newest.fetch_max(revision, Ordering::Relaxed);
    }

    /// Opens a stream and reads it until its time is over, it breaks, or the run ends and it has shown everything; returns how far its
    /// watches came.
    pub(super) async fn session(
        &self,
        client: &mut Client,
        specs: Vec<WatchSpec>,
        reading: Reading,
    ) -> std::io::Result<Vec<Open>> {
        let first = self.watches.fetch_add(u32::try_from(specs.len()).unwrap_or(0), Ordering::Relaxed);
        let processes = PROCESSES.saturating_add(first)..;
        let mut open: Vec<Open> =
            processes.zip(specs).map(|(process, spec)| Open::new(process, spec)).collect();
        let Some(target) = client.take_member() else { return Ok(open) };
        for watch in &open {
            client.note_watch(watch.process, Function::Watch, EventKind::Invoke, &watch.spec, None)?;
        }
        let specs: Vec<WatchSpec> = open.iter().map(|watch| watch.spec.clone()).collect();
        let ended = match target.client.watch(&specs).await {
            Ok(stream) => self.follow(client, &mut open, stream, reading).await?,
            Err(status) => status,
        };
        for watch in &open {
            client.note_watch_end(watch.process, EventKind::Info, ended.message())?;
        }
        Ok(open)
    }

    async fn follow(
        &self,
        client: &Client,
        open: &mut [Open],
        mut stream: WatchStream,
        reading: Reading,
    ) -> std::io::Result<Status> {
        let began = Instant::now();
        let lull = reading.lull.map(|lull| began + lull.after..began + lull.after + lull.lasts);
        let mut ends = began + reading.lasts;
        let mut last_wanted = None;
        let mut questions = tokio::time::interval(PROGRESS_PERIOD);
        loop {
            // A lull ends with the run: what waits must come then.
            let rests_until =
                lull.clone().filter(|lull| last_wanted.is_none() && lull.contains(&Instant::now()));
            let rests_until = rests_until.map(|lull| lull.end);
            tokio::select! {
                biased;
                () = client.stopped(), if last_wanted.is_none() => {
                    last_wanted = Some(self.newest());
                    ends = Instant::now() + BEHIND_MAX;
                }
                () = tokio::time::sleep_until(ends) => break,
                () = tokio::time::sleep_until(rests_until.unwrap_or(ends)), if rests_until.is_some() => {}
                response = stream.next(), if rests_until.is_none() => match response {
                    Ok(watched) => self.take(client, open, watched)?,
                    Err(status) => return Ok(status),
                },
                _ = questions.tick(), if rests_until.is_none() => {
                    if let Err(status) = stream.ask_progress() { return Ok(status) }
                }
            }
            if open.iter().all(|watch| watch.is_canceled) {
                return Ok(Status::ok("the store has ended all of its watches"));
            }
            // Progress is not told on a stream with a watch that begins in the future (etcd pull request 20229): what shows
            // nothing there may have nothing to show.
            let is_over = |wanted| {
                open.iter().any(|watch| watch.spec.from > wanted)
                    || open.iter().all(|watch| !watch.is_behind(wanted))
            };
            if last_wanted.is_some_and(is_over) {
                return Ok(Status::ok("the run is over"));
            }
        }
        for watch in open.iter().filter(|watch| last_wanted.is_some_and(|wanted| watch.is_behind(wanted))) {
            let wanted = last_wanted.unwrap_or(0);
            let error = format!(
                "it has shown all up to {}, but not up to {wanted} within {BEHIND_MAX:?}",
                watch.reached
            );
            client.note_watch_end(watch.process, EventKind::Fail, &error)?;
        }
        Ok(Status::ok("its time is over"))
    }

    fn take(&self, client: &Client, open: &mut [Open], watched: Watched) -> std::io::Result<()> {
        let Watched { watch, revision, is_creation, notice } = watched;
        self.note(revision);
        let all = 0..open.len();
        for place in all.filter(|place| watch.is_none_or(|watch| watch == *place)) {
            // What is said of the whole stream is not said of a watch that has ended.
            let Some(watch) = open.get_mut(place).filter(|watch| !watch.is_canceled) else { continue };
            if is_creation {
                client.note_watch(watch.process, Function::Watch, EventKind::Ok, &(), Some(revision))?;
                if watch.spec.from == 0 {
                    watch.reached = revision;
                }
            }
            if is_creation && notice.canceled.is_none() {
                continue;
            }
            client.note_watch(watch.process, Function::Notice, EventKind::Ok, &notice, Some(revision))?;
            // A part of a revision is not all of it.
            let whole = notice.events.last().filter(|_| !notice.is_fragment);
            let shown = whole.map(|event| event.revision);
            let progress = notice.is_progress.then_some(revision);
            watch.reached = watch.reached.max(shown.or(progress).unwrap_or(0));
            watch.is_canceled = notice.canceled.is_some();
        }
        Ok(())
    }
}

impl Open {
    pub(super) fn new(process: u32, spec: WatchSpec) -> Self {
        Self { spec, process, reached: 0, is_canceled: false }
    }

    /// Whether it has yet to show what happened up to `wanted`.
    fn is_behind(&self, wanted: i64) -> bool {
        !self.is_canceled && self.reached < wanted
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn some_streams_are_not_read_for_a_while_and_all_are_in_the_end() {
        let mut random = StdRng::seed_from_u64(1);
        let lasts = Duration::from_secs(4);
        let lulls = (0..200).filter_map(|_| Reading::drawn(lasts, 0.3, &mut random).lull);
        let lulls: Vec<Lull> = lulls.collect();
        assert!((30..90).contains(&lulls.len()));
        assert!(lulls.iter().all(|lull| lull.after + lull.lasts < lasts));
        assert!(lulls.iter().any(|lull| lull.lasts > Duration::from_secs(1)));
    }
}
