//! Several watches of one member on one stream.

use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use proto::mvccpb::{Event, event::EventType};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{MemberClient, exchange, key_state};
use crate::history::{Notice, WatchEvent, WatchSpec};

/// Requests under way on a stream: a few watches, and one question for progress at a time.
const REQUESTS_MAX: usize = 32;

/// Longest wait for a stream to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// An open stream.
pub struct WatchStream {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Which watch; `None` for all of the stream.
    pub watch: Option<usize>,
    pub revision: i64,
    pub is_creation: bool,
    pub notice: Notice,
}

impl MemberClient {
    /// Opens a stream and asks for these watches, which are known by their place from then on.
    ///
    /// # Errors
    /// When the member does not answer in time.
    pub async fn watch(&self, specs: &[WatchSpec]) -> Result<WatchStream, Status> {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        // A server may say nothing before it has something to answer.
        for (id, spec) in (1..).zip(specs) {
            let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create(id, spec))) };
            requests.try_send(request).map_err(|_| Status::resource_exhausted("too many watches"))?;
        }
        let mut client = WatchClient::new(self.streams.clone());
        let opening = client.watch(ReceiverStream::new(receiver));
        let opened = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
        let responses = opened.map_err(|_| Status::deadline_exceeded("the stream does not open"))??;
        Ok(WatchStream { requests, responses: responses.into_inner() })
    }
}

impl WatchStream {
    /// Asks how far all watches of the stream are.
    ///
    /// # Errors
    /// When the stream is closed or full.
    pub fn ask_progress(&self) -> Result<(), Status> {
        let request =
            WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
        self.requests.try_send(request).map_err(|_| Status::unavailable("the stream takes no requests"))
    }

    /// Waits for the next response. Cancel safe.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn next(&mut self) -> Result<Watched, Status> {
        let ended = || Status::unavailable("the stream ended");
        Ok(watched(self.responses.message().await?.ok_or_else(ended)?))
    }
}

fn create(id: i64, spec: &WatchSpec) -> WatchCreateRequest {
    let filters = [(spec.no_put, FilterType::Noput), (spec.no_delete, FilterType::Nodelete)];
    let filters = filters.into_iter().filter(|(is_set, _)| *is_set).map(|(_, filter)| filter.into());
    WatchCreateRequest {
        key: Bytes::copy_from_slice(spec.key.as_bytes()),
        range_end: spec.end.as_ref().map(|end| Bytes::copy_from_slice(end.as_bytes())).unwrap_or_default(),
        start_revision: spec.from,
        progress_notify: spec.progress_notify,
        filters: filters.collect(),
        prev_kv: spec.prev_kv,
        watch_id: id,
        fragment: spec.fragment,
    }
}

fn watched(response: WatchResponse) -> Watched {
    let is_progress = !response.created && !response.canceled && response.events.is_empty();
    let notice = Notice {
        events: response.events.iter().filter_map(event).collect(),
        is_fragment: response.fragment,
        is_progress,
        canceled: response.canceled.then_some(response.cancel_reason),
        compacted: response.compact_revision,
    };
    Watched {
        watch: usize::try_from(response.watch_id - 1).ok(),
        revision: response.header.map_or(0, |header| header.revision),
        is_creation: response.created,
        notice,
    }
}

fn event(event: &Event) -> Option<WatchEvent> {
    let kv = event.kv.as_ref()?;
    let is_put = event.r#type() == EventType::Put;
    Some(WatchEvent {
        revision: kv.mod_revision,
        key: exchange::row(kv).key,
        state: is_put.then(|| key_state(kv)),
        prev: event.prev_kv.as_ref().map(key_state),
    })
}
