//! Snapshots that clients have saved, restored as clusters of one member, and what these hold.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::{Folder, Options, say};
use crate::cluster::{Cluster, Place, Program, run_command};
use crate::history::{EventKind, Function, Note, Process, Range, Request, Response, Writer};

/// Snapshots of a run that are restored at most: each takes some seconds.
const RESTORED_MAX: usize = 3;

/// Where the restored member listens, in the namespace that only the harness is in.
const CLIENT_URL: &str = "http://127.0.0.1:23790";
const PEER_URL: &str = "http://127.0.0.1:23800";

/// Restores the first, the last and one in the middle, and records what each holds.
pub(super) async fn all(options: &Options, folder: &Folder, history: &Writer) -> anyhow::Result<()> {
    let saved = saved(&folder.snapshots())?;
    let count = saved.len().min(RESTORED_MAX);
    for number in 0..count {
        let place = if count > 1 { number * (saved.len() - 1) / (count - 1) } else { 0 };
        let Some(file) = saved.get(place) else { continue };
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let restored = restore(options, folder, file).await;
        let (value, error) = match restored {
            // Its revision is that of another store.
            Ok((rows, revision)) => (json!({ "file": name, "rows": rows, "revision": revision }), None),
            Err(error) => (json!({ "file": name }), Some(format!("{error:#}"))),
        };
        let (kind, process, f) = (EventKind::Info, Process::NEMESIS, Function::Restore);
        history.record(Note { kind, process, f, key: None, value, node: None, rev: None, error })?;
    }
    if count > 0 {
        say(&format!("{count} of {} snapshots restored", saved.len()));
    }
    Ok(())
}

fn saved(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<PathBuf>>>()?;
    files.sort();
    Ok(files)
}

/// Makes a member from a file, starts it, and reads everything.
async fn restore(options: &Options, folder: &Folder, file: &Path) -> anyhow::Result<(Value, i64)> {
    let home = folder.path().join("data").join("restored");
    let data = home.join("data").join("restored");
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    std::fs::create_dir_all(home.join("data"))?;
    let mut program = Program::new(&options.binary);
    program.environment.clone_from(&options.environment);
    // etcd's own restore is a command of its client, which lies beside it.
    let tool = if program.subcommands.is_empty() {
        options.binary.with_file_name("etcdctl")
    } else {
        options.binary.clone()
    };
    let cluster = format!("restored={PEER_URL}");
    let arguments = [
        "snapshot",
        "restore",
        &file.to_string_lossy(),
        "--data-dir",
        &data.to_string_lossy(),
        "--name",
        "restored",
        "--initial-cluster",
        &cluster,
        "--initial-advertise-peer-urls",
        PEER_URL,
    ];
    let version = ["ETCDCTL_API=3", &tool.to_string_lossy()].map(str::to_owned);
    let line: Vec<&str> = version.iter().map(String::as_str).chain(arguments).collect();
    run_command("env", &line, "").context("it cannot be restored")?;
    let place = Place {
        name: "restored".to_owned(),
        client_url: CLIENT_URL.to_owned(),
        peer_url: PEER_URL.to_owned(),
        namespace: None,
    };
    // The token is that of the restored data.
    let mut cluster = Cluster::start(&program, &[place], "etcd-cluster", &home).await?;
    let everything = Range { key: "\0".to_owned(), end: Some("\0".to_owned()), ..Range::default() };
    let answer = match cluster.targets().first() {
        Some(target) => target.client.perform(&Request::Range(everything)).await,
        None => anyhow::bail!("the restored cluster has no member"),
    };
    cluster.stop().await;
    let (response, revision) = answer.context("the restored member does not answer")?;
    let Response::Range { rows, .. } = response else { anyhow::bail!("a read was answered otherwise") };
    Ok((serde_json::to_value(rows)?, revision))
}
