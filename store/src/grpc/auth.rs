//! The Auth service: users, roles and sessions.

use pb::auth_server::Auth as Service;
use proto::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use super::{Credential, Edge, Guard, TokenKind, password};
use crate::auth::{Access, AuthCommand, AuthRefusal, Caller, Secret, User};
use crate::kv::KvError;
use crate::mvcc::{Command, Refusal};
use crate::wire::{key_range, permission_from_wire, permission_to_wire};

pub(crate) struct AuthService {
    pub(crate) edge: Edge,
}

/// How often a login starts again because users or roles changed while its password was compared.
const LOGIN_ATTEMPTS_MAX: usize = 8;

impl AuthService {
    /// Runs one change as the sender of the request.
    async fn change<T: Sync>(&self, request: &Request<T>, command: AuthCommand) -> Result<(), Status> {
        self.edge.check_leader(request)?;
        self.edge.guard(request).propose(Command::Auth(command)).await?;
        Ok(())
    }

    /// Reads a user, which must exist.
    async fn user<T: Send>(&self, guard: &Guard<'_>, name: &str, show: fn(&User) -> T) -> Result<T, KvError> {
        guard.confirm().await?;
        let read = guard.read(Access::User(name), |store| {
            let user = store.auth().user(name).ok_or(AuthRefusal::UserNotFound);
            Ok(user.map(show).map_err(Refusal::from))
        });
        read.await
    }

    /// Compares name and password with what is known; returns the auth revision of that.
    async fn prove(&self, name: &str, given: &str) -> Result<u64, Status> {
        let guard = self.edge.guard_for(Credential::Nothing);
        guard.confirm().await?;
        let (known, auth_revision) = guard
            .read(Access::Anyone, |store| {
                let auth = store.auth();
                if !auth.is_enabled() {
                    return Ok(Err(AuthRefusal::NotEnabled.into()));
                }
                let known = match auth.user(name) {
                    Some(user) => user.password_hash.clone().ok_or(AuthRefusal::NoPasswordUser),
                    None => Err(AuthRefusal::Failed),
                };
                Ok(Ok((known, auth.revision())))
            })
            .await?;
        let hash = known.clone().unwrap_or_else(|_| password::decoy(&self.edge));
        let is_right = password::matches(&self.edge, given.to_owned(), hash).await?;
        known?;
        if is_right { Ok(auth_revision) } else { Err(AuthRefusal::Failed.into()) }
    }

    /// Returns a token for a user who was proved at `auth_revision`; `None` when that is not the present any more.
    async fn token(&self, user: &str, auth_revision: u64) -> Result<Option<Secret>, Status> {
        if let TokenKind::Web(signer) = &self.edge.auth_options.tokens {
            return Ok(Some(signer.sign(user, auth_revision)?));
        }
        let token = simple_token(self.edge.auth.unguessable());
        let session =
            AuthCommand::BeginSession { user: user.to_owned(), token: token.clone(), auth_revision };
        let command = Box::new(Command::Auth(session));
        match self.edge.auth.propose(&Command::Guarded { caller: Caller::Nobody, command }).await {
            Err(KvError::Auth(AuthRefusal::OldRevision)) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Some(token)),
        }
    }

    /// Hashes a password for whoever may give one: the work is not to be had for nothing.
    async fn hash<T: Sync>(&self, request: &Request<T>, given: String) -> Result<Secret, Status> {
        self.edge.guard(request).permit(Access::Admin).await?;
        password::hash(&self.edge, given).await
    }
}

/// Returns a token in the form of etcd's simple ones: text, a dot, a number.
fn simple_token(unguessable: u128) -> Secret {
    Secret(format!("{unguessable:032x}.0"))
}

