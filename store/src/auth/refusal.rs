//! Why a request is not allowed. Like other refusals of the core these are answers, the same on every member.

/// What users and permissions have against a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthRefusal {
    #[error("authentication is not enabled")]
    NotEnabled,
    /// Also the answer to whoever does not say who they are.
    #[error("user name is empty")]
    UserNameEmpty,
    #[error("role name is empty")]
    RoleNameEmpty,
    #[error("user name already exists")]
    UserExists,
    #[error("user name not found")]
    UserNotFound,
    #[error("role name already exists")]
    RoleExists,
    #[error("role name not found")]
    RoleNotFound,
    #[error("role is not granted to the user")]
    RoleNotGranted,
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    #[error("permission not given")]
    PermissionNotGiven,
    #[error("root user does not exist")]
    RootUserMissing,
    #[error("root user does not have root role")]
    RootRoleMissing,
    /// The change would lock everybody out, or its range holds no key.
    #[error("invalid auth management")]
    InvalidManagement,
    #[error("authentication failed, invalid user ID or password")]
    Failed,
    #[error("the user has no password")]
    NoPasswordUser,
    #[error("invalid auth token")]
    InvalidToken,
    #[error("permission denied")]
    PermissionDenied,
    /// Users or permissions have changed since the caller was identified; identify it again.
    #[error("revision of auth store is old")]
    OldRevision,
}
