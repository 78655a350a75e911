//! A large store: a million keys of 64 bytes, five versions of each. How long it takes to fill, to count and to list; what it occupies;
//! what clients feel while four million old versions are collected; how long a member takes to come back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;

use super::connection::Connection;
use super::contestant::Contestant;
use super::figure::{Against, Better, Kind, Reading};
use super::in_turn::{self, Shown};
use super::pace::{self, Pace};
use super::sample::float;
use super::{generator, process};
use crate::cluster::{Cluster, Member};

/// How the report says that it was measured.
pub(super) const TEXT: &str = "Three members, a million keys of 64 bytes, each written five times with values of 64 bytes. Memory and disk are \
    the mean of the members, 10 s after the last write. Puts at an even pace of 500/s to the leader, with 48-byte keys and 256-byte \
    values, first for 10 s alone, then until a compaction of everything before has removed it from the leader's disk. A restart ends with \
    the first linearizable read from the member.";

const KEYS: u64 = 1_000_000;
const VERSIONS: u64 = 5;
const LISTED: i64 = 10_000;
/// Questions of each kind, one after the other.
const COUNTS: u32 = 50;
const LISTS: u32 = 50;
/// Puts while nothing else happens, and while old versions are collected.
const PACE: Pace = Pace { per_second: 500, pending_max: 500 };
const QUIET: Duration = Duration::from_secs(10);
/// A store is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(10);
/// How often a member that was started is asked whether it serves.
const POLL: Duration = Duration::from_millis(10);
const RESTART_MAX: Duration = Duration::from_secs(300);

const fn less(name: &'static str, decimals: usize, aim: Option<f64>) -> Kind {
    Kind { name, decimals, better: Better::Less, against: Against::Peers, aim }
}

static FILLED: Kind = Kind {
    name: "puts/s while it is filled, 128 to a transaction",
    decimals: 0,
    better: Better::More,
    against: Against::Peers,
    aim: None,
};
static COUNTED: Kind = less("count of 1 M keys, median, ms", 2, Some(0.01));
static RANGED: Kind = less("range of 10 000 keys, median, ms", 1, Some(0.5));
static MEMORY: Kind =
    less("memory of a member with 1 M keys, 5 versions each, without mapped files, MB", 0, Some(0.5));
static MEMORY_ALL: Kind = less("the same with mapped files (PSS), MB", 0, Some(0.5));
static BYTES_PER_KEY: Kind = less("bytes of memory per key, without mapped files", 0, None);
static DISK: Kind = less("data directory of a member before compaction, MB", 0, None);
static QUIET_P99: Kind = less("p99 of 500 puts/s on that store, ms", 1, None);
static COMPACTING_P99: Kind = less("p99 of 500 puts/s while 4 M versions are collected, ms", 1, None);
static COMPACTING_RATIO: Kind =
    Kind { against: Against::Itself, ..less("p99 while versions are collected / quiet p99", 2, Some(1.2)) };
static COMPACTION: Kind = less("time until the old versions are gone, s", 1, None);
static RESTART_CLEAN: Kind = less("restart of a follower behind SIGTERM, s", 2, Some(0.5));
static RESTART_KILLED: Kind = less("restart of a follower behind SIGKILL, s", 2, Some(0.5));

/// Measures all sides but the empty service, one after the other.
///
/// # Errors
/// When a member cannot be started or does not answer.
pub(super) async fn measure(data: &Path, contestants: &[Contestant]) -> anyhow::Result<Vec<Reading>> {
    in_turn::measure(data, contestants, one).await
}

async fn one(cluster: &mut Cluster) -> anyhow::Result<Shown> {
    let leader = cluster.leader().await.context("no leader")?;
    let connection = Connection::open(cluster.client_url(leader)?).await?;
    let began = Instant::now();
    for version in 0..VERSIONS {
        connection
            .fill(0..KEYS, move |number| {
                (generator::large_key(number), generator::large_value(version * KEYS + number))
            })
            .await?;
    }
    let mut readings = vec![(&FILLED, float(KEYS * VERSIONS) / began.elapsed().as_secs_f64())];
    tokio::time::sleep(REST).await;
    let (memory, without_files) = memory(cluster)?;
    readings.extend([
        (&MEMORY, without_files / 1e6),
        (&MEMORY_ALL, memory / 1e6),
        (&BYTES_PER_KEY, without_files / float(KEYS)),
        (&DISK, float(directory_bytes(cluster.data())?) / float(members(cluster)) / 1e6),
    ]);
    readings.push((&COUNTED, counts(&connection).await?));
    readings.push((&RANGED, lists(&connection).await?));
    readings.extend(compaction(&connection).await?);
    let follower = (leader + 1) % cluster.members.len();
    readings.push((&RESTART_CLEAN, restart(cluster, follower, Ending::Clean).await?));
    readings.push((&RESTART_KILLED, restart(cluster, follower, Ending::Killed).await?));
    Ok(readings)
}

