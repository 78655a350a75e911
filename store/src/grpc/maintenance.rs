//! The Maintenance service.

use std::io;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pb::maintenance_server::Maintenance as Service;
use proto::etcdserverpb as pb;
use semver::Version;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tonic::{Request, Response, Status};

use super::Edge;
use super::status::{self, alarm_text};
use crate::auth::Access;
use crate::backup::{self, Spooled};
use crate::kv::KvError;
use crate::mvcc::{Alarm, Downgrade, Revision};

pub(crate) struct MaintenanceService {
    pub(crate) edge: Edge,
}

/// The etcd version whose API this is. Clients switch features on by it.
pub(crate) const ETCD_VERSION: &str = "3.7.0";
pub(crate) const STORAGE_VERSION: &str = "3.7.0";

/// Length of a message of a snapshot (etcd's).
const SNAPSHOT_CHUNK_BYTES: usize = 32 * 1024;

impl MaintenanceService {
    /// Returns the alarms that the answer names: those asked for, the one raised, or the one that was raised until now.
    async fn act_on_alarm(
        &self,
        action: pb::alarm_request::AlarmAction,
        alarm: Option<Alarm>,
    ) -> Result<Vec<Alarm>, Status> {
        use pb::alarm_request::AlarmAction;
        let admin = &self.edge.admin;
        match (action, alarm) {
            (AlarmAction::Get, asked) => {
                let mut alarms = admin.alarms().await?;
                alarms.retain(|alarm| asked.is_none_or(|asked| asked.kind == alarm.kind));
                Ok(alarms)
            }
            (AlarmAction::Activate, Some(alarm)) => {
                admin.raise_alarm(alarm).await?;
                Ok(vec![alarm])
            }
            (AlarmAction::Deactivate, Some(alarm)) => {
                Ok(if admin.clear_alarm(alarm).await? { vec![alarm] } else { Vec::new() })
            }
            // As etcd: an alarm of no kind is none.
            (AlarmAction::Activate | AlarmAction::Deactivate, None) => Ok(Vec::new()),
        }
    }
}

fn wire_size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A snapshot on its way: the file, and then the hash of all of it.
struct Sending {
    file: tokio::fs::File,
    remaining: u64,
    hasher: Option<Sha256>,
    /// Ends with the file.
    _place: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Sending {
    fn new(spooled: Spooled) -> Self {
        let Spooled { file, length, place } = spooled;
        let file = tokio::fs::File::from_std(file);
        Self { file, remaining: length, hasher: Some(Sha256::new()), _place: place }
    }

    fn into_stream(self) -> impl futures::Stream<Item = Result<pb::SnapshotResponse, Status>> + Send {
        stream::once(self.rewound()).flat_map(|rewound| match rewound {
            Ok(sending) => stream::unfold(sending, Self::next).left_stream(),
            Err(error) => stream::once(async move { Err(unreadable(&error)) }).right_stream(),
        })
    }

    async fn rewound(mut self) -> io::Result<Self> {
        self.file.rewind().await.map(|_| self)
    }

    async fn next(mut self) -> Option<(Result<pb::SnapshotResponse, Status>, Self)> {
        let read = self.read().await;
        match read {
            Ok(None) => None,
            Ok(Some(blob)) => Some((Ok(self.message(blob)), self)),
            Err(error) => {
                self.hasher = None;
                Some((Err(unreadable(&error)), self))
            }
        }
    }

    /// Returns the next piece of the file, or the hash, or nothing.
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.remaining == 0 {
            return Ok(self.hasher.take().map(|hasher| hasher.finalize().to_vec()));
        }
        let Some(hasher) = &mut self.hasher else { return Ok(None) };
        let length = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(SNAPSHOT_CHUNK_BYTES);
        let mut blob = vec![0; length];
        self.file.read_exact(&mut blob).await?;
        hasher.update(&blob);
        self.remaining -= u64::try_from(length).expect("usize fits in u64");
        Ok(Some(blob))
    }

