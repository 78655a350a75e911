//! Keelson's own Members service: what etcd's Cluster service has no call for.

use proto::store::members_server::Members as Service;
use proto::store::{ReplaceRequest, ReplaceResponse};
use tonic::{Request, Response, Status};

use super::Edge;
use super::cluster::{member_to_wire, members_to_wire};
use crate::auth::Access;

pub(crate) struct MembersService {
    pub(crate) edge: Edge,
}

#[tonic::async_trait]
impl Service for MembersService {
    async fn replace(&self, request: Request<ReplaceRequest>) -> Result<Response<ReplaceResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        let ReplaceRequest { id, peer_urls } = request.into_inner();
        let added = self.edge.admin.replace_member(id, peer_urls).await?;
        Ok(Response::new(ReplaceResponse {
            header: self.edge.bare_header(),
            member: Some(member_to_wire(added.member)),
            members: members_to_wire(added.members),
        }))
    }
}