#[tonic::async_trait]
impl Service for AuthService {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        self.change(&request, AuthCommand::Enable).await?;
        Ok(Response::new(pb::AuthEnableResponse { header: self.edge.header() }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        self.change(&request, AuthCommand::Disable).await?;
        Ok(Response::new(pb::AuthDisableResponse { header: self.edge.header() }))
    }

    /// Open to everybody, but not to a token that nobody has.
    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let guard = self.edge.guard(&request);
        guard.confirm().await?;
        let read =
            guard.read(Access::Anyone, |store| Ok(Ok((store.auth().is_enabled(), store.auth().revision()))));
        let (enabled, auth_revision) = read.await?;
        Ok(Response::new(pb::AuthStatusResponse { header: self.edge.header(), enabled, auth_revision }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        self.edge.check_leader(&request)?;
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        for _ in 0..LOGIN_ATTEMPTS_MAX {
            let auth_revision = self.prove(&name, &password).await?;
            if let Some(token) = self.token(&name, auth_revision).await? {
                let header = self.edge.header();
                return Ok(Response::new(pb::AuthenticateResponse { header, token: token.0 }));
            }
        }
        Err(AuthRefusal::OldRevision.into())
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let asked = request.get_ref();
        let has_password = !asked.options.as_ref().is_some_and(|options| options.no_password);
        let (name, password) = (asked.name.clone(), asked.password.clone());
        let password_hash = if has_password { Some(self.hash(&request, password).await?) } else { None };
        self.change(&request, AuthCommand::UserAdd { name, password_hash }).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header: self.edge.header() }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let guard = self.edge.guard(&request);
        let roles = self.user(&guard, &request.get_ref().name, |user| user.roles.iter().cloned().collect());
        let roles = roles.await?;
        Ok(Response::new(pb::AuthUserGetResponse { header: self.edge.header(), roles }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let guard = self.edge.guard(&request);
        guard.confirm().await?;
        let read = guard.read(Access::Admin, |store| {
            Ok(Ok(store.auth().users().map(|user| user.name.clone()).collect()))
        });
        let users = read.await?;
        Ok(Response::new(pb::AuthUserListResponse { header: self.edge.header(), users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let name = request.get_ref().name.clone();
        self.change(&request, AuthCommand::UserDelete { name }).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header: self.edge.header() }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let asked = request.get_ref();
        let (name, password) = (asked.name.clone(), asked.password.clone());
        let password_hash = self.hash(&request, password).await?;
        self.change(&request, AuthCommand::UserChangePassword { name, password_hash }).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header: self.edge.header() }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let pb::AuthUserGrantRoleRequest { user, role } = request.get_ref().clone();
        self.change(&request, AuthCommand::UserGrantRole { user, role }).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header: self.edge.header() }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let pb::AuthUserRevokeRoleRequest { name: user, role } = request.get_ref().clone();
        self.change(&request, AuthCommand::UserRevokeRole { user, role }).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header: self.edge.header() }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let name = request.get_ref().name.clone();
        self.change(&request, AuthCommand::RoleAdd { name }).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header: self.edge.header() }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let guard = self.edge.guard(&request);
        let name = &request.get_ref().role;
        guard.confirm().await?;
        let read = guard.read(Access::Role(name), |store| {
            let role = store.auth().role(name).ok_or(AuthRefusal::RoleNotFound);
            Ok(role.map(|role| role.permissions().map(permission_to_wire).collect()).map_err(Refusal::from))
        });
        let perm = read.await?;
        Ok(Response::new(pb::AuthRoleGetResponse { header: self.edge.header(), perm }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let guard = self.edge.guard(&request);
        guard.confirm().await?;
        let read = guard.read(Access::Admin, |store| {
            Ok(Ok(store.auth().roles().map(|role| role.name.clone()).collect()))
        });
        let roles = read.await?;
        Ok(Response::new(pb::AuthRoleListResponse { header: self.edge.header(), roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let name = request.get_ref().role.clone();
        self.change(&request, AuthCommand::RoleDelete { name }).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header: self.edge.header() }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let pb::AuthRoleGrantPermissionRequest { name: role, perm } = request.get_ref().clone();
        self.edge.guard(&request).permit(Access::Admin).await?;
        let permission = permission_from_wire(perm.ok_or(AuthRefusal::PermissionNotGiven)?)?;
        self.change(&request, AuthCommand::RoleGrantPermission { role, permission }).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse { header: self.edge.header() }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = request.get_ref().clone();
        let range = key_range(key, range_end);
        self.change(&request, AuthCommand::RoleRevokePermission { role, range }).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse { header: self.edge.header() }))
    }
}
