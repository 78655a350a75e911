//! All users and roles, whether they count, and how often they have changed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use proto::store as wire;

use super::permission::Rights;
use super::{AuthCommand, AuthRefusal, Permission, Role, Secret, User};
use crate::engine::EngineError;
use crate::mvcc::{KeyRange, STATE_FORMAT, check_format, corrupt};

/// Name of the user that must exist, and of the role that may do everything.
pub const ROOT: &str = "root";
/// Auth revision of a store in which nothing was changed (etcd's).
const FIRST_REVISION: u64 = 1;

/// Which record a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordKey {
    State,
    User(String),
    Role(String),
}

/// A record before and after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordChange {
    pub(crate) key: RecordKey,
    pub(crate) old: Option<Bytes>,
    pub(crate) new: Option<Bytes>,
}

/// Users, roles and what follows from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthState {
    enabled: bool,
    /// Counts changes, from [`FIRST_REVISION`].
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    /// What each user may do; follows from the above.
    rights: BTreeMap<String, Rights>,
    /// Whether the state has a record.
    is_stored: bool,
}

impl Default for AuthState {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: FIRST_REVISION,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            rights: BTreeMap::new(),
            is_stored: false,
        }
    }
}

impl AuthState {
    /// Returns whether requests are checked.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Returns the number that grows with every change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns a user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// Returns all users in order of their names.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// Returns a role.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    /// Returns all roles in order of their names.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    /// Returns whether a user may do everything.
    pub(super) fn is_root(&self, user: &str) -> bool {
        self.user(user).is_some_and(|user| user.roles.contains(ROOT))
    }

    pub(super) fn may_read(&self, user: &str, range: &KeyRange) -> bool {
        self.rights.get(user).is_some_and(|rights| rights.may_read(range))
    }

    pub(super) fn may_write(&self, user: &str, range: &KeyRange) -> bool {
        self.rights.get(user).is_some_and(|rights| rights.may_write(range))
    }

    /// Takes over one stored record. Call [`AuthState::loaded`] after the last.
    ///
    /// # Errors
    /// When the record is damaged or of a later version.
    pub(crate) fn load(&mut self, key: &[u8], record: Bytes) -> Result<(), EngineError> {
        match key.split(|byte| *byte == b'/').nth(1) {
            Some(b"state") => {
                let state =
                    wire::AuthState::decode(record).map_err(|error| corrupt(key, &error.to_string()))?;
                check_format(state.format)?;
                self.enabled = state.enabled;
                self.revision = state.revision;
                self.is_stored = true;
            }
            Some(b"user") => {
                let user = User::decode(record)?;
                self.users.insert(user.name.clone(), user);
            }
            Some(b"role") => {
                let role = Role::decode(record)?;
                self.roles.insert(role.name.clone(), role);
            }
            Some(_) | None => return Err(corrupt(key, "unknown kind of auth record")),
        }
        Ok(())
    }

    /// Returns the records of a state that is brought in from elsewhere. `state` is what [`AuthState::state_record`] made.
    pub(crate) fn records(
        state: Bytes,
        users: &[User],
        roles: &[Role],
    ) -> impl Iterator<Item = (RecordKey, Bytes)> {
        let users = users.iter().map(|user| (RecordKey::User(user.name.clone()), user.encode()));
        let roles = roles.iter().map(|role| (RecordKey::Role(role.name.clone()), role.encode()));
        std::iter::once((RecordKey::State, state)).chain(users).chain(roles)
    }

    /// Returns the record that says whether users and roles count, and how often they have changed.
    pub(crate) fn state_record(enabled: bool, revision: u64) -> Bytes {
        wire::AuthState { format: STATE_FORMAT, enabled, revision }.encode_to_vec().into()
    }

    /// Works out what follows from the records.
    pub(crate) fn loaded(&mut self) {
        let names: Vec<String> = self.users.keys().cloned().collect();
        names.iter().for_each(|name| self.refresh_user(name));
    }