fn members(cluster: &Cluster) -> u64 {
    u64::try_from(cluster.members.len()).unwrap_or(u64::MAX)
}

/// The mean of all members: with and without pages of files.
fn memory(cluster: &Cluster) -> anyhow::Result<(f64, f64)> {
    let mut sums = (0, 0);
    for pid in cluster.members.iter().filter_map(Member::pid) {
        sums.0 += process::memory(pid)?;
        sums.1 += process::anonymous_memory(pid)?;
    }
    Ok((float(sums.0) / float(members(cluster)), float(sums.1) / float(members(cluster))))
}

/// What files below a folder occupy on the disk.
fn directory_bytes(folder: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        sum += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path())?,
            Ok(metadata) => metadata.blocks() * 512,
            // Members replace files while this looks.
            Err(_) => 0,
        };
    }
    Ok(sum)
}

async fn counts(connection: &Connection) -> anyhow::Result<f64> {
    let mut latencies = Histogram::<u64>::new(3)?;
    for _ in 0..COUNTS {
        let began = Instant::now();
        let count = connection.count(generator::LARGE).await?;
        latencies.record(pace::microseconds(began.elapsed()))?;
        anyhow::ensure!(u64::try_from(count) == Ok(KEYS), "{count} keys were counted");
    }
    Ok(float(latencies.value_at_quantile(0.5)) / 1e3)
}

async fn lists(connection: &Connection) -> anyhow::Result<f64> {
    let mut latencies = Histogram::<u64>::new(3)?;
    for number in 0..LISTS {
        let first = generator::large_key(u64::from(number) * 19_000);
        let began = Instant::now();
        let listed = connection.list(first, generator::LARGE, LISTED).await?;
        latencies.record(pace::microseconds(began.elapsed()))?;
        anyhow::ensure!(i64::try_from(listed) == Ok(LISTED), "{listed} keys were listed");
    }
    Ok(float(latencies.value_at_quantile(0.5)) / 1e3)
}

/// Puts at an even pace, first alone, then beside a compaction of everything.
async fn compaction(connection: &Connection) -> anyhow::Result<Vec<(&'static Kind, f64)>> {
    let put = {
        let connection = connection.clone();
        move |count: u64| {
            let connection = connection.clone();
            async move { connection.put(generator::key(count), generator::value(count)).await }
        }
    };
    let quiet = pace::run(PACE, tokio::time::sleep(QUIET), put.clone()).await?;
    let revision = connection.revision().await?;
    let began = Instant::now();
    let compacting = async { connection.compact(revision).await.map(|()| began.elapsed()) };
    let mut took = None;
    let busy = pace::run(PACE, async { took = Some(compacting.await) }, put).await?;
    let took = took.context("the compaction did not end")??;
    let (quiet, busy) = (quiet.milliseconds(0.99), busy.milliseconds(0.99));
    Ok(vec![
        (&QUIET_P99, quiet),
        (&COMPACTING_P99, busy),
        (&COMPACTING_RATIO, busy / quiet),
        (&COMPACTION, took.as_secs_f64()),
    ])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Clean,
    Killed,
}

/// Ends a member and starts it again; returns the seconds from its start to its first linearizable read.
async fn restart(cluster: &mut Cluster, index: usize, ending: Ending) -> anyhow::Result<f64> {
    let member = cluster.members.get_mut(index).context("no such member")?;
    match ending {
        Ending::Clean => member.terminate().await?,
        Ending::Killed => member.kill().await.map(|_| ())?,
    }
    let began = Instant::now();
    member.start()?;
    loop {
        // A connection of its own each time: one that was refused waits before it tries again.
        let read = async { cluster.connect(index)?.read("ready").await.map_err(|_| anyhow::anyhow!("no")) };
        if read.await.is_ok() {
            return Ok(began.elapsed().as_secs_f64());
        }
        anyhow::ensure!(began.elapsed() < RESTART_MAX, "a member does not come back");
        tokio::time::sleep(POLL).await;
    }
}
