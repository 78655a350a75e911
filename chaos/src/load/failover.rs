//! How long writes stop when the leader is killed, and when it falls silent.
//!
//! Silence is a stopped process (SIGSTOP): its connections stay open and nothing comes from it any more, as behind a partition.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinSet;

use super::contestant::Contestant;
use super::figure::{Against, Better, Kind, Reading};
use super::in_turn::{self, Shown};
use crate::cluster::Cluster;

/// How the report says that it was measured.
pub(super) const TEXT: &str = "Default timeouts on every side. The leader is killed (its connections are reset) or stopped (SIGSTOP: its connections stay \
    open and nothing comes from it, as behind a partition), ten times each. Clients with open connections write to both other members every 5 ms; \
    the gap ends with the first acknowledged write.";

/// Leaders lost by each side, in each way.
const TRIALS: usize = 10;
/// Between two writes to the same member.
const POLL: Duration = Duration::from_millis(5);
const WRITE_MAX: Duration = Duration::from_secs(60);
/// Before a leader is lost, the cluster works undisturbed for so long.
const SETTLED: Duration = Duration::from_millis(1500);

/// Milliseconds; an aim is one for the gap itself.
const fn gap(name: &'static str, aim: Option<f64>) -> Kind {
    Kind { name, decimals: 0, better: Better::Less, against: Against::Itself, aim }
}

static KILLED: Kind = gap("leader killed to first write, median, ms", None);
static KILLED_WORST: Kind = gap("leader killed to first write, worst of 10, ms", Some(600.0));
static SILENT: Kind = gap("leader silent to first write, median, ms", None);
static SILENT_WORST: Kind = gap("leader silent to first write, worst of 10, ms", Some(1500.0));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Killed,
    Silent,
}

/// Measures all sides but the empty service, one after the other.
///
/// # Errors
/// When a member cannot be started or nobody takes writes.
pub(super) async fn measure(data: &Path, contestants: &[Contestant]) -> anyhow::Result<Vec<Reading>> {
    in_turn::measure(data, contestants, one).await
}

async fn one(cluster: &mut Cluster) -> anyhow::Result<Shown> {
    let mut readings = Vec::new();
    for (loss, median, worst) in
        [(Loss::Killed, &KILLED, &KILLED_WORST), (Loss::Silent, &SILENT, &SILENT_WORST)]
    {
        let mut gaps = Vec::new();
        for _ in 0..TRIALS {
            gaps.push(trial(cluster, loss).await?.as_secs_f64() * 1e3);
        }
        gaps.sort_by(f64::total_cmp);
        readings.push((median, *gaps.get(TRIALS / 2).context("no trial")?));
        readings.push((worst, *gaps.last().context("no trial")?));
    }
    Ok(readings)
}

/// Loses the leader and brings it back; returns the time until a write was acknowledged by another member.
async fn trial(cluster: &mut Cluster, loss: Loss) -> anyhow::Result<Duration> {
    let silent = cluster.wait_ready().await;
    anyhow::ensure!(silent.is_empty(), "members do not serve: {}", silent.join(", "));
    tokio::time::sleep(SETTLED).await;
    let leader = cluster.leader().await.context("no leader")?;
    // Clients have their connections before it happens.
    let others = (0..cluster.members.len()).filter(|index| *index != leader);
    let mut clients = Vec::new();
    for index in others {
        let client = cluster.connect(index)?;
        client.read("ready").await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        clients.push(client);
    }
    let member = cluster.members.get_mut(leader).context("no such member")?;
    let pid = Pid::from_raw(i32::try_from(member.pid().context("the leader has ended")?)?);
    let began = Instant::now();
    match loss {
        Loss::Killed => drop(member.kill().await?),
        Loss::Silent => kill(pid, Signal::SIGSTOP)?,
    }
    let mut writers = JoinSet::new();
    let until = began + WRITE_MAX;
    for client in clients {
        writers.spawn(async move {
            let mut writes = JoinSet::new();
            let mut ticks = tokio::time::interval(POLL);
            while Instant::now() < until {
                tokio::select! {
                    // A write that waits for the old leader must not hold up the next.
                    _ = ticks.tick() => {
                        let client = client.clone();
                        writes.spawn(async move { client.write("gap", "written").await.is_ok() });
                    }
                    Some(Ok(true)) = writes.join_next() => return true,
                }
            }
            false
        });
    }
    let first = writers.join_next().await.context("no writer")??;
    let gap = began.elapsed();
    drop(writers);
    match loss {
        Loss::Killed => member.start()?,
        Loss::Silent => kill(pid, Signal::SIGCONT)?,
    }
    anyhow::ensure!(first, "no write within {WRITE_MAX:?}");
    Ok(gap)
}
