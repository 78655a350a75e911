//! Users, roles and permissions: core to and from protobuf.

use proto::authpb;
use proto::store as wire;
use wire::AuthReason;
use wire::auth_change::Change;

use super::WireError;
use super::request::{key_range, range_end};
use crate::auth::{AuthCommand, AuthRefusal, Permission, PermissionKind, Secret};
use crate::mvcc::KeyRange;

pub(crate) fn permission_to_wire(permission: Permission) -> authpb::Permission {
    use authpb::permission::Type;
    let kind = match permission.kind {
        PermissionKind::Read => Type::Read,
        PermissionKind::Write => Type::Write,
        PermissionKind::ReadWrite => Type::Readwrite,
    };
    let KeyRange { start, end } = permission.range;
    authpb::Permission { perm_type: kind.into(), key: start, range_end: range_end(end) }
}

pub(crate) fn permission_from_wire(permission: authpb::Permission) -> Result<Permission, WireError> {
    use authpb::permission::Type;
    let kind = match Type::try_from(permission.perm_type).map_err(|_| WireError::InvalidPermission)? {
        Type::Read => PermissionKind::Read,
        Type::Write => PermissionKind::Write,
        Type::Readwrite => PermissionKind::ReadWrite,
    };
    Ok(Permission { kind, range: key_range(permission.key, permission.range_end) })
}

pub(super) fn auth_to_wire(command: AuthCommand) -> wire::AuthChange {
    let change = match command {
        AuthCommand::Enable => Change::Enable(wire::Done {}),
        AuthCommand::Disable => Change::Disable(wire::Done {}),
        AuthCommand::BeginSession { user, token, auth_revision } => {
            Change::Session(wire::AuthSession { user, token: token.0, auth_revision })
        }
        AuthCommand::UserAdd { name, password_hash } => {
            Change::UserAdd(user_to_wire(name, password_hash.map_or_else(String::new, |hash| hash.0)))
        }
        AuthCommand::UserDelete { name } => Change::UserDelete(name),
        AuthCommand::UserChangePassword { name, password_hash } => {
            Change::UserChangePassword(user_to_wire(name, password_hash.0))
        }
        AuthCommand::UserGrantRole { user, role } => {
            Change::UserGrantRole(wire::AuthMembership { user, role })
        }
        AuthCommand::UserRevokeRole { user, role } => {
            Change::UserRevokeRole(wire::AuthMembership { user, role })
        }
        AuthCommand::RoleAdd { name } => Change::RoleAdd(name),
        AuthCommand::RoleDelete { name } => Change::RoleDelete(name),
        AuthCommand::RoleGrantPermission { role, permission } => {
            Change::RoleGrantPermission(role_to_wire(role, permission))
        }
        AuthCommand::RoleRevokePermission { role, range } => {
            // The kind is not looked at: a range is in a role once.
            Change::RoleRevokePermission(role_to_wire(role, Permission { kind: PermissionKind::Read, range }))
        }
    };
    wire::AuthChange { change: Some(change) }
}

fn user_to_wire(name: String, password_hash: String) -> wire::AuthUser {
    wire::AuthUser { name, password_hash, ..wire::AuthUser::default() }
}

fn role_to_wire(name: String, permission: Permission) -> wire::AuthRole {
    wire::AuthRole { name, permissions: vec![permission_to_wire(permission)], ..wire::AuthRole::default() }
}

pub(super) fn auth_from_wire(change: wire::AuthChange) -> Result<AuthCommand, WireError> {
    Ok(match change.change.ok_or(WireError::Missing("change of users or roles"))? {
        Change::Enable(wire::Done {}) => AuthCommand::Enable,
        Change::Disable(wire::Done {}) => AuthCommand::Disable,
        Change::Session(session) => AuthCommand::BeginSession {
            user: session.user,
            token: Secret(session.token),
            auth_revision: session.auth_revision,
        },
        Change::UserAdd(user) => AuthCommand::UserAdd {
            name: user.name,
            password_hash: Some(user.password_hash).filter(|hash| !hash.is_empty()).map(Secret),
        },
        Change::UserDelete(name) => AuthCommand::UserDelete { name },
        Change::UserChangePassword(user) => {
            AuthCommand::UserChangePassword { name: user.name, password_hash: Secret(user.password_hash) }
        }
        Change::UserGrantRole(wire::AuthMembership { user, role }) => {
            AuthCommand::UserGrantRole { user, role }
        }
        Change::UserRevokeRole(wire::AuthMembership { user, role }) => {
            AuthCommand::UserRevokeRole { user, role }
        }
        Change::RoleAdd(name) => AuthCommand::RoleAdd { name },
        Change::RoleDelete(name) => AuthCommand::RoleDelete { name },
        Change::RoleGrantPermission(role) => {
            let (role, permission) = role_from_wire(role)?;
            AuthCommand::RoleGrantPermission { role, permission }
        }
        Change::RoleRevokePermission(role) => {
            let (role, Permission { range, kind: _ }) = role_from_wire(role)?;
            AuthCommand::RoleRevokePermission { role, range }
        }
    })
}

