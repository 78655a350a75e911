//! One measurement: a number of clients, each waiting for its answer, for some seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::contestant::Role;
use super::process::usage;
use super::syncs::SyncCounter;
use super::{generator, pace};
use crate::cluster::Cluster;
use crate::etcd::MemberClient;
use crate::history::Answer;

/// Connections per member at most: beyond that clients share, as those of an API server do.
const CONNECTIONS_PER_MEMBER_MAX: u32 = 16;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Put,
    /// Linearizable.
    Get,
    SerializableGet,
    /// As an API server writes: compare-and-swap of objects of a kilobyte, watched by three with the previous value.
    Update,
}

impl Operation {
    pub(super) const ALL: [Self; 4] = [Self::Put, Self::Get, Self::SerializableGet, Self::Update];

    /// Returns its name in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "linearizable get",
            Self::SerializableGet => "serializable get",
            Self::Update => "update of 1 kB, 3 watches",
        }
    }

    /// Returns how many clients at a time it is measured with.
    pub(super) fn clients(self) -> &'static [u32] {
        match self {
            Self::Put => &[1, 64, 256, 1000],
            Self::Get => &[1, 64, 256],
            Self::SerializableGet => &[256],
            Self::Update => &[64, 256],
        }
    }

    /// The empty service keeps nothing that could be compared or watched.
    pub(super) fn is_asked_of(self, role: Role) -> bool {
        self != Self::Update || role != Role::Limit
    }
}

/// Everything that is measured, in the order of the report.
pub(super) fn scenarios() -> impl Iterator<Item = (Operation, u32)> {
    Operation::ALL
        .into_iter()
        .flat_map(|operation| operation.clients().iter().map(move |clients| (operation, *clients)))
}

/// What one measurement has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub operation: Operation,
    pub clients: u32,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Of all members together, as what follows.
    pub cpu_us_per_operation: f64,
    pub bytes_written_per_operation: f64,
    /// `None` where they cannot be counted.
    pub syncs_per_operation: Option<f64>,
    pub errors: u64,
}

impl Sample {
    /// Returns the line that is shown while it runs.
    pub(super) fn line(&self) -> String {
        format!(
            "{:>4} clients {:<25} {:>8.0}/s  p50 {:>6.2} ms  p99 {:>7.2} ms  {:>5.0} us cpu  {:>6.0} bytes  {} syncs  {} errors",
            self.clients,
            self.operation.name(),
            self.per_second,
            self.p50_ms,
            self.p99_ms,
            self.cpu_us_per_operation,
            self.bytes_written_per_operation,
            self.syncs_per_operation.map_or("?".to_owned(), |syncs| format!("{syncs:.3}")),
            self.errors
        )
    }
}

/// What is asked of one cluster.
pub(super) struct Load {
    pub role: Role,
    pub warm_up: Duration,
    pub length: Duration,
    pub counts_syncs: bool,
}

/// Measures every operation with each number of clients.
///
/// # Errors
/// When a member dies or cannot be connected to.
pub(super) async fn all(cluster: &Cluster, load: &Load) -> anyhow::Result<Vec<Sample>> {
    let written = Arc::new(AtomicU64::new(0));
    let measuring = Measuring { cluster, written: &written, counts_syncs: load.counts_syncs };
    measuring.run(Operation::Put, 16, load.warm_up).await?;
    let mut samples = Vec::new();
    for (operation, clients) in scenarios().filter(|(operation, _)| operation.is_asked_of(load.role)) {
        samples.push(measuring.run(operation, clients, load.length).await?);
    }
    Ok(samples)
}

struct Measuring<'a> {
    cluster: &'a Cluster,
    written: &'a Arc<AtomicU64>,
    counts_syncs: bool,
}