    fn message(&self, blob: Vec<u8>) -> pb::SnapshotResponse {
        pb::SnapshotResponse {
            header: None,
            remaining_bytes: self.remaining,
            blob: blob.into(),
            version: backup::STORAGE_VERSION.to_owned(),
        }
    }
}

fn unreadable(error: &io::Error) -> Status {
    Status::internal(format!("cannot read the snapshot back: {error}"))
}

#[tonic::async_trait]
impl Service for MaintenanceService {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        use pb::alarm_request::AlarmAction;
        let access = match request.get_ref().action() {
            AlarmAction::Get => Access::Authenticated,
            AlarmAction::Activate | AlarmAction::Deactivate => Access::Admin,
        };
        self.edge.guard(&request).permit(access).await?;
        let request = request.into_inner();
        let action = request.action();
        let named = pb::AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let alarms = self.act_on_alarm(action, Alarm::from_wire(named)).await?;
        let alarms = alarms.into_iter().map(pb::AlarmMember::from).collect();
        Ok(Response::new(pb::AlarmResponse { header: self.edge.header(), alarms }))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.edge.guard(&request).permit(Access::Authenticated).await?;
        let status = self.edge.kv.status();
        let numbers = self.edge.admin.numbers();
        let mut errors: Vec<String> = numbers.alarms.iter().map(alarm_text).collect();
        if status.leader_id == 0 {
            errors.push("etcdserver: no leader".to_owned());
        }
        Ok(Response::new(pb::StatusResponse {
            header: self.edge.header_at(status.revision),
            version: ETCD_VERSION.to_owned(),
            db_size: wire_size(numbers.db_size_bytes),
            leader: status.leader_id,
            raft_index: numbers.last_log_index,
            raft_term: status.term,
            raft_applied_index: status.applied_index,
            errors,
            db_size_in_use: wire_size(numbers.db_size_in_use_bytes),
            is_learner: numbers.is_learner,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: wire_size(numbers.quota_bytes),
            downgrade_info: Some(downgrade_info(numbers.downgrade)),
        }))
    }

    /// Space comes back by itself; there is nothing to do.
    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        let hash = self.edge.admin.hash_kv(None).await?;
        Ok(Response::new(pb::HashResponse { header: self.edge.header(), hash: hash.hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        let asked = request.get_ref().revision;
        let hash = self.edge.admin.hash_kv((asked > 0).then_some(Revision(asked))).await?;
        Ok(Response::new(pb::HashKvResponse {
            header: self.edge.header(),
            hash: hash.hash,
            compact_revision: hash.compacted.0,
            hash_revision: hash.revision.0,
        }))
    }

    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        let spooled = self.edge.admin.snapshot().await?;
        Ok(Response::new(Sending::new(spooled).into_stream().boxed()))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        self.edge.admin.move_leader(request.get_ref().target_id).await?;
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    /// Announcing a downgrade holds the feature level where it is, and nothing else: no data is rewritten for a version that is gone back to.
    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        use pb::downgrade_request::DowngradeAction;
        self.edge.guard(&request).permit(Access::Admin).await?;
        let request = request.get_ref();
        let admin = &self.edge.admin;
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => {
                downgrade_to(&request.version)?;
                if admin.downgrade().await?.is_some() {
                    return Err(KvError::DowngradeInProgress.into());
                }
            }
            Ok(DowngradeAction::Enable) => {
                let downgrade = downgrade_to(&request.version)?;
                admin.set_downgrade(Some(downgrade)).await?;
            }
            // As etcd 3.7, which has a text for a downgrade that is not there, and does not say it.
            Ok(DowngradeAction::Cancel) => {
                if admin.downgrade().await?.is_some() {
                    admin.set_downgrade(None).await?;
                }
            }
            Err(_) => return Err(status::unknown_method()),
        }
        let Version { major, minor, .. } = own_version();
        Ok(Response::new(pb::DowngradeResponse {
            header: self.edge.header(),
            version: format!("{major}.{minor}"),
        }))
    }
}

