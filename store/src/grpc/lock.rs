//! The Lock service: a lock is a contest for its name.

use proto::v3lockpb as pb;
use tonic::{Request, Response, Status};

use super::Edge;
use crate::auth::Access;
use crate::contest::{Application, ContestError, Contests, entering};
use crate::mvcc::{DeleteRange, KeyRange, LeaseId, Op, Txn};

pub(crate) struct LockService {
    pub(crate) edge: Edge,
    pub(crate) contests: Contests,
}

#[tonic::async_trait]
impl pb::lock_server::Lock for LockService {
    async fn lock(&self, request: Request<pb::LockRequest>) -> Result<Response<pb::LockResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let pb::LockRequest { name, lease } = request.get_ref();
        guard.permit(Access::Txn(&entering(name, LeaseId(*lease)))).await.map_err(ContestError::from)?;
        let pb::LockRequest { name, lease } = request.into_inner();
        let won = self.contests.win(Application { name, lease: LeaseId(lease), value: None }).await?;
        Ok(Response::new(pb::LockResponse { header: self.edge.header_at(won.won), key: won.place.key }))
    }

    /// Removes the key, whoever holds it; one that is gone is no error.
    async fn unlock(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let range = KeyRange::single(request.get_ref().key.clone());
        let delete = Txn::of(Op::DeleteRange(DeleteRange { range, prev_kv: false }));
        let (deleted, _) = guard.txn(delete).await.map_err(ContestError::from)?;
        Ok(Response::new(pb::UnlockResponse { header: self.edge.header_at(deleted.revision) }))
    }
}
