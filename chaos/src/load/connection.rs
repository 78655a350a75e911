//! What benchmarks ask of a member beyond single reads and writes. Calls take as long as they take, and nothing is tried again.

use std::ops::Range;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::watch_client::WatchClient;
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Members are on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Writes of one transaction: as many as etcd takes by default.
const TXN_PUTS: u64 = 128;
/// Transactions at a time while a store is filled.
const FILLING: u64 = 32;
/// An answer with ten thousand keys is larger than what the library takes by default.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A connection to one member.
#[derive(Clone)]
pub(super) struct Connection {
    channel: Channel,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When the member does not listen.
    pub(super) async fn open(url: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(CONNECT_TIMEOUT);
        let channel = endpoint.tcp_nodelay(true).connect().await.with_context(|| url.to_owned())?;
        Ok(Self { channel })
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Writes many keys, each once, in as few transactions as may be.
    ///
    /// # Errors
    /// The first write that fails.
    pub(super) async fn fill(
        &self,
        numbers: Range<u64>,
        pair: impl Fn(u64) -> (String, String) + Copy + Send + 'static,
    ) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for first in 0..FILLING {
            let (connection, numbers) = (self.clone(), numbers.clone());
            tasks.spawn(async move {
                let mut begin = numbers.start + first * TXN_PUTS;
                while begin < numbers.end {
                    let end = numbers.end.min(begin + TXN_PUTS);
                    connection.put_all((begin..end).map(pair)).await?;
                    begin += FILLING * TXN_PUTS;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("a writer panicked")??;
        }
        Ok(())
    }

    async fn put_all(&self, pairs: impl Iterator<Item = (String, String)>) -> anyhow::Result<()> {
        let put = |(key, value): (String, String)| pb::RequestOp {
            request: Some(Request::RequestPut(pb::PutRequest {
                key: key.into(),
                value: value.into(),
                ..pb::PutRequest::default()
            })),
        };
        let txn = pb::TxnRequest { success: pairs.map(put).collect(), ..pb::TxnRequest::default() };
        self.kv().txn(txn).await?;
        Ok(())
    }

    /// Writes one key.
    ///
    /// # Errors
    /// When it is not acknowledged.
    pub(super) async fn put(&self, key: String, value: String) -> anyhow::Result<()> {
        let put = pb::PutRequest { key: key.into(), value: value.into(), ..pb::PutRequest::default() };
        self.kv().put(put).await?;
        Ok(())
    }

    /// Counts all keys that begin so.
    ///
    /// # Errors
    /// When it is not answered.
    pub(super) async fn count(&self, prefix: &str) -> anyhow::Result<i64> {
        let range = pb::RangeRequest { count_only: true, ..under(prefix) };
        Ok(self.kv().range(range).await?.into_inner().count)
    }

    /// Reads the first keys from `key` on, of those that begin with `prefix`; returns how many came.
    ///
    /// # Errors
    /// When it is not answered.
    pub(super) async fn list(&self, key: String, prefix: &str, limit: i64) -> anyhow::Result<usize> {
        let range = pb::RangeRequest { key: key.into(), limit, ..under(prefix) };
        Ok(self.kv().range(range).await?.into_inner().kvs.len())
    }

    /// Returns the store's revision.
    ///
    /// # Errors
    /// When the member does not answer.
    pub(super) async fn revision(&self) -> anyhow::Result<i64> {
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        let status = maintenance.status(pb::StatusRequest {}).await?.into_inner();
        status.header.map(|header| header.revision).context("a status without a header")
    }

    /// Compacts and waits until what was compacted is gone from this member.
    ///
    /// # Errors
    /// When it is refused.
    pub(super) async fn compact(&self, revision: i64) -> anyhow::Result<()> {
        self.kv().compact(pb::CompactionRequest { revision, physical: true }).await?;
        Ok(())
    }

    /// Opens a stream with watches of all keys that begin so, from now on; returns once all of them have begun.
    ///
    /// # Errors
    /// When one does not begin.
    pub(super) async fn watch(
        &self,
        prefix: &str,
        watches: usize,
        prev_kv: bool,
    ) -> anyhow::Result<Streaming<pb::WatchResponse>> {
        let pb::RangeRequest { key, range_end, .. } = under(prefix);
        let create = pb::WatchCreateRequest { key, range_end, prev_kv, ..pb::WatchCreateRequest::default() };
        self.open_watches(vec![create; watches]).await
    }

    /// Opens a stream with a watch of each key, from now on; returns once all of them have begun.
    ///
    /// # Errors
    /// When one does not begin.
    pub(super) async fn watch_keys(
        &self,
        keys: impl Iterator<Item = String>,
    ) -> anyhow::Result<Streaming<pb::WatchResponse>> {
        let create = |key: String| pb::WatchCreateRequest { key: key.into(), ..Default::default() };
        self.open_watches(keys.map(create).collect()).await
    }

    async fn open_watches(
        &self,
        watches: Vec<pb::WatchCreateRequest>,
    ) -> anyhow::Result<Streaming<pb::WatchResponse>> {
        let count = watches.len();
        let create = |create| pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        let requests = tokio_stream::iter(watches.into_iter().map(create));
        // The request side stays open: a half-closed watch ends.
        let requests = tokio_stream::StreamExt::chain(requests, tokio_stream::pending());
        let mut stream = WatchClient::new(self.channel.clone()).watch(requests).await?.into_inner();
        let mut begun = 0;
        while begun < count {
            let response = stream.message().await?.context("the watch ended")?;
            anyhow::ensure!(!response.canceled, "a watch was refused: {}", response.cancel_reason);
            begun += usize::from(response.created);
        }
        Ok(stream)
    }
}

/// All keys that begin so. The prefix must not end with the highest byte.
fn under(prefix: &str) -> pb::RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    pb::RangeRequest {
        key: Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: end.into(),
        ..pb::RangeRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::under;

    #[test]
    fn a_prefix_ends_behind_its_last_key() {
        let range = under("a/");
        assert_eq!((&range.key[..], &range.range_end[..]), (&b"a/"[..], &b"a0"[..]));
    }
}
