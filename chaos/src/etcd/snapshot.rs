//! Saving a member's state as a file.

use std::path::Path;
use std::time::Duration;

use proto::etcdserverpb::SnapshotRequest;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio::io::AsyncWriteExt;
use tonic::Status;

use super::{Failure, MemberClient, text};

/// Longest wait for a whole snapshot.
const SAVE_TIMEOUT: Duration = Duration::from_secs(10);

impl MemberClient {
    /// Saves what the member has now; returns the number of bytes. What is not whole is removed.
    ///
    /// # Errors
    /// Saving changes nothing.
    pub async fn save_snapshot(&self, path: &Path) -> Result<u64, Failure> {
        let saved = tokio::time::timeout(SAVE_TIMEOUT, self.save(path)).await;
        let saved = saved.unwrap_or_else(|_| Err(Status::deadline_exceeded("the snapshot does not end")));
        if saved.is_err() {
            // It may not be there at all.
            let _ = tokio::fs::remove_file(path).await;
        }
        saved.map_err(|status| Failure::NotApplied(text(&status)))
    }

    async fn save(&self, path: &Path) -> Result<u64, Status> {
        let mut client = MaintenanceClient::new(self.streams.clone());
        let mut parts = client.snapshot(SnapshotRequest {}).await?.into_inner();
        let mut file = tokio::fs::File::create(path).await?;
        let mut bytes = 0;
        while let Some(part) = parts.message().await? {
            file.write_all(&part.blob).await?;
            bytes += u64::try_from(part.blob.len()).unwrap_or(0);
        }
        file.flush().await?;
        Ok(bytes)
    }
}