    /// Applies a change and returns what it did to the stored records.
    ///
    /// # Errors
    /// When the change is not possible; nothing is different then.
    pub(crate) fn apply(&mut self, command: &AuthCommand) -> Result<Vec<RecordChange>, AuthRefusal> {
        match command {
            AuthCommand::Enable => self.enable(),
            AuthCommand::Disable => Ok(self.disable()),
            AuthCommand::BeginSession { user, token: _, auth_revision } => {
                self.begin_session(user, *auth_revision)
            }
            AuthCommand::UserAdd { name, password_hash } => self.user_add(name, password_hash.as_ref()),
            AuthCommand::UserDelete { name } => self.user_delete(name),
            AuthCommand::UserChangePassword { name, password_hash } => {
                self.user_change_password(name, password_hash)
            }
            AuthCommand::UserGrantRole { user, role } => self.user_grant_role(user, role),
            AuthCommand::UserRevokeRole { user, role } => self.user_revoke_role(user, role),
            AuthCommand::RoleAdd { name } => self.role_add(name),
            AuthCommand::RoleDelete { name } => self.role_delete(name),
            AuthCommand::RoleGrantPermission { role, permission } => {
                self.role_grant_permission(role, permission)
            }
            AuthCommand::RoleRevokePermission { role, range } => self.role_revoke_permission(role, range),
        }
    }

    /// Switching on is no change of users or roles and so not counted, as in etcd.
    fn enable(&mut self) -> Result<Vec<RecordChange>, AuthRefusal> {
        if self.enabled {
            return Ok(Vec::new());
        }
        self.user(ROOT).ok_or(AuthRefusal::RootUserMissing)?;
        if !self.is_root(ROOT) {
            return Err(AuthRefusal::RootRoleMissing);
        }
        let old = self.record();
        self.enabled = true;
        Ok(vec![self.state_change(old)])
    }

    fn disable(&mut self) -> Vec<RecordChange> {
        if !self.enabled {
            return Vec::new();
        }
        let old = self.record();
        self.enabled = false;
        self.revision += 1;
        vec![self.state_change(old)]
    }

    /// Sessions are kept by each member in memory; here it is only decided whether one may begin.
    fn begin_session(&self, user: &str, auth_revision: u64) -> Result<Vec<RecordChange>, AuthRefusal> {
        if !self.enabled {
            return Err(AuthRefusal::NotEnabled);
        }
        self.user(user).ok_or(AuthRefusal::Failed)?;
        if auth_revision != self.revision {
            return Err(AuthRefusal::OldRevision);
        }
        Ok(Vec::new())
    }

    fn user_add(
        &mut self,
        name: &str,
        password_hash: Option<&Secret>,
    ) -> Result<Vec<RecordChange>, AuthRefusal> {
        if name.is_empty() {
            return Err(AuthRefusal::UserNameEmpty);
        }
        if self.users.contains_key(name) {
            return Err(AuthRefusal::UserExists);
        }
        let (name, roles) = (name.to_owned(), BTreeSet::new());
        let user = User { name, password_hash: password_hash.cloned(), roles };
        let changed = self.put_user(user);
        Ok(self.counted(vec![changed]))
    }

    fn user_delete(&mut self, name: &str) -> Result<Vec<RecordChange>, AuthRefusal> {
        if self.enabled && name == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        let user = self.users.remove(name).ok_or(AuthRefusal::UserNotFound)?;
        self.rights.remove(name);
        let key = RecordKey::User(user.name.clone());
        Ok(self.counted(vec![RecordChange { key, old: Some(user.encode()), new: None }]))
    }

    /// A user without password stays one.
    fn user_change_password(
        &mut self,
        name: &str,
        password_hash: &Secret,
    ) -> Result<Vec<RecordChange>, AuthRefusal> {
        let mut user = self.user(name).cloned().ok_or(AuthRefusal::UserNotFound)?;
        user.password_hash = user.password_hash.map(|_| password_hash.clone());
        let changed = self.put_user(user);
        Ok(self.counted(vec![changed]))
    }

    /// The root role may be granted before it exists, as in etcd. What is granted already is no change.
    fn user_grant_role(&mut self, user: &str, role: &str) -> Result<Vec<RecordChange>, AuthRefusal> {
        let mut user = self.user(user).cloned().ok_or(AuthRefusal::UserNotFound)?;
        if role != ROOT {
            self.role(role).ok_or(AuthRefusal::RoleNotFound)?;
        }
        if !user.roles.insert(role.to_owned()) {
            return Ok(Vec::new());
        }
        let changed = self.put_user(user);
        Ok(self.counted(vec![changed]))
    }

