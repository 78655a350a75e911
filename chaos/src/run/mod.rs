//! One run: warm-up, faults, recovery, final reads, audit, verdict, and the folder that keeps all of it.

mod audit;
mod folder;
mod options;
mod report;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use folder::Folder;
pub use options::{Options, Workload};
pub use report::{Outcome, say};

use crate::check::judge::judge;
use crate::cluster::{Cluster, Network, Program};
use crate::history::Writer;
use crate::nemesis::{Kind, Nemesis, schedule};
use crate::workload::register::Generator;
use crate::workload::{Progress, Worker};

/// Worker threads: the members need the machine more than the clients do.
const THREADS: usize = 2;
/// Longest wait for clients that were told to stop; their calls have a deadline far below it.
const CLIENTS_STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs a workload and judges it.
///
/// # Errors
/// When the harness cannot do its work. What the store does wrong is a verdict, not an error.
pub fn run(options: &Options, folder: &Folder) -> anyhow::Result<Outcome> {
    folder.write_options(options)?;
    let network = Network::create(options.members)?;
    // A thread of its own: it moves into the hub's namespace, and so do the threads of its runtime.
    let outcome = std::thread::scope(|scope| {
        let harness = scope.spawn(|| {
            network.enter()?;
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
            let outcome = runtime.block_on(run_here(options, folder, &network));
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome
        });
        harness.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the harness panicked")))
    });
    folder.remove_data();
    let outcome = outcome?;
    folder.write_outcome(options, &outcome)?;
    Ok(outcome)
}

async fn run_here(options: &Options, folder: &Folder, network: &Network) -> anyhow::Result<Outcome> {
    let mut program = Program::new(&options.binary);
    program.environment.clone_from(&options.environment);
    let mut cluster = Cluster::start(&program, &network.places(), network.run_id(), folder.path()).await?;
    say(&format!("{} members serve, in namespaces {}-*", options.members, network.run_id()));
    let ended = tokio::select! {
        ended = phases(options, folder, network, &mut cluster) => ended,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    cluster.stop().await;
    ended
}

async fn phases(
    options: &Options,
    folder: &Folder,
    network: &Network,
    cluster: &mut Cluster,
) -> anyhow::Result<Outcome> {
    let history = Arc::new(Writer::create(&folder.history())?);
    let clients = Clients::start(options, cluster, &history);
    tokio::time::sleep(options.warm_up()).await;
    let mut nemesis = Nemesis { cluster, network, history: &history };
    for planned in schedule(options.seed, &options.nemesis, options.faults()) {
        let interval = options.nemesis_interval;
        let began = Instant::now();
        let injected = nemesis.inject(&planned, options.fault_lasting()).await?;
        clients.say(&injected.line);
        tokio::time::sleep(interval.saturating_sub(began.elapsed())).await;
    }
    let silent = nemesis.recover().await?;
    clients.say(&if silent.is_empty() {
        "all healed, every member serves".to_owned()
    } else {
        format!("all healed, but {} does not serve", silent.join(", "))
    });
    tokio::time::sleep(options.warm_up()).await;
    let keys: Vec<String> = clients.stop().await?;
    audit::final_reads(cluster, &history, options, &keys).await?;
    let logs = audit::logs(cluster, &history, &silent).await?;
    folder.write_logs(&logs)?;
    let events = history.finish()?;
    let (verdict, counts) = judge(&events, &logs, &options.minimums());
    Ok(Outcome { verdict, counts })
}

/// All clients of a run.
struct Clients {
    tasks: JoinSet<std::io::Result<()>>,
    stop: CancellationToken,
    generator: Arc<Mutex<Generator>>,
    progress: Arc<Progress>,
    began: Instant,
}

impl Clients {
    fn start(options: &Options, cluster: &Cluster, history: &Arc<Writer>) -> Self {
        let (generator, progress) =
            (Arc::new(Mutex::new(Generator::new(options.seed))), Arc::new(Progress::default()));
        let stop = CancellationToken::new();
        let targets = cluster.targets();
        let mut tasks = JoinSet::new();
        for number in 0..options.concurrency {
            let place = usize::try_from(number).unwrap_or(0);
            // Every fourth client uses all members, beginning with another one each; the others are pinned.
            let mut targets = targets.clone();
            targets.rotate_left(place % cluster.members.len().max(1));
            if number % 4 != 3 {
                targets.truncate(1);
            }
            let worker = Worker {
                process: number,
                process_step: options.concurrency,
                targets,
                history: Arc::clone(history),
                progress: Arc::clone(&progress),
                seen: std::collections::BTreeMap::new(),
            };
            tasks.spawn(worker.run(Arc::clone(&generator), options.client_period(), stop.clone()));
        }
        Self { tasks, stop, generator, progress, began: Instant::now() }
    }

    fn say(&self, what: &str) {
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (ok, failed, unknown) =
            (load(&self.progress.ok), load(&self.progress.failed), load(&self.progress.unknown));
        let seconds = self.began.elapsed().as_secs();
        say(&format!("{seconds:>4} s  {ok:>6} ok {failed:>5} failed {unknown:>4} unknown   {what}"));
    }

    /// Ends all clients; returns the keys that they used.
    async fn stop(mut self) -> anyhow::Result<Vec<String>> {
        self.stop.cancel();
        let ending = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.context("a client panicked")??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(CLIENTS_STOP_TIMEOUT, ending).await.context("clients do not stop")??;
        let generator = self.generator.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(generator.keys().collect())
    }
}

/// Returns whether a run injects this kind.
fn injects(options: &Options, kind: Kind) -> bool {
    options.nemesis.contains(&kind)
}
