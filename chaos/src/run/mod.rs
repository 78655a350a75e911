//! One run: warm-up, faults, recovery, final reads, audit, verdict, and the folder that keeps all of it.

mod audit;
mod clients;
mod elsewhere;
mod folder;
mod lookout;
mod options;
mod progress;
mod report;
mod restored;
mod tail;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

pub use audit::Part;
pub use folder::{Folder, Terms};
pub use options::Options;
pub use report::{INTERRUPTED, Outcome, say};
pub use tail::Tails;

use crate::check::judge::judge;
use crate::check::{Record, Verdict};
use crate::cluster::{Agents, Backing, Clock, Cluster, Disk, Network, Place, Program, own_mounts};
use crate::history::Writer;
use crate::nemesis::{CATCHUP_ENTRIES, Kind, Nemesis, SNAPSHOT_COUNT, Site, schedule};
use crate::workload::{Nodes, Tier};

use clients::Clients;
use lookout::Lookout;

/// Worker threads: the members need the machine more than the clients do.
const THREADS: usize = 2;

/// Runs a workload and judges it.
///
/// # Errors
/// When the harness cannot do its work. What the store does wrong is a verdict, not an error.
pub fn run(options: &Options, folder: &Folder) -> anyhow::Result<Outcome> {
    folder.write_options(options)?;
    let outcome = if options.endpoints.is_empty() {
        let outcome = run_members(options, folder);
        folder.remove_data();
        outcome?
    } else {
        elsewhere::run(options, folder)?
    };
    folder.write_outcome(&options.terms(), &outcome)?;
    Ok(outcome)
}

/// Runs against members of the run's own.
fn run_members(options: &Options, folder: &Folder) -> anyhow::Result<Outcome> {
    let agents = match options.workload.tier {
        Tier::Store => 0,
        Tier::Kubernetes => agents(options).count(),
    };
    let network = Network::create_with_agents(options.members, agents)?;
    // A thread of its own: it moves into the hub's namespace, and so do the threads of its runtime.
    std::thread::scope(|scope| {
        let harness = scope.spawn(|| {
            network.enter()?;
            let disks = disks(options, folder, &network)?;
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
            let outcome = runtime.block_on(run_here(options, folder, (&network, &disks)));
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome
        });
        harness.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the harness panicked")))
    })
}

/// What the agents of a run beside whole servers are like.
fn agents(options: &Options) -> Agents {
    let mut kinds = options.nemesis.iter().flat_map(|turn| turn.kinds());
    Agents { nodes: options.workload.nodes, are_cut_off: kinds.any(|kind| *kind == Kind::PartitionAgent) }
}

/// Makes a disk for each member, if a fault of the run needs them.
fn disks(options: &Options, folder: &Folder, network: &Network) -> anyhow::Result<Vec<Disk>> {
    let kinds: Vec<Kind> = options.nemesis.iter().flat_map(|turn| turn.kinds()).copied().collect();
    if !kinds.iter().any(|kind| kind.needs_disks()) {
        return Ok(Vec::new());
    }
    own_mounts()?;
    let backing = if kinds.contains(&Kind::FailingSync) { Backing::Memory } else { Backing::File };
    let data = folder.path().join("data");
    let disk =
        |place: Place| Disk::create(backing, &data.join("disks").join(&place.name), &data.join(&place.name));
    network
        .places()
        .into_iter()
        .map(disk)
        .collect::<anyhow::Result<_>>()
        .context("cannot make disks for members")
}

async fn run_here(
    options: &Options,
    folder: &Folder,
    (network, disks): (&Network, &[Disk]),
) -> anyhow::Result<Outcome> {
    let mut program = Program::new(&options.binary);
    program.environment.clone_from(&options.environment);
    if options.nemesis.iter().any(|turn| turn.kinds().contains(&Kind::Clock)) {
        program.clock_library = Some(Clock::library().map_err(anyhow::Error::msg)?);
    }
    if options.nemesis.iter().any(|turn| turn.kinds().contains(&Kind::Install)) {
        let limits = [("SNAPSHOT_COUNT", SNAPSHOT_COUNT), ("SNAPSHOT_CATCHUP_ENTRIES", CATCHUP_ENTRIES)];
        program
            .environment
            .extend(limits.map(|(name, entries)| (format!("ETCD_{name}"), entries.to_string())));
    }
    let places = network.places();
    let starting = async {
        match options.workload.tier {
            Tier::Store => Cluster::start(&program, &places, network.run_id(), folder.path()).await,
            Tier::Kubernetes => {
                Cluster::start_servers(&program, network, folder.path(), agents(options)).await
            }
        }
    };
    let mut cluster = tokio::select! {
        cluster = starting => cluster?,
        () = interrupted() => anyhow::bail!("{INTERRUPTED} before the members served"),
    };
    say(&format!("{} members serve, in namespaces {}-*", options.members, network.run_id()));
    let history = Arc::new(Writer::create(&folder.history())?);
    let ended = tokio::select! {
        ended = phases(options, folder, (network, disks), &mut cluster, &history) => ended,
        () = interrupted() => cut_short(options, &history),
    };
    if options.leave_running
        && let Ok(outcome) = &ended
    {
        say(outcome.text(&options.reproduce()).trim_end());
        leave(network, &cluster);
        interrupted().await;
    }
    cluster.stop().await;
    ended
}

