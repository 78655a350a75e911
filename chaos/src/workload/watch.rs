//! The watch workload: half of the clients write, the others watch what is written.
//!
//! A watching client opens a stream to a member with several watches of every kind, begins anywhere around the current revision,
//! asks for progress, and opens another after a while; most of the time it goes on there where it was. Some do not read for a while, so
//! that more waits for them than a member keeps. At the end every watch must show what had happened until then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::values::{Counter, folder_end, read_folder};
use super::watch_stream::{Open, Reading, Streams};
use super::{Client, Entry, Nodes, Setup, Tier, Workload};
use crate::history::{Delete, Put, Request, Txn, WatchSpec};

pub(super) const ENTRY: Entry = Entry {
    name: "watch",
    about: "watches of every kind, while others write",
    checkers: &["watch", "witness", "convergence"],
    needs_own_store: false,
    tier: Tier::Store,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Watching::new(setup)),
};

/// Keys that are written: few, so that every kind of watch sees some of them.
const KEYS: u32 = 12;
/// Watches on one stream.
const WATCHES_PER_STREAM: usize = 5;
/// How far from the current revision a watch begins.
const START_DISTANCE: i64 = 100;
/// How long a stream stays open.
const STREAM_LASTS_MS: std::ops::Range<u64> = 500..5000;
/// How many streams are not read for a while.
const LULLS: f64 = 0.3;

struct Watching {
    prefix: String,
    members: u32,
    generator: Mutex<Generator>,
    streams: Streams,
}

