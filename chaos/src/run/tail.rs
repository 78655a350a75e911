//! The log as each member shows it while the run is under way, so that what is compacted later is known all the same.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::audit::Part;
use crate::check::witness::LogEntry;
use crate::etcd::WatchStream;
use crate::history::WatchSpec;
use crate::workload::Target;

/// Before a member is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// One reader for each member.
pub struct Tails {
    readers: JoinSet<(String, Vec<LogEntry>)>,
    stop: CancellationToken,
}

impl Tails {
    /// Begins to read the log of each member.
    #[must_use]
    pub fn start(targets: &[Target], part: &Part) -> Self {
        let mut tails = Self { readers: JoinSet::new(), stop: CancellationToken::new() };
        for target in targets {
            let (target, stop, from) = (target.clone(), tails.stop.clone(), part.from);
            tails.readers.spawn(async move {
                let mut tail = Tail { entries: Vec::new(), next: from };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tail.follow(&target) => {}
                }
                (target.name, tail.entries)
            });
        }
        tails
    }

    /// Ends all readers; returns what each member has shown.
    pub async fn stop(mut self) -> Vec<(String, Vec<LogEntry>)> {
        self.stop.cancel();
        let mut shown = Vec::new();
        while let Some(ended) = self.readers.join_next().await {
            shown.extend(ended.ok());
        }
        shown.sort_by(|left, right| left.0.cmp(&right.0));
        shown
    }
}

struct Tail {
    entries: Vec<LogEntry>,
    /// The revision that comes next.
    next: i64,
}

impl Tail {
    /// Reads for ever. Cancel safe: what was read stays.
    async fn follow(&mut self, target: &Target) {
        loop {
            let everything = WatchSpec {
                key: "\0".to_owned(),
                end: Some("\0".to_owned()),
                from: self.next,
                ..WatchSpec::default()
            };
            if let Ok(stream) = target.client.watch(&[everything]).await {
                self.read(stream).await;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn read(&mut self, mut stream: WatchStream) {
        while let Ok(watched) = stream.next().await {
            if watched.notice.canceled.is_some() {
                // What was compacted before this member showed it is known from others, or from nobody.
                self.next = self.next.max(watched.notice.compacted + 1);
                return;
            }
            for event in watched.notice.events {
                self.next = event.revision + 1;
                self.entries.push(LogEntry { revision: event.revision, key: event.key, state: event.state });
            }
        }
    }
}
