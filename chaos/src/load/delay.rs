//! How long an event takes from the moment when its put was due until a watcher has it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use proto::etcdserverpb::WatchResponse;
use tokio::task::JoinSet;
use tonic::Streaming;

use super::connection::Connection;
use super::contestant::Contestant;
use super::figure::{Against, Better, Kind, Reading};
use super::in_turn::{self, Shown};
use super::pace::{self, Pace};
use super::sample::float;
use crate::cluster::Cluster;

/// How the report says that it was measured.
pub(super) const TEXT: &str = "Puts of 256 bytes at an even pace to the leader for 5 s; every watcher gets every event. Watchers share 30 streams, ten \
    on a connection each to every member. The delay counts from the moment when the put was due until the client has read the event; servers \
    and clients share the machine, so with a thousand watchers its processors are the limit for everybody.";

/// What all watchers watch.
const PREFIX: &str = "/registry/events/";
/// Streams to each member: watchers share them, as those of an API server do.
const STREAMS_PER_MEMBER: usize = 10;
const LENGTH: Duration = Duration::from_secs(5);
/// Events that have not come so long after the last put count as delayed by as much.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// One line: so many watchers, so many puts a second.
struct Line {
    watchers: usize,
    pace: Pace,
    p50: &'static Kind,
    p99: &'static Kind,
    taken: &'static Kind,
    delivered: &'static Kind,
}

const fn delay(name: &'static str, aim: Option<f64>) -> Kind {
    Kind { name, decimals: 1, better: Better::Less, against: Against::Peers, aim }
}

const fn rate(name: &'static str) -> Kind {
    Kind { name, decimals: 0, better: Better::More, against: Against::Peers, aim: None }
}

static LINES: [Line; 2] = [
    Line {
        watchers: 100,
        pace: Pace { per_second: 1000, pending_max: 1000 },
        p50: &delay("event delay with 100 watchers at 1000 puts/s, median, ms", None),
        p99: &delay("event delay with 100 watchers at 1000 puts/s, p99, ms", None),
        taken: &rate("puts/s taken, 100 watchers"),
        delivered: &rate("events/s delivered, 100 watchers"),
    },
    Line {
        watchers: 1000,
        pace: Pace { per_second: 1000, pending_max: 1000 },
        p50: &delay("event delay with 1000 watchers at 1000 puts/s, median, ms", None),
        p99: &delay("event delay with 1000 watchers at 1000 puts/s, p99, ms", Some(0.3)),
        taken: &rate("puts/s taken, 1000 watchers"),
        delivered: &rate("events/s delivered, 1000 watchers"),
    },
];

/// Measures all sides but the empty service, one after the other.
///
/// # Errors
/// When a member cannot be started or loses an event.
pub(super) async fn measure(data: &Path, contestants: &[Contestant]) -> anyhow::Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for line in &LINES {
        readings.extend(in_turn::measure(data, contestants, async |cluster| one(cluster, line).await).await?);
    }
    Ok(readings)
}

async fn one(cluster: &Cluster, line: &Line) -> anyhow::Result<Shown> {
    let members = cluster.members.len();
    let streams = STREAMS_PER_MEMBER * members;
    let began = Instant::now();
    let mut watching = JoinSet::new();
    let (phase, phases) = tokio::sync::watch::channel(Phase::Writing);
    for number in 0..streams {
        let connection = Connection::open(cluster.client_url(number % members)?).await?;
        // The first streams take what does not divide.
        let watches = line.watchers / streams + usize::from(number < line.watchers % streams);
        let stream = connection.watch(PREFIX, watches, false).await?;
        let watches = u64::try_from(watches)?;
        watching.spawn(receive(stream, watches, phases.clone(), began));
    }
    let leader = cluster.leader().await.context("no leader")?;
    let writer = Connection::open(cluster.client_url(leader)?).await?;
    let put = |count: u64| {
        let writer = writer.clone();
        // When it was due, to a millisecond: a call begins with the tick that it belongs to.
        let value = format!("{:020}{:0236}", began.elapsed().as_micros(), count);
        async move { writer.put(format!("{PREFIX}{count:032}"), value).await }
    };
    let began_writing = Instant::now();
    let paced = pace::run(line.pace, tokio::time::sleep(LENGTH), put).await?;
    let writing = began_writing.elapsed();
    phase.send(Phase::Expecting { puts: paced.answered })?;
    let mut delays = Histogram::<u64>::new(3)?;
    let deadline = tokio::time::Instant::now() + DRAIN_MAX;
    while !watching.is_empty() {
        tokio::select! {
            Some(ended) = watching.join_next() => delays.add(ended.context("a watcher panicked")??)?,
            () = tokio::time::sleep_until(deadline), if *phase.borrow() != Phase::Over => phase.send(Phase::Over)?,
        }
    }
    let delivered = delays.len();
    let all = paced.answered * u64::try_from(line.watchers)?;
    delays.record_n(pace::microseconds(DRAIN_MAX), all.saturating_sub(delivered))?;
    let milliseconds = |quantile| float(delays.value_at_quantile(quantile)) / 1e3;
    Ok(vec![
        (line.p50, milliseconds(0.5)),
        (line.p99, milliseconds(0.99)),
        (line.taken, float(paced.answered) / writing.as_secs_f64()),
        (line.delivered, float(delivered) / began_writing.elapsed().as_secs_f64()),
    ])
}

/// What watchers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Writing,
    /// So many puts were acknowledged.
    Expecting {
        puts: u64,
    },
    /// Nothing more.
    Over,
}

/// Reads until every watch of the stream has had every event, or it is over.
async fn receive(
    mut stream: Streaming<WatchResponse>,
    watches: u64,
    mut phases: tokio::sync::watch::Receiver<Phase>,
    began: Instant,
) -> anyhow::Result<Histogram<u64>> {
    let mut delays = Histogram::<u64>::new(3)?;
    loop {
        match *phases.borrow_and_update() {
            Phase::Expecting { puts } if delays.len() >= puts * watches => return Ok(delays),
            Phase::Over => return Ok(delays),
            Phase::Writing | Phase::Expecting { .. } => {}
        }
        tokio::select! {
            response = stream.message() => {
                let response = response?.context("the watch ended")?;
                anyhow::ensure!(!response.canceled, "a watch was ended: {}", response.cancel_reason);
                let now = pace::microseconds(began.elapsed());
                for event in response.events {
                    let value = event.kv.map(|kv| kv.value).unwrap_or_default();
                    delays.record(now.saturating_sub(due(&value).context("an event of somebody else")?))?;
                }
            }
            changed = phases.changed() => changed?,
        }
    }
}

/// When the put of an event was due, in microseconds.
pub(super) fn due(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value.get(..20)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::due;

    #[test]
    fn an_event_says_when_it_was_due() {
        assert_eq!(due(b"0000000000000012345600"), Some(123_456));
        assert_eq!(due(b"short"), None);
    }
}
