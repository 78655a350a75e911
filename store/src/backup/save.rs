//! A snapshot of a running member as a file, whether it is ours or etcd's.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use proto::etcdserverpb as pb;
use tonic::Status;

use super::read::{self, HashCheck, SnapshotError};
use crate::control::Connection;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    #[error("{}", .0.message())]
    Refused(Status),
    #[error("cannot use {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("what the member sent is no whole snapshot")]
    Sent(#[source] SnapshotError),
}

/// Saves a snapshot; the file is whole and durable on return, and there is none otherwise.
///
/// # Errors
/// When the member refuses or ends, what it sent does not match its hash, or the disk fails.
pub(super) async fn save(connection: &Connection, path: &Path) -> Result<(), SaveError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let saved = receive(connection, &unfinished).await.and_then(|()| {
        read::verify(&unfinished, HashCheck::Required).map_err(SaveError::Sent)?;
        place(&unfinished, path)
    });
    if saved.is_err() {
        // The first error is the one that matters.
        let _ = fs::remove_file(&unfinished);
    }
    saved
}

async fn receive(connection: &Connection, path: &Path) -> Result<(), SaveError> {
    let failed = |error| SaveError::File { path: path.to_owned(), source: error };
    let mut client = pb::maintenance_client::MaintenanceClient::new(connection.channel.clone());
    let request = connection.long_request(pb::SnapshotRequest {});
    let mut chunks = client.snapshot(request).await.map_err(SaveError::Refused)?.into_inner();
    // Only now: a refused call makes no file.
    let mut file = File::create(path).map_err(failed)?;
    while let Some(chunk) = chunks.message().await.map_err(SaveError::Refused)? {
        file.write_all(&chunk.blob).map_err(failed)?;
    }
    file.sync_all().map_err(failed)
}

fn place(unfinished: &Path, path: &Path) -> Result<(), SaveError> {
    let failed = |error| SaveError::File { path: path.to_owned(), source: error };
    fs::rename(unfinished, path).map_err(failed)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new("."))).and_then(|parent| parent.sync_all()).map_err(failed)
}