fn downgrade_info(downgrade: Option<Downgrade>) -> pb::DowngradeInfo {
    let enabled = downgrade.is_some();
    pb::DowngradeInfo { enabled, target_version: downgrade.map(|begun| begun.target).unwrap_or_default() }
}

fn own_version() -> Version {
    Version::parse(ETCD_VERSION).expect("the constant is a version")
}

/// Only the minor version before the present one can be gone back to. A target may leave out its patch, which does not count.
fn downgrade_to(target: &str) -> Result<Downgrade, Status> {
    let target = Version::parse(target).or_else(|_| Version::parse(&format!("{target}.0")));
    let Version { major, minor, .. } = target.map_err(|_| status::wrong_downgrade_format())?;
    let own = own_version();
    if (major, minor.saturating_add(1)) != (own.major, own.minor) {
        return Err(status::invalid_downgrade_target());
    }
    Ok(Downgrade { target: format!("{major}.{minor}.0") })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pb::downgrade_request::DowngradeAction;
    use tonic::Code;

    use super::*;
    use crate::memory::MemoryStore;

    fn maintenance() -> MaintenanceService {
        MaintenanceService { edge: Edge::new(&Arc::new(MemoryStore::new())) }
    }

    async fn check(
        maintenance: &MaintenanceService,
        action: DowngradeAction,
        target: &str,
        expected: Result<&str, (Code, &str)>,
    ) {
        let request = pb::DowngradeRequest { action: action.into(), version: target.to_owned() };
        let answer =
            maintenance.downgrade(Request::new(request)).await.map(|answer| answer.into_inner().version);
        let answer = answer.map_err(|status| (status.code(), status.message().to_owned()));
        let expected = expected.map(str::to_owned).map_err(|(code, text)| (code, text.to_owned()));
        assert_eq!(answer, expected, "{action:?} {target:?}");
    }

    #[tokio::test]
    async fn a_downgrade_is_judged_as_etcd_judges_it() {
        use DowngradeAction::{Cancel, Enable, Validate};
        let format = Err((Code::InvalidArgument, "etcdserver: wrong downgrade target version format"));
        let invalid = Err((Code::InvalidArgument, "etcdserver: invalid downgrade target version"));
        let maintenance = maintenance();
        for target in ["3.6", "3.6.0", "3.6.21"] {
            check(&maintenance, Validate, target, Ok("3.7")).await;
        }
        for target in ["", "x", "3", "3.6.x"] {
            check(&maintenance, Validate, target, format).await;
            check(&maintenance, Enable, target, format).await;
        }
        for target in ["3.5", "3.7.0", "3.8", "2.6", "3.18446744073709551615.0"] {
            check(&maintenance, Validate, target, invalid).await;
            check(&maintenance, Enable, target, invalid).await;
        }
        check(&maintenance, Cancel, "", Ok("3.7")).await;
    }

    #[tokio::test]
    async fn a_downgrade_is_shown_until_it_is_cancelled_and_there_is_one_at_a_time() {
        use DowngradeAction::{Cancel, Enable, Validate};
        let in_progress =
            Err((Code::FailedPrecondition, "etcdserver: cluster has a downgrade job in progress"));
        let maintenance = maintenance();
        let info = async || {
            let status = maintenance.status(Request::new(pb::StatusRequest::default())).await.unwrap();
            let info = status.into_inner().downgrade_info.unwrap();
            (info.enabled, info.target_version)
        };
        assert_eq!(info().await, (false, String::new()));
        for _ in 0..2 {
            check(&maintenance, Enable, "3.6.21", Ok("3.7")).await;
            assert_eq!(info().await, (true, "3.6.0".to_owned()), "without the patch, as in etcd");
            check(&maintenance, Enable, "3.6", in_progress).await;
            check(&maintenance, Validate, "3.6", in_progress).await;
            check(&maintenance, Cancel, "", Ok("3.7")).await;
            assert_eq!(info().await, (false, String::new()));
        }
    }
}
