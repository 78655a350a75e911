//! The Watch service: one session per stream, many watchers on it.
//!
//! A session is the response stream itself: it is polled by the connection, owns its watchers and ends with it, so no task is
//! left behind. What it has to say waits in `outbox`, in order; it reads on only when that is empty.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{AbortHandle, Abortable, BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use pb::watch_server::Watch as Service;
use prometheus_client::metrics::gauge::Gauge;
use prost::Message;
use proto::{etcdserverpb as pb, mvccpb};
use tokio::time::{Interval, MissedTickBehavior};
use tonic::{Request, Response, Status, Streaming};

use super::{Credential, Edge, requires_leader, status};
use crate::auth::Access;
use crate::kv::{KvError, ProgressMode, WatchItem, WatchQuery};
use crate::metrics::UnderWay;
use crate::mvcc::{Event, EventKind, KeyRange, RangeEnd, Revision};
use crate::watch::{ProgressHandle, Watcher};
use crate::wire::{key_range, key_value_to_wire};

pub(crate) struct WatchService {
    pub(crate) edge: Edge,
    /// How often watchers that asked for it hear that nothing happened.
    pub(crate) progress_interval: Duration,
}

/// Id in answers that belong to no watcher.
const NO_WATCH: i64 = -1;
/// Most watchers on one stream: a client with more is leaking them.
const WATCHERS_MAX: usize = 100_000;
/// A stream that needs a leader is cut after this long without: three election timeouts.
const LEADER_SILENCE_MAX: Duration = Duration::from_secs(3);
const LEADER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[tonic::async_trait]
impl Service for WatchService {
    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let needs_leader = requires_leader(&request);
        let credential = self.edge.credential(&request);
        let session = Session::new(self, Client { credential, needs_leader }, request.into_inner());
        let responses = futures::stream::unfold(session, |mut session| async {
            session.next().await.map(|response| (response, session))
        });
        Ok(Response::new(responses.boxed()))
    }
}

/// A watcher with the id that the client knows it by.
struct Tagged {
    id: i64,
    watcher: Watcher,
}

impl Stream for Tagged {
    type Item = (i64, Result<WatchItem, KvError>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let id = self.id;
        self.watcher.poll_next_unpin(context).map(|item| item.map(|item| (id, item)))
    }
}

/// What a session knows of one of its watchers.
struct Open {
    abort: AbortHandle,
    progress: ProgressHandle,
    start: Option<Revision>,
    filters: Vec<EventKind>,
    fragment: bool,
    notify: bool,
    /// The interval passed without events; the next progress is for this watcher.
    notify_due: bool,
    had_events: bool,
}

/// A progress request under way: who has not answered yet, and the lowest revision so far.
struct ProgressRound {
    waiting: BTreeSet<i64>,
    lowest: Revision,
}

/// What the owner of a stream said when it opened it.
struct Client {
    credential: Credential,
    needs_leader: bool,
}

struct Session {
    edge: Edge,
    client: Client,
    requests: Streaming<pb::WatchRequest>,
    requests_open: bool,
    watchers: SelectAll<Abortable<Tagged>>,
    open: BTreeMap<i64, Open>,
    last_auto_id: i64,
    round: Option<ProgressRound>,
    round_wanted: bool,
    outbox: VecDeque<pb::WatchResponse>,
    progress_ticks: Interval,
    leader_ticks: Interval,
    failed: bool,
    _open: UnderWay<Gauge>,
}

/// What a session waits for.
enum Input {
    Request(Option<Result<pb::WatchRequest, Status>>),
    Item((i64, Result<WatchItem, KvError>)),
    ProgressTick,
    LeaderTick,
}

impl Session {
    fn new(service: &WatchService, client: Client, requests: Streaming<pb::WatchRequest>) -> Self {
        Self {
            edge: service.edge.clone(),
            client,
            requests,
            requests_open: true,
            watchers: SelectAll::new(),
            open: BTreeMap::new(),
            last_auto_id: NO_WATCH,
            round: None,
            round_wanted: false,
            outbox: VecDeque::new(),
            progress_ticks: ticks(service.progress_interval),
            leader_ticks: ticks(LEADER_CHECK_INTERVAL),
            failed: false,
            _open: UnderWay::new(service.edge.clients.watch_streams.clone()),
        }
    }

