//! The end of a run: what its workload asks once more through every member, and every member's log.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::check::Record;
use crate::check::witness::LogEntry;
use crate::history::{EventKind, Function, Note, Process, Writer};
use crate::kubernetes::Server;
use crate::workload::{Client, Session, Target, Workload};

/// Longest wait for a member's whole log.
const LOG_TIMEOUT: Duration = Duration::from_secs(60);

/// Lets the workload ask once more, through each member by itself.
pub(super) async fn final_reads(
    workload: &Arc<dyn Workload>,
    session: &Session,
    targets: &[Target],
    servers: &[Server],
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    // Numbers that no client of the run has: theirs grow by the process step.
    for (process, target) in (u32::MAX / 2..).zip(targets) {
        let client = Client::new(session.clone(), process, vec![target.clone()]).with_servers(servers);
        tasks.spawn(Arc::clone(workload).finish(client));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Which part of the log is of the run.
pub struct Part {
    /// The first revision that is the run's.
    pub from: i64,
    /// Begins every key of the run.
    pub prefix: String,
}

/// Reads the log of every member that serves, up to the newest revision that any client has seen; adds what they have shown
/// before. Returns the record of the run.
pub(super) async fn record(
    targets: &[Target],
    history: &Writer,
    part: &Part,
    silent: &[String],
    mut live: Vec<(String, Vec<LogEntry>)>,
) -> anyhow::Result<Record> {
    let until = history.finish()?.iter().filter_map(|event| event.rev).max().unwrap_or(0);
    let mut logs = Vec::new();
    for target in targets.iter().filter(|target| !silent.contains(&target.name)) {
        let shown = log(target, part.from..=until).await;
        let hash = target.client.hash(until).await;
        let note = Note {
            kind: EventKind::Info,
            process: Process::NEMESIS,
            f: Function::Audit,
            key: None,
            value: json!({
                "from": part.from,
                "whole": part.prefix.is_empty(),
                "until": until,
                "shown_from": shown.as_ref().ok().map(|(from, _)| from),
                "entries": shown.as_ref().map_or(0, |(_, log)| log.len()),
                "hash": hash.ok(),
            }),
            node: Some(target.name.clone()),
            rev: None,
            error: shown.as_ref().err().cloned(),
        };
        history.record(note)?;
        if let Ok((_, mut log)) = shown {
            // A write of unknown fate may still come in; what nobody has seen is not judged.
            log.retain(|entry| entry.revision <= until && entry.key.starts_with(&part.prefix));
            logs.push((target.name.clone(), log));
        }
    }
    for (_, log) in &mut live {
        log.retain(|entry| entry.revision <= until && entry.key.starts_with(&part.prefix));
    }
    Ok(Record { events: history.finish()?, logs, live })
}

async fn log(target: &Target, revisions: RangeInclusive<i64>) -> Result<(i64, Vec<LogEntry>), String> {
    let until = *revisions.end();
    match tokio::time::timeout(LOG_TIMEOUT, target.client.log(revisions)).await {
        Ok(shown) => shown.map_err(|status| status.to_string()),
        Err(_) => Err(format!("revision {until} does not come within {LOG_TIMEOUT:?}")),
    }
}
