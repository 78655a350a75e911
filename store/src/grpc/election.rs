//! The Election service: leadership is a contest for the election's name, and the winner's entry holds its value.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use proto::v3electionpb as pb;
use tonic::{Request, Response, Status};

use super::{Edge, holding};
use crate::auth::Access;
use crate::contest::{
    Application, ContestError, Contests, Leaders, LedAt, Place, entering, entries, first_entry,
};
use crate::kv::{Consistency, KvError, ProgressMode, WatchItem, WatchQuery};
use crate::mvcc::{KeyRange, LeaseId, Range, Revision};
use crate::watch::Watcher;
use crate::wire::key_value_to_wire;

pub(crate) struct ElectionService {
    pub(crate) edge: Edge,
    pub(crate) contests: Contests,
}

/// The place that a leader names.
fn place(leader: Option<pb::LeaderKey>) -> Result<Place, ContestError> {
    let pb::LeaderKey { name, key, rev, lease } = leader.ok_or(ContestError::LeaderNotGiven)?;
    Ok(Place { prefix: entries(&name), key, lease: LeaseId(lease), created: Revision(rev) })
}

#[tonic::async_trait]
impl pb::election_server::Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let pb::CampaignRequest { name, lease, .. } = request.get_ref();
        guard.permit(Access::Txn(&entering(name, LeaseId(*lease)))).await.map_err(ContestError::from)?;
        let pb::CampaignRequest { name, lease, value } = request.into_inner();
        let application = Application { name: name.clone(), lease: LeaseId(lease), value: Some(value) };
        let won = self.contests.win(application).await?;
        // The header is that of entering the campaign, not of winning it, as in etcd.
        let header = self.edge.header_at(won.entered);
        let Place { key, lease, created, prefix: _ } = won.place;
        let leader = pb::LeaderKey { name, key, rev: created.0, lease: lease.0 };
        Ok(Response::new(pb::CampaignResponse { header, leader: Some(leader) }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let pb::ProclaimRequest { leader, value } = request.into_inner();
        let proclaim = place(leader)?.proclaim(value);
        let (proclaimed, _) = guard.txn(proclaim).await.map_err(ContestError::from)?;
        if !proclaimed.succeeded {
            return Err(ContestError::NotLeader.into());
        }
        Ok(Response::new(pb::ProclaimResponse { header: self.edge.header_at(proclaimed.revision) }))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let first = first_entry(entries(&request.get_ref().name));
        let (found, permit) =
            guard.range(&first, Consistency::Linearizable).await.map_err(ContestError::from)?;
        let leader = found.kvs.into_iter().next().ok_or(ContestError::NoLeader)?;
        let header = self.edge.header_at(found.revision);
        Ok(holding(pb::LeaderResponse { header, kv: Some(key_value_to_wire(leader)) }, permit))
    }

    type ObserveStream = BoxStream<'static, Result<pb::LeaderResponse, Status>>;

    async fn observe(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        self.edge.check_leader(&request)?;
        let prefix = entries(&request.get_ref().name);
        // As a watch: who may see the leaders now may see them until it goes.
        let range = KeyRange::prefix(prefix.clone());
        self.edge.guard(&request).permit(Access::Read(&range)).await.map_err(ContestError::from)?;
        let observer = Observer::new(self.edge.clone(), prefix);
        let responses = futures::stream::unfold(observer, |mut observer| async {
            observer.next().await.map(|response| (response, observer))
        });
        Ok(Response::new(responses.boxed()))
    }

    /// Gives leadership up; one that is over already is no error.
    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let leave = place(request.into_inner().leader)?.leave();
        let (left, _) = guard.txn(leave).await.map_err(ContestError::from)?;
        Ok(Response::new(pb::ResignResponse { header: self.edge.header_at(left.revision) }))
    }
}

/// Tells the leaders of one name. It is the response stream itself: polled by the connection, and gone with it.
struct Observer {
    edge: Edge,
    prefix: Bytes,
    leaders: Leaders,
    /// `None` before the first read, and when its past was compacted away under it.
    watcher: Option<Watcher>,
    outbox: VecDeque<LedAt>,
    failed: bool,
}

impl Observer {
    fn new(edge: Edge, prefix: Bytes) -> Self {
        Self {
            edge,
            prefix,
            leaders: Leaders::default(),
            watcher: None,
            outbox: VecDeque::new(),
            failed: false,
        }
    }

    async fn next(&mut self) -> Option<Result<pb::LeaderResponse, Status>> {
        loop {
            if let Some(LedAt { revision, leader }) = self.outbox.pop_front() {
                let header = self.edge.header_at(revision);
                return Some(Ok(pb::LeaderResponse { header, kv: Some(key_value_to_wire(leader)) }));
            }
            if self.failed {
                return None;
            }
            if let Err(error) = self.step().await {
                self.failed = true;
                return Some(Err(error.into()));
            }
        }
    }