impl Measuring<'_> {
    async fn run(&self, operation: Operation, clients: u32, length: Duration) -> anyhow::Result<Sample> {
        let pids: Vec<u32> = self.cluster.members.iter().filter_map(crate::cluster::Member::pid).collect();
        let channels = connect(self.cluster, clients).await?;
        let _watching = match operation {
            Operation::Update => watch_objects(self.cluster).await?,
            Operation::Put | Operation::Get | Operation::SerializableGet => JoinSet::new(),
        };
        let counter = if self.counts_syncs { Some(SyncCounter::start(&pids).await?) } else { None };
        let before = usage(&pids, self.cluster.data())?;
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        // The first client asks the leader, whoever it is; the others follow around the members.
        for (number, client) in (0..clients).zip(channels.iter().cycle().cloned()) {
            let work = Work { client, operation, written: Arc::clone(self.written), until: began + length };
            tasks.spawn(work.run(u64::from(number)));
        }
        let mut latencies = histogram()?;
        let mut errors = 0;
        while let Some(ended) = tasks.join_next().await {
            let (own, own_errors) = ended.context("a client panicked")??;
            latencies.add(own)?;
            errors += own_errors;
        }
        let elapsed = began.elapsed();
        let after = usage(&pids, self.cluster.data())?;
        let syncs = match counter {
            Some(counter) => Some(counter.stop().await?),
            None => None,
        };
        let operations = float(latencies.len()).max(1.0);
        let milliseconds = |quantile| float(latencies.value_at_quantile(quantile)) / 1e3;
        Ok(Sample {
            operation,
            clients,
            per_second: float(latencies.len()) / elapsed.as_secs_f64(),
            p50_ms: milliseconds(0.5),
            p99_ms: milliseconds(0.99),
            cpu_us_per_operation: float(after.cpu_microseconds - before.cpu_microseconds) / operations,
            bytes_written_per_operation: float(after.bytes_written - before.bytes_written) / operations,
            syncs_per_operation: syncs.map(|syncs| float(syncs) / operations),
            errors,
        })
    }
}

/// Opens connections, beginning with the leader's.
async fn connect(cluster: &Cluster, clients: u32) -> anyhow::Result<Vec<MemberClient>> {
    let leader = cluster.leader().await.context("no leader")?;
    let members = u32::try_from(cluster.members.len())?;
    let connections = clients.min(CONNECTIONS_PER_MEMBER_MAX * members);
    let mut channels = Vec::new();
    for number in 0..usize::try_from(connections)? {
        let client = cluster.connect((leader + number) % cluster.members.len())?;
        client.status().await.context("a member does not answer")?;
        channels.push(client);
    }
    Ok(channels)
}

/// One watch of all objects on every member; they end when the set is dropped.
async fn watch_objects(cluster: &Cluster) -> anyhow::Result<JoinSet<()>> {
    let mut watching = JoinSet::new();
    for index in 0..cluster.members.len() {
        let connection = Connection::open(cluster.client_url(index)?).await?;
        let mut stream = connection.watch(generator::OBJECTS, 1, true).await?;
        watching.spawn(async move { while let Ok(Some(_)) = stream.message().await {} });
    }
    Ok(watching)
}

struct Work {
    client: MemberClient,
    operation: Operation,
    written: Arc<AtomicU64>,
    until: Instant,
}

impl Work {
    async fn run(self, number: u64) -> anyhow::Result<(Histogram<u64>, u64)> {
        let mut latencies = histogram()?;
        let mut errors = 0;
        let mut draw = number;
        // Of the client's own object.
        let mut revision = 0;
        while Instant::now() < self.until {
            let began = Instant::now();
            let answered = match self.operation {
                Operation::Put => {
                    let count = self.next();
                    self.client.write(&generator::key(count), &generator::value(count)).await
                }
                Operation::Get => self.client.read(&self.drawn(&mut draw)).await,
                Operation::SerializableGet => self.client.read_serializable(&self.drawn(&mut draw)).await,
                Operation::Update => {
                    let (key, object) = (generator::object_key(number), generator::object(self.next()));
                    self.client.cas(&key, revision, &object).await
                }
            };
            match answered {
                // The first look at an object that an earlier measurement left.
                Ok((Answer::NotSwapped(seen), _)) => revision = seen.map_or(0, |seen| seen.mod_revision),
                Ok((answer, now)) => {
                    if answer == Answer::Swapped {
                        revision = now;
                    }
                    latencies.record(pace::microseconds(began.elapsed()))?;
                }
                Err(_) => errors += 1,
            }
        }
        Ok((latencies, errors))
    }

    fn next(&self) -> u64 {
        self.written.fetch_add(1, Ordering::Relaxed)
    }

    /// A key that was written before.
    fn drawn(&self, draw: &mut u64) -> String {
        *draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        generator::key((*draw >> 33) % self.written.load(Ordering::Relaxed).max(1))
    }
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

/// Exact up to 2^53, far beyond what a measurement counts.
#[expect(clippy::as_conversions, reason = "std has no other conversion from u64 to f64")]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