    fn user_revoke_role(&mut self, user: &str, role: &str) -> Result<Vec<RecordChange>, AuthRefusal> {
        if self.enabled && user == ROOT && role == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        let mut user = self.user(user).cloned().ok_or(AuthRefusal::UserNotFound)?;
        if !user.roles.remove(role) {
            return Err(AuthRefusal::RoleNotGranted);
        }
        let changed = self.put_user(user);
        Ok(self.counted(vec![changed]))
    }

    fn role_add(&mut self, name: &str) -> Result<Vec<RecordChange>, AuthRefusal> {
        if name.is_empty() {
            return Err(AuthRefusal::RoleNameEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(AuthRefusal::RoleExists);
        }
        let changed = self.put_role(Role::new(name.to_owned()));
        Ok(self.counted(vec![changed]))
    }

    /// Takes the role from everybody who has it.
    fn role_delete(&mut self, name: &str) -> Result<Vec<RecordChange>, AuthRefusal> {
        if self.enabled && name == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        let role = self.roles.remove(name).ok_or(AuthRefusal::RoleNotFound)?;
        let key = RecordKey::Role(role.name.clone());
        let mut changes = vec![RecordChange { key, old: Some(role.encode()), new: None }];
        let holders: Vec<User> =
            self.users.values().filter(|user| user.roles.contains(name)).cloned().collect();
        for mut user in holders {
            user.roles.remove(name);
            changes.push(self.put_user(user));
        }
        Ok(self.counted(changes))
    }

    /// The same range with another kind replaces the old one.
    fn role_grant_permission(
        &mut self,
        role: &str,
        permission: &Permission,
    ) -> Result<Vec<RecordChange>, AuthRefusal> {
        if !permission.is_valid() {
            return Err(AuthRefusal::InvalidManagement);
        }
        let mut role = self.role(role).cloned().ok_or(AuthRefusal::RoleNotFound)?;
        role.permissions.insert(permission.range.clone(), permission.kind);
        let changed = self.put_role(role);
        Ok(self.counted(vec![changed]))
    }

    fn role_revoke_permission(
        &mut self,
        role: &str,
        range: &KeyRange,
    ) -> Result<Vec<RecordChange>, AuthRefusal> {
        let mut role = self.role(role).cloned().ok_or(AuthRefusal::RoleNotFound)?;
        role.permissions.remove(range).ok_or(AuthRefusal::PermissionNotGranted)?;
        let changed = self.put_role(role);
        Ok(self.counted(vec![changed]))
    }

    fn put_user(&mut self, user: User) -> RecordChange {
        let (name, new) = (user.name.clone(), Some(user.encode()));
        let old = self.users.insert(name.clone(), user).map(|old| old.encode());
        self.refresh_user(&name);
        RecordChange { key: RecordKey::User(name), old, new }
    }

    fn put_role(&mut self, role: Role) -> RecordChange {
        let (name, new) = (role.name.clone(), Some(role.encode()));
        let old = self.roles.insert(name.clone(), role).map(|old| old.encode());
        let holders: Vec<String> = self.users.values().filter_map(|user| holder(user, &name)).collect();
        holders.iter().for_each(|user| self.refresh_user(user));
        RecordChange { key: RecordKey::Role(name), old, new }
    }

    fn refresh_user(&mut self, name: &str) {
        let Some(user) = self.users.get(name) else { return };
        let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
        let permissions = roles.flat_map(|role| role.permissions.iter().map(|(range, kind)| (range, *kind)));
        let rights = Rights::of(permissions);
        self.rights.insert(name.to_owned(), rights);
    }

    /// Adds the step of the revision to changes of users and roles.
    fn counted(&mut self, mut changes: Vec<RecordChange>) -> Vec<RecordChange> {
        let old = self.record();
        self.revision += 1;
        changes.push(self.state_change(old));
        changes
    }

    fn state_change(&mut self, old: Option<Bytes>) -> RecordChange {
        self.is_stored = true;
        RecordChange { key: RecordKey::State, old, new: self.record() }
    }

    /// Returns the record of the state as it is stored.
    fn record(&self) -> Option<Bytes> {
        self.is_stored.then(|| Self::state_record(self.enabled, self.revision))
    }
}

fn holder(user: &User, role: &str) -> Option<String> {
    user.roles.contains(role).then(|| user.name.clone())
}
