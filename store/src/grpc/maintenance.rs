//! The Maintenance service.

use futures::stream::BoxStream;
use pb::maintenance_server::Maintenance as Service;
use proto::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use super::Edge;
use super::status::alarm_text;
use crate::auth::Access;
use crate::mvcc::{Alarm, Revision};

pub(crate) struct MaintenanceService {
    pub(crate) edge: Edge,
}

/// The etcd version whose API this is. Clients switch features on by it: 3.7 is announced once all of 3.7 is here.
pub(crate) const ETCD_VERSION: &str = "3.6.0";
pub(crate) const STORAGE_VERSION: &str = "3.6.0";

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
            downgrade_info: Some(pb::DowngradeInfo::default()),
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
        Err(Status::unimplemented("not implemented: snapshots over the etcd API"))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        self.edge.admin.move_leader(request.get_ref().target_id).await?;
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        Err(Status::unimplemented("not implemented: downgrades"))
    }
}
