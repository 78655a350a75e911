//! A run against a store that someone else runs: no faults, keys under a prefix of the run's own, and nothing left behind.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::audit::{self, Part};
use super::clients::Clients;
use super::tail::Tails;
use super::{Folder, Options, Outcome, THREADS, cut_short, interrupted, say};
use crate::check::judge::judge;
use crate::etcd::MemberClient;
use crate::history::Writer;
use crate::workload::Target;

/// Longest wait of the harness for calls that are still under way at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the workload against the endpoints.
pub(super) fn run(options: &Options, folder: &Folder) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let outcome = runtime.block_on(run_here(options, folder));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome
}

async fn run_here(options: &Options, folder: &Folder) -> anyhow::Result<Outcome> {
    // Other runs, also earlier ones of the same seed, have other keys.
    let stamp = jiff::Timestamp::now().as_millisecond();
    let prefix = format!("keelson-chaos/{stamp:x}/");
    let targets = targets(&options.endpoints)?;
    let mut revision = 0;
    for target in &targets {
        let answer = target.client.read(&prefix).await;
        let (_, seen) =
            answer.map_err(|failure| anyhow::anyhow!("{} does not serve: {failure}", target.name))?;
        revision = revision.max(seen);
    }
    say(&format!("{} endpoints serve; the run's keys begin with {prefix}", targets.len()));
    let history = Arc::new(Writer::create(&folder.history())?);
    let part = Part { from: revision + 1, prefix: prefix.clone() };
    // The keys are removed after an interrupted run as well.
    let ended = tokio::select! {
        ended = phases(options, folder, &targets, part, &history) => ended,
        () = interrupted() => cut_short(options, &history),
    };
    let first = targets.first().context("--endpoints names no endpoint")?;
    if let Err(failure) = first.client.delete_prefix(&prefix).await {
        say(&format!("keys that begin with {prefix} stay behind: {failure}"));
    }
    ended
}

async fn phases(
    options: &Options,
    folder: &Folder,
    targets: &[Target],
    part: Part,
    history: &Arc<Writer>,
) -> anyhow::Result<Outcome> {
    let workload = (options.workload.create)(&options.setup(&part.prefix));
    let tails = Tails::start(targets, &part);
    let clients = Clients::start(options, folder, &workload, (targets, &[]), history);
    tokio::time::sleep(options.time_limit).await;
    clients.display.say("no faults were injected");
    let session = clients.stop().await?;
    audit::final_reads(&workload, &session, targets, &[]).await?;
    let record = audit::record(targets, history, &part, &[], tails.stop().await).await?;
    folder.write_logs(&record)?;
    Ok(judge(&record, &options.minimums()))
}

fn targets(endpoints: &[String]) -> anyhow::Result<Vec<Target>> {
    let targets = endpoints.iter().map(|endpoint| {
        let url = if endpoint.contains("://") { endpoint.clone() } else { format!("http://{endpoint}") };
        let client = MemberClient::new(&url).with_context(|| format!("--endpoints {endpoint}"))?;
        let name = url.split_once("://").map_or(url.as_str(), |(_, name)| name).trim_end_matches('/');
        Ok(Target { name: name.to_owned(), client })
    });
    targets.collect()
}