fn role_from_wire(role: wire::AuthRole) -> Result<(String, Permission), WireError> {
    let permission = role.permissions.into_iter().next().ok_or(WireError::Missing("permission"))?;
    Ok((role.name, permission_from_wire(permission)?))
}

/// Both directions of one mapping.
const REFUSALS: [(AuthRefusal, AuthReason); 18] = [
    (AuthRefusal::NotEnabled, AuthReason::AuthNotEnabled),
    (AuthRefusal::UserNameEmpty, AuthReason::AuthUserNameEmpty),
    (AuthRefusal::RoleNameEmpty, AuthReason::AuthRoleNameEmpty),
    (AuthRefusal::UserExists, AuthReason::AuthUserExists),
    (AuthRefusal::UserNotFound, AuthReason::AuthUserNotFound),
    (AuthRefusal::RoleExists, AuthReason::AuthRoleExists),
    (AuthRefusal::RoleNotFound, AuthReason::AuthRoleNotFound),
    (AuthRefusal::RoleNotGranted, AuthReason::AuthRoleNotGranted),
    (AuthRefusal::PermissionNotGranted, AuthReason::AuthPermissionNotGranted),
    (AuthRefusal::PermissionNotGiven, AuthReason::AuthPermissionNotGiven),
    (AuthRefusal::RootUserMissing, AuthReason::AuthRootUserMissing),
    (AuthRefusal::RootRoleMissing, AuthReason::AuthRootRoleMissing),
    (AuthRefusal::InvalidManagement, AuthReason::AuthInvalidManagement),
    (AuthRefusal::Failed, AuthReason::AuthFailed),
    (AuthRefusal::NoPasswordUser, AuthReason::AuthNoPasswordUser),
    (AuthRefusal::InvalidToken, AuthReason::AuthInvalidToken),
    (AuthRefusal::PermissionDenied, AuthReason::AuthPermissionDenied),
    (AuthRefusal::OldRevision, AuthReason::AuthOldRevision),
];

pub(super) fn refusal_to_wire(refusal: AuthRefusal) -> AuthReason {
    let found = REFUSALS.iter().find(|(known, _)| *known == refusal);
    found.expect("the table holds every refusal").1
}

pub(super) fn refusal_from_wire(reason: AuthReason) -> Result<AuthRefusal, WireError> {
    let found = REFUSALS.iter().find(|(_, known)| *known == reason);
    found.map(|(refusal, _)| *refusal).ok_or(WireError::Missing("reason of a refusal"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::Command;
    use crate::wire::{decode_command, encode_command};

    fn all() -> Vec<AuthCommand> {
        let (name, user, role) = ("n".to_owned(), "u".to_owned(), "r".to_owned());
        let range = KeyRange::prefix("k");
        let permission = Permission { kind: PermissionKind::ReadWrite, range: range.clone() };
        let hash = Secret("h".to_owned());
        vec![
            AuthCommand::Enable,
            AuthCommand::Disable,
            AuthCommand::BeginSession { user: user.clone(), token: Secret("t".to_owned()), auth_revision: 3 },
            AuthCommand::UserAdd { name: name.clone(), password_hash: Some(hash.clone()) },
            AuthCommand::UserAdd { name: name.clone(), password_hash: None },
            AuthCommand::UserDelete { name: name.clone() },
            AuthCommand::UserChangePassword { name: name.clone(), password_hash: hash },
            AuthCommand::UserGrantRole { user: user.clone(), role: role.clone() },
            AuthCommand::UserRevokeRole { user, role: role.clone() },
            AuthCommand::RoleAdd { name: name.clone() },
            AuthCommand::RoleDelete { name },
            AuthCommand::RoleGrantPermission { role: role.clone(), permission },
            AuthCommand::RoleRevokePermission { role, range },
        ]
    }

    #[test]
    fn every_change_comes_back_from_the_log_as_it_was() {
        for command in all().into_iter().map(Command::Auth) {
            assert_eq!(decode_command(encode_command(&command)).unwrap(), command);
        }
    }

    #[test]
    fn every_refusal_has_a_number_of_its_own() {
        for (index, (refusal, reason)) in REFUSALS.iter().enumerate() {
            assert_eq!(refusal_from_wire(refusal_to_wire(*refusal)), Ok(*refusal));
            assert_eq!(i32::from(*reason), i32::try_from(index).unwrap() + 1);
        }
        assert!(refusal_from_wire(AuthReason::AuthUnspecified).is_err());
    }
}
