//! The Cluster service. Its headers carry no revision.

use pb::cluster_server::Cluster as Service;
use proto::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use super::Edge;
use crate::admin::MemberInfo;
use crate::auth::Access;

pub(crate) struct ClusterService {
    pub(crate) edge: Edge,
}

pub(super) fn members_to_wire(members: Vec<MemberInfo>) -> Vec<pb::Member> {
    members.into_iter().map(member_to_wire).collect()
}

pub(super) fn member_to_wire(member: MemberInfo) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    }
}

#[tonic::async_trait]
impl Service for ClusterService {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        let request = request.into_inner();
        let added = self.edge.admin.add_member(request.peer_urls, request.is_learner).await?;
        Ok(Response::new(pb::MemberAddResponse {
            header: self.edge.bare_header(),
            member: Some(member_to_wire(added.member)),
            members: members_to_wire(added.members),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        let members = members_to_wire(self.edge.admin.remove_member(request.get_ref().id).await?);
        Ok(Response::new(pb::MemberRemoveResponse { header: self.edge.bare_header(), members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        let request = request.into_inner();
        let members = self.edge.admin.update_member(request.id, request.peer_urls).await?;
        let members = members_to_wire(members);
        Ok(Response::new(pb::MemberUpdateResponse { header: self.edge.bare_header(), members }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        self.edge.guard(&request).permit(Access::Authenticated).await?;
        let members = self.edge.admin.members(request.get_ref().linearizable).await?;
        Ok(Response::new(pb::MemberListResponse {
            header: self.edge.bare_header(),
            members: members_to_wire(members),
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.edge.guard(&request).permit(Access::Admin).await?;
        let members = members_to_wire(self.edge.admin.promote_member(request.get_ref().id).await?);
        Ok(Response::new(pb::MemberPromoteResponse { header: self.edge.bare_header(), members }))
    }
}
