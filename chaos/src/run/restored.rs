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
    // Clients have seen it, and may ask any cluster for it.
    let seen = history.finish()?.iter().filter_map(|event| event.rev).max().unwrap_or(1);
    let count = saved.len().min(RESTORED_MAX);
    for number in 0..count {
        let place = if count > 1 { number * (saved.len() - 1) / (count - 1) } else { 0 };
        let Some(file) = saved.get(place) else { continue };
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let restored = restore(options, folder, file, seen).await;
        let (value, error) = match restored {
            // Its revision is that of another store.
            Ok(Restored { rows, revision, raises, past }) => {
                let past = json!({ "revision": seen, "error": past });
                let raises = json!(raises);
                (
                    json!({ "file": name, "rows": rows, "revision": revision, "raises": raises, "past": past }),
                    None,
                )
            }
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

/// What a restored member shows.
struct Restored {
    rows: Value,
    revision: i64,
    /// Whether the tool promises revisions above all that clients may have seen; etcd 3.4's does not.
    raises: bool,
    /// Why it does not show the revision that clients had seen; `None` if it does.
    past: Option<String>,
}

/// Makes a member from a file, starts it, and reads everything, once as it is and once as of a revision that was seen before.
async fn restore(options: &Options, folder: &Folder, file: &Path, seen: i64) -> anyhow::Result<Restored> {
    let home = folder.path().join("data").join("restored");
    let data = home.join("data").join("restored");
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    std::fs::create_dir_all(home.join("data"))?;
    let mut program = Program::new(&options.binary);
    program.environment.clone_from(&options.environment);
    // etcd's own restore is a command of its client, which lies beside it.
    let raises = !program.subcommands.is_empty();
    let tool = if raises { options.binary.clone() } else { options.binary.with_file_name("etcdctl") };
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
    let before = Range { revision: seen, ..everything.clone() };
    let (answer, past) = match cluster.targets().first() {
        Some(target) => {
            let answer = target.client.perform(&Request::Range(everything)).await;
            (answer, target.client.perform(&Request::Range(before)).await)
        }
        None => anyhow::bail!("the restored cluster has no member"),
    };
    cluster.stop().await;
    let (response, revision) = answer.context("the restored member does not answer")?;
    let Response::Range { rows, .. } = response else { anyhow::bail!("a read was answered otherwise") };
    let past = past.err().map(|failure| failure.to_string());
    Ok(Restored { rows: serde_json::to_value(rows)?, revision, raises, past })
}
