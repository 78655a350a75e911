//! What changes users, roles and sessions, as the replicated log carries it, and who asks.

use std::fmt;

use super::Permission;
use crate::mvcc::KeyRange;

/// Who asks, as the member that got the request found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Said nothing, or authentication was off there.
    Nobody,
    /// Proved to be this user. The proof holds at this auth revision and not beyond.
    User { name: String, auth_revision: u64 },
}

/// Text that lets whoever has it act as a user, now or after some guessing: never shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

/// A change of users, roles or sessions. The stored form is in `wire/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthCommand {
    Enable,
    Disable,
    /// A user proved its password, which was compared with the hash of `auth_revision`; from now on `token` stands for it.
    BeginSession {
        user: String,
        token: Secret,
        auth_revision: u64,
    },
    /// A user without a hash can prove itself by certificate only.
    UserAdd {
        name: String,
        password_hash: Option<Secret>,
    },
    UserDelete {
        name: String,
    },
    UserChangePassword {
        name: String,
        password_hash: Secret,
    },
    UserGrantRole {
        user: String,
        role: String,
    },
    UserRevokeRole {
        user: String,
        role: String,
    },
    RoleAdd {
        name: String,
    },
    RoleDelete {
        name: String,
    },
    RoleGrantPermission {
        role: String,
        permission: Permission,
    },
    RoleRevokePermission {
        role: String,
        range: KeyRange,
    },
}
