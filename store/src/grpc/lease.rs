//! The Lease service.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use pb::lease_server::Lease as Service;
use proto::etcdserverpb as pb;
use tonic::{Request, Response, Status, Streaming};

use super::guard::LeaseDetail;
use super::{Credential, Edge};
use crate::kv::KvError;
use crate::mvcc::LeaseId;

pub(crate) struct LeaseService {
    pub(crate) edge: Edge,
}

/// Time to live reported for a lease that does not exist.
const NO_LEASE_TTL: i64 = -1;

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Answers one keepalive; the header shows the revision from before the renewal, and an unknown lease has time 0.
async fn keep_alive(
    edge: &Edge,
    credential: Credential,
    request: pb::LeaseKeepAliveRequest,
) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let header = edge.header();
    let ttl = match edge.guard_for(credential).lease_keep_alive(LeaseId(request.id)).await {
        Ok(ttl) => whole_seconds(ttl),
        Err(KvError::LeaseNotFound) => 0,
        Err(error) => return Err(error.into()),
    };
    Ok(pb::LeaseKeepAliveResponse { header, id: request.id, ttl })
}

#[tonic::async_trait]
impl Service for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let request = request.into_inner();
        // A negative time to live is raised to the least one, like any other that is too small.
        let ttl = Duration::from_secs(u64::try_from(request.ttl).unwrap_or(0));
        let granted = guard.lease_grant(LeaseId(request.id), ttl).await?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: self.edge.header(),
            id: granted.id.0,
            ttl: whole_seconds(granted.ttl),
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.edge.check_leader(&request)?;
        self.edge.guard(&request).lease_revoke(LeaseId(request.get_ref().id)).await?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: self.edge.header() }))
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.edge.check_leader(&request)?;
        let (edge, credential) = (self.edge.clone(), self.edge.credential(&request));
        let answers = request.into_inner().then(move |request| {
            let (edge, credential) = (edge.clone(), credential.clone());
            async move { keep_alive(&edge, credential, request?).await }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        self.edge.check_leader(&request)?;
        let guard = self.edge.guard(&request);
        let request = request.into_inner();
        let detail = if request.keys { LeaseDetail::TimeAndKeys } else { LeaseDetail::Time };
        let header = self.edge.header();
        let mut response =
            pb::LeaseTimeToLiveResponse { header, id: request.id, ..pb::LeaseTimeToLiveResponse::default() };
        match guard.lease_time_to_live(LeaseId(request.id), detail).await {
            Ok((left, granted, keys)) => {
                response.ttl = whole_seconds(left);
                response.granted_ttl = whole_seconds(granted);
                response.keys = keys;
            }
            Err(KvError::LeaseNotFound) => response.ttl = NO_LEASE_TTL,
            Err(error) => return Err(error.into()),
        }
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        self.edge.check_leader(&request)?;
        let leases = self.edge.guard(&request).leases().await?;
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: self.edge.header(),
            leases: leases.into_iter().map(|id| pb::LeaseStatus { id: id.0 }).collect(),
        }))
    }
}
