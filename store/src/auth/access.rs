//! Who may do what: the one decision that every request of a client goes through.

use bytes::Bytes;

use super::{AuthCommand, AuthRefusal, AuthState, Caller};
use crate::mvcc::{Command, Compare, DeleteRange, KeyRange, LeaseId, Op, Put, Txn};

/// What a request needs.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// Open to everybody.
    Anyone,
    /// Open to whoever says who they are.
    Authenticated,
    /// Needs the root role.
    Admin,
    /// Reads the keys of a range, now or, by a watch, from now on.
    Read(&'a KeyRange),
    /// Names single keys.
    ReadKeys(&'a [Bytes]),
    /// Reads and writes of all steps and compares, of both branches and of all nested transactions.
    Txn(&'a Txn),
    /// Ends or prolongs the life of the lease's keys, which is a write of them.
    LeaseWrite(LeaseId),
    /// Names the lease's keys.
    LeaseKeys(LeaseId),
    /// Names all leases, and so tells that there are keys.
    AllLeases,
    /// Reads a user; everybody may read itself.
    User(&'a str),
    /// Reads a role; everybody may read the own ones.
    Role(&'a str),
}

/// The keys that hang on leases, as far as the decision needs them.
pub trait LeaseKeys {
    /// Returns the keys of one lease; none when it does not exist.
    fn keys_of(&self, id: LeaseId) -> Box<dyn Iterator<Item = &Bytes> + '_>;

    /// Returns the keys of all leases.
    fn all_keys(&self) -> Box<dyn Iterator<Item = &Bytes> + '_>;
}

/// Returns what a command of a client needs.
#[must_use]
pub fn access_of(command: &Command) -> Access<'_> {
    match command {
        Command::Txn(txn) => Access::Txn(txn),
        Command::LeaseGrant { .. } => Access::Authenticated,
        Command::LeaseRevoke { id } => Access::LeaseWrite(*id),
        Command::Auth(AuthCommand::BeginSession { .. }) => Access::Anyone,
        // The last five are never a client's; if they were, only root's.
        Command::Compact { .. }
        | Command::Auth(_)
        | Command::AlarmRaise(_)
        | Command::AlarmClear(_)
        | Command::CompareStates(_)
        | Command::RaiseLevel(_)
        | Command::SetDowngrade(_)
        | Command::LeaseExpire { .. }
        | Command::LeaseCheckpoint { .. }
        | Command::Guarded { .. } => Access::Admin,
    }
}

/// Decides whether `caller` may do what it asks for.
///
/// # Errors
/// Why not.
pub fn decide(
    auth: &AuthState,
    leases: &dyn LeaseKeys,
    caller: &Caller,
    access: Access<'_>,
) -> Result<(), AuthRefusal> {
    if !auth.is_enabled() {
        return Ok(());
    }
    let decision = Decision { auth, leases, caller };
    match access {
        Access::Anyone => Ok(()),
        Access::Authenticated => decision.user().map(|_| ()),
        Access::Admin => decision.admin(),
        Access::Read(range) => decision.read(range),
        Access::ReadKeys(keys) => keys.iter().try_for_each(|key| decision.read_key(key)),
        Access::Txn(txn) => decision.txn(txn),
        Access::LeaseWrite(id) => {
            decision.user()?;
            leases.keys_of(id).try_for_each(|key| decision.write_key(key))
        }
        Access::LeaseKeys(id) => {
            decision.user()?;
            leases.keys_of(id).try_for_each(|key| decision.read_key(key))
        }
        Access::AllLeases => {
            decision.user()?;
            leases.all_keys().try_for_each(|key| decision.read_key(key))
        }
        Access::User(name) => decision.own(|user| user == name),
        Access::Role(name) => {
            decision.own(|user| auth.user(user).is_some_and(|user| user.roles.contains(name)))
        }
    }
}

struct Decision<'a> {
    auth: &'a AuthState,
    leases: &'a dyn LeaseKeys,
    caller: &'a Caller,
}

impl<'a> Decision<'a> {
    /// Returns the name of a caller who exists, and whose proof still holds.
    fn user(&self) -> Result<&'a str, AuthRefusal> {
        match self.caller {
            Caller::Nobody => Err(AuthRefusal::UserNameEmpty),
            Caller::User { auth_revision, .. } if *auth_revision != self.auth.revision() => {
                Err(AuthRefusal::OldRevision)
            }
            Caller::User { name, .. } if self.auth.user(name).is_none() => Err(AuthRefusal::PermissionDenied),
            Caller::User { name, .. } => Ok(name),
        }
    }

    fn admin(&self) -> Result<(), AuthRefusal> {
        if self.auth.is_root(self.user()?) { Ok(()) } else { Err(AuthRefusal::PermissionDenied) }
    }

    fn own(&self, is_own: impl FnOnce(&str) -> bool) -> Result<(), AuthRefusal> {
        let user = self.user()?;
        if is_own(user) { Ok(()) } else { self.admin() }
    }

    fn read(&self, range: &KeyRange) -> Result<(), AuthRefusal> {
        let user = self.user()?;
        allowed(self.auth.is_root(user) || self.auth.may_read(user, range))
    }

    fn write(&self, range: &KeyRange) -> Result<(), AuthRefusal> {
        let user = self.user()?;
        allowed(self.auth.is_root(user) || self.auth.may_write(user, range))
    }

    fn read_key(&self, key: &Bytes) -> Result<(), AuthRefusal> {
        self.read(&KeyRange::single(key.clone()))
    }

    fn write_key(&self, key: &Bytes) -> Result<(), AuthRefusal> {
        self.write(&KeyRange::single(key.clone()))
    }

    /// A transaction that does nothing needs nothing, as in etcd.
    fn txn(&self, txn: &Txn) -> Result<(), AuthRefusal> {
        txn.compare.iter().try_for_each(|Compare { range, .. }| self.read(range))?;
        txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
            Op::Range(range) => self.read(&range.range),
            Op::Put(put) => self.put(put),
            Op::DeleteRange(delete) => self.delete(delete),
            Op::Txn(nested) => self.txn(nested),
        })
    }

    /// Who hangs a key on a lease shares its end with all keys there, so it must be allowed to write those too.
    fn put(&self, put: &Put) -> Result<(), AuthRefusal> {
        self.write_key(&put.key)?;
        if put.prev_kv {
            self.read_key(&put.key)?;
        }
        self.leases.keys_of(put.lease).try_for_each(|key| self.write_key(key))
    }

    fn delete(&self, delete: &DeleteRange) -> Result<(), AuthRefusal> {
        self.write(&delete.range)?;
        if delete.prev_kv { self.read(&delete.range) } else { Ok(()) }
    }
}

fn allowed(is_allowed: bool) -> Result<(), AuthRefusal> {
    if is_allowed { Ok(()) } else { Err(AuthRefusal::PermissionDenied) }
}
