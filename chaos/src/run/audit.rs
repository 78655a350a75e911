//! The end of a run: every key once more through every member, and every member's log from the first revision.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::Options;
use crate::check::witness::LogEntry;
use crate::cluster::Cluster;
use crate::history::{EventKind, Function, Note, Process, Writer};
use crate::workload::{Progress, Worker};

/// Longest wait for a member's whole log.
const LOG_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads every key through every member.
pub(super) async fn final_reads(
    cluster: &Cluster,
    history: &Arc<Writer>,
    options: &Options,
    keys: &[String],
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    // Numbers that no client of the run has: theirs grow by the concurrency.
    for (process, target) in (u32::MAX / 2 + options.concurrency..).zip(cluster.targets()) {
        let worker = Worker {
            process,
            process_step: options.concurrency,
            targets: vec![target],
            history: Arc::clone(history),
            progress: Arc::new(Progress::default()),
            seen: std::collections::BTreeMap::new(),
        };
        tasks.spawn(read_keys(worker, keys.to_vec()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn read_keys(worker: Worker, keys: Vec<String>) -> std::io::Result<()> {
    worker.read_all(keys.into_iter()).await
}

/// Reads the log of every member that serves, up to the newest revision that any client has seen.
pub(super) async fn logs(
    cluster: &Cluster,
    history: &Writer,
    silent: &[String],
) -> anyhow::Result<Vec<(String, Vec<LogEntry>)>> {
    let until = history.finish()?.iter().filter_map(|event| event.rev).max().unwrap_or(1);
    let mut logs = Vec::new();
    for target in cluster.targets().into_iter().filter(|target| !silent.contains(&target.name)) {
        let shown = match tokio::time::timeout(LOG_TIMEOUT, target.client.log(until)).await {
            Ok(shown) => shown.map_err(|status| status.to_string()),
            Err(_) => Err(format!("revision {until} does not come within {LOG_TIMEOUT:?}")),
        };
        let note = Note {
            kind: EventKind::Info,
            process: Process::NEMESIS,
            f: Function::Audit,
            key: None,
            value: json!({ "until": until, "entries": shown.as_ref().map_or(0, Vec::len) }),
            node: Some(target.name.clone()),
            rev: None,
            error: shown.as_ref().err().cloned(),
        };
        history.record(note)?;
        if let Ok(mut log) = shown {
            // A write of unknown fate may still come in; what nobody has seen is not judged.
            log.retain(|entry| entry.revision <= until);
            logs.push((target.name, log));
        }
    }
    Ok(logs)
}
