//! The lease service, one call at a time.

use std::time::Duration;

use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, ResponseHeader,
};
use tonic::Status;

use super::{Failure, MemberClient, classify, text};
use crate::history::LeaseAnswer;

/// Longest wait for a stream and its one answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(1);

impl MemberClient {
    /// Asks for a lease of so many seconds; the store chooses the id, and may give more time.
    ///
    /// # Errors
    /// [`Failure`] says whether it may have been granted.
    pub async fn lease_grant(&self, ttl: i64) -> Result<(LeaseAnswer, i64), Failure> {
        let request = LeaseGrantRequest { ttl, id: 0 };
        let answer = LeaseClient::new(self.channel.clone()).lease_grant(request).await;
        let answer = answer.map_err(|status| classify(&status))?.into_inner();
        Ok((LeaseAnswer { id: answer.id, ttl: answer.ttl }, revision(answer.header.as_ref())))
    }

    /// Renews a lease once; an answer of no time says that it is gone.
    ///
    /// # Errors
    /// [`Failure`] says whether it may have been renewed.
    pub async fn lease_keep_alive(&self, id: i64) -> Result<(LeaseAnswer, i64), Failure> {
        let renewing = async {
            let requests = tokio_stream::once(LeaseKeepAliveRequest { id });
            // The request side stays open until the answer has come.
            let requests = tokio_stream::StreamExt::chain(requests, tokio_stream::pending());
            let mut client = LeaseClient::new(self.streams.clone());
            let mut answers = client.lease_keep_alive(requests).await?.into_inner();
            answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))
        };
        let answer = match tokio::time::timeout(KEEP_ALIVE_TIMEOUT, renewing).await {
            Ok(answer) => answer.map_err(|status| classify(&status))?,
            Err(_) => return Err(Failure::Unknown(format!("no answer within {KEEP_ALIVE_TIMEOUT:?}"))),
        };
        Ok((LeaseAnswer { id, ttl: answer.ttl }, revision(answer.header.as_ref())))
    }

    /// Ends a lease, and with it its keys.
    ///
    /// # Errors
    /// [`Failure`] says whether it may have been ended.
    pub async fn lease_revoke(&self, id: i64) -> Result<(LeaseAnswer, i64), Failure> {
        let answer = LeaseClient::new(self.channel.clone()).lease_revoke(LeaseRevokeRequest { id }).await;
        let answer = answer.map_err(|status| classify(&status))?.into_inner();
        Ok((LeaseAnswer { id, ttl: 0 }, revision(answer.header.as_ref())))
    }

    /// Asks how much time a lease has left.
    ///
    /// # Errors
    /// A question changes nothing.
    pub async fn lease_time_to_live(&self, id: i64) -> Result<(LeaseAnswer, i64), Failure> {
        let request = LeaseTimeToLiveRequest { id, keys: false };
        let answer = LeaseClient::new(self.channel.clone()).lease_time_to_live(request).await;
        let answer = answer.map_err(|status| Failure::NotApplied(text(&status)))?.into_inner();
        Ok((LeaseAnswer { id, ttl: answer.ttl }, revision(answer.header.as_ref())))
    }
}

fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}