    async fn next(&mut self) -> Option<Result<pb::WatchResponse, Status>> {
        loop {
            if let Some(response) = self.outbox.pop_front() {
                return Some(Ok(response));
            }
            if self.failed || !self.requests_open && self.open.is_empty() {
                return None;
            }
            let input = self.input().await;
            if let Err(error) = self.handle(input).await {
                self.failed = true;
                return Some(Err(error));
            }
        }
    }

    async fn input(&mut self) -> Input {
        tokio::select! {
            request = self.requests.next(), if self.requests_open => Input::Request(request),
            Some(item) = self.watchers.next(), if !self.watchers.is_empty() => Input::Item(item),
            _ = self.progress_ticks.tick() => Input::ProgressTick,
            _ = self.leader_ticks.tick(), if self.client.needs_leader => Input::LeaderTick,
        }
    }

    async fn handle(&mut self, input: Input) -> Result<(), Status> {
        match input {
            Input::Request(Some(Ok(request))) => return self.handle_request(request).await,
            Input::Request(Some(Err(error))) => return Err(error),
            Input::Request(None) => self.requests_open = false,
            Input::Item((id, Ok(item))) => self.handle_item(id, item),
            Input::Item((id, Err(error))) => return self.handle_end(id, error),
            Input::ProgressTick => self.handle_progress_tick(),
            Input::LeaderTick => {
                let status = self.edge.kv.status();
                if status.leader_silence > LEADER_SILENCE_MAX {
                    return Err(status::no_leader());
                }
            }
        }
        Ok(())
    }

