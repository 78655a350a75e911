//! Hands an image archive to a containerd.
//!
//! containerd's own client does it: the archive's blobs must go through the content store in one lease, and the CRI plugin then
//! learns the names from containerd's events.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::archive::{self, ArchiveError};

/// Deadline of one import: an archive of 10 GB at 50 MB/s takes 200 s.
const IMPORT_LIMIT: Duration = Duration::from_secs(600);
/// containerd's namespace for everything that CRI uses.
const NAMESPACE: &str = "k8s.io";

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is not a usable archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// containerd's client cannot be started.
    #[error("cannot start `ctr` (package containerd): {source}")]
    Client {
        /// What went wrong.
        source: std::io::Error,
    },
    /// containerd did not take the archive.
    #[error("containerd at {socket} did not import {archive}: {message}")]
    Refused {
        /// containerd's socket.
        socket: PathBuf,
        /// The archive.
        archive: PathBuf,
        /// containerd's words.
        message: String,
    },
}

/// Imports an archive into the containerd behind `socket` and returns the image names that it brought.
///
/// # Errors
/// When the archive is not valid or containerd refuses it. A repeat is harmless.
pub async fn import(socket: &Path, archive: &Path) -> Result<Vec<String>, ImportError> {
    let info = archive::inspect(archive)?;
    let refused = |message: String| ImportError::Refused {
        socket: socket.to_owned(),
        archive: archive.to_owned(),
        message,
    };
    let run = Command::new("ctr")
        .arg("--address")
        .arg(socket)
        .args(["--namespace", NAMESPACE, "images", "import"])
        .arg(archive)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(IMPORT_LIMIT, run).await {
        Ok(output) => output.map_err(|source| ImportError::Client { source })?,
        Err(_) => return Err(refused(format!("not done within {IMPORT_LIMIT:?}"))),
    };
    if !output.status.success() {
        return Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(info.names)
}
