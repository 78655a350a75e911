//! A crowd of watchers: ten thousand streams with a hundred watches each on one member, every watch on a key of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use proto::etcdserverpb::WatchResponse;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Streaming;

use super::connection::Connection;
use super::contestant::{Contestant, Role};
use super::figure::{Against, Better, Kind, Reading};
use super::pace::{self, Pace};
use super::process::anonymous_memory;
use super::sample::float;
use super::{Folder, places};
use crate::cluster::{Cluster, Member};
use crate::run::say;

/// How the report says that it was measured.
pub(super) const TEXT: &str = "One member, 10 000 streams on 100 connections, 100 watches on each stream, each on a key of its own: a million watches. \
    Then puts at an even pace, each of which one watch waits for. Memory is the member's, without pages of files; clients are another process.";

const CONNECTIONS: usize = 100;
const STREAMS_PER_CONNECTION: usize = 100;
const WATCHES_PER_STREAM: usize = 100;
const WATCHES: usize = CONNECTIONS * STREAMS_PER_CONNECTION * WATCHES_PER_STREAM;
/// Streams that are opened at a time.
const OPENING: usize = 64;
const PACE: Pace = Pace { per_second: 500, pending_max: 500 };
const LENGTH: Duration = Duration::from_secs(5);
const ALONE: Duration = Duration::from_secs(5);
/// Prime to the number of watches, so that puts go all around.
const STRIDE: usize = 736_187;
const EVENT_MAX: Duration = Duration::from_secs(30);

const fn less(name: &'static str, decimals: usize) -> Kind {
    Kind { name, decimals, better: Better::Less, against: Against::Peers, aim: None }
}

static OPENED: Kind = less("time until a million watches have begun, s", 1);
static MEMORY: Kind = less("memory of the member with a million watches, MB", 0);
static BYTES: Kind = less("bytes of memory per watch", 0);
static ALONE_P99: Kind = less("p99 of 500 puts/s without any watch, ms", 1);
static PUT_P99: Kind = less("p99 of 500 puts/s beside a million watches, ms", 1);
static DELAY_P50: Kind = less("event delay beside a million watches, median, ms", 1);
static DELAY_P99: Kind = less("event delay beside a million watches, p99, ms", 1);

/// Measures our side: others were not made for this.
///
/// # Errors
/// When the member cannot be started, refuses a watch or loses an event.
pub(super) async fn measure(data: &Path, contestants: &[Contestant]) -> anyhow::Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for (side, contestant) in contestants.iter().enumerate().filter(|(_, side)| side.role == Role::Ours) {
        let folder = Folder::create(data)?;
        let mut places = places::free()?;
        places.truncate(1);
        let mut cluster = Cluster::start(&contestant.program, &places, "keelson-bench", &folder.0).await?;
        let measured = one(&cluster).await;
        cluster.stop().await;
        for (kind, value) in measured.with_context(|| contestant.name.clone())? {
            say(&format!("{:<14} {}: {value:.*}", contestant.name, kind.name, kind.decimals));
            readings.push(Reading { side, kind, value });
        }
    }
    Ok(readings)
}

fn key(watch: usize) -> String {
    format!("/registry/crowd/object-{watch:07}")
}

async fn one(cluster: &Cluster) -> anyhow::Result<Vec<(&'static Kind, f64)>> {
    let url = cluster.client_url(0)?;
    let pid = cluster.members.first().and_then(Member::pid).context("the member has ended")?;
    let writer = Connection::open(url).await?;
    let began = Instant::now();
    let put = |count: u64| {
        let watch = usize::try_from(count).unwrap_or(0) * STRIDE % WATCHES;
        let (writer, due) = (writer.clone(), began.elapsed().as_micros());
        async move { writer.put(key(watch), format!("{due:020}{:0236}", 0)).await }
    };
    let alone = pace::run(PACE, tokio::time::sleep(ALONE), put).await?;
    let memory_before = anonymous_memory(pid)?;
    let opening = Instant::now();
    let streams = open(url).await?;
    let opened = opening.elapsed().as_secs_f64();
    let memory = anonymous_memory(pid)?;
    let (delays, mut received) = mpsc::channel(1024);
    let mut watching = JoinSet::new();
    for stream in streams {
        watching.spawn(receive(stream, delays.clone(), began));
    }
    drop(delays);
    let paced = pace::run(PACE, tokio::time::sleep(LENGTH), put).await?;
    let mut delays = Histogram::<u64>::new(3)?;
    while delays.len() < paced.answered {
        let delay = tokio::time::timeout(EVENT_MAX, received.recv()).await;
        delays.record(delay.context("an event did not come")?.context("a watch has ended")?)?;
    }
    let milliseconds = |quantile| float(delays.value_at_quantile(quantile)) / 1e3;
    Ok(vec![
        (&OPENED, opened),
        (&MEMORY, float(memory) / 1e6),
        (&BYTES, float(memory.saturating_sub(memory_before)) / float(u64::try_from(WATCHES)?)),
        (&ALONE_P99, alone.milliseconds(0.99)),
        (&PUT_P99, paced.milliseconds(0.99)),
        (&DELAY_P50, milliseconds(0.5)),
        (&DELAY_P99, milliseconds(0.99)),
    ])
}

/// Opens all streams and waits until all their watches have begun.
async fn open(url: &str) -> anyhow::Result<Vec<Streaming<WatchResponse>>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(url).await?);
    }
    let mut streams = Vec::new();
    let mut opening = JoinSet::new();
    let all = (0..CONNECTIONS * STREAMS_PER_CONNECTION).zip(connections.iter().cycle());
    for (stream, connection) in all {
        if opening.len() >= OPENING
            && let Some(opened) = opening.join_next().await
        {
            streams.push(opened.context("a client panicked")??);
        }
        let connection = connection.clone();
        let first = stream * WATCHES_PER_STREAM;
        opening
            .spawn(async move { connection.watch_keys((first..first + WATCHES_PER_STREAM).map(key)).await });
    }
    while let Some(opened) = opening.join_next().await {
        streams.push(opened.context("a client panicked")??);
    }
    Ok(streams)
}

/// Says how late each event of a stream is.
async fn receive(
    mut stream: Streaming<WatchResponse>,
    delays: mpsc::Sender<u64>,
    began: Instant,
) -> anyhow::Result<()> {
    while let Some(response) = stream.message().await? {
        let now = pace::microseconds(began.elapsed());
        for event in response.events {
            let value = event.kv.map(|kv| kv.value).unwrap_or_default();
            let due = super::delay::due(&value).context("an event of somebody else")?;
            if delays.send(now.saturating_sub(due)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