impl Watching {
    fn new(setup: &Setup) -> Self {
        Self {
            prefix: setup.prefix.clone(),
            members: setup.members.max(1),
            generator: Mutex::new(Generator::new(setup)),
            streams: Streams::default(),
        }
    }

    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, mut client: Client) -> std::io::Result<()> {
        while client.turn().await {
            let request = self.generator().next_write();
            if let Ok((_, revision)) = client.exchange(&request).await? {
                self.streams.note(revision);
            }
        }
        Ok(())
    }

    async fn watch(&self, mut client: Client) -> std::io::Result<()> {
        let mut earlier: Vec<Open> = Vec::new();
        while client.turn().await {
            let specs = self.generator().next_watches(self.streams.newest(), &earlier);
            let reading = self.generator().next_reading();
            earlier = self.streams.session(&mut client, specs, reading).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Workload for Watching {
    async fn work(self: Arc<Self>, client: Client) -> std::io::Result<()> {
        // Clients go round the members: so there are writers and watchers on each.
        let is_writer = (client.number() / self.members).is_multiple_of(2);
        if is_writer { self.write(client).await } else { self.watch(client).await }
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let _ = client.exchange(&read_folder(&format!("{}watch/", self.prefix))).await?;
        Ok(())
    }
}

/// Draws writes and watches from a seed.
struct Generator {
    prefix: String,
    random: StdRng,
    values: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        let random = StdRng::seed_from_u64(setup.seed);
        Self { prefix: setup.prefix.clone(), random, values: Counter::default() }
    }

    fn key(&self, number: u32) -> String {
        format!("{}watch/{number:02}", self.prefix)
    }

    fn next_key(&mut self) -> String {
        let number = self.random.random_range(0..KEYS);
        self.key(number)
    }

    fn next_write(&mut self) -> Request {
        match self.random.random_range(0..10_u8) {
            0..=5 => self.put(None),
            6 | 7 => Request::Delete(Delete { key: self.next_key(), end: None }),
            // Neighbours, so that a watch sees several changes of one revision.
            _ => {
                let first = self.random.random_range(0..KEYS - 3);
                let mut then: Vec<Request> =
                    (first..first + 3).map(|number| self.put(Some(number))).collect();
                if self.random.random_bool(0.3) {
                    let key = self.key(first + 3);
                    then.push(Request::Delete(Delete { key, end: None }));
                }
                Request::Txn(Txn { then, ..Txn::default() })
            }
        }
    }

    fn put(&mut self, number: Option<u32>) -> Request {
        let key = match number {
            Some(number) => self.key(number),
            None => self.next_key(),
        };
        Request::Put(Put { key, value: self.values.next().to_string(), ..Put::default() })
    }

    /// Goes on where earlier watches were, or begins others anywhere.
    fn next_watches(&mut self, newest: i64, earlier: &[Open]) -> Vec<WatchSpec> {
        if !earlier.is_empty() && self.random.random_bool(0.7) {
            let resumed = earlier.iter().map(|watch| {
                let from = (watch.reached + 1).max(watch.spec.from);
                // A watch of what comes next that showed nothing begins anew.
                let from = if watch.reached == 0 && watch.spec.from == 0 { 0 } else { from };
                WatchSpec { from, ..watch.spec.clone() }
            });
            return resumed.collect();
        }
        (0..WATCHES_PER_STREAM).map(|_| self.next_watch(newest)).collect()
    }

    fn next_watch(&mut self, newest: i64) -> WatchSpec {
        let folder = format!("{}watch/", self.prefix);
        let (key, end) = match self.random.random_range(0..4_u8) {
            0 => (self.next_key(), None),
            1 => {
                let first = self.random.random_range(0..KEYS - 4);
                let count = self.random.random_range(1..=4_u32);
                (self.key(first), Some(self.key(first + count)))
            }
            // All that begins with the same digit.
            2 => (format!("{folder}0"), Some(format!("{folder}1"))),
            _ => (folder.clone(), Some(folder_end(&folder))),
        };
        let distance = self.random.random_range(-START_DISTANCE..=START_DISTANCE);
        let from = if self.random.random_bool(0.1) { 0 } else { (newest + distance).max(1) };
        let filter = self.random.random_range(0..10_u8);
        WatchSpec {
            key,
            end,
            from,
            prev_kv: self.random.random_bool(0.5),
            no_put: filter == 0,
            no_delete: filter == 1,
            fragment: self.random.random_bool(0.3),
            progress_notify: self.random.random_bool(0.3),
        }
    }

    fn next_reading(&mut self) -> Reading {
        let lasts_ms = self.random.random_range(STREAM_LASTS_MS);
        Reading::drawn(Duration::from_millis(lasts_ms), LULLS, &mut self.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator() -> Generator {
        Generator::new(&Setup { seed: 1, prefix: String::new(), members: 3 })
    }

    #[test]
    fn watches_of_every_kind_begin_around_the_current_revision() {
        let mut generator = generator();
        let specs: Vec<WatchSpec> = (0..400).map(|_| generator.next_watch(1000)).collect();
        let count = |is: fn(&WatchSpec) -> bool| specs.iter().filter(|spec| is(spec)).count();
        for found in [
            count(|spec| spec.end.is_none()),
            count(|spec| spec.from == 0),
            count(|spec| (900..1000).contains(&spec.from)),
            count(|spec| (1001..=1100).contains(&spec.from)),
            count(|spec| spec.no_put),
            count(|spec| spec.no_delete),
            count(|spec| spec.fragment && spec.prev_kv),
        ] {
            assert!(found > 10, "{found}");
        }
        assert!(specs.iter().all(|spec| spec.from == 0 || (900..=1100).contains(&spec.from)));
        assert!(specs.iter().all(|spec| spec.end.as_ref().is_none_or(|end| *end > spec.key)));
    }

    #[test]
    fn a_resumed_watch_goes_on_behind_what_it_has_shown() {
        let mut generator = generator();
        let spec = WatchSpec { key: "k".to_owned(), from: 7, ..WatchSpec::default() };
        let mut earlier = [Open::new(0, spec.clone()), Open::new(1, spec)];
        earlier[0].reached = 9;
        let mut resumed = generator.next_watches(1000, &earlier);
        while resumed.len() != 2 {
            resumed = generator.next_watches(1000, &earlier);
        }
        let from: Vec<i64> = resumed.iter().map(|spec| spec.from).collect();
        assert_eq!(from, [10, 7]);
    }
}