    async fn handle_request(&mut self, request: pb::WatchRequest) -> Result<(), Status> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await?,
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})) => {
                self.round_wanted = true;
                self.start_round();
            }
            // A kind of request that this version does not know.
            None => {}
        }
        Ok(())
    }

    async fn create(&mut self, create: pb::WatchCreateRequest) -> Result<(), Status> {
        let range = watched_range(create.key, create.range_end);
        let guard = self.edge.guard_for(self.client.credential.clone());
        match guard.permit(Access::Read(&range)).await {
            Err(error @ KvError::Auth(_)) => {
                self.refuse(&status::watch_refused(error));
                return Ok(());
            }
            other => other?,
        }
        if let RangeEnd::Before(end) = &range.end
            && range.start >= *end
        {
            self.refuse("mvcc: watcher range is empty");
            return Ok(());
        }
        if create.start_revision < 0 {
            self.refuse(status::compacted().message());
            return Ok(());
        }
        if self.open.contains_key(&create.watch_id) && create.watch_id != 0 {
            self.refuse("mvcc: duplicate watch ID provided on the WatchStream");
            return Ok(());
        }
        if self.open.len() >= WATCHERS_MAX {
            return Err(KvError::TooManyRequests.into());
        }
        let id = if create.watch_id == 0 { self.auto_id() } else { create.watch_id };
        let start = (create.start_revision > 0).then_some(Revision(create.start_revision));
        let query = WatchQuery { range, start, prev_kv: create.prev_kv, progress: ProgressMode::OnRequest };
        // Taken before subscribing, so that no event at or below the header's revision can follow it.
        let header = self.edge.header();
        let created = self.edge.kv.watch(query).await;
        self.outbox.push_back(pb::WatchResponse {
            header,
            watch_id: id,
            created: true,
            ..pb::WatchResponse::default()
        });
        match created {
            Ok(watcher) => {
                let options = Options {
                    start,
                    filters: filters(&create.filters),
                    fragment: create.fragment,
                    notify: create.progress_notify,
                };
                self.add(id, watcher, options);
                Ok(())
            }
            Err(error) => self.handle_end(id, error),
        }
    }

    fn add(&mut self, id: i64, watcher: Watcher, options: Options) {
        let progress = watcher.progress_handle();
        let (abort, registration) = AbortHandle::new_pair();
        self.watchers.push(Abortable::new(Tagged { id, watcher }, registration));
        let open = Open {
            abort,
            progress,
            start: options.start,
            filters: options.filters,
            fragment: options.fragment,
            notify: options.notify,
            notify_due: false,
            had_events: false,
        };
        self.open.insert(id, open);
    }

    /// Ids count up from 0 and skip those that are in use.
    fn auto_id(&mut self) -> i64 {
        loop {
            self.last_auto_id += 1;
            if !self.open.contains_key(&self.last_auto_id) {
                return self.last_auto_id;
            }
        }
    }

    fn refuse(&mut self, reason: &str) {
        self.outbox.push_back(pb::WatchResponse {
            header: self.edge.header(),
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..pb::WatchResponse::default()
        });
    }

    fn cancel(&mut self, id: i64) {
        let Some(open) = self.open.remove(&id) else { return };
        open.abort.abort();
        self.outbox.push_back(pb::WatchResponse {
            header: self.edge.header(),
            watch_id: id,
            canceled: true,
            ..pb::WatchResponse::default()
        });
        self.settle(id, None);
    }

    fn handle_end(&mut self, id: i64, error: KvError) -> Result<(), Status> {
        if let Some(open) = self.open.remove(&id) {
            open.abort.abort();
        }
        let KvError::Compacted { compacted, .. } = error else { return Err(error.into()) };
        self.outbox.push_back(pb::WatchResponse {
            header: self.edge.bare_header(),
            watch_id: id,
            canceled: true,
            compact_revision: compacted.0,
            ..pb::WatchResponse::default()
        });
        // Behind that: progress of the stream is that of the watchers that are left, and a client takes it for all that it knows of.
        self.settle(id, None);
        Ok(())
    }

    fn handle_item(&mut self, id: i64, item: WatchItem) {
        // An item of a watcher that was cancelled in the same moment.
        let Some(open) = self.open.get_mut(&id) else { return };
        match item {
            WatchItem::Events { revision, events } => {
                let events: Vec<mvccpb::Event> = events
                    .into_iter()
                    .filter(|event| !open.filters.contains(&event.kind))
                    .map(event_to_wire)
                    .collect();
                if events.is_empty() {
                    return;
                }
                open.had_events = true;
                let fragment = open.fragment;
                self.push_events(id, revision, events, fragment);
            }
            WatchItem::Progress(revision) => {
                if std::mem::take(&mut open.notify_due) {
                    self.push_progress(id, revision);
                }
                self.settle(id, Some(revision));
            }
        }
    }

    fn push_events(&mut self, id: i64, revision: Revision, events: Vec<mvccpb::Event>, fragment: bool) {
        let header = self.edge.header_at(revision);
        let bytes_max = if fragment { self.edge.limits.message_bytes() } else { usize::MAX };
        let mut responses = split_events(events, bytes_max)
            .into_iter()
            .map(|events| pb::WatchResponse {
                header,
                watch_id: id,
                events,
                fragment: true,
                ..pb::WatchResponse::default()
            })
            .collect::<VecDeque<_>>();
        if let Some(last) = responses.back_mut() {
            last.fragment = false;
        }
        self.outbox.append(&mut responses);
    }

    fn push_progress(&mut self, id: i64, revision: Revision) {
        let header = self.edge.header_at(revision);
        self.outbox.push_back(pb::WatchResponse { header, watch_id: id, ..pb::WatchResponse::default() });
    }

    /// Asks every watcher of the stream for its progress. Without watchers, or with one whose start is in the future, there
    /// is no answer.
    fn start_round(&mut self) {
        if self.round.is_some() || !self.round_wanted {
            return;
        }
        self.round_wanted = false;
        let after_now = self.edge.kv.status().revision.next();
        let has_future = self.open.values().any(|open| open.start.is_some_and(|start| start > after_now));
        if self.open.is_empty() || has_future {
            return;
        }
        let waiting = self.open.keys().copied().collect();
        self.round = Some(ProgressRound { waiting, lowest: Revision(i64::MAX) });
        self.open.values().for_each(|open| open.progress.request());
    }

    /// Notes that a watcher reported, or went. When all have, the stream as a whole is at the lowest of their revisions.
    fn settle(&mut self, id: i64, reported: Option<Revision>) {
        let Some(round) = &mut self.round else { return };
        if !round.waiting.remove(&id) {
            return;
        }
        round.lowest = round.lowest.min(reported.unwrap_or(Revision(i64::MAX)));
        if !round.waiting.is_empty() {
            return;
        }
        let lowest = round.lowest;
        self.round = None;
        if lowest != Revision(i64::MAX) {
            self.push_progress(NO_WATCH, lowest);
        }
        self.start_round();
    }

    fn handle_progress_tick(&mut self) {
        for open in self.open.values_mut().filter(|open| open.notify) {
            if !std::mem::take(&mut open.had_events) {
                open.notify_due = true;
                open.progress.request();
            }
        }
    }
}

