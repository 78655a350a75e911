//! Users, roles and permissions: who may do what. Pure, like `mvcc`, and part of the same replicated state.
//!
//! Read in this order: what is kept (`permission`, `record`), what changes it (`command`, `state`), what it decides (`access`),
//! why it refuses (`refusal`), and what a member keeps beside it, in memory only (`tokens`).
//!
//! Rules: what is not allowed is denied; a range is allowed when the permissions of all roles together cover every key of it;
//! applying a command decides, and every check before that is only an early refusal. The first failure is the answer: who asks,
//! whether what is known of them is still true, then what they may do.
//!
//! Not here: passwords in clear, which never leave the edge of the member that was given one, and time.

mod command;
mod refusal;

mod permission;
mod record;

mod access;
mod state;

mod tokens;

#[cfg(test)]
mod tests;

pub use access::{Access, LeaseKeys, access_of, decide};
pub use command::{AuthCommand, Caller, Secret};
pub use permission::{Permission, PermissionKind};
pub use record::{Role, User};
pub use refusal::AuthRefusal;
pub(crate) use state::RecordKey;
pub use state::{AuthState, ROOT};
pub use tokens::TOKEN_TTL;
pub(crate) use tokens::{Ended, SessionChange, Tokens, enabled_at};
