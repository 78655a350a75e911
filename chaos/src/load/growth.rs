//! What one operation costs as the store grows: processor time of one member with ten thousand, a hundred thousand, a million and ten
//! million keys.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use super::connection::Connection;
use super::contestant::Contestant;
use super::process::{anonymous_memory, usage};
use super::sample::float;
use super::{Folder, generator, places};
use crate::cluster::{Cluster, Member};
use crate::run::say;

/// Keys at each look.
const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// Callers at a time, each waiting for its answer.
const CALLERS: u64 = 16;
const LENGTH: Duration = Duration::from_secs(3);
/// What was written is flushed and merged before anything is measured, as far as it will be.
const REST: Duration = Duration::from_secs(10);
const LISTED: i64 = 100;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Put,
    Get,
    List,
    Count,
}

impl Question {
    pub(super) const ALL: [Self; 4] = [Self::Put, Self::Get, Self::List, Self::Count];

    /// Returns its name in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "range of 100 keys",
            Self::Count => "count of all keys",
        }
    }
}

/// The store at one size.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub keys: u64,
    /// Microseconds of processor time for one of each question, in the order of [`Question::ALL`].
    pub cpu_us: Vec<f64>,
    /// Without pages of files.
    pub memory_bytes: u64,
}

/// Looks at our store at every size.
///
/// # Errors
/// When the member cannot be started or does not answer.
pub(super) async fn measure(data: &Path, ours: &Contestant) -> anyhow::Result<Vec<Look>> {
    let folder = Folder::create(data)?;
    let mut places = places::free()?;
    places.truncate(1);
    let mut cluster = Cluster::start(&ours.program, &places, "keelson-bench", &folder.0).await?;
    let looks = all(&cluster).await;
    cluster.stop().await;
    looks
}

async fn all(cluster: &Cluster) -> anyhow::Result<Vec<Look>> {
    let connection = Connection::open(cluster.client_url(0)?).await?;
    let pid = cluster.members.first().and_then(Member::pid).context("the member has ended")?;
    let mut filled = 0;
    let mut looks = Vec::new();
    for keys in SIZES {
        let pair = |number| (generator::large_key(number), generator::large_value(number));
        connection.fill(filled..keys, pair).await?;
        filled = keys;
        tokio::time::sleep(REST).await;
        let mut look = Look { keys, cpu_us: Vec::new(), memory_bytes: anonymous_memory(pid)? };
        for question in Question::ALL {
            look.cpu_us.push(cost(cluster, pid, &connection, question, keys).await?);
        }
        say(&format!("{look:?}"));
        looks.push(look);
    }
    Ok(looks)
}

/// Asks for some seconds; returns the processor time of one question.
async fn cost(
    cluster: &Cluster,
    pid: u32,
    connection: &Connection,
    question: Question,
    keys: u64,
) -> anyhow::Result<f64> {
    let before = usage(&[pid], cluster.data())?.cpu_microseconds;
    let until = Instant::now() + LENGTH;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let connection = connection.clone();
        callers.spawn(async move {
            let mut random = SmallRng::seed_from_u64(caller);
            let mut asked = 0;
            while Instant::now() < until {
                let number = random.random_range(0..keys);
                ask(&connection, question, number).await?;
                asked += 1;
            }
            anyhow::Ok(asked)
        });
    }
    let mut asked: u64 = 0;
    while let Some(ended) = callers.join_next().await {
        asked += ended.context("a caller panicked")??;
    }
    let spent = usage(&[pid], cluster.data())?.cpu_microseconds - before;
    Ok(float(spent) / float(asked).max(1.0))
}

async fn ask(connection: &Connection, question: Question, number: u64) -> anyhow::Result<()> {
    let key = generator::large_key(number);
    match question {
        Question::Put => connection.put(key, generator::large_value(number)).await,
        Question::Get => connection.list(key, generator::LARGE, 1).await.map(|_| ()),
        Question::List => connection.list(key, generator::LARGE, LISTED).await.map(|_| ()),
        Question::Count => connection.count(generator::LARGE).await.map(|_| ()),
    }
}