struct Options {
    start: Option<Revision>,
    filters: Vec<EventKind>,
    fragment: bool,
    notify: bool,
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// An empty key means the smallest one, so that an open range covers everything.
fn watched_range(key: Bytes, range_end: Bytes) -> KeyRange {
    let start = if key.is_empty() { Bytes::from_static(b"\0") } else { key };
    key_range(start, range_end)
}

/// Unknown filters are ignored.
fn filters(filters: &[i32]) -> Vec<EventKind> {
    filters
        .iter()
        .filter_map(|&filter| FilterType::try_from(filter).ok())
        .map(|filter| match filter {
            FilterType::Noput => EventKind::Put,
            FilterType::Nodelete => EventKind::Delete,
        })
        .collect()
}

fn event_to_wire(event: Event) -> mvccpb::Event {
    use mvccpb::event::EventType;
    let kind = match event.kind {
        EventKind::Put => EventType::Put,
        EventKind::Delete => EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(key_value_to_wire(event.kv)),
        prev_kv: event.prev.map(key_value_to_wire),
    }
}

/// Cuts events into runs below `bytes_max`, each with at least one event.
fn split_events(events: Vec<mvccpb::Event>, bytes_max: usize) -> Vec<Vec<mvccpb::Event>> {
    let mut runs: Vec<Vec<mvccpb::Event>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let size = event.encoded_len();
        match runs.last_mut().filter(|_| bytes + size < bytes_max) {
            Some(run) => {
                bytes += size;
                run.push(event);
            }
            None => {
                bytes = size;
                runs.push(vec![event]);
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::Empty;
    use tonic::codec::Codec;
    use tonic_prost::ProstCodec;

    use super::*;
    use crate::memory::MemoryStore;

    fn session() -> Session {
        let edge = Edge::new(&Arc::new(MemoryStore::new()));
        let service = WatchService { edge, progress_interval: Duration::from_secs(600) };
        let decoder = ProstCodec::<pb::WatchResponse, pb::WatchRequest>::default().decoder();
        let requests = Streaming::new_empty(decoder, Empty::<Bytes>::new());
        Session::new(&service, Client { credential: Credential::Nothing, needs_leader: false }, requests)
    }

    #[tokio::test(start_paused = true)]
    async fn progress_of_a_stream_comes_behind_the_end_of_a_watch_that_was_asked_for_it() {
        let mut session = session();
        for key in ["lives", "ends"] {
            let create = pb::WatchCreateRequest { key: key.into(), ..pb::WatchCreateRequest::default() };
            session.create(create).await.unwrap();
        }
        session.outbox.clear();
        session.round_wanted = true;
        session.start_round();
        session.handle_item(0, WatchItem::Progress(Revision(7)));
        assert!(session.outbox.is_empty(), "one has not answered");
        session.handle_end(1, KvError::Compacted { requested: Revision(3), compacted: Revision(5) }).unwrap();
        let told: Vec<(i64, bool, i64)> = session
            .outbox
            .iter()
            .map(|response| (response.watch_id, response.canceled, response.compact_revision))
            .collect();
        assert_eq!(told, [(1, true, 5), (NO_WATCH, false, 0)]);
    }
}