/// Waits until the run is to end: Ctrl-C, or a polite signal.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// Judges what was recorded until now. What it shows stands; what it does not show proves nothing.
fn cut_short(options: &Options, history: &Writer) -> anyhow::Result<Outcome> {
    let judged = judge(&Record::of_events(history.finish()?), &options.minimums());
    Ok(Outcome { verdict: interrupt(judged.verdict), ..judged })
}

fn interrupt(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Fail(violations) => Verdict::Fail(violations),
        Verdict::Pass => Verdict::Invalid(vec![INTERRUPTED.to_owned()]),
        Verdict::Invalid(reasons) => {
            Verdict::Invalid(std::iter::once(INTERRUPTED.to_owned()).chain(reasons).collect())
        }
    }
}

/// Says how to reach members that stay, and how to end them.
fn leave(network: &Network, cluster: &Cluster) {
    let hub = network.hub();
    say("the members stay; each is reached from the run's own network, for instance:");
    for (target, place) in cluster.targets().iter().zip(network.places()) {
        // etcdctl 3.4 takes no URL here.
        let address = place.client_url.trim_start_matches("http://");
        say(&format!("  {}  ip netns exec {hub} etcdctl --endpoints {address} endpoint status", target.name));
    }
    say("Ctrl-C ends them");
}

async fn phases(
    options: &Options,
    folder: &Folder,
    (network, disks): (&Network, &[Disk]),
    cluster: &mut Cluster,
    history: &Arc<Writer>,
) -> anyhow::Result<Outcome> {
    let part = Part { from: 1, prefix: String::new() };
    let workload = (options.workload.create)(&options.setup(&part.prefix));
    let targets = cluster.targets();
    let tails = Tails::start(&targets, &part);
    let servers = cluster.servers().to_vec();
    let lookout = match options.workload.nodes {
        Nodes::Hollow => None,
        Nodes::Real => Some(Lookout::start(&folder.starts(), history)?),
    };
    let clients = Clients::start(options, folder, &workload, (&targets, &servers), history);
    let started = Instant::now();
    tokio::time::sleep(options.warm_up()).await;
    let mut nemesis = Nemesis { site: Site { cluster, network, disks }, history };
    for planned in schedule(options.seed, &options.nemesis, options.faults()) {
        let interval = options.nemesis_interval;
        let began = Instant::now();
        clients.display.current(&planned.turn.to_string());
        let injected = nemesis.inject(&planned, options.fault_lasting()).await?;
        clients.display.say(&injected.line);
        clients.display.current("no fault");
        tokio::time::sleep(interval.saturating_sub(began.elapsed())).await;
    }
    // What is left without faults, all of it where there are none.
    let before_recovery = options.time_limit.saturating_sub(options.warm_up());
    tokio::time::sleep(before_recovery.saturating_sub(started.elapsed())).await;
    clients.display.current("recovery");
    let silent = nemesis.recover().await?;
    clients.display.current("no fault");
    clients.display.say(&if silent.is_empty() {
        "all healed, every member serves".to_owned()
    } else {
        format!("all healed, but {} does not serve", silent.join(", "))
    });
    tokio::time::sleep(options.warm_up()).await;
    let session = clients.stop().await?;
    audit::final_reads(&workload, &session, &targets, &servers).await?;
    if let Some(lookout) = lookout {
        lookout.look_last()?;
    }
    restored::all(options, folder, history).await?;
    let record = audit::record(&targets, history, &part, &silent, tails.stop().await).await?;
    folder.write_logs(&record)?;
    Ok(judge(&record, &options.minimums()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_run_passes_never_and_fails_only_by_what_it_showed() {
        let reasons = |verdict| match interrupt(verdict) {
            Verdict::Invalid(reasons) => reasons.join(", "),
            Verdict::Pass | Verdict::Fail(_) => panic!("not invalid"),
        };
        assert_eq!(reasons(Verdict::Pass), INTERRUPTED);
        assert_eq!(reasons(Verdict::Invalid(vec!["no log".to_owned()])), "interrupted, no log");
        let violation =
            crate::check::Violation { rule: "stale read", sentence: String::new(), operations: vec![1] };
        let failed = Verdict::Fail(vec![violation]);
        assert_eq!(interrupt(failed.clone()), failed);
    }
}