    async fn step(&mut self) -> Result<(), ContestError> {
        let Some(watcher) = &mut self.watcher else { return self.read().await };
        match watcher.next().await {
            Some(Ok(WatchItem::Events { events, .. })) => self.outbox.extend(self.leaders.follow(events)),
            Some(Ok(WatchItem::Progress(_))) => {}
            Some(Err(KvError::Compacted { .. })) => self.watcher = None,
            Some(Err(_)) | None => return Err(ContestError::ObserveEnded),
        }
        Ok(())
    }

    /// Reads all entries and watches from there.
    async fn read(&mut self) -> Result<(), ContestError> {
        let range = KeyRange::prefix(self.prefix.clone());
        let found = self.edge.kv.range(Range::new(range.clone()), Consistency::Linearizable).await?;
        let query = WatchQuery {
            start: Some(found.revision.next()),
            progress: ProgressMode::OnRequest,
            ..WatchQuery::new(range)
        };
        match self.edge.kv.watch(query).await {
            Ok(watcher) => self.watcher = Some(watcher),
            // Read again: what came after has been compacted already.
            Err(KvError::Compacted { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.outbox.extend(self.leaders.read(found.revision, found.kvs));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proto::v3electionpb::election_server::Election;

    use super::*;
    use crate::kv::Kv;
    use crate::memory::MemoryStore;

    struct Setting {
        store: MemoryStore,
        service: ElectionService,
    }

    impl Setting {
        fn new() -> Self {
            let store = MemoryStore::new();
            let edge = Edge::new(&Arc::new(store.clone()));
            let contests = Contests::new(Arc::clone(&edge.kv));
            Self { store, service: ElectionService { edge, contests } }
        }

        async fn grant(&self, lease: i64) {
            self.store.lease_grant(LeaseId(lease), Duration::from_secs(600)).await.unwrap();
        }

        async fn campaign(&self, lease: i64, value: &'static str) -> pb::LeaderKey {
            let request = pb::CampaignRequest { name: "el".into(), lease, value: value.into() };
            self.service.campaign(Request::new(request)).await.unwrap().into_inner().leader.unwrap()
        }

        async fn resign(&self, leader: pb::LeaderKey) {
            let request = pb::ResignRequest { leader: Some(leader) };
            self.service.resign(Request::new(request)).await.unwrap();
        }

        async fn observe(&self) -> BoxStream<'static, Result<pb::LeaderResponse, Status>> {
            let request = pb::LeaderRequest { name: "el".into() };
            self.service.observe(Request::new(request)).await.unwrap().into_inner()
        }
    }

    async fn next(stream: &mut BoxStream<'static, Result<pb::LeaderResponse, Status>>) -> (i64, String) {
        let response = stream.next().await.unwrap().unwrap();
        let value = String::from_utf8(response.kv.unwrap().value.to_vec()).unwrap();
        (response.header.unwrap().revision, value)
    }

    #[tokio::test(start_paused = true)]
    async fn an_observer_sees_each_leader_and_each_proclamation_once() {
        let setting = Arc::new(Setting::new());
        setting.grant(1).await;
        setting.grant(2).await;
        let mut early = setting.observe().await;
        let first = setting.campaign(1, "one").await; // 2
        assert_eq!(next(&mut early).await, (2, "one".to_owned()));
        let mut late = setting.observe().await;
        assert_eq!(next(&mut late).await, (2, "one".to_owned()));
        let proclaim = pb::ProclaimRequest { leader: Some(first.clone()), value: "uno".into() };
        setting.service.proclaim(Request::new(proclaim)).await.unwrap(); // 3
        let waiting = Arc::clone(&setting);
        let second = tokio::spawn(async move { waiting.campaign(2, "two").await }); // 4
        while setting.store.status().revision < Revision(4) {
            tokio::task::yield_now().await;
        }
        setting.resign(first).await; // 5
        let second = second.await.unwrap();
        setting.resign(second).await; // 6
        setting.campaign(1, "again").await; // 7
        for observer in [&mut early, &mut late] {
            assert_eq!(next(observer).await, (3, "uno".to_owned()));
            assert_eq!(next(observer).await, (5, "two".to_owned()));
            assert_eq!(next(observer).await, (7, "again".to_owned()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn observing_ends_with_the_store() {
        let setting = Setting::new();
        let mut observer = setting.observe().await;
        let ended = tokio::spawn(async move { (observer.next().await, observer.next().await) });
        // The observer watches before the hub closes.
        while setting.store.hub().watcher_count() == 0 {
            tokio::task::yield_now().await;
        }
        setting.store.hub().close();
        let (last, after) = ended.await.unwrap();
        assert_eq!(last.unwrap().unwrap_err().message(), "election: observe closed early");
        assert!(after.is_none());
    }
}
