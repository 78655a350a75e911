//! The lock service.

use std::time::Duration;

use bytes::Bytes;
use proto::v3lockpb::lock_client::LockClient;
use proto::v3lockpb::{LockRequest, UnlockRequest};

use super::{Failure, MemberClient, classify};
use crate::history::LockAnswer;

/// Longest wait for a lock. Longer than the lease of whoever waits, who may then be told that a lock is his which he has lost.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

impl MemberClient {
    /// Waits for a lock and takes it for a lease; returns the caller's key, and where the store stood when the lock was his.
    ///
    /// # Errors
    /// [`Failure`] says whether the caller may stand in the queue, or may have stood there. A store removes whom nobody waits for.
    pub async fn lock(&self, name: &str, lease: i64) -> Result<(LockAnswer, i64), Failure> {
        let request = LockRequest { name: Bytes::copy_from_slice(name.as_bytes()), lease };
        let mut client = LockClient::new(self.streams.clone());
        let answer = match tokio::time::timeout(LOCK_TIMEOUT, client.lock(request)).await {
            Ok(answer) => answer.map_err(|status| classify(&status))?.into_inner(),
            Err(_) => return Err(Failure::Unknown(format!("no answer within {LOCK_TIMEOUT:?}"))),
        };
        let key = String::from_utf8_lossy(&answer.key).into_owned();
        Ok((LockAnswer { key }, answer.header.map_or(0, |header| header.revision)))
    }

    /// Gives a lock back.
    ///
    /// # Errors
    /// [`Failure`] says whether it may have been given back.
    pub async fn unlock(&self, key: &str) -> Result<((), i64), Failure> {
        let request = UnlockRequest { key: Bytes::copy_from_slice(key.as_bytes()) };
        let answer = LockClient::new(self.channel.clone()).unlock(request).await;
        let answer = answer.map_err(|status| classify(&status))?.into_inner();
        Ok(((), answer.header.map_or(0, |header| header.revision)))
    }
}
